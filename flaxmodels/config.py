"""Configurations: what `config.json` says, as a frozen, hashable dataclass."""

import dataclasses
import json
import os
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from flax.core import FrozenDict

from .params.errors import quoted, some
from .values import ConfigError, checked, freeze, hints_of, out_of_range, read_json, thaw

CONFIG_NAME = "config.json"

# Keys of every Transformers configuration that change nothing in a forward pass: kept, written
# back, and not worth a warning.
_HARMLESS = frozenset(
    "_attn_implementation_autoset _commit_hash _name_or_path architectures attn_implementation "
    "bad_words_ids begin_suppress_tokens chunk_size_feed_forward decoder_start_token_id "
    "diversity_penalty do_sample dtype early_stopping encoder_no_repeat_ngram_size "
    "exponential_decay_length_penalty finetuning_task forced_bos_token_id forced_eos_token_id "
    "gradient_checkpointing layer_types length_penalty max_length min_length model_type model_tags "
    "no_repeat_ngram_size num_beam_groups num_beams num_return_sequences output_past output_scores "
    "prefix pretraining_tp problem_type remove_invalid_values repetition_penalty return_dict "
    "return_dict_in_generate sep_token_id suppress_tokens task_specific_params temperature "
    "tf_legacy_loss tokenizer_class top_k top_p torch_dtype torchscript transformers_version "
    "typical_p use_bfloat16 use_cache summary_activation summary_first_dropout "
    "summary_proj_to_labels summary_type summary_use_proj n_ctx directionality "
    "pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head "
    "pooler_type language unk_token_id mlm_probability".split()
)

_NAMES_CODE = ("auto_map", "custom_pipelines", "trust_remote_code")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Fields that every family has. A family adds its own under the names of `config.json`, with
    the defaults of the reference implementation (Transformers 5.23).

    Instances hash and compare by value. `extra` holds the keys of a `config.json` that no field
    claims; they are read as attributes and written back by `to_dict`. `pruned_heads` is {layer:
    heads}, both numbered from 0 as if none were pruned; `model.prune_heads` makes it.
    """

    model_type: ClassVar[str] = ""
    aliases: ClassVar[Mapping[str, str]] = {}
    """Other names under which a field may be read or given: {"hidden_size": "n_embd"}."""
    unsupported: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    """Keys that change the mathematics in ways not implemented -> the values that are fine."""

    derived: ClassVar[tuple[str, ...]] = ()
    """Fields that may be given as None, and then follow from others."""

    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | tuple[int, ...] | None = None
    tie_word_embeddings: bool = True
    num_labels: int = 2
    id2label: FrozenDict[str, str] | None = None
    output_hidden_states: bool = False
    output_attentions: bool = False
    pruned_heads: FrozenDict[str, tuple[int, ...]] = FrozenDict()
    extra: FrozenDict[str, Any] = FrozenDict()

    def __post_init__(self):
        hints = hints_of(type(self))
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is None and field.name in self.derived:
                continue
            value = checked(type(self), field.name, value, hints[field.name])
            if value is not None and (problem := out_of_range(field.name, value)):
                raise ConfigError(f"{type(self).__name__}: {field.name} is {value}; {problem}")
            object.__setattr__(self, field.name, value)
        pruned = {
            layer: tuple(sorted({*heads})) for layer, heads in self.pruned_heads.items() if heads
        }
        object.__setattr__(self, "pruned_heads", FrozenDict(pruned))
        self.derive()
        if not all(str(key).isdecimal() for key in self.id2label or ()):
            raise ConfigError(f"{type(self).__name__}: id2label must map numbers to labels")
        if self.id2label is not None and len(self.id2label) != self.num_labels:
            raise ConfigError(
                f"{type(self).__name__}: id2label names {len(self.id2label)} labels, num_labels is "
                f"{self.num_labels}; give only id2label, or make them agree"
            )
        kinds = self.extra.get("layer_types")
        layers = getattr(self, "num_hidden_layers", 0)  # maybe 2**31: no tuple is made of them
        if kinds is not None and not (
            isinstance(kinds, tuple) and len(kinds) == layers and {*kinds} <= {"full_attention"}
        ):
            raise ConfigError(
                f"{type(self).__name__}: layer_types is {kinds!r:.200}; implemented is "
                "'full_attention', once for each layer"
            )
        self.validate()

    def derive(self) -> None:
        """Fills in the fields of `derived` that are None, from others that have been checked."""

    def validate(self) -> None:
        """Checks what one field alone cannot show; raises `ConfigError`."""

    def __getattr__(self, name: str) -> Any:
        if name in type(self).aliases:
            return getattr(self, type(self).aliases[name])
        extra = self.__dict__.get("extra", {})
        if name in extra:
            return extra[name]
        raise AttributeError(f"{type(self).__name__} has no field {name!r}")

    @property
    def position_limit(self) -> int | None:
        """The most positions the model can tell apart; None where there is no hard limit."""
        return None

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed; a key that is no field goes to `extra`."""
        fields, extra = type(self)._split(changes)
        if isinstance(fields.get("id2label"), Mapping) and "num_labels" not in fields:
            fields["num_labels"] = len(fields["id2label"])
        elif "num_labels" in fields and fields["num_labels"] != self.num_labels:
            fields.setdefault("id2label", None)
        if extra:
            fields["extra"] = FrozenDict({**self.extra, **extra})
        return dataclasses.replace(self, **fields)

    @classmethod
    def knows(cls, key: str) -> bool:
        """Whether `key` is a field, an alias of one, or a key any configuration may have."""
        return key in cls.aliases or key in hints_of(cls) or key in _HARMLESS.union(_NAMES_CODE)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The configuration that a decoded `config.json` of Transformers 4 or 5 describes.

        Raises:
            ConfigError: a value of the wrong type, or mathematics that is not implemented.
        """
        try:
            freeze(values)
        except ConfigError as error:
            raise ConfigError(f"{cls.__name__}: config.json {error}") from None
        values = cls.from_json_keys(dict(values))
        if values.get("model_type", cls.model_type) != cls.model_type:
            raise ConfigError(
                f"{cls.__name__} reads model_type {cls.model_type!r}, config.json says "
                f"{values['model_type']!r}; use AutoConfig, or the class of that family"
            )
        values.pop("model_type", None)
        for key, allowed in cls.unsupported.items():
            if key in values and freeze(values[key]) not in allowed:
                raise ConfigError(
                    f"{cls.__name__}: {key} = {values[key]!r} changes the model in a way that is "
                    f"not implemented (implemented: {', '.join(map(repr, allowed))})"
                )
        if values.get("quantization_config"):
            raise ConfigError(
                f"{cls.__name__}: quantization_config is set; quantised checkpoints cannot be "
                "loaded; use the original, unquantised checkpoint"
            )
        if isinstance(labels := values.get("id2label"), Mapping):
            values["num_labels"] = len(labels)
            if freeze(labels) == {str(i): f"LABEL_{i}" for i in range(len(labels))}:
                del values["id2label"]  # as `to_dict` writes labels that nobody gave
        values.pop("label2id", None)
        if values.get("pruned_heads", {}) is None:
            del values["pruned_heads"]
        fields, extra = cls._split(values)
        if code := [key for key in _NAMES_CODE if extra.get(key)]:
            warnings.warn(
                f"{cls.__name__}: {', '.join(code)} of config.json: remote code ignored",
                stacklevel=2,
            )
        fine = _HARMLESS.union(_NAMES_CODE, cls.unsupported, ["quantization_config"])
        odd = sorted(set(extra) - fine)
        if odd:
            warnings.warn(
                f"{cls.__name__} does not know {some(map(quoted, odd))} of config.json: kept "
                "and written back, but not used",
                stacklevel=2,
            )
        return cls(**fields, extra=FrozenDict(extra))

    def to_dict(self) -> dict[str, Any]:
        """The content of `config.json`, readable by Transformers 4 and 5."""
        values = dict(self.extra)
        for field in dataclasses.fields(self):
            if field.name not in ("extra", "num_labels", "id2label"):
                values[field.name] = getattr(self, field.name)
        if self.id2label is not None or self.num_labels != 2:
            labels = self.id2label or {str(i): f"LABEL_{i}" for i in range(self.num_labels)}
            values["id2label"] = dict(labels)
            values["label2id"] = {label: int(i) for i, label in labels.items()}
        for key in ("output_hidden_states", "output_attentions", "pruned_heads"):
            if not values[key]:
                del values[key]
        values["model_type"] = self.model_type
        return thaw(self.to_json_keys(values))

    @classmethod
    def from_json_keys(cls, values: dict[str, Any]) -> dict[str, Any]:
        """A family's hook: other spellings of `config.json` -> this class's fields."""
        return values

    def to_json_keys(self, values: dict[str, Any]) -> dict[str, Any]:
        """The inverse hook: what other readers expect beside this class's fields."""
        return values

    @classmethod
    def from_json_file(cls, path: str | os.PathLike) -> Self:
        """Reads one `config.json`; for a file of unknown family use `AutoConfig`."""
        return cls.from_dict(read_json(path))

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike, **changes: Any) -> Self:
        """Reads `config.json` of a folder (or the file itself); `changes` override fields."""
        folder = os.fspath(folder)
        path = os.path.join(folder, CONFIG_NAME) if os.path.isdir(folder) else folder
        return cls.from_json_file(path).replace(**changes)

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Writes `config.json` into `folder`, which is made if absent."""
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, CONFIG_NAME), "w", encoding="utf-8") as file:
            file.write(self.to_json())

    def to_json(self) -> str:
        """`to_dict` as text, keys sorted."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    @classmethod
    def _split(cls, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        fields: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        for given, value in values.items():
            key = cls.aliases.get(given, given)
            if key in fields and freeze(fields[key]) != freeze(value):
                raise ConfigError(
                    f"{cls.__name__}: {key} is given under two names, as {fields[key]!r:.100} and "
                    f"as {value!r:.100}"
                )
            (fields if key in hints_of(cls) and key != "extra" else extra)[key] = value
        return fields, extra

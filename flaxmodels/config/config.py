"""Configurations: what `config.json` says, as a frozen, hashable dataclass.

Two ways lead to one. `from_dict` reads what a file says: what is of no use is kept or left out,
aloud. Constructors, `replace` and the keywords of `from_pretrained` take what a caller says: each
value takes effect or raises. Both end in the same checks.
"""

import dataclasses
import inspect
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from flax.core import FrozenDict

from ..calls import keywords
from ..documents.config_keys import HARMLESS, QUANTISED, refusal
from ..documents.field_types import checked, hints_of, out_of_range
from ..documents.json_files import CONFIG_NAME as CONFIG_NAME
from ..documents.json_files import config_path, naming, read_json, text_of
from ..documents.json_values import ConfigError, freeze, is_finite, shown, thaw
from ..documents.remote_code import is_of_ours, names_code, without_code
from ..hub import DEFAULT_OPTIONS, HubOptions, Location, resolve
from ..params.errors import quoted, some, warn
from .labels import LABEL_KEYS, Labels, labels_of_caller, labels_of_file


class _Type(type):
    """Lets a constructor take what `replace` takes: fields under any name, labels either way."""

    if not TYPE_CHECKING:  # a type checker reads the dataclass

        def __call__(cls, *args: Any, **given: Any) -> Any:
            if args:
                raise TypeError(f"{cls.__name__} takes its fields by name, got {shown(args)}")
            return cls._made(cls._taken(given), given)

    @property
    def __signature__(cls) -> inspect.Signature:
        return inspect.Signature([*inspect.signature(cls.__init__).parameters.values()][1:])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(metaclass=_Type):
    """Fields that every family has. A family adds its own under the names of `config.json`, with
    the defaults of the reference implementation (Transformers 5.23).

    Instances hash and compare by value. `extra` holds the keys of a `config.json` that no field
    claims; they are read as attributes and written back by `to_dict`. `id2label` is asked by a
    number or by its text. `pruned_heads` is {layer: heads}, both numbered from 0 as if none were
    pruned; `model.prune_heads` makes it.
    """

    model_type: ClassVar[str] = ""
    aliases: ClassVar[Mapping[str, str]] = {}
    """Other names under which a field may be read or given: {"hidden_size": "n_embd"}."""
    spellings: ClassVar[tuple[str, ...]] = ()
    """Names that a caller may give beside, and that `from_spellings` makes fields of."""
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
                raise ConfigError(
                    f"{type(self).__name__}: {field.name} is {shown(value)}; {problem}"
                )
            object.__setattr__(self, field.name, value)
        pruned = {
            layer: tuple(sorted({*heads})) for layer, heads in self.pruned_heads.items() if heads
        }
        object.__setattr__(self, "pruned_heads", FrozenDict(pruned))
        if self.id2label is not None:
            object.__setattr__(self, "id2label", Labels(self.id2label))
        self.derive()
        self._check_extra()
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

    @property
    def label2id(self) -> dict[str, int] | None:
        """{label: number}, as `id2label` says."""
        if self.id2label is None:
            return None
        return {str(label): int(number) for number, label in self.id2label.items()}

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed, each under any name it has.

        `id2label` or `label2id` decides `num_labels`; another `num_labels` takes the labels away.
        A new `rope_theta` keeps the scaling, a new `rope_scaling` or `rope_parameters` theta.

        Raises:
            TypeError: a keyword that would have no effect.
            ConfigError: a value that cannot be honoured.
        """
        there = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return self._made(there | self._taken(changes, self), changes)

    @classmethod
    def knows(cls, key: str) -> bool:
        """Whether `replace` has something to do for `key`, or to say about it: a field, another
        name of one, or a key that any `config.json` may have."""
        return key in cls.names() or key in HARMLESS or key in (QUANTISED, *cls.unsupported)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, path: str | os.PathLike = "") -> Self:
        """The configuration that a decoded `config.json` of Transformers 4 or 5 describes.

        Args:
            path: of the file, which warnings then begin with.

        Raises:
            ConfigError: a value of the wrong type, or mathematics that is not implemented.
        """
        who = f"{path}: {cls.__name__}" if path else cls.__name__
        fields, extra = cls._read(values, who)
        unknown = sorted(extra.keys() - HARMLESS.union(cls.unsupported, [QUANTISED]))
        if unknown:
            warn(
                f"{who} does not know {some(map(quoted, unknown))} of config.json: kept and "
                "written back, but not used"
            )
        fields["extra"] = extra
        return cls._made(fields, fields)

    def to_dict(self) -> dict[str, Any]:
        """The content of `config.json`, readable by Transformers 4 and 5.

        Labels that nobody gave are not written: their number is.
        """
        values = dict(self.extra)
        for field in dataclasses.fields(self):
            if field.name not in ("extra", *LABEL_KEYS):
                values[field.name] = getattr(self, field.name)
        if self.id2label is not None:
            values |= {"id2label": dict(self.id2label), "label2id": self.label2id}
        elif self.num_labels != 2:
            values["num_labels"] = self.num_labels
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
    def from_spellings(cls, values: dict[str, Any], current: Self | None) -> dict[str, Any]:
        """A family's hook: what a caller gives under the names in `spellings` -> fields.

        Args:
            current: what is being changed; None for a constructor.
        """
        return values

    @classmethod
    def from_json_file(cls, path: str | os.PathLike) -> Self:
        """Reads one `config.json`; for a file of unknown family use `AutoConfig`."""
        with naming(path):
            return cls.from_dict(read_json(path), path=path)

    @classmethod
    def from_pretrained(cls, name_or_path: str | os.PathLike | Location, **changes: Any) -> Self:
        """Reads `config.json` of a folder or repository, or the file itself; `changes` override
        fields, but for what says where it is (`flaxmodels.hub.HubOptions`): revision, token, ...

        Raises:
            ConfigError: a file that cannot be read, or describes another family.
            CheckpointError: neither a folder nor anything that can be reached.
        """
        changes = keywords.with_our_names(changes, f"{cls.__name__}.from_pretrained")
        found, path = find_config(name_or_path, HubOptions.take_from(changes))
        with found.noting():
            config = cls.from_json_file(path)
        return config.replace(**changes) if changes else config

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Writes `config.json` into `folder`, which is made if absent."""
        text = self.to_json()
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, CONFIG_NAME), "w", encoding="utf-8") as file:
            file.write(text)

    def to_json(self) -> str:
        """`to_dict` as text, keys sorted: strict JSON of at most 16 MiB."""
        return text_of(self.to_dict())

    @classmethod
    def names(cls) -> frozenset[str]:
        """All names under which something of this class can be given."""
        return frozenset({*hints_of(cls), *cls.aliases, *cls.spellings, *LABEL_KEYS} - {"extra"})

    @classmethod
    def _made(cls, fields: Mapping[str, Any], said: Mapping[str, Any]) -> Self:
        """The configuration; warns of token ids among the keys of `said` that no token has."""
        config = type.__call__(cls, **fields)
        for name in said:
            if name.endswith("_token_id") and (odd := config._no_tokens(name)):
                warn(
                    f"{cls.__name__}: {name} is {shown(getattr(config, name))}, and no token has "
                    f"{some(odd)}: vocab_size is {config.vocab_size}"
                )
        return config

    def _no_tokens(self, name: str) -> list[int]:
        """The ids of a field that are outside of the vocabulary: but for -1, as files say none, and
        for the default, which nobody chose."""
        ids, size = getattr(self, name, None), getattr(self, "vocab_size", None)
        if size is None or ids is None or ids == getattr(type(self), name, None):
            return []
        ids = ids if isinstance(ids, tuple) else (ids,)
        return [i for i in ids if type(i) is int and i != -1 and not 0 <= i < size]

    @classmethod
    def _taken(cls, given: Mapping[str, Any], current: Self | None = None) -> dict[str, Any]:
        """A caller's keywords -> fields; each takes effect or raises."""
        values = dict(given)
        extra = values.pop("extra", current.extra if current is not None else {})
        try:
            fields, rest = cls._split(cls.from_spellings(values, current))
            said = {key: fields.pop(key) for key in LABEL_KEYS if key in fields}
            number = 2 if current is None else current.num_labels
            fields |= labels_of_caller(said, number)
        except ConfigError as error:
            said = str(error).removeprefix(f"{cls.__name__}: ")
            raise ConfigError(f"{cls.__name__}: {said}") from None
        for key, value in rest.items():
            if key in cls.unsupported or key == QUANTISED:
                continue  # which of their values are fine is checked with the whole
            if error := refusal(cls.__name__, key, value, cls.names()):
                raise error
        if rest:
            extra = {**extra, **rest}
        return cls._without_nulls(fields) | {"extra": extra}

    @classmethod
    def _read(cls, values: Mapping[str, Any], who: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a file says -> (fields, other keys); what is left out is said."""
        name = cls.__name__
        try:
            freeze(values)
        except ConfigError as error:
            raise ConfigError(f"{name}: config.json {error}") from None
        if values.get("model_type", cls.model_type) != cls.model_type:
            raise ConfigError(
                f"{name} reads model_type {cls.model_type!r}, config.json says "
                f"{shown(values['model_type'])}; use AutoConfig, or the class of that family"
            )
        fields, extra = cls._split(cls.from_json_keys({**values, "model_type": cls.model_type}))
        del extra["model_type"]
        said = {key: fields.pop(key) for key in LABEL_KEYS if key in fields}
        try:
            fields |= labels_of_file(said, who)
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}") from None
        if is_of_ours(extra.get("auto_map")):
            del extra["auto_map"]  # a save writes it again, from the class
        extra, code = without_code(extra)
        if code:
            warn(f"{who}: {some(code)} of config.json: remote code ignored, and not written back")
        if odd := [key for key, value in extra.items() if not is_finite(value)]:
            warn(
                f"{who}: {some(map(quoted, odd))} of config.json: Infinity or NaN, which is no "
                "JSON; left out"
            )
        extra = {key: value for key, value in extra.items() if key not in odd}
        return cls._without_nulls(fields), extra

    @classmethod
    def _without_nulls(cls, fields: Mapping[str, Any]) -> dict[str, Any]:
        """`fields` with the default for None where that is as good as not said: in flags, in
        probabilities, and in what only initialisation reads. A size or an epsilon has to be said.
        """
        unsaid = {
            field.name: field.default
            for field in dataclasses.fields(cls)
            if field.name in ("initializer_range", "pruned_heads", "num_labels")
            or type(field.default) is bool
            or ("drop" in field.name and field.default is not None)
        }
        return {k: unsaid[k] if v is None and k in unsaid else v for k, v in fields.items()}

    def _check_extra(self) -> None:
        """Raises `ConfigError` for keys that no field claims and that still change the model."""
        name, fields = type(self).__name__, self.names()
        for key, value in self.extra.items():
            if key in self.unsupported and value not in self.unsupported[key]:
                raise ConfigError(
                    f"{name}: {key} = {shown(thaw(value))} changes the model in a way that is not "
                    f"implemented (implemented: {', '.join(map(repr, self.unsupported[key]))})"
                )
            if key in fields:
                raise ConfigError(f"{name}: extra holds {key}, which is a field of its own")
            if names_code(key, value):
                raise ConfigError(f"{name}: {key} names code, which is never followed")
            if not is_finite(value):
                raise ConfigError(f"{name}: {quoted(key)} is {shown(value)}, which is no JSON")
        if self.extra.get(QUANTISED):
            raise ConfigError(
                f"{name}: quantization_config is set; quantised checkpoints cannot be loaded; use "
                "the original, unquantised checkpoint"
            )
        kinds = self.extra.get("layer_types")
        layers = getattr(self, "num_hidden_layers", 0)  # maybe 2**31: no tuple is made of them
        if kinds is not None and not (
            isinstance(kinds, tuple) and len(kinds) == layers and {*kinds} <= {"full_attention"}
        ):
            raise ConfigError(
                f"{name}: layer_types is {shown(kinds)}; implemented is 'full_attention', once for "
                "each layer"
            )

    @classmethod
    def _split(cls, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """(fields under their own names, and labels; other keys)."""
        fields: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        mine = {*hints_of(cls), *LABEL_KEYS} - {"extra"}
        for given, value in values.items():
            key = cls.aliases.get(given, given)
            if key in fields and freeze(fields[key]) != freeze(value):
                raise ConfigError(
                    f"{cls.__name__}: {key} is given under two names, as {shown(fields[key])} and "
                    f"as {shown(value)}"
                )
            (fields if key in mine else extra)[key] = value
        return fields, extra


def find_config(
    name_or_path: str | os.PathLike | Location, options: HubOptions = DEFAULT_OPTIONS
) -> tuple[Location, str]:
    """Returns (where a configuration is, the path of the file).

    A name that ends in `/config.json` is a file, and nobody is asked for a repository of it.
    """
    if not isinstance(name_or_path, Location):
        path = os.fspath(name_or_path)
        is_file = os.path.isfile(path) and path.endswith(".json")
        if is_file or os.path.basename(path) == CONFIG_NAME:
            return Location(path), path
    found = resolve(name_or_path, options)
    return found, config_path(found.folder)

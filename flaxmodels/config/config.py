"""Configurations: what `config.json` says, as a frozen, hashable dataclass.

`from_dict` reads a file; constructors, `replace` and the keywords of `from_pretrained` take what a
caller says (`reading`). Both end in the checks of `__post_init__`.
"""

import contextlib
import dataclasses
import inspect
import os
import typing
from typing import TYPE_CHECKING, Any, Self

from flax.core import FrozenDict

from .. import gguf
from ..calls import keywords
from ..documents.field_types import checked, hints_of, out_of_range
from ..documents.json_files import CONFIG_NAME as CONFIG_NAME
from ..documents.json_files import config_path, naming, read_json, text_of, write_text
from ..documents.json_values import ConfigError, Json, JsonObject, shown, thaw
from ..hub import DEFAULT_OPTIONS, HubOptions, Location, checked_name, resolve
from ..params.errors import some, warn
from ..params.formats.gguf import open_gguf
from .labels import LABEL_KEYS, Labels
from .parts import checked_part, parts_of_caller, parts_of_file, text_part
from .reading import check_extra, fields_of_caller, fields_of_file
from .schema import Schema

FROM_OTHERS: Any = None
"""The default of a field that follows from the others."""


class _Type(type):
    """Makes a constructor take what `replace` takes: fields under any name, labels either way."""

    if not TYPE_CHECKING:  # a type checker reads the dataclass

        def __call__(cls, *args: object, **given: Json) -> "Config":
            if args:
                raise TypeError(f"{cls.__name__} takes its fields by name, got {shown(args)}")
            return cls._construct(parts_of_caller(cls, fields_of_caller(cls, given), None), given)

    @property
    def __signature__(cls) -> inspect.Signature:
        return inspect.Signature([*inspect.signature(cls.__init__).parameters.values()][1:])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Schema, metaclass=_Type):
    """Holds the fields that every family has. A family adds its own, under the names of
    `config.json`, with the defaults of the reference implementation (Transformers 5.23).

    Instances hash and compare by value. `extra` holds the keys of a `config.json` that no field
    claims; they are read as attributes and written back by `to_dict`. `id2label` is asked by a
    number or by its text. `pruned_heads` is {layer: heads}, both numbered from 0 as if none were
    pruned; `model.prune_heads` makes it. Fields in `sub_configs` are configurations themselves, and
    are given as one or as a mapping of its fields.
    """

    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | tuple[int, ...] | None = None
    tie_word_embeddings: bool = True
    num_labels: int = 2
    id2label: FrozenDict[str, str] | None = None
    output_hidden_states: bool = False
    output_attentions: bool = False
    pruned_heads: FrozenDict[str, tuple[int, ...]] = FrozenDict()
    extra: FrozenDict[str, Json] = FrozenDict()

    def __post_init__(self) -> None:
        with naming(type(self).__name__):
            self._check_fields()
            self.derive()
            check_extra(self)
            self.validate()

    def _check_fields(self) -> None:
        """Checks each field alone, and brings it into the type that it is declared with."""
        hints = hints_of(type(self))
        for field in dataclasses.fields(self):
            value, hint = getattr(self, field.name), hints[field.name]
            if value is None and field.name in self.derived:
                continue
            if field.name in self.sub_configs:
                optional = type(None) in typing.get_args(hint)
                value = checked_part(type(self), field.name, value, optional)
            else:
                value = checked(type(self), field.name, value, hint)
            if value is None or (value == 0 and field.name in self.may_be_zero):
                pass
            elif problem := out_of_range(field.name, value):
                raise ConfigError(f"{field.name} is {shown(value)}; {problem}")
            object.__setattr__(self, field.name, value)
        pruned = {
            layer: tuple(sorted({*heads})) for layer, heads in self.pruned_heads.items() if heads
        }
        object.__setattr__(self, "pruned_heads", FrozenDict(pruned))
        if self.id2label is not None:
            object.__setattr__(self, "id2label", Labels(self.id2label))

    def derive(self) -> None:
        """Fills in the fields of `derived` that are None, from others that have been checked."""
        for field, rule in self.derived.items():
            if rule is not None and getattr(self, field) is None:
                object.__setattr__(self, field, rule(self))

    def following(self) -> list[str]:
        """Returns the fields whose values are those that `derive` gives them."""
        found = []
        for field, rule in self.derived.items():
            with contextlib.suppress(ConfigError):  # a rule may refuse: a share that is not even
                if rule and getattr(type(self), field) is None:
                    found += [field] if getattr(self, field) == rule(self) else []
        return found

    def validate(self) -> None:
        """Checks what one field alone cannot show; raises `ConfigError`."""

    def __getattr__(self, name: str) -> Json:
        if name in type(self).aliases:
            return getattr(self, type(self).aliases[name])
        extra = self.__dict__.get("extra", {})
        if name in extra:
            return extra[name]
        raise AttributeError(f"{type(self).__name__} has no field {name!r}")

    @property
    def embedding_size(self) -> int:
        """Width of the vectors of tokens, of `inputs_embeds` as well."""
        return self.hidden_size

    @property
    def position_limit(self) -> int | None:
        """The most positions the model can tell apart; None where there is no hard limit."""
        return None

    @property
    def first_position(self) -> int:
        """The position of a sequence's first token; `position_limit` counts from there."""
        return 0

    @property
    def label2id(self) -> dict[str, int] | None:
        """{label: number}, the inverse of `id2label`."""
        if self.id2label is None:
            return None
        return {str(label): int(number) for number, label in self.id2label.items()}

    def replace(self, **changes: object) -> Self:
        """Returns a copy with some fields changed, each under any of its names.

        `id2label` or `label2id` decides `num_labels`; another `num_labels` takes the labels away.
        A new `rope_theta` keeps the scaling, a new `rope_scaling` or `rope_parameters` theta. What
        follows from other fields by default does so again, unless it says something else:
        `num_decoder_layers` from `num_layers`.

        Raises:
            TypeError: a keyword that would have no effect.
            ConfigError: a value that cannot be honoured.
        """
        there = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        there |= dict.fromkeys(self.following())
        fields = fields_of_caller(type(self), changes, self)
        return self._construct(there | parts_of_caller(type(self), fields, self), changes)

    @property
    def text(self) -> "Config":
        """The configuration of what has the vocabulary and makes the tokens: a part, or itself."""
        name = text_part(type(self))
        return getattr(self, name).text if name else self

    def replace_text(self, **changes: object) -> Self:
        """Returns a copy with some fields of `text` changed, as `replace` does."""
        name = text_part(type(self))
        if name is None:
            return self.replace(**changes)
        return self.replace(**{name: getattr(self, name).replace_text(**changes)})

    @classmethod
    def from_dict(cls, values: JsonObject, *, path: str | os.PathLike = "") -> Self:
        """Makes the configuration that a decoded `config.json` of Transformers 4 or 5 describes.

        Args:
            path: of the file, which warnings then begin with.

        Raises:
            ConfigError: a value of the wrong type, or mathematics that is not implemented.
        """
        who = f"{path}: {cls.__name__}" if path else cls.__name__
        fields = parts_of_file(cls, fields_of_file(cls, values, who), os.fspath(path))
        return cls._construct(fields, fields)

    def to_dict(self) -> dict[str, Json]:
        """Returns the content of `config.json`, readable by Transformers 4 and 5.

        Labels that nobody gave are not written: their number is.
        """
        values = dict(self.extra)
        for field in dataclasses.fields(self):
            if field.name not in ("extra", *LABEL_KEYS):
                value = getattr(self, field.name)
                values[field.name] = value.to_dict() if isinstance(value, Config) else value
        if self.id2label is not None:
            values |= {"id2label": dict(self.id2label), "label2id": self.label2id}
        elif self.num_labels != type(self).num_labels:
            values["num_labels"] = self.num_labels
        for key in ("output_hidden_states", "output_attentions", "pruned_heads"):
            if not values[key]:
                del values[key]
        values["model_type"] = self.model_type
        return thaw(self.to_json_keys(values))

    @classmethod
    def from_json_file(cls, path: str | os.PathLike) -> Self:
        """Reads one `config.json`; for a file of unknown family use `AutoConfig`."""
        with naming(path):
            return cls.from_dict(read_json(path), path=path)

    @classmethod
    def from_pretrained(cls, name_or_path: str | os.PathLike | Location, **changes: object) -> Self:
        """Reads `config.json` of a folder or repository, or the file itself; `changes` override
        fields, but for what says where it is (`flaxmodels.hub.HubOptions`): revision, token, ...
        The metadata of a file of GGUF, which `gguf_file` names in a folder, are read as well.

        Raises:
            ConfigError: a file that cannot be read, or describes another family.
            CheckpointError: neither a folder nor anything that can be reached.
        """
        changes = keywords.with_our_names(changes, f"{cls.__name__}.from_pretrained")
        gguf_file = changes.pop("gguf_file", None)
        found, path, values = read_config(name_or_path, HubOptions.take_from(changes), gguf_file)
        with found.noting(), naming(path):
            config = cls.from_dict(values, path=path)
        return config.replace(**changes) if changes else config

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Writes `config.json` into `folder`, which is made if absent."""
        write_text(folder, CONFIG_NAME, self.to_json())

    def to_json(self) -> str:
        """Formats `to_dict` as strict JSON of at most 16 MiB, keys sorted."""
        return text_of(self.to_dict())

    @classmethod
    def _construct(cls, fields: JsonObject, given: JsonObject) -> Self:
        """Makes the configuration; warns of token ids under the keys of `given` that are outside
        of the vocabulary."""
        config = type.__call__(cls, **fields)
        for name in given:
            if name.endswith("_token_id") and (odd := config._unknown_tokens(name)):
                warn(
                    f"{cls.__name__}: {name} is {shown(getattr(config, name))}, and no token has "
                    f"{some(odd)}: vocab_size is {config.vocab_size}"
                )
        return config

    def _unknown_tokens(self, name: str) -> list[int]:
        """Returns the ids of a field that are outside of the vocabulary. The field's default is
        passed over, since nobody chose it, and -1, which files write for none."""
        ids, size = getattr(self, name, None), getattr(self, "vocab_size", None)
        if size is None or ids is None or ids == getattr(type(self), name, None):
            return []
        ids = ids if isinstance(ids, tuple) else (ids,)
        return [i for i in ids if type(i) is int and i != -1 and not 0 <= i < size]


def read_config(
    name_or_path: str | os.PathLike | Location,
    options: HubOptions = DEFAULT_OPTIONS,
    gguf_file: object = None,
) -> tuple[Location, str, dict[str, Json]]:
    """Returns (the location of a configuration, the path of the file, what it says).

    Args:
        gguf_file: the file in the folder whose metadata are read in the place of `config.json`.
    """
    is_name = not isinstance(name_or_path, Location)
    if gguf_file is None and not (is_name and checked_name(name_or_path).endswith(gguf.ENDING)):
        found, path = find_config(name_or_path, options)
        with found.noting(), naming(path):
            return found, path, read_json(path)
    found = resolve(name_or_path, options)
    if isinstance(gguf_file, str):
        found = found.file(gguf_file)
    elif gguf_file is not None:
        raise TypeError(f"gguf_file is {gguf_file!r:.80}; expected the name of a file")
    return found, found.path, gguf.config_of(open_gguf(found.path, found.store))


def find_config(
    name_or_path: str | os.PathLike | Location, options: HubOptions = DEFAULT_OPTIONS
) -> tuple[Location, str]:
    """Returns (the location of a configuration, the path of the file).

    A name that ends in `/config.json` is a file: no repository is looked up for it.
    """
    if not isinstance(name_or_path, Location):
        path = checked_name(name_or_path)
        is_file = os.path.isfile(path) and path.endswith(".json")
        if is_file or os.path.basename(path) == CONFIG_NAME:
            return Location(path), path
    found = resolve(name_or_path, options)
    return found, config_path(found.folder)

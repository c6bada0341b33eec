"""Settings of generation: read from `generation_config.json`, or from an old `config.json`."""

import dataclasses
import functools
import os
from collections.abc import Mapping
from typing import Any, Self, TypeVar

import numpy as np
from flax.core import FrozenDict

from ..calls.signature import names_of
from ..documents.field_types import checked, hints_of
from ..documents.json_files import read_json, text_of, write_text
from ..documents.json_values import ConfigError, Json, JsonObject, freeze, is_finite, shown, thaw
from ..documents.remote_code import without_code
from ..params.errors import quoted, some, warn
from . import unimplemented_settings as settings
from .config import CONFIG_NAME, Config

GENERATION_CONFIG_NAME = "generation_config.json"

_NEW_TOKENS = 20
_MANY = 1 << 31
_T = TypeVar("_T")


def _takes_neutral_settings(cls: type[_T]) -> type[_T]:
    """Makes the constructor accept settings of Transformers that change nothing, as code written
    for it gives them, and refuse others by name. The dataclass's own would refuse them all."""
    init: Any = cls.__init__

    @functools.wraps(init)
    def __init__(self, *, extra: Mapping[str, Json] | None = None, **given: Json) -> None:
        extra = {} if extra is None else extra
        if not isinstance(extra, Mapping) or (extra.keys() & {*_FIELDS}):
            raise ConfigError(
                f"{cls.__name__}: extra is {shown(extra)}; expected a mapping of keys that are no "
                "settings of its own"
            )
        own = {name: given.pop(name) for name in list(given) if name in _FIELDS}
        kept = settings.neutral(cls.__name__, given, _FIELDS)
        init(self, **own, extra=FrozenDict({**extra, **freeze(kept)}))

    cls.__init__ = __init__  # pyright: ignore[reportAttributeAccessIssue] (of a dataclass)
    return cls


@_takes_neutral_settings
@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """Holds settings of `generate`, under the names of `generation_config.json`; None: not given.

    Settings of Transformers that are no field here may be given if they change nothing
    (`num_beams=1`). `docs/generation.md` lists which act.

    Attributes:
        max_new_tokens: how many tokens a prompt is continued by.
        max_length: the same with the prompt counted in; `max_new_tokens` overrides it.
        do_sample: draw the next token; else take the most probable.
        temperature, top_k, top_p: of the draw, applied in this order.
        eos_token_id: a row that produced one of these is finished; () for none.
        pad_token_id: what follows then, and what prompts are padded with.
        bos_token_id: what the decoder of an encoder-decoder starts with where there is no
            `decoder_start_token_id`; else not used: a prompt has at least one token.
        decoder_start_token_id: what the decoder of an encoder-decoder starts with.
        forced_bos_token_id: the first new token after a single one, as a language's code.
        forced_eos_token_id: the last token of a row that has not ended before; of several, greedily
            the smallest.
        extra: other keys of a file; they are not used, and written back.

    Raises:
        ConfigError: a value that its field cannot have.
        NotImplementedError: a setting of Transformers that is not done yet.
        TypeError: a name that is no setting.
    """

    max_new_tokens: int | None = None
    max_length: int | None = None
    do_sample: bool | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    eos_token_id: int | tuple[int, ...] | None = None
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    decoder_start_token_id: int | None = None
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | tuple[int, ...] | None = None
    extra: FrozenDict[str, Json] = FrozenDict()

    def __post_init__(self) -> None:
        for name in (*_FIELDS, "extra"):
            object.__setattr__(self, name, _valid(type(self), name, getattr(self, name)))

    @property
    def eos(self) -> tuple[int, ...]:
        """The tokens that finish a row."""
        return _ids(self.eos_token_id)

    @property
    def forced_last(self) -> tuple[int, ...]:
        """The tokens of which one is the last of a row."""
        return _ids(self.forced_eos_token_id)

    @property
    def pad(self) -> int:
        """The token after a finished row: `pad_token_id`, else the first end-of-sequence token."""
        return (*self.eos, 0)[0] if self.pad_token_id is None else self.pad_token_id

    def given(self, **values: Json) -> Self:
        """Returns a copy with those of `values` that are not None; raises as the constructor."""
        return dataclasses.replace(self, **{k: v for k, v in values.items() if v is not None})

    def over(self, other: Self) -> Self:
        """Returns these settings, and those of `other` where they are None. The length is one
        setting, given as `max_new_tokens` or as `max_length`."""
        if self.max_new_tokens is None and self.max_length is not None:
            other = dataclasses.replace(other, max_new_tokens=None)
        own = {name: getattr(self, name) for name in _FIELDS}
        return other.given(**own, extra=FrozenDict({**other.extra, **self.extra}))

    def count(self, length: int, limit: int | None = None) -> int:
        """Counts the new tokens for a prompt of `length`, in a model of `limit` positions: 20, or
        as many as fit, if no setting gives a length.

        Raises:
            ValueError: the prompt leaves no room for one.
        """
        if self.max_new_tokens is not None:
            return self.max_new_tokens
        if self.max_length is None:
            return _NEW_TOKENS if limit is None else max(1, min(_NEW_TOKENS, limit - length))
        if length >= self.max_length:
            raise ValueError(
                f"input_ids has {length} tokens, and max_length is {self.max_length}, the prompt "
                "counted in: give a greater one, or max_new_tokens"
            )
        return self.max_length - length

    def check(self, vocab_size: int | None) -> None:
        """Refuses settings that only the vocabulary, or another setting, shows to be wrong.

        Raises:
            ValueError: a token that the vocabulary does not have, a temperature of 0 for a draw.
        """
        for name in _IDS:
            if bad := _beyond(name, getattr(self, name), vocab_size):
                raise ValueError(f"{name} is {some(bad)}, and {_tokens(vocab_size)}")
        if self.do_sample and self.temperature is not None and not np.float32(self.temperature) > 0:
            raise ValueError(
                f"temperature is {self.temperature}; it must be above 0 (greedy: do_sample=False)"
            )

    @classmethod
    def of(cls, config: Config, location: str = "config.json") -> Self:
        """Reads a model's configuration: its token ids, and the settings that Transformers 4 wrote
        beside them.

        Args:
            location: the file, for the warning about settings that do not act.
        """
        old = {k: v for k, v in config.extra.items() if k in _FIELDS or settings.is_setting(k)}
        return cls._read(old | _own_ids(config), location, config)

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike, config: Config | None = None) -> Self:
        """Reads `generation_config.json` of a folder, or the file itself.

        One warning names the settings that `generate` does not implement, which are kept, and the
        values that a setting cannot have, which are left out. A file that cannot be read is skipped
        with a warning: weights do not depend on it.

        Args:
            config: of the model: its token ids fill gaps, and where there is no such file, the
                settings of an old `config.json` count.

        Raises:
            ConfigError: no `config`, and no file that can be read.
        """
        path = os.fspath(folder)
        folder = path if os.path.isdir(path) else os.path.dirname(path)
        if folder == path:
            path = os.path.join(folder, GENERATION_CONFIG_NAME)
        if config is None:
            return cls._read(read_json(path), path, None)
        old = os.path.join(folder, CONFIG_NAME)
        if not os.path.lexists(path):
            return cls.of(config, old)
        try:
            values = read_json(path)
        except ConfigError as error:
            warn(f"{error}; generation defaults are not read")
            return cls.of(config, old)
        return cls._read(values, path, config).over(cls._read(_own_ids(config), old, config))

    @classmethod
    def _read(cls, values: JsonObject, location: str, config: Config | None) -> Self:
        """Makes the settings of a file; warns of those that do not act."""
        vocab_size = None if config is None else getattr(config.text, "vocab_size", None)
        own: dict[str, Json] = {}
        messages: list[str] = []
        for name in _FIELDS:
            try:
                value = _valid(cls, name, values.get(name))
            except ConfigError as error:
                messages.append(f"{error}; it is left out")
                continue
            if bad := _beyond(name, value, vocab_size):
                if value != _family_ids(config).get(name):
                    messages.append(f"{name} is {some(bad)}, and {_tokens(vocab_size)}; left out")
                value = tuple(id for id in _ids(value) if id not in bad) or None
            if value is not None:
                own[name] = value
        others = {key: value for key, value in values.items() if key not in _FIELDS}
        if missed := settings.not_done(others):
            names = some(f"{name} = {shown(value, 60)}" for name, value in missed.items())
            messages.append(f"not implemented, so that tokens may differ: {names}")
        others, code = without_code(others)
        if code:
            messages.append(f"remote code ignored: {some(code)}")
        if lost := [name for name, value in others.items() if not is_finite(value)]:
            messages.append(
                f"Infinity or NaN, which is no JSON, left out: {some(map(quoted, lost))}"
            )
            others = {name: value for name, value in others.items() if name not in lost}
        if odd := [name for name in others if not settings.is_setting(name)]:
            messages.append(f"not known, and kept: {some(map(quoted, odd))}")
        if messages:
            warn(f"{location}: {'; '.join(messages)}")
        return cls(**own, extra=freeze(others))

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Writes `generation_config.json` into `folder`, which is made if absent."""
        values = dict(self.extra)
        for name in _FIELDS:
            if getattr(self, name) is not None:
                values[name] = getattr(self, name)
        write_text(folder, GENERATION_CONFIG_NAME, text_of(thaw(values)))


_FIELDS = tuple(name for name in names_of(GenerationConfig) if name != "extra")
_IDS = tuple(name for name in _FIELDS if name.endswith("_token_id"))


def _valid(cls: type, name: str, value: Json) -> Json:
    """Normalises the value of a setting; raises `ConfigError`."""
    if value is None:
        return None
    value = checked(cls, name, value, hints_of(cls)[name])
    if problem := _problem(name, value):
        raise ConfigError(f"{cls.__name__}: {name} is {shown(value)}; {problem}")
    return value


def _problem(name: str, value: Json) -> str | None:
    """Returns what is wrong with a setting's value for any model; None if nothing is."""
    if name in _IDS and not all(0 <= id < _MANY for id in _ids(value)):
        none = "; for none give ()" if name == "eos_token_id" else ""
        return f"a token is a number from 0 to 2**31 - 1{none}"
    if name in ("max_new_tokens", "max_length") and not 0 < value < _MANY:
        return "it must be at least 1 and below 2**31"
    if name == "temperature" and not 0 <= value <= float(np.finfo(np.float32).max):
        return "it must be above 0, and a number of float32"
    if name == "top_k" and not 0 <= value < _MANY:
        return "it must be a positive integer, or 0 for all"
    if name == "top_p" and not 0 <= value <= 1:
        return "it must be a probability"
    return None


def _ids(value: int | tuple[int, ...] | None) -> tuple[int, ...]:
    return () if value is None else (value,) if isinstance(value, int) else value


def _beyond(name: str, value: Json, vocab_size: int | None) -> list[int]:
    """Returns the tokens in a setting that a vocabulary does not have."""
    if name not in _IDS or vocab_size is None:
        return []
    return [id for id in _ids(value) if id >= vocab_size]


def _tokens(vocab_size: int | None) -> str:
    return f"the model has the tokens 0 to {(vocab_size or 0) - 1}"


def _own_ids(config: Config) -> dict[str, Json]:
    """Returns the tokens that a model's configuration names, or its text part."""
    ids = {name: getattr(config, name, None) for name in _IDS}
    return {k: getattr(config.text, k, None) if v is None else v for k, v in ids.items()}


def _family_ids(config: Config | None) -> dict[str, Json]:
    """Returns the default tokens of a family, which Transformers writes into both files: nobody
    chose them, and a small vocabulary may be without them."""
    fields = () if config is None else dataclasses.fields(config.text)
    return {field.name: field.default for field in fields if field.name in _IDS}

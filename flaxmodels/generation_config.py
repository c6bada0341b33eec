"""Defaults of generation: what `generation_config.json` says."""

import dataclasses
import json
import os
import typing
import warnings
from typing import Any, Self

import jax
from flax.core import FrozenDict

from .config import Config
from .values import ConfigError, checked, freeze, read_json, thaw

GENERATION_CONFIG_NAME = "generation_config.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """Defaults of `generate`, as `generation_config.json` gives them; None: not given.

    `extra` holds the keys that nothing here uses; they are written back.
    """

    max_new_tokens: int | None = None
    do_sample: bool = False
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    eos_token_id: int | tuple[int, ...] | None = None
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    extra: FrozenDict[str, Any] = FrozenDict()

    @property
    def count(self) -> int:
        """How many new tokens: 20 if nothing says otherwise."""
        return 20 if self.max_new_tokens is None else self.max_new_tokens

    @property
    def eos(self) -> tuple[int, ...]:
        """The tokens that finish a row."""
        ids = () if self.eos_token_id is None else self.eos_token_id
        return (ids,) if isinstance(ids, int) else ids

    @property
    def pad(self) -> int:
        """What follows a finished row."""
        return (*self.eos, 0)[0] if self.pad_token_id is None else self.pad_token_id

    def given(self, **values: Any) -> Self:
        """A copy with those of `values` that are not None."""
        return dataclasses.replace(self, **{k: v for k, v in values.items() if v is not None})

    def check(self, key: jax.Array | None) -> None:
        """Raises `ValueError` for a value out of range, or a draw without a key."""
        temperature, top_k, top_p = self.temperature, self.top_k, self.top_p
        if self.count < 1:
            raise ValueError(f"max_new_tokens is {self.count}; it must be at least 1")
        if not self.do_sample:
            return
        if key is None:
            raise ValueError("do_sample needs a key: pass key=jax.random.key(seed)")
        if temperature is not None and not temperature > 0:
            raise ValueError(
                f"temperature is {temperature}; it must be above 0 (greedy: do_sample=False)"
            )
        if top_k is not None and (top_k < 0 or top_k != int(top_k)):
            raise ValueError(f"top_k is {top_k}; it must be a positive integer, or 0 for all")
        if top_p is not None and not 0 < top_p <= 1:
            raise ValueError(f"top_p is {top_p}; it must be above 0 and at most 1")

    @classmethod
    def of(cls, config: Config) -> Self:
        """What a model's configuration says."""
        names = ("eos_token_id", "pad_token_id", "bos_token_id")
        return cls(**{name: getattr(config, name) for name in names})

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike, config: Config) -> Self:
        """What a folder's `generation_config.json` says; the token ids of `config` fill gaps.

        A file that cannot be read is warned about: weights do not depend on it.
        """
        path = os.path.join(folder, GENERATION_CONFIG_NAME)
        values: dict[str, Any] = {}
        if os.path.exists(path):
            try:
                values = {key: freeze(value) for key, value in read_json(path).items()}
            except ConfigError as error:
                warnings.warn(f"{error}; generation defaults are not read", stacklevel=2)
        names = {field.name for field in dataclasses.fields(cls)} - {"extra"}
        known = {key: values.pop(key) for key in list(values) if key in names}
        hints = typing.get_type_hints(cls)
        for name, value in list(known.items()):
            try:
                known[name] = value if value is None else checked(cls, name, value, hints[name])
            except ConfigError as error:
                warnings.warn(f"{path}: {error}; it is left out", stacklevel=2)
                del known[name]
        return cls.of(config).given(**known, extra=FrozenDict(values))

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Writes `generation_config.json` into an existing folder."""
        values = dict(self.extra)
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name != "extra" and value is not None:
                values[field.name] = value
        with open(os.path.join(folder, GENERATION_CONFIG_NAME), "w", encoding="utf-8") as file:
            file.write(json.dumps(thaw(values), indent=2, sort_keys=True) + "\n")

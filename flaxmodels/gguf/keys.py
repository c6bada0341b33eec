"""The keys of an architecture in the metadata of a GGUF file."""

import dataclasses
from typing import NoReturn

from .. import params as fp
from ..params.errors import quoted
from ..params.formats.gguf import Array, Gguf
from ..params.formats.gguf.metadata import BOOL, shown

_MOST_LAYERS = 1 << 16


@dataclasses.dataclass(frozen=True)
class Keys:
    """The metadata of a file, by keys without the name of the architecture, which they begin with.

    Attributes:
        name: of the architecture, "llama".
    """

    gguf: Gguf
    name: str

    def __contains__(self, key: str) -> bool:
        return f"{self.name}.{key}" in self.gguf.metadata

    def text(self, key: str, default: str | None = None) -> str:
        return self.gguf.metadata.text(f"{self.name}.{key}", default)

    def whole(self, key: str, default: int | None = None) -> int:
        return self.gguf.metadata.whole(f"{self.name}.{key}", default)

    def number(self, key: str, default: float | None = None) -> float:
        return self.gguf.metadata.number(f"{self.name}.{key}", default)

    def flags(self, key: str) -> list[bool]:
        """Returns an array of a bool for each layer; [] where the value is no such array."""
        value = self.gguf.metadata.get(f"{self.name}.{key}")
        if not isinstance(value, Array) or value.kind != BOOL or value.count > _MOST_LAYERS:
            return []
        return value.read()

    def starting(self, start: str) -> list[str]:
        """Lists the keys that begin so."""
        start = f"{self.name}.{start}"
        return [k.removeprefix(f"{self.name}.") for k in self.gguf.metadata if k.startswith(start)]

    def refuse(self, key: str, expected: str) -> NoReturn:
        """Raises `CheckpointError` for the value of a key."""
        key = f"{self.name}.{key}"
        found = shown(self.gguf.metadata[key])
        raise fp.CheckpointError(
            f"{self.gguf.path}: metadata {quoted(key)} is {found}; read is {expected}"
        )

    @property
    def heads(self) -> int:
        """The number of query heads, checked to be above 0."""
        return self._above_zero("attention.head_count")

    @property
    def kv_heads(self) -> int:
        """The number of key-value heads, that of the query heads if the file does not say."""
        key = "attention.head_count_kv"
        return self._above_zero(key) if key in self else self.heads

    @property
    def head_dim(self) -> int:
        """The width of a head."""
        dim = self.whole("attention.key_length", self.whole("embedding_length") // self.heads)
        if self.whole("attention.value_length", dim) != dim:
            self.refuse("attention.value_length", f"{dim}, the width of keys")
        return dim

    def _above_zero(self, key: str) -> int:
        value = self.whole(key)
        if not value:
            self.refuse(key, "a number above 0")
        return value

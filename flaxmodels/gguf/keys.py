"""The keys of an architecture in the metadata of a GGUF file."""

from typing import NoReturn

from .. import params as fp
from ..params.errors import quoted
from ..params.formats.gguf import Array, Gguf, Metadata
from ..params.formats.gguf.metadata import BOOL, shown

_MOST_LAYERS = 1 << 16


class Keys(Metadata):
    """The metadata of a file, by keys without the name of the architecture, such as "llama", which
    they begin with."""

    def __init__(self, gguf: Gguf, name: str):
        start = f"{name}."
        own = {k.removeprefix(start): v for k, v in gguf.metadata.items() if k.startswith(start)}
        super().__init__(gguf.path, own, start)
        self.gguf = gguf

    def flags(self, key: str) -> list[bool]:
        """Returns an array of a bool for each layer; [] where the value is no such array."""
        value = self.get(key)
        if not isinstance(value, Array) or value.kind != BOOL or value.count > _MOST_LAYERS:
            return []
        return value.read()

    def refuse(self, key: str, expected: str) -> NoReturn:
        """Raises `CheckpointError` for the value of a key, or because it is not there."""
        found = shown(self[key]) if key in self else "not there"
        raise fp.CheckpointError(
            f"{self.path}: metadata {quoted(self.start + key)} is {found}; read is {expected}"
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

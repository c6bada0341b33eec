"""flax msgpack: a nested map of arrays, indexed without decoding the arrays' bytes.

What `flax.serialization.to_bytes` writes: maps with string keys; an array is extension 1 holding
the msgpack array [shape, dtype name, bytes]; arrays above 2**30 bytes are split into a map
{"__msgpack_chunked_array__": true, "shape": {"0": n, ...}, "chunks": {"0": array, ...}}.
"""

import math
from collections.abc import Iterator
from typing import TypeAlias, TypeVar

import jax.numpy as jnp
import numpy as np

from ..errors import CheckpointError, quoted
from .files import Cursor, File, Span
from .source import Tensor, too_large

Node: TypeAlias = object
"""What msgpack decodes to: a bool or int, a dict of nodes, a tensor. A text, nil or float, such as
stands beside the params in a training's state, is the error that it is in the place of an array."""

T = TypeVar("T")

MAX_NODES = 250_000
MAX_DEPTH = 64
_MAX_PATHS = 32 << 20  # characters of all paths: every array of a map has its names once more
_LONGEST_NAME = 4096
CHUNKED = "__msgpack_chunked_array__"
_ARRAY, _COMPLEX, _SCALAR = 1, 2, 3
TEXTS = frozenset((*range(0xA0, 0xC0), 0xD9, 0xDA, 0xDB))  # codes that start strings

DTYPES = {
    name: jnp.dtype(name)
    for name in (
        "float64 float32 float16 bfloat16 float8_e3m4 float8_e4m3 float8_e4m3fn float8_e4m3fnuz "
        "float8_e4m3b11fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu complex128 complex64 int64 "
        "int32 int16 int8 uint64 uint32 uint16 uint8 bool"
    ).split()
}


def read_index(file: File, walker: type["Walker"] | None = None) -> dict[str, Tensor]:
    """Reads the tree of a file -> {"a/b/c": lazy tensor} of every array.

    Args:
        walker: that of a format which holds more than arrays.

    Raises:
        CheckpointError: anything that is not a tree of arrays as flax writes it.
    """
    if file.size == 0:
        raise CheckpointError(f"{file.path}: the file is empty")
    file.reject_lookalikes()
    cursor = (walker or Walker)(file)
    tree = cursor.value("", 0)
    if isinstance(tree, CheckpointError):
        raise tree
    if cursor.position != file.size:
        raise CheckpointError(
            f"{file.path}: {file.size - cursor.position} bytes follow the tree that ends at byte "
            f"{cursor.position}"
        )
    if not isinstance(tree, dict):
        raise CheckpointError(f"{file.path}: expected a map of names at the top")
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Node] = {}
    for path, leaf in _leaves(file, "", tree):
        if not isinstance(leaf, Tensor):
            plain[path] = leaf
        elif path in tensors:
            raise CheckpointError(f"{file.path}: two arrays are called {quoted(path)}")
        else:
            tensors[path] = leaf
    if plain and not tensors:
        path, value = next(iter(plain.items()))
        if isinstance(value, CheckpointError):
            raise value
        raise CheckpointError(f"{file.path}: {quoted(path)} holds {value!r}, expected an array")
    return tensors


class Walker(Cursor):
    """A cursor over msgpack that steps over the bytes of arrays."""

    def __init__(self, file: File):
        super().__init__(file)
        self.nodes = self.paths = 0

    def size(self, width: int) -> int:
        return int.from_bytes(self.take(width), "big")

    def value(self, path: str, depth: int) -> Node:
        """Reads the next value."""
        self.nodes += 1
        self.paths += len(path)
        if self.nodes > MAX_NODES or depth > MAX_DEPTH or self.paths > _MAX_PATHS:
            raise CheckpointError(
                f"{self.file.path}: more than {MAX_NODES} values, deeper than {MAX_DEPTH}, or "
                f"paths of {_MAX_PATHS} characters"
            )
        code = self.take(1)[0]
        if code & 0xF0 == 0x80:
            return self._map(code & 0x0F, path, depth)
        if code in (0xDE, 0xDF):
            return self._map(self.size(2 if code == 0xDE else 4), path, depth)
        if code in _EXTENSIONS:
            fixed, width = _EXTENSIONS[code]
            return self._extension(path, fixed or self.size(width))
        if code < 0x80:
            return code
        if code in (0xC2, 0xC3):
            return code == 0xC3
        if code in (0xCC, 0xCD, 0xCE, 0xCF):
            return self.size(1 << (code - 0xCC))
        return self.other(code, path, depth)

    def other(self, code: int, path: str, depth: int) -> Node:
        """Reads the value that starts with `code`, which belongs in no tree of arrays."""
        plain = self._error(path, f"{_kind(code)} where an array belongs")
        if code in _NUMBERS:
            self.take(_NUMBERS[code])
        elif code in TEXTS:
            length = self._length(code)
            if self.position + length > self.file.size:
                raise plain
            self.skip(length)
        elif code != 0xC0 and code < 0xE0:
            raise plain
        return plain

    def _map(self, count: int, path: str, depth: int) -> dict[str, Node]:
        values: dict[str, Node] = {}
        for _ in self.up_to(count, path):
            name = self.text(self.take(1)[0], path)
            if name in values:
                raise self._error(path, f"key {quoted(name)} appears twice")
            values[name] = self.value(f"{path}/{name}" if path else name, depth + 1)
        return values

    def up_to(self, count: int, path: str) -> range:
        """Returns `range(count)`, for a container that claims to have `count` entries."""
        if count > self.file.size - self.position:
            raise self._error(path, f"a map claims {count} entries, more than the file has bytes")
        return range(count)

    def text(self, code: int, path: str) -> str:
        """Reads the string that starts with `code`."""
        if code not in TEXTS:
            raise self._error(path, "a key that is not a string")
        length = self._length(code)
        if length > _LONGEST_NAME:
            raise self._error(path, f"a name of {length} bytes; one has at most {_LONGEST_NAME}")
        try:
            return self.take(length).decode()
        except UnicodeDecodeError:
            raise self._error(path, "a key that is not UTF-8") from None

    def _length(self, code: int) -> int:
        return code & 0x1F if code < 0xC0 else self.size(1 << (code - 0xD9))

    def _extension(self, path: str, length: int) -> Tensor:
        kind = int.from_bytes(self.take(1), "big", signed=True)
        end = self.position + length
        if end > self.file.size:
            raise self._error(path, f"an array of {length} bytes in a file that is cut short")
        if kind not in (_ARRAY, _SCALAR):
            name = "a complex number" if kind == _COMPLEX else f"extension {kind}"
            raise self._error(path, f"{name} where an array belongs")
        shape, dtype, size = self._array_head(path)
        expected = math.prod(shape) * dtype.itemsize
        if size != expected or self.position + size != end or (kind == _SCALAR and shape):
            raise self._error(
                path, f"{dtype} of shape {shape} takes {expected} bytes, the file gives it {size}"
            )
        span = Span(self.file, self.position, size)
        self.skip(size)
        return Tensor(path, shape, dtype, (span,))

    def _array_head(self, path: str) -> tuple[tuple[int, ...], np.dtype, int]:
        if self.take(1) != b"\x93":
            raise self._error(path, "an array without [shape, dtype, bytes]")
        code = self.take(1)[0]
        if code & 0xF0 != 0x90:
            raise self._error(path, "an array whose shape is no short list")
        shape = tuple(self.value(path, MAX_DEPTH) for _ in range(code & 0x0F))
        for size in shape:
            if isinstance(size, CheckpointError):
                raise size
        sizes = tuple(size for size in shape if type(size) is int)
        if len(sizes) < len(shape):
            raise self._error(path, f"an array of shape {quoted(shape)}")
        dtype = self.text(self.take(1)[0], path)
        if dtype not in DTYPES:
            raise self._error(
                path, f"dtype {quoted(dtype)}, which JAX cannot hold; known: {', '.join(DTYPES)}"
            )
        if too_large(sizes, DTYPES[dtype]):
            raise self._error(path, f"an array of shape {quoted(shape)}, which is too large")
        code = self.take(1)[0]
        if code not in (0xC4, 0xC5, 0xC6):
            raise self._error(path, "an array whose data is not bytes")
        return sizes, DTYPES[dtype], self.size(1 << (code - 0xC4))

    def _error(self, path: str, got: str) -> CheckpointError:
        location = f" at {quoted(path)}" if path else ""
        return CheckpointError(f"{self.file.path}:{location} byte {self.position}: {got}")


_EXTENSIONS = {0xC7: (0, 1), 0xC8: (0, 2), 0xC9: (0, 4)} | {
    0xD4 + power: (1 << power, 0) for power in range(5)
}
_NUMBERS = {0xCA: 4, 0xCB: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}  # code -> bytes after it
_KINDS = (  # first code, last code, what it starts
    (0x90, 0x9F, "a list"),
    (0xA0, 0xBF, "a string"),
    (0xC0, 0xC0, "nil"),
    (0xC4, 0xC6, "bare bytes"),
    (0xCA, 0xCB, "a float"),
    (0xD0, 0xD3, "an integer"),
    (0xD9, 0xDB, "a string"),
    (0xDC, 0xDD, "a list"),
    (0xE0, 0xFF, "an integer"),
)


def _kind(code: int) -> str:
    kinds = (kind for first, last, kind in _KINDS if first <= code <= last)
    return next(kinds, f"a value of code 0x{code:02x}")


def _leaves(file: File, path: str, node: Node) -> Iterator[tuple[str, Node]]:
    """Lists what is in a tree by its path, chunks of an array joined."""
    if isinstance(node, dict) and CHUNKED in node:
        node = _joined(file, path, node)
    if not isinstance(node, dict):
        yield path, node
        return
    for name, child in node.items():
        yield from _leaves(file, f"{path}/{name}" if path else name, child)


def _joined(file: File, path: str, node: dict[str, Node]) -> Tensor:
    """Joins the chunks of an array to one tensor."""
    shape, chunks = node.get("shape"), node.get("chunks")
    sizes = _in_order(shape, int)
    parts = _in_order(chunks, Tensor)
    if node[CHUNKED] is not True or not path or sizes is None or not parts or len(node) != 3:
        raise CheckpointError(
            f"{file.path}: {quoted(path)} is not a chunked array as flax writes it"
        )
    dtypes = {part.dtype for part in parts}
    total = sum(math.prod(part.shape) for part in parts)
    # `too_large` first: a product of many numbers takes time with the square of how many.
    if len(dtypes) != 1 or too_large(sizes, parts[0].dtype) or total != math.prod(sizes):
        raise CheckpointError(
            f"{file.path}: {quoted(path)}: chunks of {total} elements of "
            f"{' and '.join(sorted(map(str, dtypes)))} do not make shape {quoted(tuple(sizes))}"
        )
    spans = tuple(span for part in parts for span in part.spans)
    return Tensor(path, tuple(sizes), parts[0].dtype, spans)


def _in_order(values: object, kind: type[T]) -> list[T] | None:
    """Returns the values of {"0": ..., "1": ...}, or None if it is anything else."""
    if not isinstance(values, dict) or values.keys() != {str(i) for i in range(len(values))}:
        return None
    ordered = [values[str(i)] for i in range(len(values))]
    for value in ordered:
        if isinstance(value, CheckpointError):
            raise value
    found = [value for value in ordered if isinstance(value, kind) and type(value) is kind]
    return found if len(found) == len(ordered) else None

"""The metadata of GGUF files: keys with typed values; long arrays are read when they are asked
for."""

import dataclasses
import math
import struct
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from ...errors import CheckpointError, quoted
from ...strict_json import Json
from ..files import Cursor, File

BOOL, STRING, _ARRAY = 7, 8, 9
SCALARS = {
    kind: np.dtype(code) for kind, code in enumerate("u1 i1 <u2 <i2 <u4 <i4 <f4 ?".split())
} | {10: np.dtype("<u8"), 11: np.dtype("<i8"), 12: np.dtype("<f8")}
_MOST_KEYS = 1 << 16
_LONGEST_KEY = 65535  # bytes, as the format's description says
_MOST_STRINGS = 1 << 21  # of all arrays together
_WINDOW = 1 << 20  # bytes of strings that are walked at once
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")


@dataclasses.dataclass(frozen=True)
class Array:
    """An array of the metadata, whose values stay in the file.

    Attributes:
        kind: the format's number of the type of its elements.
        count: of elements.
        offset, length: of its bytes in the file.
    """

    file: File
    kind: int
    count: int
    offset: int
    length: int

    def read(self) -> list[Json]:
        """Reads the elements.

        Raises:
            CheckpointError: strings that are not UTF-8.
        """
        data = self.file.read(self.offset, self.length)
        if self.kind != STRING:
            return np.frombuffer(data, SCALARS[self.kind]).tolist()
        found, at = [], 0
        for _ in range(self.count):
            (length,) = _U64.unpack_from(data, at)
            found.append(_decoded(self.file, data[at + 8 : at + 8 + length], "a string"))
            at += 8 + length
        return found


Value: TypeAlias = bool | int | float | str | Array


class Metadata(dict[str, Value]):
    """The values of a file by their keys; those that a reader needs are asked for by their type.

    Attributes:
        path: of the file, for errors.
        start: what all keys begin with in the file, and are asked for without.
    """

    def __init__(self, path: str, values: Mapping[str, Value], start: str = ""):
        super().__init__(values)
        self.path, self.start = path, start

    def text(self, key: str, default: str | None = None) -> str:
        return self._typed(key, default, (str,), "a string")

    def flag(self, key: str, default: bool | None = None) -> bool:
        return self._typed(key, default, (bool,), "a bool")

    def whole(self, key: str, default: int | None = None) -> int:
        """Returns an integer that is not negative."""
        return self._typed(key, default, (int,), "an integer that is not negative")

    def number(self, key: str, default: float | None = None) -> float:
        """Returns a finite number."""
        return self._typed(key, default, (int, float), "a finite number")

    def array(self, key: str) -> Array:
        return self._typed(key, None, (Array,), "an array")

    def _typed(self, key: str, default: Json, types: tuple[type, ...], what: str) -> Json:
        value = self.get(key, default)
        if value is None:
            raise CheckpointError(
                f"{self.path}: no key {quoted(self.start + key)} in the metadata; it is {what}"
            )
        good = type(value) in types
        if good and bool not in types and isinstance(value, int | float):
            good = math.isfinite(value) and (float in types or value >= 0)
        if not good:
            raise CheckpointError(
                f"{self.path}: metadata {quoted(self.start + key)} is {shown(value)}, expected "
                f"{what}"
            )
        return value


def shown(value: Value) -> str:
    """Returns a value for an error."""
    return f"an array of {value.count}" if isinstance(value, Array) else quoted(value)


def read_metadata(cursor: Cursor, count: int) -> Metadata:
    """Reads `count` pairs of keys and values.

    Raises:
        CheckpointError: more than there can be, a key twice, a value of no known type, strings that
            are not UTF-8 or longer than the file.
    """
    path = cursor.file.path
    check_count(cursor, count, _MOST_KEYS, least=13, what="pairs of metadata")
    values: dict[str, Value] = {}
    strings = 0
    for _ in range(count):
        key = read_string(cursor, "a key", most=_LONGEST_KEY)
        if key in values:
            raise CheckpointError(f"{path}: metadata {quoted(key)} appears twice")
        value = _value(cursor, key)
        values[key] = value
        strings += value.count if isinstance(value, Array) and value.kind == STRING else 0
        if strings > _MOST_STRINGS:
            raise CheckpointError(
                f"{path}: metadata {quoted(key)}: more than {_MOST_STRINGS} strings in arrays"
            )
    return Metadata(path, values)


def read_string(cursor: Cursor, what: str, most: int | None = None) -> str:
    """Reads a string: its length in bytes, and UTF-8."""
    length = read_u64(cursor)
    if length > (rest := cursor.stop - cursor.position) or (most is not None and length > most):
        limit = rest if most is None else min(rest, most)
        raise CheckpointError(
            f"{cursor.file.path}: byte {cursor.position}: {what} of {length} bytes, at most "
            f"{limit} here"
        )
    return _decoded(cursor.file, cursor.take(length), what)


def read_u32(cursor: Cursor) -> int:
    return _U32.unpack(cursor.take(4))[0]


def read_u64(cursor: Cursor) -> int:
    return _U64.unpack(cursor.take(8))[0]


def check_count(cursor: Cursor, count: int, most: int, *, least: int, what: str) -> None:
    """Refuses a count of things, of `least` bytes each, that cannot be in the rest of the file."""
    rest = cursor.stop - cursor.position
    if count > min(most, rest // least):
        raise CheckpointError(
            f"{cursor.file.path}: {count} {what} in {rest} bytes (at most {most}, of {least} bytes "
            "or more each)"
        )


def _value(cursor: Cursor, key: str) -> Value:
    kind = read_u32(cursor)
    if kind in SCALARS:
        return _scalar(cursor, kind)
    if kind == STRING:
        return read_string(cursor, f"the value of {quoted(key)}")
    if kind == _ARRAY:
        return _array(cursor, key)
    raise CheckpointError(
        f"{cursor.file.path}: metadata {quoted(key)} has type {kind}; known: 0 to 12"
    )


def _scalar(cursor: Cursor, kind: int) -> bool | int | float:
    dtype = SCALARS[kind]
    number = np.frombuffer(cursor.take(dtype.itemsize), dtype)[0]
    # A float32 is what somebody's 1e-6 became: the shortest number that becomes the same.
    return float(str(number)) if dtype == np.float32 else number.item()


def _array(cursor: Cursor, key: str) -> Array:
    kind, count = read_u32(cursor), read_u64(cursor)
    what = f"elements of metadata {quoted(key)}"
    if kind in SCALARS:
        width = SCALARS[kind].itemsize
        check_count(cursor, count, cursor.file.size, least=width, what=what)
        offset = cursor.position
        cursor.skip(count * width)
    elif kind == STRING:
        check_count(cursor, count, _MOST_STRINGS, least=8, what=what)
        offset = cursor.position
        _skip_strings(cursor, count)
    else:
        inside = "arrays" if kind == _ARRAY else f"type {kind}"
        raise CheckpointError(
            f"{cursor.file.path}: metadata {quoted(key)} is an array of {inside}, which is not read"
        )
    return Array(cursor.file, kind, count, offset, cursor.position - offset)


def _skip_strings(cursor: Cursor, count: int) -> None:
    """Walks over strings, of which a vocabulary has some 100,000: many from one window."""
    while count:
        start, at = cursor.position, 0
        window = cursor.take(min(_WINDOW, cursor.stop - start))
        while count and at + 8 <= len(window):
            (length,) = _U64.unpack_from(window, at)
            if at + 8 + length > len(window):
                break
            at += 8 + length
            count -= 1
        cursor.position = start + at
        if not at:  # one that no window holds
            cursor.skip(read_u64(cursor))
            count -= 1


def _decoded(file: File, data: bytes, what: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{file.path}: {what} is not UTF-8: {error}") from None

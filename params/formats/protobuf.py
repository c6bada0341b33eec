"""Protocol buffers: the fields of untrusted messages.

The wire format: https://protobuf.dev/programming-guides/encoding. A message is decoded when it is
asked for, so nothing can be nested too deeply.
"""

from collections.abc import Mapping
from typing import Any

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_WIDTHS = {FIXED64: 8, FIXED32: 4}


def varint(data: memoryview, position: int) -> tuple[int, int]:
    """Decodes the number at `position` -> (number, where it ends).

    Raises:
        ValueError: longer than 10 bytes or 64 bits, or cut short.
    """
    if position < len(data) and data[position] < 0x80:  # nearly all of them
        return data[position], position + 1
    value = 0
    for i, byte in enumerate(data[position : position + 10]):
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            if value >> 64:
                break
            return value, position + i + 1
    raise ValueError(f"no varint at byte {position}")


def signed(value: int) -> int:
    """Returns a varint as the int64 that it stands for."""
    return value - (1 << 64) if value >> 63 else value


class Messages:
    """Decodes the messages of one file, which have at most `budget` fields together: one of two
    bytes costs a microsecond and, kept, a hundred times its size."""

    def __init__(self, budget: int):
        self.budget = budget

    def fields(self, data: memoryview, kinds: Mapping[int, int]) -> dict[int, list[Any]]:
        """Decodes the fields in `kinds` -> {field number: its values in order}; others are skipped.

        Args:
            data: a message.
            kinds: field number -> wire type. Numbers are unsigned ints, bytes are views of `data`.

        Raises:
            ValueError: no message, a field of another wire type than expected, or too many.
        """
        found: dict[int, list[Any]] = {number: [] for number in kinds}
        position = 0
        while position < len(data):
            tag, position = varint(data, position)
            number, kind = tag >> 3, tag & 7
            value, position = _value(data, position, kind)
            if number in kinds:
                if kinds[number] != kind:
                    raise ValueError(f"field {number} has wire type {kind}, not {kinds[number]}")
                found[number].append(value)
            self.budget -= 1
            if self.budget < 0:
                raise ValueError("too many fields")
        return found


def _value(data: memoryview, position: int, kind: int) -> tuple[Any, int]:
    if kind == VARINT:
        return varint(data, position)
    if kind == BYTES:
        length, position = varint(data, position)
    elif kind in _WIDTHS:
        length = _WIDTHS[kind]
    else:
        raise ValueError(f"wire type {kind} at byte {position}")
    if length > len(data) - position:
        raise ValueError(f"{length} bytes claimed at byte {position} of {len(data)}")
    value = data[position : position + length]
    return value if kind == BYTES else int.from_bytes(value, "little"), position + length

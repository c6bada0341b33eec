"""The keys under which an index has the slices of partitioned variables."""

Extents = tuple[tuple[int, int | None], ...]
"""Of a slice: (start, length) of each dimension, None for all of it."""


def slice_key(key: bytes, extents: Extents) -> bytes:
    """Returns the key of a slice: 0, name, rank, then start and length of each dimension, in an
    encoding whose bytes sort as the values do (tensorflow/core/lib/strings/ordered_code.cc)."""
    name = key.replace(b"\0", b"\0\xff")  # and 0xff the same way, which UTF-8 never has
    numbers = [n for start, length in extents for n in (start, -1 if length is None else length)]
    return b"\0" + name + b"\0\1\1" + bytes([len(extents)]) + b"".join(map(_ordered, numbers))


def _ordered(number: int) -> bytes:
    """Encodes a number: as many leading ones as there are bytes, then the number; all inverted if
    it is negative."""
    size = 1
    while not -(1 << 7 * size - 1) <= number < 1 << 7 * size - 1:
        size += 1
    ones = (1 << size) - 1 << 7 * size
    return (number % (1 << 8 * size) ^ ones).to_bytes(size, "big")

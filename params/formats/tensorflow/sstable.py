"""SSTables: sorted keys with values, in the form of LevelDB's that TensorFlow writes.

https://github.com/google/leveldb/blob/main/doc/table_format.md. Blocks of entries, then a block
that says where they are, then a footer of 48 bytes. Every block has a checksum; TensorFlow
compresses none.
"""

from collections.abc import Iterator

from ..protobuf import varint
from .checksum import masked_crc32c

_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48
_TRAILER = 5  # of a block: compression, checksum
_LONGEST_KEY = 4096
_MAX_ENTRIES = 250_000
_MAX_BLOCKS = 50_000  # TensorFlow's are of 256 KiB
_MAX_KEYS = 64 << 20  # bytes of all keys, which share their prefixes in the file


def read_table(data: memoryview) -> dict[bytes, memoryview]:
    """Reads the entries of a table, in its order.

    Raises:
        ValueError: anything that is not as the format says.
    """
    if len(data) < _FOOTER or int.from_bytes(data[-8:], "little") != _MAGIC:
        raise ValueError("the magic number at the end is missing: not a table, or cut short")
    footer = data[-_FOOTER:-8]
    _, position = _handle(footer, 0)  # of the block of filters, which TensorFlow leaves empty
    index, _ = _handle(footer, position)
    entries: dict[bytes, memoryview] = {}
    last, end, budget = None, 0, _MAX_KEYS
    for count, (_, encoded) in enumerate(_entries(_block(data, index, 0))):
        if count == _MAX_BLOCKS:
            raise ValueError(f"more than {_MAX_BLOCKS} blocks")
        handle, _ = _handle(encoded, 0)
        for key, value in _entries(_block(data, handle, end)):
            if last is not None and key <= last:
                raise ValueError(f"key {key[:200]!r} follows {last[:200]!r}: not in order")
            last, budget = key, budget - len(key)
            entries[key] = value
            if budget < 0 or len(entries) > _MAX_ENTRIES:
                raise ValueError(f"more than {_MAX_ENTRIES} keys, or {_MAX_KEYS} bytes of keys")
        end = sum(handle) + _TRAILER
    return entries


def _handle(data: memoryview, position: int) -> tuple[tuple[int, int], int]:
    """Decodes a handle -> ((offset, size) of its block, where the handle ends)."""
    offset, position = varint(data, position)
    size, position = varint(data, position)
    return (offset, size), position


def _block(data: memoryview, handle: tuple[int, int], earliest: int) -> memoryview:
    """Returns the content of a block whose checksum is right. Blocks may not overlap, so that no
    byte is read twice."""
    offset, size = handle
    end = offset + size
    if offset < earliest or end + _TRAILER > len(data) - _FOOTER:
        raise ValueError(f"a block of {size} bytes at byte {offset}, of {len(data)}")
    stored = int.from_bytes(data[end + 1 : end + _TRAILER], "little")
    if masked_crc32c(data[offset : end + 1]) != stored:
        raise ValueError(f"the checksum of the block at byte {offset} is wrong")
    if data[end]:
        raise ValueError(f"the block at byte {offset} is compressed (type {data[end]})")
    return data[offset:end]


def _entries(block: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (restarts + 1)
    if end < 0:
        raise ValueError(f"a block of {len(block)} bytes claims {restarts} restarts")
    block = block[:end]
    key, position = b"", 0
    while position < end:
        shared, position = varint(block, position)
        added, position = varint(block, position)
        size, position = varint(block, position)
        start = position + added
        if shared > len(key) or shared + added > _LONGEST_KEY or start + size > end:
            raise ValueError(f"an entry of lengths {shared}, {added}, {size} in {end} bytes")
        key = key[:shared] + bytes(block[position:start])
        position = start + size
        yield key, block[start:position]

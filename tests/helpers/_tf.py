"""A writer of TensorFlow checkpoints, byte by byte, that can also write what TensorFlow would not.

It follows LevelDB's and protobuf's descriptions, and shares no code with the reader.
"""

import struct
from pathlib import Path

VERSION = b"\x1a\x02\x08\x01"  # the header's third field: producer 1


def crc32c(data: bytes) -> int:
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ 0x82F63B78 * (register & 1)
    return register ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    crc = crc32c(data)
    return ((crc >> 15) | (crc << 17)) + 0xA282EAD8 & 0xFFFFFFFF


def varint(number: int) -> bytes:
    number %= 1 << 64
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def text(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value


def fixed32(field: int, value: int) -> bytes:
    return varint(field << 3 | 5) + struct.pack("<I", value)


def header(num_shards: int = 1, more: bytes = VERSION) -> bytes:
    return number(1, num_shards) + more


def dims(shape) -> bytes:
    return text(2, b"".join(text(2, number(1, size)) for size in shape))


def entry(data=b"", dtype=1, shape=(2,), *, shard=0, offset=0, size=None, crc=None, more=b""):
    """A BundleEntryProto of `data`, true or lying about it."""
    return (
        number(1, dtype)
        + dims(shape)
        + number(3, shard)
        + number(4, offset)
        + number(5, len(data) if size is None else size)
        + fixed32(6, masked(data) if crc is None else crc)
        + more
    )


def extents(*pairs) -> bytes:
    """A TensorSliceProto; a pair is (start, length), or () for all of a dimension."""
    made = [number(1, pair[0]) + number(2, pair[1]) if pair else b"" for pair in pairs]
    return text(7, b"".join(text(1, one) for one in made))


def block(items, *, shared: bool = True, restarts: int | None = None) -> bytes:
    """Entries, each key without what it shares with the one before."""
    out, last = b"", b""
    for key, value in items:
        common = 0
        while shared and common < min(len(key), len(last)) and key[common] == last[common]:
            common += 1
        out += varint(common) + varint(len(key) - common) + varint(len(value))
        out += key[common:] + value
        last = key
    return out + struct.pack("<II", 0, 1 if restarts is None else restarts)


def table(*blocks, kind: int = 0, crc=None, magic=0xDB4775248B80FB57, twice: bool = False):
    """An SSTable of these blocks, behind them the index (which has the first `twice`) and the
    footer."""
    out = b""

    def put(content: bytes) -> bytes:
        nonlocal out
        handle = varint(len(out)) + varint(len(content))
        content += bytes([kind])
        out += content + struct.pack("<I", masked(content) if crc is None else crc)
        return handle

    handles = [(b"%03d" % i, put(content)) for i, content in enumerate(blocks)]
    if twice:
        handles.append((b"999", handles[0][1]))
    footer = put(block([])) + put(block(handles))
    return out + footer.ljust(40, b"\0") + struct.pack("<Q", magic)


def bundle(folder: Path, index: bytes | dict, *shards: bytes) -> Path:
    """Writes index and shards -> the index's path. Of a dict, a table of its entries is made, with
    a header if it has none."""
    if isinstance(index, dict):
        rows = {b"": header(len(shards))} | index
        index = table(block(sorted(rows.items())))
    for i, data in enumerate(shards):
        (folder / f"model.ckpt.data-{i:05d}-of-{len(shards):05d}").write_bytes(data)
    path = folder / "model.ckpt.index"
    path.write_bytes(index)
    return path

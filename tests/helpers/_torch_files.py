"""Builders of PyTorch files, opcode by opcode; nothing here comes from the reader."""

import io
import struct
import tarfile
import zipfile

START = b"\x80\x02"
NONE, TRUE, FALSE = b"N", b"\x88", b"\x89"
MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
EIGHT = bytes(range(8))


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def named(name: str) -> bytes:
    return "c{}\n{}\n".format(*name.rsplit(".", 1)).encode()


def tuple_of(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def numbers(values) -> bytes:
    return tuple_of(*map(number, values))


def call(name: str, *args: bytes) -> bytes:
    return named(name) + tuple_of(*args) + b"R"


def map_of(items, start: bytes = b"}") -> bytes:
    """A dict of {key: value} or of pairs; a key may be bytes: an opcode."""
    pairs = items.items() if isinstance(items, dict) else items
    keyed = ((text(key) if isinstance(key, str) else key, value) for key, value in pairs)
    return start + b"(" + b"".join(key + value for key, value in keyed) + b"u"


ORDERED = call("collections.OrderedDict")


def storage(kind="Float", key="0", size=2, *more: bytes, location="cpu") -> bytes:
    kind = kind if "." in kind else f"torch.{kind}Storage"
    id = (text("storage"), named(kind), text(key), text(location), number(size), *more)
    return tuple_of(*id) + b"Q"


def tensor(of=None, offset=0, size=(2,), stride=(1,), *more: bytes, hooks=ORDERED, by="v2"):
    """A tensor; without `of`, on two floats."""
    where = (of or storage(), number(offset), numbers(size), numbers(stride))
    return call(f"torch._utils._rebuild_tensor_{by}", *where, FALSE, hooks, *more)


def pickled(body: bytes) -> bytes:
    return START + body + b"."


def archive(
    body: bytes, storages=None, *, extra=(), method=0, root="archive", byteorder=b"little", raw=None
) -> bytes:
    """A zip archive around a pickle's body, or around a `raw` pickle."""
    entries = [("data.pkl", pickled(body) if raw is None else raw), ("version", b"3\n")]
    if byteorder is not None:
        entries.append(("byteorder", byteorder))
    storages = {"0": EIGHT} if storages is None else storages
    entries += [(f"data/{key}", data) for key, data in storages.items()]
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as file:
        for name, data in [*((f"{root}/{name}", data) for name, data in entries), *extra]:
            file.writestr(zipfile.ZipInfo(name), data, method)
    return made.getvalue()


def one(value: bytes, storages=None, **how) -> bytes:
    """An archive of {"w": value}."""
    return archive(map_of({"w": value}), storages, **how)


VERSION = pickled(number(1001))
MACHINE = pickled(map_of({"protocol_version": number(1001), "little_endian": TRUE}))


def legacy(
    body: bytes | None = None,
    storages=None,
    *,
    magic=MAGIC,
    version=VERSION,
    machine=MACHINE,
    keys=None,
    tail=b"",
) -> bytes:
    """A file as before PyTorch 1.6. `storages` is {key: (claimed number of elements, bytes)}."""
    body = map_of({"w": tensor(storage("Float", "0", 2, NONE))}) if body is None else body
    storages = {"0": (2, EIGHT)} if storages is None else storages
    keys = list(storages) if keys is None else keys
    listed = pickled(b"](" + b"".join(map(text, keys)) + b"e")
    data = b"".join(struct.pack("<q", size) + raw for size, raw in storages.values())
    return magic + version + machine + pickled(body) + listed + data + tail


def header_at(raw: bytes, name: str, *, central: bool) -> int:
    """Where the header of an archive's entry begins."""
    mark, before = (b"PK\1\2", 46) if central else (b"PK\3\4", 30)
    at = raw.index(mark)
    while raw[at + before : at + before + len(name)] != name.encode():
        at = raw.index(mark, at + 1)
    return at


def patched(raw: bytes, name: str, field: int, layout: str, value, *, central=True) -> bytes:
    """`raw` with another value in a header of the archive's entry `name`."""
    changed = bytearray(raw)
    struct.pack_into(layout, changed, header_at(raw, name, central=central) + field, value)
    return bytes(changed)


def tar(*names: str) -> bytes:
    """A file as of PyTorch before 0.1.10."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:", format=tarfile.PAX_FORMAT) as file:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 8
            file.addfile(info, io.BytesIO(EIGHT))
    return made.getvalue()

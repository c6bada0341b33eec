"""The format since PyTorch 1.6: a zip archive of a pickle and of each storage, uncompressed.

`<root>/data.pkl` is the pickle, `<root>/data/<key>` a storage, `<root>/byteorder` says "little".
The archive's own description: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT. Nothing
is extracted: an entry is a span of the archive.
"""

import struct
import zlib
from typing import NamedTuple

from ...errors import CheckpointError, quoted, some
from ..files import Cursor, File, Span
from .pickles import Machine
from .state_dict import Saved
from .storages import storages

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_HARMLESS = 1 << 3 | 1 << 11  # sizes again after the data; the name is UTF-8
_MAX_DIRECTORY = 16 << 20
_MAX_PICKLE = 256 << 20
_CHUNK = 1 << 20


def load(file: File) -> Saved:
    """Evaluates the pickle of an archive, and finds its storages.

    Raises:
        CheckpointError: not such an archive.
    """
    archive = _Archive(file)
    root = archive.root()
    order = root + b"/byteorder"
    if order in archive.entries and (found := archive.read(order)) != b"little":
        raise CheckpointError(f"{file.path}: byteorder is {quoted(found)}, expected b'little'")
    pickle = archive.span(root + b"/data.pkl")
    if pickle.length > _MAX_PICKLE:
        raise CheckpointError(
            f"{file.path}: a pickle of {pickle.length} bytes, expected at most {_MAX_PICKLE}"
        )
    archive.check(root + b"/data.pkl")
    cursor = Cursor(file, pickle.offset, pickle.offset + pickle.length)
    machine = Machine(cursor)
    value = machine.load()
    if cursor.position != cursor.stop:
        raise CheckpointError(
            f"{file.path}: {cursor.stop - cursor.position} bytes follow the pickle in its entry"
        )
    return Saved(value, machine, _spans(archive, root, machine))


def _spans(archive: "_Archive", root: bytes, machine: Machine) -> dict[str, Span]:
    spans: dict[str, Span] = {}
    for key, storage in storages(archive.file, machine).items():
        span = archive.span(root + b"/data/" + key.encode())
        if span.length != storage.nbytes:
            raise CheckpointError(
                f"{archive.file.path}: storage {quoted(key)} has {span.length} bytes, expected "
                f"{storage.nbytes}: {storage.size} of {storage.kind}"
            )
        spans[key] = span
    return spans


class _Entry(NamedTuple):
    """An entry as the directory has it; at `stop` the next one, or the directory, begins."""

    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int
    stop: int


class _Archive:
    """The directory of a zip archive; what an entry's own header says is checked on use."""

    def __init__(self, file: File):
        self.file = file
        try:
            start, length, count = _directory(file)
            self.entries = _entries(file.read(start, length), count, start)
        except (struct.error, ValueError) as error:
            raise CheckpointError(f"{file.path}: not a whole zip archive: {error}") from None

    def root(self) -> bytes:
        """Returns the folder of the one pickle."""
        tops = [name for name in self.entries if name.count(b"/") == 1]
        roots = [name.partition(b"/")[0] for name in tops if name.endswith(b"/data.pkl")]
        if len(roots) != 1:
            raise CheckpointError(
                f"{self.file.path}: a zip archive with {len(roots)} data.pkl, expected one; it "
                f"holds {some(map(_text, self.entries), 5)}"
            )
        if roots[0] + b"/constants.pkl" in self.entries:
            raise CheckpointError(
                f"{self.file.path}: this is TorchScript, a program; save the module's state_dict()"
            )
        return roots[0]

    def span(self, name: bytes) -> Span:
        """Finds the bytes of an entry, which may be neither compressed nor encrypted."""
        location = f"{self.file.path}: entry {_text(name)}"
        if name not in self.entries:
            raise CheckpointError(f"{location} is missing")
        entry = self.entries[name]
        header = self.file.read(entry.offset, _LOCAL.size + len(name))
        mark, _, flags, method, *_, name_length, extra = _LOCAL.unpack_from(header)
        if mark != b"PK\3\4" or header[_LOCAL.size :] != name or name_length != len(name):
            raise CheckpointError(f"{location}: another entry's header, or none")
        if method or entry.method or entry.packed != entry.size:
            raise CheckpointError(f"{location} is compressed; torch.save does not do that")
        if (flags | entry.flags) & ~_HARMLESS:
            raise CheckpointError(f"{location} is encrypted, or not plain otherwise")
        start = entry.offset + len(header) + extra
        if start + entry.size > entry.stop:
            raise CheckpointError(
                f"{location}: {entry.size} bytes from byte {start} on reach beyond byte "
                f"{entry.stop}, where the next one begins"
            )
        return Span(self.file, start, entry.size)

    def read(self, name: bytes) -> bytes:
        """Reads the first bytes of an entry."""
        span = self.span(name)
        return self.file.read(span.offset, min(span.length, 16))

    def check(self, name: bytes) -> None:
        """Reads an entry, and compares its checksum."""
        span, found = self.span(name), 0
        cursor = Cursor(self.file, span.offset, span.offset + span.length)
        while left := cursor.stop - cursor.position:
            found = zlib.crc32(cursor.take(min(left, _CHUNK)), found)
        if found != self.entries[name].crc:
            raise CheckpointError(
                f"{self.file.path}: entry {_text(name)} is damaged: CRC {found:08x}, expected "
                f"{self.entries[name].crc:08x}"
            )


def _directory(file: File) -> tuple[int, int, int]:
    """Finds the directory, which the end records follow -> (start, length, number of entries)."""
    if (end := file.size - _END.size) < 0:
        raise ValueError(f"{file.size} bytes")
    mark, *_, count, length, start, comment = _END.unpack(file.read(end, _END.size))
    if mark != b"PK\5\6" or comment:
        raise ValueError("no end of a directory at the end")
    locator = end - _LOCATOR.size
    # Of more than 4 GiB, or what might have become so:
    if locator >= _END64.size and file.read(locator, 4) == b"PK\6\7":
        end = locator - _END64.size
        mark, *_, count, length, start = _END64.unpack(file.read(end, _END64.size))
        if mark != b"PK\6\6" or _LOCATOR.unpack(file.read(locator, _LOCATOR.size))[2] != end:
            raise ValueError("no end of a large directory before its locator")
    if start + length != end or length > _MAX_DIRECTORY:
        raise ValueError(f"a directory of {length} bytes at byte {start}, expected to end at {end}")
    return start, length, count


def _entries(raw: bytes, count: int, stop: int) -> dict[bytes, _Entry]:
    """Reads the directory -> {name: entry}; no entry reaches into the next one, or to `stop`."""
    if count * _CENTRAL.size > len(raw):
        raise ValueError(f"{count} entries in a directory of {len(raw)} bytes")
    found, position = {}, 0
    for _ in range(count):
        name, entry, position = _entry(raw, position, stop)
        if name in found:
            raise ValueError(f"entry {_text(name)} twice")
        found[name] = entry
    if position != len(raw):
        raise ValueError(f"{len(raw) - position} bytes more than {count} entries")
    for name, entry in sorted(found.items(), key=lambda item: -item[1].offset):
        if entry.offset + _LOCAL.size + len(name) + entry.packed > stop:
            raise ValueError(f"entry {_text(name)} overlaps the one after it")
        found[name] = entry._replace(stop=stop)
        stop = entry.offset
    return found


def _entry(raw: bytes, position: int, stop: int) -> tuple[bytes, _Entry, int]:
    """Reads an entry of the directory -> (name, entry, where the next one stands)."""
    mark, _, _, flags, method, _, _, crc, *sizes, offset = _CENTRAL.unpack_from(raw, position)
    packed, size, name_length, extra_length, comment_length, *_ = sizes
    if mark != b"PK\1\2":
        raise ValueError(f"no entry at byte {position} of the directory")
    name_start = position + _CENTRAL.size
    extra_start = name_start + name_length
    after = extra_start + extra_length + comment_length
    if after > len(raw):
        raise ValueError(f"an entry at byte {position} of the directory that is cut short")
    extra = raw[extra_start : extra_start + extra_length]
    size, packed, offset = _wide(extra, size, packed, offset)
    entry = _Entry(flags, method, crc, packed, size, offset, stop)
    return raw[name_start:extra_start], entry, after


def _wide(extra: bytes, *sizes: int) -> list[int]:
    """Replaces each of `sizes` that has all bits set by the next 8-byte number in `extra`."""
    numbers, position = b"", 0
    while len(extra) - position >= 4:
        kind, length = struct.unpack_from("<2H", extra, position)
        position += 4 + length
        if kind == 1:
            numbers = extra[position - length : position]
    wide = iter(struct.unpack_from(f"<{len(numbers) // 8}Q", numbers))
    return [next(wide, size) if size == 0xFFFFFFFF else size for size in sizes]


def _text(name: bytes) -> str:
    return quoted(name.decode(errors="replace"))

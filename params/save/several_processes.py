"""Writing together: the processes of a run write one checkpoint, each what its devices hold.

Where all see one folder, each writes its own bytes of every file, and nothing is sent. Where they
do not (no shared disk, or one that does not take parts of a file from several writers), all is
sent to the process that has the folder, one chunk at a time.
"""

import dataclasses
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils
from tqdm import tqdm

from .. import peers
from ..errors import warn
from ..formats.bounds import shape_of
from ..formats.source import Bounds
from ..host.durable import sync_file
from ..multihost import broadcast, exchange, named, run_on_all_processes
from .blocks import Block
from .encode import Parts
from .file_layout import FileLayout
from .file_writer import Attempts, OnFile, check_room, disk_errors

_MARK = 32  # bytes of a probe that each process writes, less than any disk's block
_LEAST = 1 << 12  # bytes that are sent at once, in powers of two: few programs


@dataclasses.dataclass(frozen=True)
class Target:
    """What the main process tells the others.

    Attributes:
        folder: where to write.
        main: which process has it.
        names: of the files, that of an index last.
        metadata: for the headers of the files.
        asks: whether each process may write into the folder, if it sees it.
    """

    folder: str
    main: int
    names: Sequence[str]
    metadata: Mapping[str, str]
    asks: bool


def told(
    folder: str | os.PathLike | None,
    names: Sequence[str] = (),
    metadata: Mapping[str, str] | None = None,
    *,
    asks: bool = True,
) -> Target | None:
    """Returns the target of the process that has a folder, which the others, with None, get to
    know; None where no process writes."""

    def text() -> str:
        assert folder is not None
        return json.dumps((os.fspath(folder), jax.process_index(), names, metadata or {}, asks))

    said = broadcast("what is written", None if folder is None else text)
    return Target(*json.loads(said)) if said else None


def strangers(target: Target) -> list[int]:
    """Returns the processes that cannot write into the folder; found by writing there.

    Every process writes a few bytes of one file, and the main one looks for all of them: they are
    not there where a disk is another, and where a file has the bytes of its last writer alone.
    """
    path = os.path.join(target.folder, f"probe-{secrets.token_hex(4)}")
    is_main, own = jax.process_index() == target.main, jax.process_index()

    def begin() -> str:
        with disk_errors(path), open(path, "xb") as file:
            file.truncate(_MARK * jax.process_count())
        return path

    path = broadcast("a probe to write", begin if is_main else None)
    token = os.path.basename(path)
    reason = ""
    try:
        _write_at(path, [(own * _MARK, _mark(token, own))])
    except OSError as error:
        reason = error.strerror or str(error)
    missing = [bool(said) for said in exchange("a probe of the disk", reason)]

    def look() -> str:
        with disk_errors(path), open(path, "rb") as file:
            data = file.read()
            os.unlink(path)
        marks = [data[i * _MARK : (i + 1) * _MARK] for i in range(len(missing))]
        lost = [i for i, mark in enumerate(marks) if missing[i] or mark != _mark(token, i)]
        return json.dumps(lost)

    return json.loads(broadcast("what the probe found", look if is_main else None))


def write_together(
    target: Target,
    encoded: Mapping[str, Parts],
    bar: tqdm,
    on_file: OnFile | None,
) -> None:
    """Writes files of tensors that are spread over processes; every process calls it.

    Args:
        encoded: the parts of each file, by its name.
        on_file: on the main process, as of `write_checkpoint`.

    Raises:
        CheckpointError: on every process, the disk's own error on one.
        peers.PeerLost: one died.
    """
    files = {name: FileLayout(parts) for name, parts in encoded.items()}
    alone = strangers(target) if target.asks else list(range(jax.process_count()))
    if alone and target.asks and jax.process_index() == target.main:
        warn(
            f"{target.folder}: {named(alone)} cannot write there, as process {target.main} can: "
            f"process {target.main} writes everything, and all others send it their shards; "
            "a folder that all see, on one disk, is faster"
        )
    if not alone:
        _write_shared(target, files, bar)
    else:
        _write_gathered(target, files, bar, on_file)


def _write_shared(target: Target, files: Mapping[str, FileLayout], bar: tqdm) -> None:
    """Writes, on every process, the bytes that it owns; the main one makes the files first."""
    own = jax.process_index()

    def make() -> str:
        check_room(target.folder, sum(layout.size for layout in files.values()))
        for name, layout in files.items():
            path = os.path.join(target.folder, name)
            with disk_errors(path):
                _make(path, layout)
        return "made"

    broadcast("files of weights", make if own == target.main else None)

    def write() -> None:
        for name, layout in files.items():
            path = os.path.join(target.folder, name)
            mine = [(b, place) for b, place in layout.blocks(target.main) if b.owner == own]
            with disk_errors(path):
                for block, place in mine:
                    for box, data in block.read():
                        _write_at(path, place.pieces(box, data))
                        bar.update(data.nbytes)
                if mine or own == target.main:
                    sync_file(path)

    run_on_all_processes(write, "writing shards", alone=False)


def _write_gathered(
    target: Target, files: Mapping[str, FileLayout], bar: tqdm, on_file: OnFile | None
) -> None:
    """Writes everything on the main process, which goes on to receive after an error: the others
    do not know of it."""
    sizes = [layout.size for layout in files.values()]
    attempt = Attempts(jax.process_index() == target.main, target.folder, sizes, on_file)
    for name, layout in files.items():
        path = os.path.join(target.folder, name)
        attempt(path, _make, path, layout)
        for block, place in layout.blocks(target.main):
            for box, data in _received(block, target.main):
                attempt(path, _write_at, path, place.pieces(box, data))
                bar.update(data.nbytes)
        attempt(path, on_file, path)
    if attempt.error is not None:
        raise attempt.error


def _received(block: Block, main: int) -> Iterator[tuple[Bounds, np.ndarray]]:
    """Yields the chunks of a block: read here where it is the main process's own, else sent by
    its owner."""
    is_owner = jax.process_index() == block.owner
    if block.owner == main:
        yield from block.read() if is_owner else ()
        return
    own = block.read() if is_owner else None
    dtype = block.piece.leaf.dtype
    for box in block.chunks():
        empty = np.empty(shape_of(box), dtype)
        yield box, send(next(own)[1] if own is not None else empty, is_owner)


def send(data: np.ndarray, is_source: bool) -> np.ndarray:
    """Returns the array of the process that `is_source`; the others give one of the same shape."""
    size = max(_LEAST, 1 << (data.nbytes - 1).bit_length())
    given = np.zeros(size, np.uint8)
    if is_source:
        given[: data.nbytes] = data.reshape(-1).view(np.uint8)
    try:
        told = np.asarray(multihost_utils.broadcast_one_to_all(given, is_source))
    except (ValueError, jax.errors.JaxRuntimeError) as error:
        raise peers.explained(error) from error
    return told[: data.nbytes].view(data.dtype).reshape(data.shape)


def _mark(token: str, process: int) -> bytes:
    """Returns what a process writes into a probe."""
    return f"{token} {process}".ljust(_MARK).encode()[:_MARK]


def _make(path: str, layout: FileLayout) -> None:
    with open(path, "xb") as file:
        file.truncate(layout.size)
    _write_at(path, layout.heads)


def _write_at(path: str, pieces: Iterable[tuple[int, bytes | memoryview]]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        for offset, data in pieces:
            while len(data):
                count = os.pwrite(descriptor, data, offset)
                data, offset = data[count:], offset + count
    finally:
        os.close(descriptor)

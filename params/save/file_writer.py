"""Files: tensors are written one after the other, each read while the one before it is written; and
what a disk answers."""

import contextlib
import itertools
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
from tqdm import tqdm

from ..errors import CheckpointError
from ..host.copies import contiguous, copy, empty_bytes
from ..sizes import format_size
from .encode import Parts

_BLOCK = 1 << 20  # bytes transposed at once: they are still in the cache when they are written
Block = bytes | memoryview

SaveFunction = Callable[[dict[str, np.ndarray], str], None]
OnFile = Callable[[str], None]


def write_file(path: str, parts: Parts, bar: tqdm, pool: ThreadPoolExecutor) -> None:
    """Writes a new file of these bytes; the one thread of `pool` reads ahead."""
    with open(path, "xb") as file:
        for block in _ahead(_blocks(parts), pool):
            file.write(block)
            if isinstance(block, memoryview):
                bar.update(len(block))


def check_room(folder: str | os.PathLike, room: int) -> None:
    """Raises `CheckpointError` for a disk that has too little left."""
    if (free := shutil.disk_usage(folder).free) < room:
        raise CheckpointError(
            f"{os.fspath(folder)}: the disk has {format_size(free)} left; the weights take "
            f"{format_size(room)}"
        )


@contextlib.contextmanager
def disk_errors(path: str | os.PathLike, room: int | None = None) -> Iterator[None]:
    """Makes the disk's errors name a file, and how much room the weights take."""
    try:
        yield
    except OSError as error:
        beside = "" if room is None else f"; the weights take {format_size(room)}"
        reason = error.strerror or error
        raise CheckpointError(f"{os.fspath(path)}: {reason}{beside}") from error


class Attempts:
    """Does what it is told on the process that writes, until something fails; the other processes
    of a run, which wait for each tensor, then still get to the end.

    Attributes:
        error: what failed.
    """

    def __init__(self, writes: bool, folder: str, sizes: Sequence[int], on_file: OnFile | None):
        """Looks for room in a folder: for files of all `sizes`, or where `on_file` may take each
        away, for the largest."""
        self.writes = writes
        self.room = sum(sizes) if on_file is None else max(sizes)
        self.error: Exception | None = None
        self(folder, check_room, folder, self.room)

    def __call__(
        self, path: str | os.PathLike, action: Callable[..., object] | None, *arguments: object
    ) -> None:
        """Calls an action, if there is one; the disk's errors name `path`."""
        if action is None or not self.writes or self.error is not None:
            return
        try:
            with disk_errors(path, self.room):
                action(*arguments)
        except Exception as error:
            self.error = error


def _ahead(blocks: Iterator[Block], pool: ThreadPoolExecutor) -> Iterator[Block]:
    """Yields `blocks`, each made while the one before it is in use."""
    future = pool.submit(next, blocks, None)
    try:
        while (block := future.result()) is not None:
            future = pool.submit(next, blocks, None)
            yield block
    finally:
        wait([future])  # an iterator cannot be closed while it runs


def _blocks(parts: Parts) -> Iterator[Block]:
    """Yields the bytes of `parts`. A block is good until the next but one is asked for."""
    spec, tensor = None, np.empty(0)
    for part in parts:
        if isinstance(part, bytes):
            yield part
            continue
        if part.spec is not spec:
            spec, tensor = part.spec, part.spec.read()
        if part.stop - part.start < tensor.size:  # a chunk of a large one
            tensor = contiguous(tensor)
        if tensor.flags.c_contiguous:
            flat = tensor.reshape(-1)
            yield flat[part.start : part.stop].view(np.uint8).data
        else:
            yield from _in_order(tensor)


def _in_order(tensor: np.ndarray) -> Iterator[memoryview]:
    """Yields the bytes in C order of an array that lies otherwise, some rows at a time."""
    row = tensor[:1].nbytes
    rows = max(1, _BLOCK // row)
    buffers = itertools.cycle([empty_bytes(rows * row) for _ in range(3)])
    for start in range(0, len(tensor), rows):
        source = tensor[start : start + rows]
        block = next(buffers)[: source.nbytes]
        copy(source, block.view(source.dtype).reshape(source.shape))
        yield block.data

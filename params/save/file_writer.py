"""Writing files: tensors one after the other, each read while the one before it is written."""

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
from tqdm import tqdm

from ..errors import CheckpointError
from ..host.copies import contiguous, copy, empty_bytes
from ..sizes import format_size
from .encode import Parts
from .tensor_specs import TensorSpec

_BLOCK = 1 << 20  # bytes transposed at once: they are still in the cache when they are written
Block = bytes | memoryview

SaveFunction = Callable[[dict[str, np.ndarray], str], None]
OnFile = Callable[[str], None]


class FileWriter:
    """Writes files into a folder; after an error, and without a folder, only reads what it is
    given, so that the other processes of a run, which wait for each tensor, get to the end.

    To be used in a `with` statement: one thread reads for all files. With one for each, malloc
    kept two tensors' worth of memory for every thread whose end came late.
    """

    def __init__(
        self, folder: str | os.PathLike | None, room: int, bar: tqdm, on_file: OnFile | None
    ):
        self.folder = folder
        self.bar = bar
        self.room = room
        self.on_file = on_file
        self.error: CheckpointError | None = None
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="flaxmodels-save")
        try:
            if folder is not None and (free := shutil.disk_usage(folder).free) < room:
                self._fail(folder, f"the disk has {format_size(free)} left")
        except OSError as error:
            self._fail(folder or "", error.strerror or str(error))

    def __enter__(self) -> "FileWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self.pool.shutdown()

    def write(self, name: str, parts: Parts) -> None:
        """Writes a file of these bytes."""
        blocks = _blocks(parts)

        def save(path: str) -> None:
            with open(path, "xb") as file:
                for block in _ahead(blocks, self.pool):
                    file.write(block)
                    if isinstance(block, memoryview):
                        self.bar.update(len(block))

        self._save(name, save)
        for _ in blocks:
            pass

    def call(self, save_function: SaveFunction, name: str, shard: list[TensorSpec]) -> None:
        """Lets a function write a file of these tensors."""
        arrays = {spec.name: spec.read() for spec in shard}
        self._save(name, lambda path: save_function(arrays, path))

    def _save(self, name: str, save: Callable[[str], None]) -> None:
        if self.folder is None or self.error is not None:
            return
        path = os.path.join(self.folder, name)
        try:
            save(path)
            os.stat(path)  # a function of the caller's may have put it elsewhere
        except OSError as error:
            self._fail(path, error.strerror or str(error))
            return
        try:
            if self.on_file is not None:
                self.on_file(path)
        except CheckpointError as error:
            self.error = error

    def _fail(self, path: str | os.PathLike, reason: str) -> None:
        self.error = CheckpointError(
            f"{os.fspath(path)}: {reason}; the weights take {format_size(self.room)}"
        )


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

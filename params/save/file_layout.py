"""The layout of a file of weights: where its tensors and all that is between them stand, so that
several processes can write their parts of it."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from ..formats.source import Bounds
from .blocks import Block, blocks, runs
from .encode import Data, Parts
from .tensor_specs import TensorSpec


class FileLayout:
    """Where everything stands in a file.

    Attributes:
        heads: bytes that the main process writes, each with its offset.
        data: the tensors, each with its parts: (first element, last, offset in the file).
        size: bytes of the file.
    """

    def __init__(self, parts: Parts):
        self.heads: list[tuple[int, bytes]] = []
        self.data: dict[str, tuple[TensorSpec, list[tuple[int, int, int]]]] = {}
        self.size = 0
        for part in parts:
            if isinstance(part, Data):
                spec = part.spec
                entry = self.data.setdefault(spec.name, (spec, []))
                entry[1].append((part.start, part.stop, self.size))
                self.size += (part.stop - part.start) * spec.dtype.itemsize
            else:
                self.heads.append((self.size, part))
                self.size += len(part)

    def blocks(self, main: int) -> Iterator[tuple[Block, "TensorPlace"]]:
        """Yields all blocks of all tensors, in one order on all processes."""
        for spec, parts in self.data.values():
            place = TensorPlace(spec.shape, spec.dtype.itemsize, parts)
            for block in blocks(spec, main):
                yield block, place


@dataclasses.dataclass(frozen=True)
class TensorPlace:
    """Where a tensor stands in a file."""

    shape: tuple[int, ...]
    itemsize: int
    parts: list[tuple[int, int, int]]

    def pieces(self, box: Bounds, data: np.ndarray) -> Iterator[tuple[int, memoryview]]:
        """Yields (offset in the file, bytes that belong there) of a box of the tensor."""
        view = data.reshape(-1).view(np.uint8).data
        starts, length = runs(self.shape, box)
        for i, first in enumerate(starts.tolist()):
            run = view[i * length * self.itemsize : (i + 1) * length * self.itemsize]
            for start, stop, offset in self.parts:
                at, end = max(first, start), min(first + length, stop)
                if at < end:
                    yield (
                        offset + (at - start) * self.itemsize,
                        run[(at - first) * self.itemsize : (end - first) * self.itemsize],
                    )

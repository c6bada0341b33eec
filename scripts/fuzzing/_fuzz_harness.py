"""What a target of the fuzzer is, and files and stores in memory that notice a reader's faults."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Sequence

from flaxmodels.documents.json_values import ConfigError
from flaxmodels.params import CheckpointError
from flaxmodels.params.formats.files import File
from flaxmodels.params.formats.source import Tensor
from flaxmodels.params.formats.store import Reads

_LONGEST_MESSAGE = 4000
LARGEST_READ = 1 << 20
_MOST_READ = 16 << 20
_MOST_CUT = 4


class Memory(File):
    """Bytes in memory as a file. Reading beyond its end is a fault of the reader: it has taken a
    length for true that it did not compare with the file's."""

    def __init__(self, data: bytes, path: str = "memory"):
        super().__init__(path, len(data))
        self._data = data

    def _fill(self, offset: int, view: memoryview) -> None:
        assert 0 <= offset <= self.size - len(view), f"{len(view)} bytes at {offset}"
        view[:] = self._data[offset : offset + len(view)]

    def read(self, offset: int, length: int) -> bytes:
        assert 0 <= offset <= self.size - length, f"{length} bytes at {offset}"
        return self._data[offset : offset + length]


ZEROS = Memory(bytes(LARGEST_READ))


@dataclasses.dataclass(frozen=True)
class Target:
    """A parser.

    Attributes:
        parse: a whole file -> nothing.
        head: bytes of a length before the JSON that such a file is; None if it is none.
        around: what files are parsed in.
    """

    parse: Callable[[bytes], None]
    head: int | None = None
    around: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext


def accepts(target: Target, data: bytes) -> bool:
    """Whether a file is read; the rule is that nothing but the expected errors escapes.

    Raises:
        AssertionError: an error that does not name the file, or that is not fit to print.
    """
    try:
        target.parse(data)
    except CheckpointError as error:
        check_text(str(error))
        return False
    except ConfigError:
        return False
    return True


def check_text(said: str) -> None:
    """Refuses an error or a warning that does not name the file, or that is not fit to print."""
    assert "memory" in said, f"does not name the file: {said!r}"
    assert len(said) <= _LONGEST_MESSAGE and said.isprintable(), f"not to be printed: {said!r}"


def read_some(tensors: Iterable[Tensor]) -> None:
    """Reads every small tensor, and a part of the first few."""
    left = _MOST_READ
    for i, tensor in enumerate(tensors):
        if tensor.nbytes >= LARGEST_READ or tensor.nbytes > left:
            continue
        left -= tensor.nbytes
        array = tensor.read()
        assert array.shape == tensor.shape and array.dtype == tensor.dtype
        if i < _MOST_CUT:
            cut = tuple((size // 3, size - size // 3) for size in array.shape)
            part = array[tuple(slice(*bounds) for bounds in cut)]
            assert tensor.read(cut).tobytes() == part.tobytes()


class One:
    """The store of one file in memory."""

    def __init__(self, data: bytes):
        self._file = Memory(data)

    def is_folder(self, path: str) -> bool:
        return False

    def exists(self, path: str) -> bool:
        return False

    def names(self, folder: str) -> list[str]:
        return []

    def expect(self, paths: Sequence[str], reads: Reads) -> None:
        pass

    def open(self, path: str, most: int | None = None) -> File:
        return self._file

"""Datasets in files: JSON Lines, a row in a line, and plain text, a text in a line."""

import bisect
import os
from collections.abc import Sequence

import numpy as np

from ...params.errors import quoted
from ...params.strict_json import loads

_CHUNK = 1 << 24  # bytes that are searched for ends of lines at once
SUFFIXES = (".jsonl", ".ndjson", ".txt")


class Lines:
    """The lines of files that hold more than white space, found once and read when asked for.

    Memory: 16 bytes a line. A line of `.txt` is the row {"text": line}.
    """

    def __init__(self, paths: Sequence[str | os.PathLike]):
        self._paths = [os.fspath(path) for path in paths]
        for path in self._paths:
            if not path.endswith(SUFFIXES):
                raise ValueError(
                    f"dataset {quoted(path)}: expected a file of {', '.join(SUFFIXES)}; another "
                    "one is opened by its own library, and given as rows"
                )
        found = [_lines(path) for path in self._paths]
        self._starts = np.concatenate([starts for starts, _ in found])
        self._numbers = np.concatenate([numbers for _, numbers in found])
        self._ends = np.cumsum([len(starts) for starts, _ in found])

    def __len__(self) -> int:
        return len(self._starts)

    def take(self, indices: Sequence[int]) -> list[dict[str, object]]:
        """Reads the lines `indices`, counted over all files.

        Raises:
            ValueError: a line that is no JSON object, with its file and number.
        """
        rows: list[dict[str, object]] = [{} for _ in indices]
        places = [bisect.bisect_right(self._ends, index) for index in indices]
        for which in dict.fromkeys(places):
            with open(self._paths[which], "rb") as file:
                for i, index in enumerate(indices):
                    if places[i] == which:
                        file.seek(int(self._starts[index]))
                        rows[i] = self._row(which, int(self._numbers[index]), file.readline())
        return rows

    def _row(self, which: int, number: int, line: bytes) -> dict[str, object]:
        path = self._paths[which]
        try:
            if path.endswith(".txt"):
                return {"text": line.decode().rstrip("\r\n")}
            row = loads(line)
        except ValueError as error:
            text = quoted(line[:60].decode(errors="replace"))
            raise ValueError(f"{path}, line {number}: {error}; the line begins {text}") from None
        if not isinstance(row, dict):
            kind = type(row).__name__
            raise ValueError(f"{path}, line {number}: expected an object, one row; got {kind}")
        return row


def _lines(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns where the lines of a file begin that hold more than white space, and their numbers
    from 1, both int64."""
    ends, size, blank = [], 0, []
    with open(path, "rb") as file:
        while block := file.read(_CHUNK):
            ends.append(np.flatnonzero(np.frombuffer(block, np.uint8) == 10) + size)
            size += len(block)
        after = np.concatenate([[-1], *ends]).astype(np.int64) + 1
        starts = after[after < size]
        lengths = np.diff(np.append(starts, size))
        for place in np.flatnonzero(lengths < 64):  # longer blank lines are refused as no JSON
            file.seek(int(starts[place]))
            if not file.read(int(lengths[place])).strip():
                blank.append(place)
    numbers = np.arange(1, len(starts) + 1)
    return np.delete(starts, blank), np.delete(numbers, blank)

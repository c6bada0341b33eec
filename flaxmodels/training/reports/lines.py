"""Metrics as JSON lines: one object a line, in the order of steps, no step twice."""

import json
import math
import os
from collections.abc import Mapping
from typing import TypeAlias

from ...params.strict_json import loads

Values: TypeAlias = Mapping[str, float | int | bool]


def read_lines(path: str | os.PathLike[str]) -> list[dict[str, float]]:
    """Reads the lines of a file; a last one that was cut off by a kill is left out.

    Raises:
        ValueError: a line, but for the last, that is no object with a "step".
    """
    return [line for _, line in _lines(path)]


class JsonLines:
    """Appends lines to a file. Before the first of them, lines of that step and of later ones go:
    a run that was killed had written them, and this one computes them again. So they do where a run
    goes back to an earlier step."""

    def __init__(self, path: str | os.PathLike[str]):
        self._path, self._file, self._last = os.fspath(path), None, math.inf

    def write(self, step: int, values: Values) -> None:
        """Appends a line, and hands it to the system; NaN and infinities are null."""
        if self._file is None:
            os.makedirs(os.path.dirname(self._path) or ".", exist_ok=True)
            self._file = open(self._path, "ab", buffering=0)
        if step < self._last:
            os.truncate(self._path, _end_before(self._path, step))
        self._last = step
        finite = {name: x if math.isfinite(x) else None for name, x in values.items()}
        self._file.write(json.dumps({"step": step} | finite).encode() + b"\n")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _end_before(path: str, step: int) -> int:
    """Returns where the lines of steps before `step` end, in bytes."""
    return max((end for end, line in _lines(path) if line["step"] < step), default=0)


def _lines(path: str | os.PathLike[str]) -> list[tuple[int, dict[str, float]]]:
    """Returns the whole lines of a file, each with the byte at which it ends."""
    found, end = [], 0
    with open(path, "rb") as file:
        for number, text in enumerate(file, 1):
            if not text.endswith(b"\n"):
                break
            end += len(text)
            try:
                line = loads(text, constants=float)
            except ValueError:
                line = None
            if not isinstance(line, dict) or type(line.get("step")) is not int:
                raise ValueError(
                    f"{os.fspath(path)}, line {number}: expected an object with a step, as a "
                    "Report writes it; move the file away, or give another folder"
                )
            found.append((end, line))
    return found

"""The curve of the loss as a PNG, drawn by NumPy: no library for pictures is needed."""

import math
import os
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeGuard

import numpy as np

from .lines import Values, read_lines

_WIDTH, _HEIGHT, _FINE = 640, 360, 3  # pixels, each drawn as 3 x 3
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 28, 40
_COLORS = ((31, 119, 180), (214, 96, 20), (44, 140, 60), (148, 103, 189))
_MOST = 1e300  # differences stay numbers
_GRAY, _BLACK = (224, 224, 224), (64, 64, 64)
_FONT = dict(
    zip(
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_-./+",
        # five rows of three pixels each, an octal digit a row
        "75557 26227 71747 71717 55711 74717 74757 71122 75757 75717 25755 65656 34443 65556 74647 "
        "74644 34553 55755 72227 11152 55655 44447 57755 75555 25552 65644 25573 65655 34216 72222 "
        "55557 55552 55775 55255 55222 71247 00007 00700 00002 11244 02720".split(),
        strict=True,
    )
)

Points = list[tuple[float, float]]


class Curve:
    """Draws the losses of a run when it is closed, with what `lines` has of an earlier part."""

    def __init__(self, path: str | os.PathLike[str], lines: str | os.PathLike[str] | None):
        self._path, self._lines = path, lines
        self._seen: list[dict[str, float]] = []

    def write(self, step: int, values: Values) -> None:
        self._seen.append({"step": step, **values})

    def close(self) -> None:
        if self._seen:
            draw_curve(self._seen if self._lines is None else read_lines(self._lines), self._path)


def draw_curve(
    lines: Iterable[Mapping[str, float | None]],
    path: str | os.PathLike[str],
    names: Sequence[str] = ("loss", "held_out_loss"),
) -> None:
    """Draws metrics over steps into a PNG of 640 x 360 pixels; what is not finite is left out.

    Args:
        lines: {"step": number, name: value, ...}, as in `metrics.jsonl`.
        path: of the PNG.
        names: the metrics to draw, those that there are.
    """
    lines, names = list(lines), [names] if isinstance(names, str) else names
    curves: dict[str, Points] = {}
    for name in names:
        rows = [(line.get("step"), line.get(name)) for line in lines]
        points = [(float(x), float(y)) for x, y in rows if _is_drawn(x) and _is_drawn(y)]
        if points:
            curves[name] = points
    with open(path, "wb") as file:
        file.write(_png(_drawn(curves)))


def _is_drawn(value: object) -> TypeGuard[float]:
    """Tells whether a value is a number that a picture has a place for."""
    return isinstance(value, float | int) and abs(value) < _MOST


def _drawn(curves: Mapping[str, Points]) -> np.ndarray:
    """Draws the curves, their axes and names -> uint8 [height, width, 3]."""
    image = np.full((_HEIGHT * _FINE, _WIDTH * _FINE, 3), 255, np.uint8)
    points = np.array([point for some in curves.values() for point in some] or [(0.0, 0.0)])
    x_ticks, y_ticks = _ticks(*_ends(points[:, 0])), _ticks(*_ends(points[:, 1]))
    (left, right), (low, high) = _ends(points[:, 0]), _ends([*points[:, 1], *y_ticks])

    def place(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + (x - left) / (right - left) * (_WIDTH - _LEFT - _RIGHT)
        return across, _HEIGHT - _BOTTOM - (y - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    for y in y_ticks:
        _line(image, place(left, y), place(right, y), _GRAY, 1)
        _text(image, text := f"{y:g}", _LEFT - 8 - 8 * len(text), place(left, y)[1] - 5, _BLACK)
    for x in x_ticks:
        _text(image, text := f"{x:g}", place(x, low)[0] - 4 * len(text), _HEIGHT - 32, _BLACK)
    _text(image, "step", _WIDTH - _RIGHT - 32, _HEIGHT - 16, _BLACK)
    across = _LEFT
    for (name, some), color in zip(curves.items(), _COLORS, strict=False):
        for begin, end in zip(some, some[1:] or some, strict=False):
            _line(image, place(*begin), place(*end), color, 2)
        _text(image, name, across, 8, color)
        across += 8 * (len(name) + 2)
    small = image.reshape(_HEIGHT, _FINE, _WIDTH, _FINE, 3).mean((1, 3))
    return small.round().astype(np.uint8)


def _ends(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Returns the least and the greatest; a little apart where they are the same."""
    least, most = float(min(values)), float(max(values))
    apart = most - least > 1e-300
    return (least, most) if apart else (least, least + max(1.0, abs(least)))


def _ticks(least: float, most: float) -> list[float]:
    """Returns four to nine round numbers between two."""
    rough = (most - least) / 8
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * x for x in (1, 2, 5, 10) if power * x >= rough)
    return [i * step for i in range(math.ceil(least / step), math.floor(most / step) + 1)]


def _line(image: np.ndarray, begin: tuple, end: tuple, color: tuple, width: int) -> None:
    """Draws a line between two places, in pixels from the upper left corner."""
    (x0, y0), (x1, y1) = np.array([begin, end]) * _FINE
    count = int(max(abs(x1 - x0), abs(y1 - y0))) + 1
    thick = np.arange(width * _FINE) - width * _FINE // 2
    xs, ys = np.linspace(x0, x1, count).round(), np.linspace(y0, y1, count).round()
    rows = np.clip(ys[:, None, None] + thick[:, None], 0, image.shape[0] - 1).astype(int)
    columns = np.clip(xs[:, None, None] + thick, 0, image.shape[1] - 1).astype(int)
    image[rows, columns] = color


def _text(image: np.ndarray, text: str, x: float, y: float, color: tuple) -> None:
    """Writes a text whose upper left corner is at (x, y); a character takes 8 x 10 pixels."""
    size = 2 * _FINE
    for i, character in enumerate(text.upper()):
        rows = [int(row) for row in _FONT.get(character, "00000")]
        dots = np.array([[row >> bit & 1 for bit in (2, 1, 0)] for row in rows], bool)
        dots = dots.repeat(size, 0).repeat(size, 1)
        top, left = round(y * _FINE), round((x + 8 * i) * _FINE)
        part = image[max(top, 0) : top + len(dots), max(left, 0) : left + dots.shape[1]]
        part[dots[: part.shape[0], : part.shape[1]]] = color


def _png(image: np.ndarray) -> bytes:
    """Encodes uint8 [height, width, 3] (W3C, Portable Network Graphics, third edition)."""
    height, width, _ = image.shape
    rows = np.pad(image.reshape(height, -1), ((0, 0), (1, 0)))  # a filter before each row: none

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)  # 8 bits, RGB
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)

"""Numbers of bytes, as people read and write them."""

import math
import re

import numpy as np

_UNITS = {"": 1, "B": 1} | {
    f"{letter}{infix}B": base**power
    for infix, base in (("", 1000), ("i", 1024))
    for power, letter in enumerate("KMGT", 1)
}


def format_size(size: float) -> str:
    """Shows bytes as a person reads them.

    >>> format_size(2_200_000_000)
    '2.20 GB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} B" if unit == "B" else f"{size:.2f} {unit}"
        size /= 1000
    raise AssertionError


def parse_size(size: int | str, name: str = "max_shard_size") -> int:
    """Parses a size, 5_000_000 or "5GB" (decimal) or "5GiB" (binary), as bytes.

    Args:
        name: of the argument, for the error.

    Raises:
        ValueError: not a positive size.

    >>> parse_size("5GB"), parse_size("1.5 KiB")
    (5000000000, 1536)
    """
    if isinstance(size, int | np.integer) and not isinstance(size, bool) and size > 0:
        return int(size)
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([KMGT]?i?B)", str(size).strip(), re.IGNORECASE)
    if match:
        unit = match[2].upper().replace("I", "i")
        count = float(match[1]) * _UNITS.get(unit, 0)
        if 1 <= count < math.inf:
            return int(count)
    raise ValueError(f'{name} is {size!r:.80}; give bytes, or a string such as "5GB", "500MiB"')

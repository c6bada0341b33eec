"""Pictures of shardings for a terminal."""

import jax
import numpy as np
from jax.core import Tracer


def picture(array: jax.Array, name: str = "") -> str:
    """Draws which devices hold which part of an array: a grid of its first two sharded dimensions,
    or a row if one is sharded.

    Each cell is a shard with the numbers of the devices that hold it (replicas share a cell).

    Raises:
        TypeError: what is on no devices, such as an array of NumPy or of a trace.
    """
    if not isinstance(array, jax.Array) or isinstance(array, Tracer):
        raise TypeError(
            f"picture takes a jax.Array, which is on devices; got a {type(array).__name__}"
        )
    shape, sharding = array.shape, array.sharding
    cells: dict[tuple[int, ...], list[int]] = {}
    for device, index in sharding.devices_indices_map(shape).items():
        start = tuple(s.indices(size)[0] for s, size in zip(index, shape, strict=True))
        cells.setdefault(start, []).append(device.id)
    cuts = [sorted({start[axis] for start in cells}) for axis in range(len(shape))]
    split = [axis for axis, starts in enumerate(cuts) if len(starts) > 1][:2]
    across = split[-1] if split else None
    down = split[0] if len(split) > 1 else None
    rows = [0] if down is None else cuts[down]
    columns = [0] if across is None else cuts[across]
    grid = np.empty((len(rows), len(columns)), dtype=object)
    grid.fill([])
    for start, devices in sorted(cells.items()):
        row = 0 if down is None else rows.index(start[down])
        column = 0 if across is None else columns.index(start[across])
        grid[row, column] = grid[row, column] + devices  # a third sharded dimension shares cells
    grid = np.vectorize(lambda devices: _numbers(sorted(devices)), otypes=[object])(grid)
    width = max(len(cell) for cell in grid.flat) + 2
    line = "+".join(["-" * width] * len(columns))
    spec = getattr(sharding, "spec", None)
    title = f"{name} {tuple(shape)} {array.dtype} {'' if spec is None else tuple(spec)}".strip()
    body = [f"+{line}+"]
    for row in grid:
        body += ["|" + "|".join(cell.center(width) for cell in row) + "|", f"+{line}+"]
    return "\n".join([title, *("  " + text for text in body)])


def _numbers(devices: list[int]) -> str:
    """Formats [0, 1, 2, 3, 6] as "0-3,6"."""
    parts: list[str] = []
    start = previous = devices[0]
    for device in [*devices[1:], None]:
        if device is not None and device == previous + 1:
            previous = device
            continue
        parts.append(str(start) if start == previous else f"{start}-{previous}")
        if device is not None:
            start = previous = device
    return ",".join(parts)

"""Pictures of shardings for a terminal."""

import itertools

import jax
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
    starts = {
        device.id: tuple(s.indices(size)[0] for s, size in zip(index, shape, strict=True))
        for device, index in sharding.devices_indices_map(shape).items()
    }
    split = [axis for axis, where in enumerate(zip(*starts.values())) if len({*where}) > 1][:2]  # noqa: B905
    cells: dict[tuple[int, int], list[int]] = {}
    for number, start in sorted(starts.items()):  # a third sharded dimension shares cells
        down, across = [0, 0, *(start[axis] for axis in split)][-2:]
        cells.setdefault((down, across), []).append(number)
    texts = {place: _numbers(devices) for place, devices in cells.items()}
    rows, columns = (sorted({place[i] for place in cells}) for i in (0, 1))
    width = max(map(len, texts.values())) + 2
    line = f"+{'+'.join(['-' * width] * len(columns))}+"
    spec = getattr(sharding, "spec", None)
    title = f"{name} {tuple(shape)} {array.dtype} {'' if spec is None else tuple(spec)}".strip()
    body = [line]
    for row in rows:
        body += [f"|{'|'.join(texts[row, column].center(width) for column in columns)}|", line]
    return "\n".join([title, *("  " + text for text in body)])


def _numbers(devices: list[int]) -> str:
    """Formats [0, 1, 2, 3, 6] as "0-3,6"."""
    parts = []
    for _, group in itertools.groupby(enumerate(devices), lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        parts.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
    return ",".join(parts)

"""The limit on host memory: what a load may use of it, and whether its params fit at all."""

import os
import resource
from collections.abc import Iterator

from ..errors import CheckpointError
from ..sizes import format_size, parse_size

DEFAULT = 1 << 30  # bytes beyond the finished params
_LEAST = 1 << 20
_PLACES = 4  # that a chunk may be in at once: read, transposed, cast, and on its device
_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def checked_limit(max_host_memory: int | str) -> int:
    """Returns a limit in bytes; raises `ValueError` for what is none, or too small to load with."""
    limit = parse_size(max_host_memory, "max_host_memory")
    if limit < _LEAST:
        raise ValueError(f"max_host_memory is {limit} bytes; it must be at least 1 MiB")
    return limit


def chunk_bytes(max_host_memory: int, workers: int) -> int:
    """Returns the size of a chunk with which `workers` together keep the limit."""
    return max_host_memory // (_PLACES * workers)


def check_fits(needed: int, where: str) -> None:
    """Raises `CheckpointError` if the params alone take more host memory than there is in all, so
    that no order of reading could work. What is in use at the moment is not looked at."""
    limits = dict(_limits())
    if limits and needed > min(limits.values()):
        what = min(limits, key=lambda name: limits[name])
        raise CheckpointError(
            f"{where}: the params take {format_size(needed)} of host memory; "
            f'{what} is {format_size(limits[what])}; load fewer bits (param_dtype="bfloat16"), or '
            "spread them over more processes with mesh="
        )


def least_limit() -> int | None:
    """Returns the bytes of host memory that this process may have in all; None if not known."""
    return min(dict(_limits()).values(), default=None)


def _limits() -> Iterator[tuple[str, int]]:
    """Yields (what it is, bytes) of each limit of this process's memory that can be known."""
    if (total := _of_machine()) is not None:
        yield "the memory of this machine with its swap", total
    for path in _CGROUPS:
        try:
            with open(path) as file:
                yield f"the limit of this container ({path})", int(file.read())
        except (OSError, ValueError):  # not there, or "max"
            continue
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        yield "the limit of this process (ulimit -v)", limit


def _of_machine() -> int | None:
    try:
        with open("/proc/meminfo") as file:
            rows = dict(line.split(":") for line in file)
        return sum(int(rows[name].split()[0]) * 1024 for name in ("MemTotal", "SwapTotal"))
    except (OSError, KeyError, ValueError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None

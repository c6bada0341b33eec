"""A limit of memory that the kernel enforces: of a control group, else RLIMIT_DATA."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_V2 = Path("/sys/fs/cgroup")
_V1 = Path("/sys/fs/cgroup/memory")
_JOIN = 'echo $$ > "$0/cgroup.procs" && exec "$@"'


class Limit(NamedTuple):
    """A limit that commands can be run under.

    Attributes:
        nbytes: 0 if there is none.
        how: what enforces it.
        prefix: of a command.
    """

    nbytes: int
    how: str
    prefix: tuple[str, ...]


NONE = Limit(0, "", ())


@contextlib.contextmanager
def limited(nbytes: int) -> Iterator[Limit]:
    """Gives a limit of memory. A control group counts the pages of files that its processes read
    first too, and takes them back before it kills; RLIMIT_DATA is of private memory alone, and
    makes allocations fail."""
    made = _group(nbytes)
    if made is None:
        set_it = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_DATA, ({0}, {0}))"
        run = f"{set_it.format(nbytes)}; os.execvp(sys.argv[1], sys.argv[1:])"
        yield Limit(nbytes, "RLIMIT_DATA", (sys.executable, "-c", run))
        return
    how, folder = made
    try:
        yield Limit(nbytes, how, ("sh", "-c", _JOIN, str(folder)))
    finally:
        folder.rmdir()


def _group(nbytes: int) -> tuple[str, Path] | None:
    """Makes a control group -> (its kind, its folder); None where none can be made."""
    name = f"flaxmodels-{os.getpid()}"
    for how, root, limits in (
        ("cgroup v2", _V2, {"memory.max": nbytes, "memory.swap.max": 0}),
        (
            "cgroup v1",
            _V1,
            {"memory.limit_in_bytes": nbytes, "memory.memsw.limit_in_bytes": nbytes},
        ),
    ):
        folder = root / name
        if not (root / "cgroup.procs").exists():
            continue
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            for number, (file, size) in enumerate(limits.items()):
                # A kernel without swap may lack the second.
                if number == 0 or (folder / file).exists():
                    (folder / file).write_text(str(size))
        except OSError:
            folder.rmdir()
            continue
        return how, folder
    return None

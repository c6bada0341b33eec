"""`--cpu N`: the N tests and files that take the most CPU time, which other work beside them
changes less than wall time. It is that of a process's threads, and of processes that it waited for
or that forked from its server (`_children.py`). What a test's teardown takes is that of its file: a
process that the file's tests share is waited for after the last of them.
"""

import collections
import itertools
import os
import resource
from multiprocessing import forkserver
from typing import Any

import pytest

_started = _done = 0.0


def _now() -> float:
    usage = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in usage) + _of_forks()


def _of_forks() -> float:
    """CPU seconds of the process that forks children, and of those of them that have ended."""
    server: int | None = getattr(forkserver._forkserver, "_forkserver_pid", None)
    try:
        with open(f"/proc/{server}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    except OSError:  # none was started, or not Linux
        return 0.0


def pytest_runtest_logstart() -> None:
    global _started
    _started = _now()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    global _done
    if call.when != "teardown":
        _done = _now()
        return
    file = item.nodeid.partition("::")[0]
    for name, seconds in ((item.nodeid, _done - _started), (f"{file}::(ends)", _now() - _done)):
        item.user_properties.append(("cpu", (name, seconds)))  # they travel with its report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    count = config.getoption("--cpu")
    tests, files = collections.Counter(), collections.Counter()
    for report in itertools.chain(*terminalreporter.stats.values()):
        for kind, given in getattr(report, "user_properties", ()):
            if kind == "cpu":
                name, seconds = given
                tests[name] += seconds
    for name, seconds in tests.items():
        files[name.partition("::")[0]] += seconds
    for title, times in (("files", files), ("tests", tests)):
        if count:
            terminalreporter.section(f"{title}: CPU seconds, {sum(times.values()):.0f} in all")
        for name, seconds in times.most_common(count):
            terminalreporter.write_line(f"{seconds:6.1f} {name}")

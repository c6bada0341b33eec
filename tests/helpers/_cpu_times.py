"""`--cpu N`: the N tests and files that take the most CPU time, which other work beside them
changes less than wall time. It is that of a process's threads, and of processes that it waited for
or that forked from its server (`_children.py`).
"""

import collections
import os
import resource
from multiprocessing import forkserver
from typing import Any

import pytest

_started = 0.0


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
    if call.when == "teardown":  # the properties of an item travel with its report
        item.user_properties.append(("cpu", _now() - _started))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    count = config.getoption("--cpu")
    tests = {
        report.nodeid: seconds
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, seconds in getattr(report, "user_properties", ())
        if name == "cpu"
    }
    files = collections.Counter()
    for name, seconds in tests.items():
        files[name.partition("::")[0]] += seconds
    for title, times in (("files", files), ("tests", collections.Counter(tests))):
        if count:
            terminalreporter.section(f"{title}: CPU seconds, {sum(times.values()):.0f} in all")
        for name, seconds in times.most_common(count):
            terminalreporter.write_line(f"{seconds:6.1f} {name}")

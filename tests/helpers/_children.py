"""Python programs as processes that need not import anything.

They fork from a process that has imported JAX and flaxmodels, initialised no backend and opened no
connection: what an interpreter of its own takes two seconds of CPU time for. JAX has read its
variables by then, and glibc its own; what is about those, or about how an interpreter starts and
ends, is run by `subprocess`.
"""

import atexit
import ctypes
import multiprocessing
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
import threading
import warnings
import weakref
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any

from _paths import ROOT

_FORKED = multiprocessing.get_context("forkserver")
_FORKED.set_forkserver_preload(["_forks"])


def _start_server() -> None:
    """Starts what children fork from, where it runs not yet: it finds modules by its variables."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [*sys.path, before]))
    try:
        forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH")
        os.environ |= {} if before is None else {"PYTHONPATH": before}


class Child:
    """A program that was started; its output comes when it has ended.

    Args:
        arguments: those of `python`: [-W action], then -c CODE, -m MODULE or FILE, and its own.
        env: the whole environment; this process's if None.
        cwd: its working directory; this process's if None.
    """

    def __init__(
        self,
        *arguments: Any,
        env: dict[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
    ):
        folder = tempfile.mkdtemp()
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._files = [Path(folder, name) for name in ("out", "err")]
        self._process = _FORKED.Process(
            target=_run,
            args=(
                [os.fspath(x) for x in arguments],
                dict(os.environ if env is None else env),
                os.fspath(cwd or Path.cwd()),
                self._files,
            ),
        )
        _start_server()
        self._process.start()
        self._ended = threading.Lock()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """As of `Popen`: the status, or minus the signal that ended it."""
        with self._ended:
            return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    def wait(self, timeout: float = 300) -> int:
        """Waits for its end -> `returncode`; kills it if it takes longer."""
        # The status comes through a pipe, once: of two threads that join, one would find it empty.
        with self._ended:
            self._process.join(timeout)
            if self._process.exitcode is None:
                self.kill()
                self._process.join()
                raise subprocess.TimeoutExpired("a child", timeout, *map(_text, self._files))
            return self._process.exitcode

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """Waits for its end -> what it wrote to stdout and to stderr."""
        self.wait(timeout)
        return _text(self._files[0]), _text(self._files[1])


def run(*arguments: Any, timeout: float = 300, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end, as `subprocess.run` with text captured."""
    child = Child(*arguments, **options)
    out, err = child.communicate(timeout)
    return subprocess.CompletedProcess(arguments, child.returncode or 0, out, err)


def mount_apart(script: str) -> None:
    """Runs a shell script that mounts, after which this process, of one thread, sees what others
    do not.

    Raises:
        PermissionError: nobody may do that here.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(_NEW_MOUNTS) and libc.unshare(_NEW_MOUNTS | _NEW_USER):
        raise PermissionError(ctypes.get_errno(), "no mounts of its own for a process")
    if os.getuid() != user:  # nobody yet
        maps = {"uid_map": f"0 {user} 1", "setgroups": "deny", "gid_map": f"0 {group} 1"}
        for name, text in maps.items():
            Path("/proc/self", name).write_text(text)
    subprocess.run(["sh", "-ec", f"mount --make-rprivate /\n{script}"], check=True)


_NEW_MOUNTS, _NEW_USER = 0x20000, 0x10000000  # CLONE_NEWNS and CLONE_NEWUSER of linux/sched.h


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _run(arguments: list[str], env: dict[str, str], cwd: str, files: list[Path]) -> None:
    """What the fork does."""
    for number, path in enumerate(files, 1):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, number)
        os.close(opened)
    os.closerange(3, 256)  # what serves forks, and an interpreter of its own has not
    resource_tracker._resource_tracker._fd = None  # type: ignore[attr-defined]
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    tests = (str(ROOT / "tests"), str(ROOT / "scripts"))
    sys.path[:] = [path for path in sys.path if path and not path.startswith(tests)]
    warnings.resetwarnings()
    while arguments[0] == "-W":
        warnings.simplefilter(arguments[1])  # type: ignore[arg-type]
        del arguments[:2]
    try:
        if arguments[0] == "-c":
            sys.argv = ["-c", *arguments[2:]]
            exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})
        elif arguments[0] == "-m":
            sys.argv = arguments[1:]
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = arguments
            sys.path.insert(0, os.path.dirname(arguments[0]))
            runpy.run_path(arguments[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()

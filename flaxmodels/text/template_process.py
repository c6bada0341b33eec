"""Rendering templates of strangers, in a process of its own that is kept for the next chat.

Jinja's sandbox keeps a template from Python's internals, but not from looping for ever, nor from
doubling a string until memory is full. Limits on both can only be set for a process, and only from
outside of what runs: `_render.py` is that process. A chat costs a line to it and one back, a tenth
of a millisecond; starting it takes 0.1 s.
"""

import atexit
import contextlib
import importlib.metadata
import importlib.util
import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from importlib import resources
from typing import IO

from ..documents.json_values import Json
from ..params.errors import PrintableError

_PROGRAM = resources.files(__name__.rpartition(".")[0]) / "_render.py"
_SECONDS = 2.0  # of CPU time, for a chat
_PATIENCE = 60  # seconds for a chat, whose process may have to wait for its turn
_LONGEST_ANSWER = 128 << 20
_KEPT = ("TZ", "TZDIR", "PATH", "LD_LIBRARY_PATH")
"""Variables of the environment; others, among them tokens, are no business of a template."""
_OLDEST_JINJA = (3, 1, 6)


class TemplateError(PrintableError):
    """A chat template that cannot be rendered: file, line, why."""


def render(template: str, values: Mapping[str, object], name: str) -> str:
    """Renders a chat template.

    Args:
        values: what the template sees, all of JSON.
        name: the template's file, for errors.

    Raises:
        TemplateError: a construct that Jinja does not have, what the template itself raises, more
            than 2 s of CPU time, 512 MiB of memory, or 16 Mi characters.
        ImportError: there is no jinja2, or one older than 3.1.6.
    """
    _check_jinja()
    request = json.dumps({"template": template, "values": values}).encode() + b"\n"
    with _lock:
        answer = _ask(request, name)
    match answer:
        case {"text": str(text)}:
            return text
        case {"error": str(error), "line": int(line)}:
            raise TemplateError(f"{name}, line {line} of the template: {error}")
        case {"error": str(error)}:
            raise TemplateError(f"{name}: the template {error}")
    raise TemplateError(f"{name}: the renderer's answer is none")


_lock = threading.Lock()
_process: subprocess.Popen | None = None
_owner = 0  # the process that started it: a forked child must not speak to its parent's


def _ask(request: bytes, name: str) -> Json:
    process = _started(name)
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(request)
        process.stdin.flush()
        line = _line(process.stdout)
    except BrokenPipeError:
        line = b""
    except BaseException:  # interrupted: what it answers is for nobody
        _stop(kill=True)
        raise
    if line:
        return json.loads(line)
    _stop(kill=True)
    if process.returncode == -signal.SIGPROF:
        return {"error": f"takes more than {_SECONDS:g} s of computing, and was stopped"}
    if process.returncode == -signal.SIGKILL:
        return {"error": f"took more than {_PATIENCE} s, or more memory than there is"}
    raise TemplateError(f"{name}: the renderer process ended, with status {process.returncode}")


def _line(output: IO[bytes]) -> bytes:
    """Reads a line; an empty one where the process has ended or takes too long."""
    descriptor, parts, size = output.fileno(), [], 0
    poll, end = select.poll(), time.monotonic() + _PATIENCE
    poll.register(descriptor, select.POLLIN)
    while size <= _LONGEST_ANSWER and poll.poll(max(0, end - time.monotonic()) * 1000):
        part = os.read(descriptor, 1 << 20)
        parts.append(part)
        size += len(part)
        if part.endswith(b"\n"):
            return b"".join(parts)
        if not part:
            break
    return b""


def _started(name: str) -> subprocess.Popen:
    global _process, _owner
    if _process is not None and _owner == os.getpid() and _process.poll() is None:
        return _process
    _stop()
    with resources.as_file(_PROGRAM) as program:
        try:
            _process = subprocess.Popen(
                [sys.executable, "-I", "-S", program, str(_SECONDS), *filter(None, sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={key: os.environ[key] for key in _KEPT if key in os.environ},
            )
        except (OSError, ValueError) as error:
            raise TemplateError(f"{name}: the renderer process: {error}") from None
    _owner = os.getpid()
    return _process


def _stop(kill: bool = False) -> None:
    """Ends the process, if this one started it."""
    global _process
    process, _process = _process, None
    if process is None:
        return
    if _owner != os.getpid():
        process.returncode = 0  # it is the parent's, which waits for it
    elif kill:
        process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    if _owner == os.getpid():
        process.wait()


atexit.register(_stop)


def _check_jinja() -> None:
    if importlib.util.find_spec("jinja2") is None:
        raise ImportError(
            "chat templates need jinja2, which is not installed: pip install flaxmodels[tokenizers]"
        )
    version = importlib.metadata.version("jinja2")
    numbers = tuple(map(int, re.findall(r"\d+", version)[:3]))
    if numbers < _OLDEST_JINJA:
        raise ImportError(
            f"chat templates need jinja2 3.1.6 or later, and {version} is installed: its sandbox "
            "has holes; pip install -U jinja2"
        )

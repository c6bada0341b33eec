"""What a Hub, its CDN and the network between do wrong, on demand.

A kind is a function of (request, proceed, after, **details) that gives the answer; `proceed()`
handles the request as if nothing were wrong. `after` counts bytes of the answer's body.
"""

import fnmatch
import gzip
import inspect
import json
import threading
from collections.abc import Callable
from typing import Any

from loopback.server import Answer, Request

Proceed = Callable[[], Answer]

PORTAL = b"<!DOCTYPE html><html><body>Please log in to this network</body></html>"


class Fault:
    """One way to misbehave, for the requests that match.

    Args:
        kind: a key of `KINDS`, whose function says what `details` there are.
        method: HTTP method, or any.
        path: pattern of `fnmatch` for the path without query, quoted or not.
        port: "hub", "cdn", or any.
        skip: how many matching requests go well first.
        times: how many go wrong then; None: all.
        after: bytes of the body after which it happens; 0 is before the status line.
    """

    def __init__(
        self,
        kind: str,
        *,
        method: str | None = None,
        path: str = "*",
        port: str | None = None,
        skip: int = 0,
        times: int | None = 1,
        after: int = 0,
        **details: Any,
    ):
        self.kind, self.method, self.path, self.port = kind, method, path, port
        self.skip, self.times, self.after, self.details = skip, times, after, details
        inspect.signature(KINDS[kind]).bind(None, None, after, **details)  # a misspelt detail
        self.seen = 0
        self.hits = 0
        self._counting = threading.Lock()

    def due(self, request: Request) -> bool:
        """Whether this request goes wrong; counts it."""
        matches = (
            self.method in (None, request.method)
            and self.port in (None, request.port)
            and any(fnmatch.fnmatchcase(path, self.path) for path in (request.path, request.name))
        )
        if not matches:
            return False
        with self._counting:
            self.seen += 1
            due = self.skip < self.seen and (
                self.times is None or self.seen <= self.skip + self.times
            )
            self.hits += due
        return due

    def answer(self, request: Request, proceed: Proceed) -> Answer:
        return KINDS[self.kind](request, proceed, self.after, **self.details)


def _cut(proceed: Proceed, after: int, end: str) -> Answer:
    answer = proceed() if after else Answer()
    answer.cut, answer.end = after, end
    return answer


def reset(request: Request, proceed: Proceed, after: int) -> Answer:
    """TCP RST. With `after=0` the request is not handled either."""
    return _cut(proceed, after, "rst")


def close(request: Request, proceed: Proceed, after: int) -> Answer:
    """FIN. With `after=0` the request is not handled either."""
    return _cut(proceed, after, "fin")


def lost(request: Request, proceed: Proceed, after: int) -> Answer:
    """The request is handled; RST instead of the answer."""
    proceed()
    return Answer(cut=0, end="rst")


def stall(request: Request, proceed: Proceed, after: int, *, seconds: float) -> Answer:
    """Nothing comes for `seconds`, then the rest."""
    answer = proceed()
    answer.pause = after, seconds
    return answer


def status(
    request: Request,
    proceed: Proceed,
    after: int,
    *,
    code: int,
    headers: dict[str, str] | None = None,
    body: bytes | str | None = None,
    error: str | None = None,
    handled: bool = False,
) -> Answer:
    """Another status; `error` is X-Error-Code, `handled` says that what was asked is done first."""
    if handled:
        proceed()
    if body is None:
        body = json.dumps({"error": f"status {code}, on demand"})
    answer = Answer(code, body.encode() if isinstance(body, str) else body)
    answer.headers = {"Content-Type": "application/json"} | (headers or {})
    if error is not None:
        answer.headers["X-Error-Code"] = error
    return answer


def redirect(
    request: Request, proceed: Proceed, after: int, *, to: str | None = None, code: int = 302
) -> Answer:
    """To `to`, or in a circle."""
    return Answer(code, headers={"Location": request.path if to is None else to})


def html(request: Request, proceed: Proceed, after: int, *, body: bytes = PORTAL) -> Answer:
    """A captive portal's page, with status 200."""
    return Answer(body=body, headers={"Content-Type": "text/html; charset=utf-8"})


def corrupt(request: Request, proceed: Proceed, after: int) -> Answer:
    """The byte at `after` of the file is flipped, where this answer has it; sizes are right."""
    answer = proceed()
    first = 0
    if answer.status == 206:
        content_range = answer.headers["Content-Range"]
        first = int(content_range.removeprefix("bytes ").partition("-")[0])
    at = after - first
    if 0 <= at < len(answer.body):
        flipped = bytes([answer.body[at] ^ 0xFF])
        answer.body = answer.body[:at] + flipped + answer.body[at + 1 :]
    return answer


def length(request: Request, proceed: Proceed, after: int, *, n: int) -> Answer:
    """Content-Length is wrong by `n`; the connection ends after the body."""
    answer = proceed()
    answer.length = len(answer.body) + n
    return answer


def headers(
    request: Request, proceed: Proceed, after: int, *, headers: dict[str, str | None]
) -> Answer:
    """The answer's headers are set to these, or removed where None."""
    answer = proceed()
    for name, value in headers.items():
        answer.change_header(name, value)
    return answer


def compressed(request: Request, proceed: Proceed, after: int) -> Answer:
    """The body is gzip, and Content-Length is of that."""
    answer = proceed()
    answer.body = gzip.compress(answer.body, mtime=0)
    answer.change_header("Content-Encoding", "gzip")
    return answer


def ignore_range(request: Request, proceed: Proceed, after: int) -> Answer:
    """200 and the whole body, whatever range was asked for."""
    asked = request.headers["Range"]
    del request.headers["Range"]
    answer = proceed()
    if asked is not None:
        request.headers["Range"] = asked
    return answer


def out_of_range(request: Request, proceed: Proceed, after: int) -> Answer:
    answer = proceed()
    whole = answer.headers.get("Content-Range", f"/{len(answer.body)}").rpartition("/")[2]
    return Answer(416, headers={"Content-Range": f"bytes */{whole}"})


def changed_json(request: Request, proceed: Proceed, after: int, *, value: Any) -> Answer:
    """The answer's JSON is `value`, or `value(it)` of a function."""
    answer = proceed()
    value = value(json.loads(answer.body)) if callable(value) else value
    answer.body = json.dumps(value).encode()
    return answer


def hook(
    request: Request,
    proceed: Proceed,
    after: int,
    *,
    call: Callable[[Request], object],
    when: str = "before",
) -> Answer:
    """Calls a function before the request is handled, or `when="after"` it, before the answer."""
    if when == "before":
        call(request)
        return proceed()
    answer = proceed()
    call(request)
    return answer


def lfs_error(
    request: Request,
    proceed: Proceed,
    after: int,
    *,
    code: int = 507,
    message: str = "no space left for this object",
) -> Answer:
    """The batch's answer refuses each object."""

    error = {"code": code, "message": message}

    def refused(batch: dict) -> dict:
        asked = [{"oid": item["oid"], "size": item["size"]} for item in batch["objects"]]
        return batch | {"objects": [item | {"error": error} for item in asked]}

    return changed_json(request, proceed, after, value=refused)


KINDS: dict[str, Callable[..., Answer]] = {
    "reset": reset,
    "close": close,
    "lost": lost,
    "stall": stall,
    "status": status,
    "redirect": redirect,
    "html": html,
    "corrupt": corrupt,
    "length": length,
    "headers": headers,
    "gzip": compressed,
    "ignore_range": ignore_range,
    "416": out_of_range,
    "json": changed_json,
    "hook": hook,
    "lfs_error": lfs_error,
}

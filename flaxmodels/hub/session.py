"""The session of huggingface_hub while we use it: each answer is looked at before the client acts
on it, and the way there may lead through proxies."""

import contextlib
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from ..params.errors import quoted
from . import cancellation
from .errors import HubError, scrubbed

LONGEST_WAIT = 60  # seconds
_LONGEST_ANSWER = 64 << 20  # bytes of what is no file: the list of a repository, an error
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_OF_COMMIT = re.compile(r"/resolve/([0-9a-f]{40})/")
_ETAG = re.compile(r"[0-9A-Za-z_-][0-9A-Za-z._-]{0,199}")
_SECONDS = re.compile(r"\d{1,9}", re.ASCII)
_WINDOWED = re.compile(r"\bt=(\d+)", re.ASCII)

_lock = threading.RLock()
_users: list[Mapping[str, str]] = []  # the proxies of each; empty for none
_before: tuple[Any, Any] = (None, None)  # the factory of clients, and whether Xet is disabled


def guarded() -> contextlib.AbstractContextManager[None]:
    """Every answer that huggingface_hub gets meanwhile is looked at first (`_look`)."""
    return _session({})


def proxied(proxies: Mapping[str, str] | None) -> contextlib.AbstractContextManager[None]:
    """huggingface_hub goes through `proxies` meanwhile, in this whole process: {"http" | "https" |
    "http://host": "host:port"}. Of several, those that came last count."""
    return _session(dict(proxies)) if proxies else contextlib.nullcontext()


@contextlib.contextmanager
def _session(proxies: Mapping[str, str]) -> Iterator[None]:
    global _before
    http = _http()
    with _lock:
        if not _users:
            _before = http._GLOBAL_CLIENT_FACTORY, constants().HF_HUB_DISABLE_XET
            http._GLOBAL_CLIENT_FACTORY = _client
            if http._GLOBAL_CLIENT is not None:
                _hooks(http._GLOBAL_CLIENT).append(_look)
        _users.append(proxies)
        _changed(proxies)
    try:
        yield
    finally:
        with _lock:
            _users[:] = [user for user in _users if user is not proxies]
            _changed(proxies)
            if not _users and http._GLOBAL_CLIENT_FACTORY is _client:
                http._GLOBAL_CLIENT_FACTORY = _before[0]
                if http._GLOBAL_CLIENT is not None:
                    hooks = _hooks(http._GLOBAL_CLIENT)
                    hooks[:] = [hook for hook in hooks if hook is not _look]


def _changed(proxies: Mapping[str, str]) -> None:
    """Proxies come or go: connections that are open have others, and Xet has a way of its own."""
    if proxies:
        _http().close_session()
        constants().HF_HUB_DISABLE_XET = _before[1] or any(_users)


def _http() -> Any:
    from huggingface_hub.utils import _http

    return _http


def constants() -> Any:
    """Of huggingface_hub, which the environment sets."""
    from huggingface_hub import constants

    return constants


def _client() -> Any:
    client = _before[0]()
    proxies = next((user for user in reversed(_users) if user), None)
    if proxies:
        client = _through(client, proxies)
    _hooks(client).append(_look)
    return client


def _hooks(client: Any) -> list[Any]:
    return client.event_hooks["response"]


def _through(plain: Any, proxies: Mapping[str, str]) -> Any:
    """A client like `plain` that goes through `proxies`."""
    module = sys.modules[type(plain).__module__.partition(".")[0]]  # httpx or httpx2
    mounts = {
        key if "://" in key else f"{key}://": module.HTTPTransport(
            proxy=address if "://" in address else f"http://{address}"
        )
        for key, address in proxies.items()
    }
    hooks = plain.event_hooks
    plain.close()
    return type(plain)(event_hooks=hooks, follow_redirects=True, timeout=None, mounts=mounts)


def _look(response: Any) -> None:
    """Refuses names that would lead out of the cache, and shortens waits that are too long."""
    stop = cancellation.current()
    if stop is not None:
        stop.reads(response)
    headers = response.headers
    _limit(response)
    for name in ("etag", "x-linked-etag"):
        value = headers.get(name)
        plain = value and value.removeprefix("W/").strip('"')
        if plain and not _ETAG.fullmatch(plain):
            _refuse(response, name, value, "is no hash")
    commit = headers.get("x-repo-commit")
    if commit and not _HASH.fullmatch(commit):
        _refuse(response, "x-repo-commit", commit, "is no hash")
    asked = _OF_COMMIT.search(response.request.url.path)
    if commit and asked and commit != asked[1]:
        _refuse(response, "x-repo-commit", commit, f"is not the {asked[1]} that was asked for")
    if _SECONDS.match(headers.get("retry-after", "").strip()):
        headers["retry-after"] = str(_at_most(headers["retry-after"].strip()))
    if "ratelimit" in headers:
        headers["ratelimit"] = _WINDOWED.sub(
            lambda match: f"t={_at_most(match[1])}", headers["ratelimit"]
        )


def _limit(response: Any) -> None:
    """Ends an answer that is read whole, into memory, where it gets too long."""
    if response.is_success and "/api/" not in response.request.url.path:
        return
    module = sys.modules[type(response).__module__.partition(".")[0]]  # httpx or httpx2
    what, stream = scrubbed(response.request.url), response.stream

    class Limited(module.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            count = 0
            for block in stream:
                count += len(block)
                if count > _LONGEST_ANSWER:
                    raise HubError(f"{what}: an answer of more than {_LONGEST_ANSWER} bytes")
                yield block

        def close(self) -> None:
            stream.close()

    response.stream = Limited()


def _at_most(seconds: str) -> int:
    return min(int(seconds), LONGEST_WAIT) if _SECONDS.fullmatch(seconds) else LONGEST_WAIT


def _refuse(response: Any, name: str, value: str, why: str) -> None:
    raise HubError(
        f"{scrubbed(response.request.url)}: the header {name} is {quoted(value)}, which {why}; "
        "what answers is not the Hub"
    )

"""The session of huggingface_hub: responses are checked before the client acts on them, and
requests may go through proxies.

The client makes its session anew after some errors, so a hook on the session alone would be lost;
our factory, set by its public `set_client_factory`, puts the hook on each. It wraps the factory
that was set before, and changes nothing outside `guarded` and `proxied`.
"""

import contextlib
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..params.errors import quoted
from . import cancellation
from .errors import HubError, scrubbed

if TYPE_CHECKING:
    from httpx2 import Client, Response  # or httpx's, by huggingface_hub's version

LONGEST_WAIT = 60  # seconds
_LONGEST_ANSWER = 64 << 20  # bytes of what is no file: the list of a repository, an error
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_OF_COMMIT = re.compile(r"/resolve/([0-9a-f]{40})/")
_ETAG = re.compile(r"[0-9A-Za-z_-][0-9A-Za-z._-]{0,199}")
_SECONDS = re.compile(r"\d{1,9}", re.ASCII)
_WINDOW_END = re.compile(r"\bt=(\d+)", re.ASCII)

_lock = threading.RLock()
_guards = 0  # how many are inside `guarded`
_proxies: list[dict[str, str]] = []  # of those inside `proxied`
_xet_was_disabled = False
_wrapped_factory: "Callable[[], Client]"


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Checks every response that huggingface_hub gets inside, in this whole process."""
    global _guards
    with _lock:
        _install()
        _guards += 1
    try:
        yield
    finally:
        with _lock:
            _guards -= 1


@contextlib.contextmanager
def proxied(proxies: Mapping[str, str] | None) -> Iterator[None]:
    """Sends the requests of huggingface_hub through `proxies` inside, in this whole process:
    {"http" | "https" | "http://host": "host:port"}. Of several, those that came last count. Xet,
    which has a way of its own, is off meanwhile."""
    global _xet_was_disabled
    if not proxies:
        yield
        return
    own = dict(proxies)
    with _lock:
        _install()
        if not _proxies:
            _xet_was_disabled = constants().HF_HUB_DISABLE_XET
        _proxies.append(own)
        _reconnect()
    try:
        yield
    finally:
        with _lock:
            _proxies[:] = [other for other in _proxies if other is not own]
            _reconnect()


def constants() -> ModuleType:
    """Returns the module of huggingface_hub that the environment sets."""
    from huggingface_hub import constants

    return constants


def _install() -> None:
    global _wrapped_factory
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils import _http  # no public name tells which factory is set

    if _http._GLOBAL_CLIENT_FACTORY is not _new_client:
        _wrapped_factory = _http._GLOBAL_CLIENT_FACTORY
        set_client_factory(_new_client)


def _reconnect() -> None:
    """Closes connections, so that new ones take the proxies of now."""
    from huggingface_hub import close_session, constants

    close_session()
    constants.HF_HUB_DISABLE_XET = _xet_was_disabled or bool(_proxies)


def _new_client() -> "Client":
    client = _wrapped_factory()
    if _proxies:
        client = _with_proxies(client, _proxies[-1])
    client.event_hooks["response"].append(_check_response)
    return client


def _with_proxies(plain: "Client", proxies: Mapping[str, str]) -> "Client":
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


def _check_response(response: "Response") -> None:
    """Refuses names that would lead out of the cache, and shortens waits that are too long."""
    if not _guards:
        return
    if (current := cancellation.current()) is not None:
        current.watch(response)
    headers = response.headers
    _limit(response)
    for name in ("etag", "x-linked-etag"):
        value = headers.get(name, "")
        plain = value.removeprefix("W/").strip('"')
        if plain and not _ETAG.fullmatch(plain):
            raise _refused(response, name, value, "is no hash")
    commit = headers.get("x-repo-commit")
    if commit and not _HASH.fullmatch(commit):
        raise _refused(response, "x-repo-commit", commit, "is no hash")
    asked = _OF_COMMIT.search(response.request.url.path)
    if commit and asked and commit != asked[1]:
        why = f"is not the {asked[1]} that was asked for"
        raise _refused(response, "x-repo-commit", commit, why)
    if _SECONDS.match(headers.get("retry-after", "").strip()):
        headers["retry-after"] = _shortened(headers["retry-after"].strip())
    if "ratelimit" in headers:
        headers["ratelimit"] = _WINDOW_END.sub(
            lambda match: f"t={_shortened(match[1])}", headers["ratelimit"]
        )


def _limit(response: "Response") -> None:
    """Ends an answer that is read whole, into memory, where it gets too long."""
    if response.is_success and "/api/" not in response.request.url.path:
        return
    module = sys.modules[type(response).__module__.partition(".")[0]]  # httpx or httpx2
    url = scrubbed(response.request.url)
    stream: Any = response.stream  # of a client that does not wait in coroutines

    class Limited(module.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            count = 0
            for block in stream:
                count += len(block)
                if count > _LONGEST_ANSWER:
                    raise HubError(f"{url}: an answer of more than {_LONGEST_ANSWER} bytes")
                yield block

        def close(self) -> None:
            stream.close()

    response.stream = Limited()


def _shortened(seconds: str) -> str:
    return str(min(int(seconds), LONGEST_WAIT) if _SECONDS.fullmatch(seconds) else LONGEST_WAIT)


def _refused(response: "Response", name: str, value: str, why: str) -> HubError:
    return HubError(
        f"{scrubbed(response.request.url)}: the header {name} is {quoted(value)}, which {why}; "
        "what answers is not the Hub"
    )

"""The Hub's client, huggingface_hub, within limits: tries again where it does not, believes no
header that becomes a path, waits at most a minute, and tells in a sentence what went wrong."""

import contextlib
import functools
import json
import os
import random
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from .. import params as fp

T = TypeVar("T")
TRIES = 6
LONGEST_WAIT = 60.0  # seconds
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_ETAG = re.compile(r"[0-9A-Za-z_-][0-9A-Za-z._-]{0,199}")
_WINDOWED = re.compile(r"\bt=(\d+)")
_SECRET = re.compile(r"\bhf_[0-9A-Za-z]{4,}|(?i:\bbearer\s+)\S+")
_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"<>)]+")
# Errors of the transport that would come again; it is httpx or httpx2 by the client's version.
_FINAL = ("UnsupportedProtocol", "TooManyRedirects", "InvalidURL", "OfflineModeIsEnabled")


class HubError(fp.CheckpointError):
    """Something that the Hub does not have, or does not give.

    Attributes:
        may_pass: whether it may work at another time.
    """

    def __init__(self, message: str, *, may_pass: bool = False):
        super().__init__(message)
        self.may_pass = may_pass


def endpoint() -> str:
    """Where the Hub is: HF_ENDPOINT, or the public one."""
    from huggingface_hub import constants

    return constants.ENDPOINT.rstrip("/")


def is_offline() -> bool:
    """Whether no request may be made: HF_HUB_OFFLINE."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def api(token: str | bool | None) -> Any:
    """`huggingface_hub.HfApi`, which says who calls."""
    from huggingface_hub import HfApi

    return HfApi(endpoint=endpoint(), token=token, library_name="flaxmodels")


def attempt(what: str, call: Callable[[], T], *, tries: int = TRIES, whose: str = "the Hub") -> T:
    """`call()`, tried again after what may pass: a connection that breaks, a server that is busy.

    Args:
        what: the repository, and the file if there is one; begins the error's sentence.
        whose: who answers.

    Raises:
        HubError: what went wrong and what to do, without any secret.
    """
    with _guarded():
        for count in range(1, tries + 1):
            try:
                return call()
            except (fp.CheckpointError, CancelledError):
                raise
            except Exception as error:  # the transport has errors of no common base
                error, passes = _cause(error), _may_pass(_cause(error))
                if not passes or count == tries:
                    said = f"{what}: {_sentence(error, count, whose)}"
                    raise HubError(said, may_pass=passes) from None
            pause(min(LONGEST_WAIT, 2.0 ** (count - 1)) * random.uniform(0.5, 1))
    raise AssertionError("not reached")


def pause(seconds: float) -> None:
    """Sleeps; the tests' own clock goes here."""
    time.sleep(seconds)


def status_of(error: BaseException) -> int | None:
    """The status of the answer that an error is about."""
    return getattr(getattr(error, "response", None), "status_code", None)


def scrubbed(text: object) -> str:
    """A text without tokens, and without the queries of addresses, which may be signatures."""
    return _ADDRESS.sub(_bare, _SECRET.sub("***", str(text)))


def _bare(match: re.Match[str]) -> str:
    parts = urlsplit(match[0])
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "***" if parts.query else "", ""))


def _cause(error: Exception) -> BaseException:
    """What made the client look in its cache in vain, or an upload fail, rather than that."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    says_less = isinstance(error, LocalEntryNotFoundError) or type(error) is RuntimeError
    return error.__cause__ if says_less and error.__cause__ is not None else error


def _may_pass(error: BaseException) -> bool:
    from huggingface_hub.errors import FileMetadataError, LocalEntryNotFoundError

    status = status_of(error)
    if status is not None:
        return status in (408, 429) or status >= 500
    if type(error).__name__ in _FINAL or isinstance(error, LocalEntryNotFoundError | TypeError):
        return False
    if isinstance(error, OSError):  # with a number it is the disk's
        return error.errno is None and not isinstance(error, FileMetadataError)
    return not isinstance(error, ValueError)


def _sentence(error: BaseException, tries: int, whose: str) -> str:
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return (
            f"gated: ask for access at {endpoint()}, then log in with `hf auth login` or give token"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            "no such repository on the Hub, or a private one: look at the name, and log in with "
            "`hf auth login` or give token if it is private"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return "no such revision: give a branch, a tag, a commit, or refs/pr/N"
    if isinstance(error, errors.LocalEntryNotFoundError):
        return "not in the cache, and the Hub may not be asked; load it once with a network"
    if isinstance(error, errors.EntryNotFoundError):
        return "the repository has no such file"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, so no request may be made; unset it, or give a folder"
    if isinstance(error, errors.HFValidationError):
        return f"not the name of a repository: {scrubbed(error)}"
    again = f" (tried {tries} times)" if tries > 1 else ""
    reason = scrubbed(error).strip().replace("\n", " ") or type(error).__name__
    status = status_of(error)
    if status in (401, 403):
        return f"{whose} refuses ({status}): log in with `hf auth login`, or give token: {reason}"
    if status is not None:
        return f"{whose} answers {status}{again}: {reason}"
    if isinstance(error, errors.FileMetadataError):
        return f"what answers is not a Hub; a proxy or a login page may be in between: {reason}"
    if isinstance(error, json.JSONDecodeError):
        return f"{whose} gives no JSON; a proxy or a login page may be in between: {reason}"
    if isinstance(error, ValueError):  # what the client makes of a refusal
        return f"refused: {reason}"
    if isinstance(error, OSError) and error.errno is not None:
        where = f" ({error.filename})" if error.filename else ""
        return (
            f"{error.strerror}{where}; set cache_dir or HF_HOME to a disk that can be written and "
            "has room"
        )
    where = f" at {endpoint()}" if whose == "the Hub" else ""
    return f"{whose} cannot be reached{where}{again}: {type(error).__name__}: {reason}"


# -- The session of huggingface_hub, while we use it -----------------------------------------------

_lock = threading.RLock()
_users = 0
_factory: Any = None  # the one that ours stands in for


@contextlib.contextmanager
def _guarded() -> Iterator[None]:
    """Every answer that huggingface_hub gets meanwhile is looked at first (`_look`)."""
    global _users, _factory
    http = _http()
    with _lock:
        if not _users:
            _factory = http._GLOBAL_CLIENT_FACTORY
            http._GLOBAL_CLIENT_FACTORY = functools.partial(_watched, _factory)
            if http._GLOBAL_CLIENT is not None:
                _hooks(http._GLOBAL_CLIENT).append(_look)
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                http._GLOBAL_CLIENT_FACTORY = _factory
                if http._GLOBAL_CLIENT is not None:
                    hooks = _hooks(http._GLOBAL_CLIENT)
                    hooks[:] = [hook for hook in hooks if hook is not _look]


@contextlib.contextmanager
def proxied(proxies: Mapping[str, str] | None) -> Iterator[None]:
    """huggingface_hub goes through `proxies` meanwhile, in this whole process: {"http" | "https" |
    "http://host": "host:port"}."""
    if not proxies:
        yield
        return
    import huggingface_hub as hub

    http = _http()
    before, xet = http._GLOBAL_CLIENT_FACTORY, hub.constants.HF_HUB_DISABLE_XET
    hub.set_client_factory(functools.partial(_through, before, dict(proxies)))
    hub.constants.HF_HUB_DISABLE_XET = True  # which has a way of its own
    try:
        yield
    finally:
        hub.set_client_factory(before)
        hub.constants.HF_HUB_DISABLE_XET = xet


def _http() -> Any:
    from huggingface_hub.utils import _http

    return _http


def _watched(factory: Callable[[], Any]) -> Any:
    client = factory()
    _hooks(client).append(_look)
    return client


def _hooks(client: Any) -> list[Any]:
    return client.event_hooks["response"]


def _through(factory: Callable[[], Any], proxies: dict[str, str]) -> Any:
    """A client like `factory`'s that goes through `proxies`."""
    plain = factory()
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
    headers = response.headers
    for name in ("etag", "x-linked-etag"):
        value = headers.get(name)
        plain = value and value.removeprefix("W/").strip('"')
        if plain and not _ETAG.fullmatch(plain):
            _refuse(response, name, value)
    commit = headers.get("x-repo-commit")
    if commit and not _HASH.fullmatch(commit):
        _refuse(response, "x-repo-commit", commit)
    if headers.get("retry-after", "").strip().isdigit():
        headers["retry-after"] = str(min(int(headers["retry-after"]), int(LONGEST_WAIT)))
    if "ratelimit" in headers:
        headers["ratelimit"] = _WINDOWED.sub(
            lambda match: f"t={min(int(match[1]), int(LONGEST_WAIT))}", headers["ratelimit"]
        )


def _refuse(response: Any, name: str, value: str) -> None:
    raise HubError(
        f"{scrubbed(response.request.url)}: the header {name} is {fp.quoted(value)}, which is no "
        "hash; what answers is not the Hub"
    )


def cache_dir_of(cache_dir: str | os.PathLike | None) -> str:
    """The cache that is used."""
    from huggingface_hub import constants

    return os.fspath(constants.HF_HUB_CACHE if cache_dir is None else cache_dir)

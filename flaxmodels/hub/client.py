"""The Hub's client, huggingface_hub, within limits: tries again where it does not, believes no
header that becomes a path, waits at most a minute, and raises errors that say what to do."""

import errno
import json
import os
import random
import re
import socket
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, TypeVar

from .. import params as fp
from ..params.errors import quoted
from . import cancellation
from .errors import HubError, keep_secret, scrubbed
from .session import LONGEST_WAIT, constants, guarded

if TYPE_CHECKING:
    from httpx2 import Response  # or httpx's, by the client's version
    from huggingface_hub import HfApi

T = TypeVar("T")
TRIES = 6
_TRIES_TO_CONNECT = 2  # where there is no network, or nobody at the address
_UNREACHABLE = (
    errno.ECONNREFUSED,
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.EADDRNOTAVAIL,
)
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_SECONDS = re.compile(r"\d{1,9}", re.ASCII)
_USED_UP = re.compile(r"\br=0;t=(\d{1,9})", re.ASCII)
# Errors that would come again. Those of the transport are httpx's or httpx2's by the client's
# version, and come by their names.
_FINAL = (
    "InvalidURL LocalProtocolError LocalTokenNotFoundError OfflineModeIsEnabled TooManyRedirects "
    "UnsupportedProtocol"
).split()
_MISUNDERSTOOD = (AttributeError, LookupError, RecursionError, TypeError, ValueError)


def endpoint() -> str:
    """Returns where the Hub is: HF_ENDPOINT, or the public one."""
    return constants().ENDPOINT.rstrip("/")


def is_offline() -> bool:
    """Tells whether no request may be made: HF_HUB_OFFLINE."""
    return bool(constants().HF_HUB_OFFLINE)


def timeout() -> float:
    """Returns the seconds that an answer may take: HF_HUB_DOWNLOAD_TIMEOUT."""
    return constants().HF_HUB_DOWNLOAD_TIMEOUT


def cache_dir_of(cache_dir: str | os.PathLike | None) -> str:
    """Returns the cache as an absolute path, which no change of the working directory moves."""
    folder = constants().HF_HUB_CACHE if cache_dir is None else cache_dir
    return os.path.abspath(os.path.expanduser(os.fspath(folder)))


def api(token: str | bool | None) -> "HfApi":
    """Makes a `huggingface_hub.HfApi` that names this library in its requests.

    Raises:
        HubError: no header can hold the token.
    """
    from huggingface_hub import HfApi

    keep_secret(token)
    if isinstance(token, str) and not re.fullmatch("[!-~]+", token):
        raise HubError(
            "token is empty, or has blanks or characters that no token has: give it alone; None is "
            "the stored login, False none"
        )
    return HfApi(endpoint=endpoint(), token=token, library_name="flaxmodels")


def attempt(
    subject: str, call: Callable[[], T], *, tries: int = TRIES, server: str = "the Hub"
) -> T:
    """Calls `call()`, again after errors that may pass: a connection that breaks, a busy server.

    Args:
        subject: the repository, and the file if there is one; begins the error's message.
        server: who answers, for the message.

    Raises:
        HubError: what went wrong and what to do, without any secret.
    """
    with guarded():
        for count in range(1, tries + 1):
            try:
                return call()
            except (fp.CheckpointError, CancelledError):
                raise
            except Exception as error:  # the transport has errors of no common base
                error = _cause(error)
                current, may_pass = cancellation.current(), _may_pass(error)
                if current is not None:
                    current.check()
                most = min(tries, _TRIES_TO_CONNECT) if _is_unreachable(error) else tries
                if not may_pass or count >= most:
                    message = f"{subject}: {_explain(error, count, server)}"
                    raise HubError(message, may_pass=may_pass) from None
                longest = LONGEST_WAIT if most == tries else 1
                seconds = min(longest, 2.0 ** (count - 1)) * random.uniform(0.5, 1)
                pause(max(seconds, _asked_seconds(error)), current)
    raise AssertionError("not reached")


def pause(seconds: float, current: cancellation.Cancellation | None = None) -> None:
    """Sleeps until cancelled; tests put their own clock here."""
    if current is None:
        time.sleep(seconds)
    else:
        current.wait(seconds)


def read_range(
    subject: str,
    url: str,
    offset: int,
    count: int,
    headers: dict[str, str] | None = None,
    server: str = "the Hub",
) -> bytes:
    """Reads `count` bytes of a file. Headers with a secret go to its host alone."""
    if not count:
        return b""
    last = offset + count - 1

    def read(answer: "Response") -> bytes:
        raise_for_status(answer)
        skip = 0 if answer.status_code == 206 else offset  # without ranges, all of it comes
        if answer.status_code == 206:
            given = answer.headers.get("content-range")
            match = _RANGE.fullmatch(given or "")
            if match is None or (int(match[1]), int(match[2])) != (offset, last):
                raise HubError(
                    f"{subject}: bytes {offset} to {last} were asked for, and {quoted(given)} came"
                )
        data = bytearray()
        for block in answer.iter_bytes():
            data += block
            if len(data) >= skip + count:
                return bytes(data[skip : skip + count])
        raise OSError(f"{len(data)} bytes came, {skip + count} were expected")

    asked = (headers or {}) | {"Range": f"bytes={offset}-{last}"}
    return get(subject, url, read, asked, server)


def get(
    subject: str,
    url: str,
    use: Callable[["Response"], T],
    headers: dict[str, str],
    server: str = "the Hub",
) -> T:
    """Asks for a file as it is stored, and returns `use(answer)`; tried as `attempt` does."""
    from huggingface_hub import get_session

    asked = headers | {"Accept-Encoding": "identity"}

    def call() -> T:
        with get_session().stream("GET", url, headers=asked, timeout=timeout()) as answer:
            return use(answer)

    return attempt(subject, call, server=server)


def raise_for_status(answer: "Response") -> None:
    """Raises the client's error for an answer that is a refusal."""
    from huggingface_hub.utils import hf_raise_for_status

    hf_raise_for_status(answer)


def status_of(error: BaseException) -> int | None:
    """Returns the HTTP status of the answer that an error is about."""
    return getattr(getattr(error, "response", None), "status_code", None)


def _asked_seconds(error: BaseException) -> float:
    """Returns the seconds that a refusal asks to wait, which `session` has shortened."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    retry_after = _SECONDS.fullmatch(headers.get("retry-after", ""))
    used_up = _USED_UP.search(headers.get("ratelimit", ""))
    return max(float(retry_after[0]) if retry_after else 0, float(used_up[1]) if used_up else 0)


def _cause(error: Exception) -> BaseException:
    """Returns the cause of an error that says less: of a vain look into the cache, or an upload."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    says_less = isinstance(error, LocalEntryNotFoundError) or type(error) is RuntimeError
    says_less |= type(error) is ValueError and "orce download failed" in str(error)
    return error.__cause__ if says_less and error.__cause__ is not None else error


def _may_pass(error: BaseException) -> bool:
    from huggingface_hub.errors import FileMetadataError, LocalEntryNotFoundError

    status = status_of(error)
    if status is not None:
        return status in (408, 429) or status >= 500
    if type(error).__name__ in _FINAL or isinstance(error, (*_MISUNDERSTOOD, Warning)):
        return False
    if isinstance(error, OSError):  # with a number it is the disk's
        final = LocalEntryNotFoundError | FileMetadataError
        return error.errno is None and not isinstance(error, final)
    return True


def _is_unreachable(error: BaseException | None) -> bool:
    """Tells whether a host has no address, or nobody answers, which another try hardly changes."""
    for _ in range(8):
        if isinstance(error, socket.gaierror) or getattr(error, "errno", None) in _UNREACHABLE:
            return True
        if error is None:
            return False
        error = error.__cause__ or error.__context__
    return False


_EXPLANATIONS = {  # errors of huggingface_hub, subclasses before their bases
    "GatedRepoError": "gated: ask for access at {endpoint}, then log in with `hf auth login` or "
    "give token",
    "RepositoryNotFoundError": "no such repository on the Hub, or a private one: look at the name, "
    "and log in with `hf auth login` or give token if it is private",
    "RevisionNotFoundError": "no such revision: give a branch, a tag, a commit, or refs/pr/N",
    "LocalEntryNotFoundError": "not in the cache, and the Hub may not be asked; load it once with "
    "a network",
    "EntryNotFoundError": "the repository has no such file",
    "OfflineModeIsEnabled": "HF_HUB_OFFLINE is set, so no request may be made; unset it, or give a "
    "folder",
    "HFValidationError": "not the name of a repository: {error}",
    "LocalTokenNotFoundError": "token is True, and no login is stored: run `hf auth login`, or "
    "give the token",
}


def _explain(error: BaseException, tries: int, server: str) -> str:
    from huggingface_hub import errors

    for name, text in _EXPLANATIONS.items():
        if isinstance(error, getattr(errors, name)):
            return text.format(endpoint=endpoint(), error=scrubbed(error))
    again = f" (tried {tries} times)" if tries > 1 else ""
    reason = _one_line(scrubbed(error)) or type(error).__name__
    status = status_of(error)
    if status in (401, 403) and server == "the Hub":
        return f"{server} refuses ({status}): log in with `hf auth login`, or give token: {reason}"
    if status is not None:
        return f"{server} answers {status}{again}: {reason}"
    if isinstance(error, errors.FileMetadataError):
        return f"what answers is not a Hub; a proxy or a login page may be in between: {reason}"
    if isinstance(error, json.JSONDecodeError):
        return f"{server} gives no JSON; a proxy or a login page may be in between: {reason}"
    if isinstance(error, ValueError):  # the client's, of a refusal
        return f"refused: {reason}"
    if isinstance(error, _MISUNDERSTOOD):
        return f"what {server} answers is not as expected: {type(error).__name__}: {reason}"
    if isinstance(error, OSError) and error.errno is not None:
        path = f" ({error.filename})" if error.filename else ""
        disk = "a disk that can be written and has room"
        hint = f"; set cache_dir or HF_HOME to {disk}" if server == "the Hub" else ""
        return f"{error.strerror}{path}{hint}"
    address = f" at {endpoint()}" if server == "the Hub" else ""
    return f"{server} cannot be reached{address}{again}: {type(error).__name__}: {reason}"


def _one_line(text: str) -> str:
    """Makes the text of somebody else's error safe to print."""
    line = "".join(c if c.isprintable() else " " for c in text).strip()
    return line if len(line) <= 600 else f"{line[:600]}..."

"""The Hub's client, huggingface_hub, within limits: tries again where it does not, believes no
header that becomes a path, waits at most a minute, and tells in a sentence what went wrong."""

import errno
import json
import os
import random
import re
import socket
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from .. import params as fp
from . import cancellation
from .errors import HubError as HubError
from .errors import keep_secret as keep_secret
from .errors import scrubbed as scrubbed
from .session import LONGEST_WAIT, constants, guarded
from .session import proxied as proxied

T = TypeVar("T")
TRIES = 6
_TRIES_TO_CONNECT = 2  # where there is no network, or nobody at the address
_NOBODY = (
    errno.ECONNREFUSED,
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.EADDRNOTAVAIL,
)
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
    """Where the Hub is: HF_ENDPOINT, or the public one."""
    return constants().ENDPOINT.rstrip("/")


def is_offline() -> bool:
    """Whether no request may be made: HF_HUB_OFFLINE."""
    return bool(constants().HF_HUB_OFFLINE)


def timeout() -> float:
    """Seconds that an answer may keep us waiting: HF_HUB_DOWNLOAD_TIMEOUT."""
    return constants().HF_HUB_DOWNLOAD_TIMEOUT


def api(token: str | bool | None) -> Any:
    """`huggingface_hub.HfApi`, which says who calls."""
    from huggingface_hub import HfApi

    keep_secret(token)
    return HfApi(endpoint=endpoint(), token=token, library_name="flaxmodels")


def attempt(what: str, call: Callable[[], T], *, tries: int = TRIES, whose: str = "the Hub") -> T:
    """`call()`, tried again after what may pass: a connection that breaks, a server that is busy.

    Args:
        what: the repository, and the file if there is one; begins the error's sentence.
        whose: who answers.

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
                stop, passes = cancellation.current(), _may_pass(error)
                if stop is not None:
                    stop.check()
                enough = min(tries, _TRIES_TO_CONNECT) if _is_unreachable(error) else tries
                if not passes or count >= enough:
                    said = f"{what}: {_sentence(error, count, whose)}"
                    raise HubError(said, may_pass=passes) from None
                longest = LONGEST_WAIT if enough == tries else 1
                wait = min(longest, 2.0 ** (count - 1)) * random.uniform(0.5, 1)
                pause(max(wait, _asked(error)), stop)
    raise AssertionError("not reached")


def pause(seconds: float, stop: cancellation.Stop | None = None) -> None:
    """Sleeps until the sign to stop is given; the tests' own clock goes here."""
    if stop is None:
        time.sleep(seconds)
    else:
        stop.wait(seconds)


def status_of(error: BaseException) -> int | None:
    """The status of the answer that an error is about."""
    return getattr(getattr(error, "response", None), "status_code", None)


def _asked(error: BaseException) -> float:
    """The seconds that a refusal asks to wait; `_look` has seen to it that they are not many."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    said = _SECONDS.fullmatch(headers.get("retry-after", ""))
    used_up = _USED_UP.search(headers.get("ratelimit", ""))
    return float(max(said[0] if said else "0", used_up[1] if used_up else "0", key=int))


def _cause(error: Exception) -> BaseException:
    """What made the client look in its cache in vain, or an upload fail, rather than that."""
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
    """Whether no name was found, or nobody answers, which another try hardly changes."""
    for _ in range(8):
        if isinstance(error, socket.gaierror) or getattr(error, "errno", None) in _NOBODY:
            return True
        if error is None:
            return False
        error = error.__cause__ or error.__context__
    return False


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
    if isinstance(error, errors.LocalTokenNotFoundError):
        return "token is True, and no login is stored: run `hf auth login`, or give the token"
    again = f" (tried {tries} times)" if tries > 1 else ""
    reason = _short(scrubbed(error)) or type(error).__name__
    status = status_of(error)
    if status in (401, 403) and whose == "the Hub":
        return f"{whose} refuses ({status}): log in with `hf auth login`, or give token: {reason}"
    if status is not None:
        return f"{whose} answers {status}{again}: {reason}"
    if isinstance(error, errors.FileMetadataError):
        return f"what answers is not a Hub; a proxy or a login page may be in between: {reason}"
    if isinstance(error, json.JSONDecodeError):
        return f"{whose} gives no JSON; a proxy or a login page may be in between: {reason}"
    if isinstance(error, ValueError):  # what the client makes of a refusal
        return f"refused: {reason}"
    if isinstance(error, _MISUNDERSTOOD):
        return f"what {whose} answers is not as expected: {type(error).__name__}: {reason}"
    if isinstance(error, OSError) and error.errno is not None:
        where = f" ({error.filename})" if error.filename else ""
        disk = "a disk that can be written and has room"
        hint = f"; set cache_dir or HF_HOME to {disk}" if whose == "the Hub" else ""
        return f"{error.strerror}{where}{hint}"
    where = f" at {endpoint()}" if whose == "the Hub" else ""
    return f"{whose} cannot be reached{where}{again}: {type(error).__name__}: {reason}"


def _short(said: str) -> str:
    """What somebody else's error says, on one line that is safe to print."""
    line = "".join(c if c.isprintable() else " " for c in said).strip()
    return line if len(line) <= 600 else f"{line[:600]}..."


def cache_dir_of(cache_dir: str | os.PathLike | None) -> str:
    """The cache that is used, whatever the working directory is later."""
    folder = constants().HF_HUB_CACHE if cache_dir is None else cache_dir
    return os.path.abspath(os.path.expanduser(os.fspath(folder)))

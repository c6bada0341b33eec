"""Parts of files by HTTP: a range of bytes, and no more than that."""

import re

from ..params.errors import quoted
from .client import HubError, attempt, timeout

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


def get(
    what: str, url: str, offset: int, count: int, headers: dict[str, str], whose: str = "the Hub"
) -> bytes:
    """`count` bytes of what is at an address. Headers with a secret go to its host alone."""
    from huggingface_hub import get_session
    from huggingface_hub.utils import hf_raise_for_status

    if not count:
        return b""
    asked = headers | {"Range": f"bytes={offset}-{offset + count - 1}"}
    asked["Accept-Encoding"] = "identity"

    def call() -> bytes:
        with get_session().stream("GET", url, headers=asked, timeout=timeout()) as answer:
            hf_raise_for_status(answer)
            skip = 0 if answer.status_code == 206 else offset
            if answer.status_code == 206:
                _check(what, answer.headers.get("content-range"), offset, count)
            data = bytearray()
            for block in answer.iter_bytes():
                data += block
                if len(data) >= skip + count:
                    break
        if len(data) < skip + count:
            raise OSError(f"{len(data)} bytes came, {skip + count} were expected")
        return bytes(data[skip : skip + count])

    return attempt(what, call, whose=whose)


def _check(what: str, said: str | None, offset: int, count: int) -> None:
    match = _RANGE.fullmatch(said or "")
    if match is None or (int(match[1]), int(match[2])) != (offset, offset + count - 1):
        raise HubError(
            f"{what}: bytes {offset} to {offset + count - 1} were asked for, and "
            f"{quoted(said)} came"
        )

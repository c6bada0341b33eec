"""Range requests: one part of a file by HTTP."""

import re

from ..params.errors import quoted
from .client import attempt, timeout
from .errors import HubError

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


def read_range(
    subject: str,
    url: str,
    offset: int,
    count: int,
    headers: dict[str, str] | None = None,
    server: str = "the Hub",
) -> bytes:
    """Reads `count` bytes of a file. Headers with a secret go to its host alone."""
    from huggingface_hub import get_session
    from huggingface_hub.utils import hf_raise_for_status

    if not count:
        return b""
    last = offset + count - 1
    asked = (headers or {}) | {"Range": f"bytes={offset}-{last}", "Accept-Encoding": "identity"}

    def call() -> bytes:
        with get_session().stream("GET", url, headers=asked, timeout=timeout()) as answer:
            hf_raise_for_status(answer)
            skip = 0 if answer.status_code == 206 else offset  # without ranges, all of it comes
            if answer.status_code == 206:
                given = answer.headers.get("content-range")
                match = _RANGE.fullmatch(given or "")
                if match is None or (int(match[1]), int(match[2])) != (offset, last):
                    raise HubError(
                        f"{subject}: bytes {offset} to {last} were asked for, and "
                        f"{quoted(given)} came"
                    )
            data = bytearray()
            for block in answer.iter_bytes():
                data += block
                if len(data) >= skip + count:
                    break
        if len(data) < skip + count:
            raise OSError(f"{len(data)} bytes came, {skip + count} were expected")
        return bytes(data[skip : skip + count])

    return attempt(subject, call, server=server)

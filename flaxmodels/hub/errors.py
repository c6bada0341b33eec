"""The error of everything here, and texts without secrets."""

import re
from urllib.parse import urlsplit, urlunsplit

from .. import params as fp

_SECRET = re.compile(r"\bhf_[0-9A-Za-z]{4,}|(?i:\bbearer\s+)\S+")
_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"<>)]+")


class HubError(fp.CheckpointError):
    """Something that the Hub does not have, or does not give.

    Attributes:
        may_pass: whether it may work at another time.
    """

    def __init__(self, message: str, *, may_pass: bool = False):
        super().__init__(message)
        self.may_pass = may_pass


def scrubbed(text: object) -> str:
    """A text without tokens, and without the queries of addresses, which may be signatures."""
    return _ADDRESS.sub(_bare, _SECRET.sub("***", str(text)))


def _bare(match: re.Match[str]) -> str:
    parts = urlsplit(match[0])
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "***" if parts.query else "", ""))

"""Addresses on the Hub: which repository, revision and file one names."""

import re
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from .. import params as fp
from .client import endpoint
from .errors import scrubbed

_PUBLIC = ("huggingface.co", "www.huggingface.co", "hf.co")
_VERBS = ("resolve", "blob", "raw", "tree")
_REVISION = "(refs/[^/]+/[^/]+|[^/]+)"  # other slashes are quoted
_HF = re.compile(rf"hf://([^/@]+/[^/@]+)(?:@{_REVISION})?(?:/(.*?))?/?")


class Address(NamedTuple):
    """A repository, the revision if the address names one, and the path in it."""

    repo_id: str
    revision: str | None = None
    path: str = ""


def parse_address(name: str) -> Address | None:
    """Parses "hf://..." and the Hub's "https://..."; returns None for any other name.

    Raises:
        CheckpointError: an address on the Hub, but not one of a repository.
    """
    if name.startswith("hf://"):
        match = _HF.fullmatch(name)
        if match is None:
            raise fp.CheckpointError(f"{name}: expected hf://organisation/name@REVISION/FOLDER")
        return Address(unquote(match[1]), match[2] and unquote(match[2]), unquote(match[3] or ""))
    address, hub = urlsplit(name), urlsplit(endpoint())
    if address.scheme not in ("http", "https"):
        return None
    if address.netloc not in _PUBLIC and (address.scheme, address.netloc) != hub[:2]:
        return None
    parts = [part for part in address.path.split("/") if part]
    repo_id, verb, rest = "/".join(map(unquote, parts[:2])), parts[2:3], "/".join(parts[3:])
    match = re.fullmatch(rf"{_REVISION}(?:/(.*))?", rest) if verb and verb[0] in _VERBS else None
    if match is not None:
        return Address(repo_id, unquote(match[1]), unquote(match[2] or ""))
    if len(parts) != 2:
        raise fp.CheckpointError(
            f"{scrubbed(name)}: expected {endpoint()}/organisation/name, or "
            ".../resolve/REVISION/FILE"
        )
    return Address(repo_id)

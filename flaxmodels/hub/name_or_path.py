"""Names that a load may be given: an address on the Hub, or what can only be meant as a path, of
which a mistyped one is an error at once, without the network."""

import difflib
import os
import re
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from ..params.errors import CheckpointError, quoted, some
from ..params.formats import is_weights_file
from .client import endpoint
from .errors import scrubbed

_PUBLIC = ("huggingface.co", "www.huggingface.co", "hf.co")
_VERBS = ("resolve", "blob", "raw", "tree")
_REVISION = "(refs/[^/]+/[^/]+|[^/]+)"  # other slashes are quoted
_HF = re.compile(rf"hf://([^/@]+/[^/@]+)(?:@{_REVISION})?(?:/(.*?))?/?")

_ENDINGS = (  # of files that people give, weights aside
    ".json .ckpt .ggml .onnx .tflite .mlmodel .mlpackage .mar .nemo .npz .pkl .keras .pb "
    ".zip .tar .gz .txt .yaml .model"
).split()
_MOST_LOOKED_AT = 1000  # names in a folder


class Address(NamedTuple):
    """A repository, the revision if the address names one, and the path in it."""

    repo_id: str
    revision: str | None = None
    path: str = ""


def checked_name(name_or_path: object) -> str:
    """Returns a name as text; raises TypeError for what can be none."""
    if isinstance(name_or_path, str | os.PathLike):
        name = os.fspath(name_or_path)
        if isinstance(name, str):
            return name
    raise TypeError(
        f"name_or_path is {name_or_path!r:.80}; expected a folder, a file, or the name or address "
        "of a repository"
    )


def parse_address(name: str) -> Address | None:
    """Parses "hf://..." and the Hub's "https://..."; returns None for any other name.

    Raises:
        CheckpointError: an address on the Hub, but not one of a repository.
    """
    if name.startswith("hf://"):
        match = _HF.fullmatch(name)
        if match is None or match[1].startswith(("datasets/", "spaces/")):
            raise CheckpointError(
                f"{name}: expected a model's, hf://organisation/name@REVISION/FOLDER"
            )
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
        raise CheckpointError(
            f"{scrubbed(name)}: expected {endpoint()}/organisation/name, or "
            ".../resolve/REVISION/FILE"
        )
    return Address(repo_id)


def is_a_path(name: str) -> bool:
    """Tells whether a name can be no repository's, which is "organisation/name" or "name"."""
    if name.startswith((".", "/", "~")) or name.endswith("/") or name.count("/") > 1:
        return True
    if os.sep != "/" and os.sep in name or any(c.isspace() or not c.isprintable() for c in name):
        return True
    if is_weights_file(name) or name.lower().endswith(tuple(_ENDINGS)):
        return True
    folder = os.path.dirname(name)
    return bool(folder) and os.path.isdir(folder)


def no_such_path(name: str, path: str) -> str:
    """Makes the message that nothing is at a path, and what may have been meant."""
    plain, shown = name.split("/"), quoted(path)
    could_be = not name.startswith((".", "/", "~")) and all(plain) and len(plain) > 1
    if name.startswith("~"):
        text = f"{shown}: no such folder or file; ~ is taken as it is: give os.path.expanduser(...)"
    elif not could_be or is_weights_file(name):
        text = f"{shown}: no such folder or file"
    elif len(plain) > 2:
        text = (
            f"{shown}: no such folder, nor a repository, which is organisation/name: of one, give "
            f"{quoted('/'.join(plain[:2]))} and subfolder={quoted('/'.join(plain[2:]))}"
        )
    elif os.path.isdir(plain[0]):
        text = (
            f"{shown}: no such folder, nor a repository: it would be in the folder "
            f"{quoted(plain[0])}, which is here; the Hub's is hf://{name}"
        )
    else:
        text = f"{shown}: no such folder, nor a repository"
    near = _near(path)
    return f"{text}; nearest here: {some(map(quoted, near), 3)}" if near else text


def _near(path: str) -> list[str]:
    """Lists the names that look like a path's in the folder that it would be in."""
    folder, name = os.path.split(path.rstrip("/"))
    try:
        with os.scandir(folder or ".") as entries:
            names = [entry.name for entry, _ in zip(entries, range(_MOST_LOOKED_AT), strict=False)]
    except (OSError, ValueError):
        return []
    return [os.path.join(folder, close) for close in difflib.get_close_matches(name, names, n=3)]

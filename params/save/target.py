"""Where files may be saved: what is no folder for them is refused, with the reason."""

import os
import re
from pathlib import Path


def checked_folder(folder: str | os.PathLike) -> Path:
    """Returns the path of a folder that can be saved into.

    Raises:
        TypeError: not a path.
        ValueError: a path that is no folder to save into; it is named.
        NotADirectoryError: a file.
    """
    text = os.fspath(folder) if isinstance(folder, os.PathLike) else folder
    if not isinstance(text, str):
        raise TypeError(
            f"the folder to save into is a {type(text).__name__}; give a str or a pathlib.Path, "
            "after the params"
        )
    if reason := _refused(text):
        raise ValueError(f"cannot save into {text!r}: {reason}; name a folder")
    if os.path.exists(text) and not os.path.isdir(text):
        raise NotADirectoryError(f"{text}: a file, expected a folder to save into")
    return Path(text)


def _refused(folder: str) -> str | None:
    """Returns the reason why a path is no folder to save into; None if it is one."""
    if not folder:
        return "it is empty"
    if "\0" in folder:
        return "it holds a NUL"
    if re.match(r"[A-Za-z][\w+.-]+:/", folder):
        return "it is an address; save on this machine, and copy the folder there"
    if folder.startswith("~") and not os.path.exists(folder):
        return "only a shell replaces ~, give os.path.expanduser(...)"
    try:
        real = os.path.realpath(folder)
    except UnicodeEncodeError:
        return "no file can be called so"
    except FileNotFoundError:
        return "the working directory, which it starts from, is gone"
    return "it is the root of the file system" if os.path.dirname(real) == real else None

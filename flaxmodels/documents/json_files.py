"""Files of JSON: `config.json` and `generation_config.json`, read and written."""

import codecs
import contextlib
import json
import os
import re
import uuid
from collections.abc import Iterator

from ..params import CheckpointError, strict_json
from ..params.errors import quoted
from ..params.formats import LocalFile, without_config
from ..params.save.target import checked_folder
from .json_values import MAX_VALUES, ConfigError, Json, JsonObject

CONFIG_NAME = "config.json"
MAX_CONFIG_BYTES = 16 << 20
_CACHED = re.compile(r"/models--[^/]+/snapshots/")


def read_json(path: str | os.PathLike) -> dict[str, Json]:
    """Reads a JSON object from a file of at most 16 MiB, in which no key stands twice. Infinity and
    NaN, which Python writes, become floats: a user of a value checks it by `is_finite`.

    Raises:
        ConfigError: with the file's name.
    """
    path = os.fspath(path)
    if "\0" not in path and not os.path.lexists(path):
        folder = os.path.dirname(path)
        # A snapshot of the cache holds what was asked for alone: listing it would mislead.
        if _CACHED.search(folder):
            hint = ""
        elif not path.endswith(".json"):  # the folder of one, where there is none
            hint = " or folder"
        else:
            hint = f": {without_config(folder or '.')}"
        raise ConfigError(f"{path}: No such file{hint}")
    try:
        file = LocalFile(path)
        if file.size > MAX_CONFIG_BYTES:
            raise ConfigError(f"{path}: {file.size} bytes; a configuration has at most 16 MiB")
        file.reject_lookalikes()
        raw = file.read(0, file.size)
    except CheckpointError as error:
        raise ConfigError(str(error)) from None
    try:
        value = strict_json.loads(raw, MAX_VALUES, constants=float)
    except ValueError as error:
        raise ConfigError(f"{path}: {_other_encoding(raw) or error}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def _other_encoding(raw: bytes) -> str:
    """Returns what is to be said of bytes that are not plain UTF-8; "" if they are."""
    marks = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    wide = raw.startswith(marks) or (b"\0" in raw[:4] and any(raw[:4]))
    try:
        raw.decode()
        found = "UTF-8 with a BOM in front" if raw.startswith(codecs.BOM_UTF8) else ""
    except UnicodeDecodeError as error:
        found = f"no UTF-8 ({error})"
    found = "in UTF-16 or UTF-32" if wide else found
    return found and f"it is {found}, which Transformers too refuses; write it again in plain UTF-8"


def text_of(values: JsonObject) -> str:
    """Formats a configuration as strict JSON, keys sorted, that `read_json` accepts.

    If it would be too long, as with very many labels, white space is left out, and `label2id`,
    which says the same as `id2label`.

    Raises:
        ConfigError: it is still too long.
    """
    text = json.dumps(values, indent=2, sort_keys=True, allow_nan=False) + "\n"
    if _can_be_read(text):
        return text
    shorter = {key: value for key, value in values.items() if key != "label2id"}
    text = json.dumps(
        shorter, separators=(",", ":"), sort_keys=True, allow_nan=False, ensure_ascii=False
    )
    if _can_be_read(text):
        return text
    long = max(values, key=lambda key: len(str(values[key])))
    raise ConfigError(
        f"a configuration of {len(text)} characters could not be read again, which takes 16 MiB "
        f"and {MAX_VALUES} values; the longest value is that of {quoted(long)}"
    )


def write_text(folder: str | os.PathLike, name: str, text: str) -> None:
    """Writes a file into a folder, which is made if absent: the old file or the new one is there at
    any time."""
    folder = checked_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = os.path.join(folder, name)
    part = f"{path}.{uuid.uuid4().hex}.part"
    try:
        with open(part, "x", encoding="utf-8") as file:
            file.write(text)
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(part)
        raise


def _can_be_read(text: str) -> bool:
    return len(text.encode()) <= MAX_CONFIG_BYTES and text.count(",") < MAX_VALUES


def config_path(place: str | os.PathLike) -> str:
    """Returns the path of the configuration in a folder; a file's own path."""
    place = os.fspath(place)
    return os.path.join(place, CONFIG_NAME) if os.path.isdir(place) else place


@contextlib.contextmanager
def naming(what: str | os.PathLike) -> Iterator[None]:
    """Begins every `ConfigError` that is raised inside the context with what it is about, the path
    of a file or a class, where it does not begin so."""
    try:
        yield
    except ConfigError as error:
        if str(error).startswith(f"{what}: "):
            raise
        raise ConfigError(f"{what}: {error}") from None

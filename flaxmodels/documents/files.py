"""`config.json` and its like as files: what strangers write into them, and what is written back.

Python writes Infinity and NaN, which are no JSON; Transformers writes the names of code that it
runs when told to trust it. Both are read past, aloud, and neither is written again.
"""

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

from ..params.errors import quoted
from .keys import CODE
from .values import MAX_CONFIG_BYTES, MAX_VALUES, ConfigError

CONFIG_NAME = "config.json"

_NAMES_IMPLEMENTATION = "_implementation"  # of kernels that the Hub has, where there is a slash


def config_path(place: str | os.PathLike) -> str:
    """Returns the path of the configuration in a folder; a file's own path."""
    place = os.fspath(place)
    return os.path.join(place, CONFIG_NAME) if os.path.isdir(place) else place


@contextlib.contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
    """Adds the file's path to every `ConfigError` that is raised inside the context."""
    try:
        yield
    except ConfigError as error:
        if str(error).startswith(f"{path}: "):
            raise
        raise ConfigError(f"{path}: {error}") from None


def without_code(value: Any) -> tuple[Any, list[str]]:
    """Returns (`value` without the keys that name code, at any depth; these keys).

    >>> without_code({"auto_map": {"AutoModel": "evil/repo--code.Model"}, "text": {"n": 1}})
    ({'text': {'n': 1}}, ['auto_map'])
    """
    if isinstance(value, Mapping):
        dropped = [key for key in value if names_code(key, value[key])]
        kept = {}
        for key in value.keys() - dropped:
            kept[key], inside = without_code(value[key])
            dropped += [f"{key}.{name}" for name in inside]
        return {key: kept[key] for key in value if key in kept}, dropped
    if isinstance(value, list | tuple):
        parts = [without_code(item) for item in value]
        return [item for item, _ in parts], [name for _, names in parts for name in names]
    return value, []


def content_without_code(content: bytes) -> tuple[bytes, list[str]]:
    """Returns (the content of a JSON file without the keys that name code; these keys). If there
    are none, or Python's reader cannot read the file, the content stays byte for byte.

    Raises:
        ConfigError: nested so deeply that another reader might find what this one does not.
    """
    try:
        kept, code = without_code(json.loads(content))
    except RecursionError:
        raise ConfigError("nested too deeply to be looked into") from None
    except ValueError:
        return content, []
    return (json.dumps(kept, indent=2).encode() + b"\n" if code else content), code


def is_of_ours(places: Any) -> bool:
    """Tells whether an `auto_map` is what `save_pretrained` writes: names of classes, without a
    module.

    >>> is_of_ours({"AutoModel": "MyModel"}), is_of_ours({"AutoModel": "evil/repo--code.Model"})
    (True, False)
    """
    named = places.values() if isinstance(places, Mapping) else [None]
    return all(isinstance(name, str) and name.isidentifier() for name in named)


def names_code(key: Any, value: Any) -> bool:
    """Tells whether an entry of a configuration names code, which Transformers would fetch and
    run."""
    if not isinstance(key, str) or not value or (key == "auto_map" and is_of_ours(value)):
        return False
    return key in CODE or (_NAMES_IMPLEMENTATION in key and "/" in str(value))


def is_finite(value: Any) -> bool:
    """Tells whether there is no Infinity and no NaN in a decoded JSON value."""
    if isinstance(value, Mapping):
        return all(map(is_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def text_of(values: Mapping[str, Any]) -> str:
    """Writes the text of a configuration file, keys sorted: strict JSON, which `values.read_json`
    reads.

    Where it would be longer than that, as with very many labels, it is written without white space
    and without `label2id`, which says the same as `id2label`.

    Raises:
        ConfigError: it is still longer.
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


def _can_be_read(text: str) -> bool:
    return len(text.encode()) <= MAX_CONFIG_BYTES and text.count(",") < MAX_VALUES

"""Keys of JSON documents that name code, which Transformers fetches and runs if told to trust it.

This library never follows them: a reader leaves them out with a warning, and no file that it
writes or copies has them.
"""

import json
from collections.abc import Mapping

from .json_values import ConfigError, Json

CODE = frozenset(
    "auto_map _auto_map custom_pipelines custom_generate trust_remote_code code_revision "
    "_attn_implementation_internal _experts_implementation_internal kernel_config".split()
)
"""Keys that name code, unless their value is null, false or empty."""

_NAMES_IMPLEMENTATION = "_implementation"  # with a slash in its value: a kernel of the Hub


def without_code(value: Json) -> tuple[Json, list[str]]:
    """Returns a value without the keys that name code, at any depth, and these keys.

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
    """Returns the content of a JSON file without the keys that name code, and these keys. If there
    are none, or Python cannot parse the file, the content is returned unchanged.

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


def is_of_ours(places: Json) -> bool:
    """Tells whether an `auto_map` is what `save_pretrained` writes: names of classes, without a
    module.

    >>> is_of_ours({"AutoModel": "MyModel"}), is_of_ours({"AutoModel": "evil/repo--code.Model"})
    (True, False)
    """
    named = places.values() if isinstance(places, Mapping) else [None]
    return all(isinstance(name, str) and name.isidentifier() for name in named)


def names_code(key: object, value: Json) -> bool:
    """Tells whether an entry of a configuration names code, which Transformers would fetch and
    run."""
    if not isinstance(key, str) or not value or (key == "auto_map" and is_of_ours(value)):
        return False
    return key in CODE or (_NAMES_IMPLEMENTATION in key and "/" in str(value))

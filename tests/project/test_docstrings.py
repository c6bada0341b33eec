"""Public functions and methods say what they do, a verb first; public classes, what they are."""

import inspect
import re
from collections.abc import Iterator
from typing import Any

import flaxmodels as fm

ROOMS = {"fm": fm, "fp": fm.params, "fs": fm.sharding}
VERB = re.compile(r"[A-Z][a-z]+(-[a-z]+)?s\b")


def is_ours(value: Any) -> bool:
    return str(getattr(value, "__module__", "")).startswith("flaxmodels")


def public() -> Iterator[tuple[str, Any]]:
    """Yields (name, object) of what users reach from `fm`, `fp` and `fs`, methods too."""
    for room, module in ROOMS.items():
        for name in dir(module):
            value = getattr(module, name)
            if name.startswith("_") or not is_ours(value):
                continue
            yield f"{room}.{name}", value
            for cls in filter(is_ours, value.__mro__ if inspect.isclass(value) else ()):
                for method in vars(cls):
                    if not method.startswith("_"):
                        yield f"{cls.__qualname__}.{method}", inspect.getattr_static(cls, method)


def test_each_says_what_it_does():
    odd = {}
    for name, value in public():
        value = getattr(value, "__func__", getattr(value, "func", value))
        text = (inspect.getdoc(value) or "").strip()
        if inspect.isfunction(value):
            is_good = VERB.match(text) or (not text and overrides(name))
        else:
            is_good = text and not (inspect.isclass(value) and text.startswith("What "))
        if not is_good and (inspect.isfunction(value) or isinstance(value, type | property)):
            odd[name] = text.partition("\n")[0]
    assert odd == {}


def overrides(name: str) -> bool:
    """Tells whether the method of a model stands in its base, which says what it does."""
    return hasattr(fm.PretrainedModel, name.rpartition(".")[2])

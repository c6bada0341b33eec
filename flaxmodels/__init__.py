"""Pretrained models in JAX: stateless linen modules, explicit parameter trees.

>>> import flaxmodels as fm
>>> from flaxmodels import params as fp, sharding as fs

Type checkers and editors read `__init__.pyi` instead, which has the same names.
"""

import sys
from typing import Any

from . import checkout as _checkout

__version__ = "0.1.0"

_checkout.find_rooms(__name__)  # where params/ and sharding/ stand beside this folder


def __getattr__(name: str) -> Any:
    """Imports what is asked for: the package stays cheap, and no family comes unasked."""
    import importlib

    from .names import ROOMS, public_names

    if name in ROOMS:
        value = importlib.import_module(f".{name}", __name__)
    elif name == "__all__":  # `params` and `sharding` would hide a script's own variables
        return [name for name in __dir__() if not name.startswith("_") and name not in ROOMS]
    elif home := public_names().get(name):
        value = getattr(importlib.import_module(f".{home[0]}", __name__), home[1])
    else:
        said = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(said, name=name, obj=sys.modules[__name__])  # by which Python suggests
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    from .names import ROOMS, public_names

    return sorted([*public_names(), *ROOMS, "__version__"])

"""Pretrained models in JAX: stateless linen modules, explicit parameter trees.

>>> import flaxmodels as fm
>>> from flaxmodels import params as fp, sharding as fs
"""

from typing import Any

from . import checkout as _checkout

__version__ = "0.1.0"

_checkout.find_rooms(__name__)  # where params/ and sharding/ stand beside this folder

_HOMES = {
    "AutoConfig": "auto",
    "load_plan": "auto",
    "bundled_checkpoint": "bundled",
    "download": "hub",
    "HubError": "hub",
    "push_files": "hub",
    "create_model_card": "hub",
    "register_for_auto_class": "auto",
    "prune_heads": "pruning",
    "get_head_mask": "blocks",
    "PretrainedModel": "base",
    "Config": "config",
    "ConfigError": "values",
    "GenerationConfig": "generation_config",
    "LoadingInfo": "loading",
    "CheckpointError": "params",
}


def __getattr__(name: str) -> Any:
    """Imports what is asked for: the package itself stays cheap, and no family comes unasked."""
    import importlib

    if name in _HOMES:
        value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    elif name in ("params", "sharding", "blocks"):
        value = importlib.import_module(f".{name}", __name__)
    else:
        auto = importlib.import_module(".auto", __name__)
        plain = name.removeprefix("Flax")
        if plain in auto.AUTO_CLASSES:
            value = auto.AUTO_CLASSES[plain]
        else:
            try:
                value = auto.family_class(name)
            except KeyError:
                raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    from .auto import AUTO_CLASSES, FAMILIES

    families = [name for names in FAMILIES.values() for name in names]
    return sorted([*_HOMES, *AUTO_CLASSES, *families, "params", "sharding", "__version__"])

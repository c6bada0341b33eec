"""The public names of the package and where each stands.

`flaxmodels/__init__.py` imports a name when it is asked for; `flaxmodels/__init__.pyi` tells type
checkers the same and is written from here by `scripts/generate`.
"""

import functools
from collections.abc import Mapping

from .registry import AUTO_CLASSES, names_of_families

ROOMS = ("blocks", "data", "params", "serving", "sharding", "training")
"""Packages that are public themselves."""

_HOMES: dict[str, tuple[str, ...]] = {
    "analysis.memory": ("memory_report", "memory_trace"),
    "auto": ("AutoConfig", *AUTO_CLASSES, "load_plan"),
    "blocks": ("get_head_mask",),
    "bundled": ("bundled_checkpoint",),
    "checkpoints.loading_info": ("LoadingInfo",),
    "checkpoints.publishing.model_card": ("create_model_card",),
    "config.config": ("Config",),
    "config.generation_config": ("GenerationConfig",),
    "documents.json_values": ("ConfigError",),
    "editing.prune": ("prune_heads",),
    "embeddings.cross_encoder": ("CrossEncoder",),
    "embeddings.sentence_encoder": ("SentenceEncoder",),
    "hub": ("HubError", "download", "push_files"),
    "models.base": ("PretrainedModel",),
    "params": ("CheckpointError",),
    "registration": ("register_for_auto_class",),
    "text": ("load_tokenizer",),
}
"""module -> its public names, those of families apart."""

_OTHER_NAMES = {
    "PreTrainedModel": "PretrainedModel",
    "FlaxPreTrainedModel": "PretrainedModel",
    "PretrainedConfig": "Config",
} | {f"Flax{name}": name for name in AUTO_CLASSES}
"""As Transformers spells them; its Flax classes are ours without "Flax"."""


@functools.cache
def public_names() -> Mapping[str, tuple[str, str]]:
    """Returns {public name: (module in this package, the name there)}."""
    homes = {name: (module, name) for module, names in _HOMES.items() for name in names}
    homes |= {other: homes[name] for other, name in _OTHER_NAMES.items()}
    families = names_of_families().items()
    return homes | {name: (f"families.{module}", there) for name, (module, there) in families}

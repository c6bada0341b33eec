"""OLMo 3: OLMo 2 with three windows to one full layer; the rotation of the full ones alone is
stretched to longer texts.

OLMo Team 2025, arXiv:2512.13961; reference: `models/olmo3` of Transformers 5.23.
"""

import dataclasses

from ..models.decoder_model import DECODER_CLASSES
from ..models.layer_types import FULL, LayerTypes, every
from ..models.rope_config import rope_by_type
from . import classes_of
from .olmo2 import Olmo2Config


@dataclasses.dataclass(frozen=True, kw_only=True)
class Olmo3Config(Olmo2Config, LayerTypes):
    """`config.json` of an OLMo 3. `rope_theta` and `rope_scaling` of files for Transformers 4 are
    those of the full layers."""

    model_type = "olmo3"
    per_layer = {"layer_types": every(4)}
    rope_rules = rope_by_type(
        full_attention=5e5, sliding_attention=5e5, spelled={"rope_theta": FULL}
    )

    sliding_window: int | None = 4096


__getattr__ = classes_of(Olmo3Config, parts=DECODER_CLASSES)

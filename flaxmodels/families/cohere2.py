"""Command R7B and Command A of Cohere: Command R with three windows to one full layer, and rotation
in the windows alone.

Cohere 2025, arXiv:2504.00698; reference: `models/cohere2` of Transformers 5.23.
"""

import dataclasses

from ..models.decoder_model import DECODER_CLASSES
from ..models.layer_types import SLIDING, LayerTypes, every
from . import classes_of
from .cohere import CommandFields


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cohere2Config(CommandFields, LayerTypes):
    """`config.json` of a Command R7B or Command A."""

    model_type = "cohere2"
    unsupported = {  # of published files; the reference reads none of these
        **CommandFields.unsupported,
        "layer_switch": (4, None),
        "order_of_interleaved_layers": ("local_attn_first", None),
        "position_embedding_type": ("rope_gptj", None),
        "rotary_pct": (1.0, None),
        "use_embedding_sharing": (True, None),
        "use_gated_activation": (True, None),
        "use_parallel_block": (True, None),
        "use_parallel_embedding": (True, False, None),
    }
    per_layer = {"layer_types": every("sliding_window_pattern")}

    sliding_window: int | None = 4096
    sliding_window_pattern: int | None = 4

    def rotation_name(self, layer: int) -> str | None:
        return "default" if self.layer_type(layer) == SLIDING else None


__getattr__ = classes_of(Cohere2Config, parts=DECODER_CLASSES)

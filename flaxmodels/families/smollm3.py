"""SmolLM 3: Llama where every fourth layer has no rotary embedding, and may have a window.

Bakouch et al. 2025, https://huggingface.co/blog/smollm3; layers without rotary embedding: Yang et
al. 2025, arXiv:2501.18795; reference: `models/smollm3` of Transformers 5.23.
"""

import dataclasses

from ..config.config import FROM_OTHERS, Config
from ..models.decoder_model import DECODER_CLASSES, BiasedDecoderConfig
from ..models.layer_types import FULL, SLIDING, LayerTypes, every
from ..models.rope_config import one_rope
from . import classes_of


def _window_without_rope(config: Config, layer: int) -> str:
    windowed = config.sliding_window is not None and not config.no_rope_layers[layer]
    return SLIDING if windowed else FULL


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmolLM3Config(BiasedDecoderConfig, LayerTypes):
    """`config.json` of a SmolLM 3. `no_rope_layers` has a number for each layer: 0 for one without
    rotary embedding, else 1; if None every `no_rope_layer_interval`-th is without. These layers
    have the window, if `use_sliding_window` and `layer_types` says nothing else."""

    model_type = "smollm3"
    rope_rules = one_rope(rope_theta=2_000_000.0)
    derived = {"no_rope_layers": None}
    per_layer = {
        "no_rope_layers": every("no_rope_layer_interval", one=0, others=1),
        "layer_types": _window_without_rope,
    }

    vocab_size: int = 128256
    hidden_size: int = 2048
    num_hidden_layers: int = 36
    num_attention_heads: int = 16
    num_key_value_heads: int = 4
    max_position_embeddings: int = 32768
    use_sliding_window: bool = False
    sliding_window: int | None = None
    no_rope_layers: tuple[int, ...] = FROM_OTHERS
    no_rope_layer_interval: int = 4
    pad_token_id: int | None = 128004
    bos_token_id: int | None = 128000
    eos_token_id: int | tuple[int, ...] | None = 128001
    tie_word_embeddings: bool = True

    def rotation_name(self, layer: int) -> str | None:
        return "default" if self.no_rope_layers[layer] else None


__getattr__ = classes_of(
    SmolLM3Config, parts=DECODER_CLASSES, prefixes={"ForQuestionAnswering": "transformer"}
)

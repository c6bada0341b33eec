"""GPT-Neo: learned positions, windows of 256 in every other layer, scores that are not scaled.

Black et al. 2021; reference: `models/gpt_neo` of Transformers 5.23.
"""

import dataclasses

import jax
from flax import linen as nn

from .. import blocks
from .. import params as fp
from ..config.config import FROM_OTHERS
from ..documents.json_values import ConfigError, Json
from ..models.decoder_layers import DecoderAttention, DecoderLayer
from ..models.decoder_model import DECODER_CLASSES
from ..models.decoder_style import Style
from ..models.layer_types import FULL, SLIDING, expanded
from ..models.plain_heads import PlainHeads, gpt_style
from ..params.errors import quoted
from . import classes_of

_TYPES = {"global": FULL, "local": SLIDING}


@dataclasses.dataclass(frozen=True, kw_only=True)
class GPTNeoConfig(PlainHeads):
    """`config.json` of a GPT-Neo. `attention_types` is [[names, repeats], ...] of "global" and
    "local", one name a layer; in turn if None. Token types are tokens of the vocabulary."""

    model_type = "gpt_neo"
    aliases = {"num_attention_heads": "num_heads", "num_hidden_layers": "num_layers"}
    windows = {SLIDING: "window_size"}
    derived = {
        "attention_types": lambda config: _in_turn(config.num_layers),
        "intermediate_size": lambda config: 4 * config.hidden_size,
    }

    vocab_size: int = 50257
    max_position_embeddings: int = 2048
    hidden_size: int = 2048
    num_layers: int = 24
    attention_types: tuple[Json, ...] = FROM_OTHERS
    num_heads: int = 16
    intermediate_size: int = FROM_OTHERS
    window_size: int = 256
    activation_function: str = "gelu_new"
    resid_dropout: float = 0.0
    embed_dropout: float = 0.0
    attention_dropout: float = 0.0
    classifier_dropout: float = 0.1
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    bos_token_id: int | None = 50256
    eos_token_id: int | tuple[int, ...] | None = 50256

    @property
    def style(self) -> Style:
        style = gpt_style(self, self.embed_dropout, self.resid_dropout)
        return style.replace(out="out_proj", out_bias=True, score_scale=1.0)

    @property
    def position_limit(self) -> int:
        return self.max_position_embeddings

    def layer_type(self, layer: int) -> str:
        return _TYPES[expanded(self, "attention_types")[layer]]

    def validate(self) -> None:
        super().validate()
        for name in dict.fromkeys(expanded(self, "attention_types")):
            if name not in _TYPES:
                raise ConfigError(f"attention_types has {quoted(name)}; implemented: global, local")

    @classmethod
    def from_json_keys(cls, values: dict[str, Json]) -> dict[str, Json]:
        """Leaves out `attention_layers`: the layers that `attention_types` say, written out."""
        values = super().from_json_keys(values)
        values.pop("attention_layers", None)
        return values

    def to_json_keys(self, values: dict[str, Json]) -> dict[str, Json]:
        names = list(expanded(self, "attention_types"))
        return super().to_json_keys(values | {"attention_layers": names})


def _in_turn(depth: int) -> tuple[Json, ...]:
    """Returns the `attention_types` of layers "global" and "local" in turn."""
    pairs = (("global", "local"), depth // 2)
    return (pairs, (("global",), 1)) if depth % 2 else (pairs,)


class GPTNeoAttention(nn.Module):
    """Attention under the name that checkpoints have for it inside of `attn`."""

    config: GPTNeoConfig
    options: blocks.ModelOptions

    @nn.compact
    def __call__(self, x: jax.Array, context: blocks.PassContext, at: blocks.At):
        return DecoderAttention(self.config, self.options, name="attention")(x, context, at)


class GPTNeoBlock(DecoderLayer):
    """(x [B, T, D], context, at) -> (x, cache, attention weights or None)."""

    attention = GPTNeoAttention


__getattr__ = classes_of(
    GPTNeoConfig,
    parts=DECODER_CLASSES,
    layer=GPTNeoBlock,
    naming=fp.Naming(stacks=("h",), ignored=(r"\.attn\.attention\.(masked_)?bias$",)),
    not_taken=frozenset(("head_mask",)),
    base_model_prefix="transformer",
    input_embeddings_path="wte",
    classifier_name="classifier",
)

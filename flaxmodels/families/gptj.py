"""GPT-J: one LayerNorm for attention and MLP side by side, rotary pairs, a head with a bias.

Wang and Komatsuzaki 2021; reference: `models/gptj` of Transformers 5.23.
"""

import dataclasses

import jax

from .. import blocks
from .. import params as fp
from ..documents.json_values import ConfigError
from ..models.decoder_model import DECODER_CLASSES, DecoderModel
from ..models.decoder_style import LogitStyle, Style
from ..models.plain_heads import GPTFields
from . import classes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class GPTJConfig(GPTFields):
    """`config.json` of a GPT-J. The first `rotary_dim` numbers of a head are rotated. Token
    types are tokens of the vocabulary."""

    model_type = "gptj"
    aliases = {**GPTFields.aliases, "attention_dropout": "attn_pdrop"}
    unsupported = {
        **GPTFields.unsupported,
        "rotary": (True, None),
        "scale_attn_weights": (True, None),
    }

    vocab_size: int = 50400
    n_positions: int = 2048
    n_embd: int = 4096
    n_layer: int = 28
    n_head: int = 16
    rotary_dim: int = 64
    tie_word_embeddings: bool = False

    @property
    def style(self) -> Style:
        return super().style.replace(
            mlp_in=None,
            parallel=True,
            out="out_proj",
            mlp=("fc_in", "fc_out"),
            positions=None,
            rotate_pairs=True,
            logits=LogitStyle(use_bias=True),
        )

    def rotation_name(self, layer: int) -> str:
        return "default"

    def validate(self) -> None:
        super().validate()
        if self.rotary_dim % 2 or not 0 < self.rotary_dim <= self.head_dim:
            raise ConfigError(
                f"rotary_dim is {self.rotary_dim}; expected an even number from 2 to the width of "
                f"a head, {self.head_dim}"
            )


class GPTJBackbone(DecoderModel):
    """tokens [B, T] -> hidden states [B, T, D], after the last norm."""

    def rotation(self, name: str, positions: jax.Array) -> blocks.Rotation:
        return blocks.rotary(
            {"rope_type": "default", "rope_theta": 10_000.0},
            positions,
            head_dim=self.config.rotary_dim,
            max_positions=self.config.n_positions,
            pairs=True,
        )


__getattr__ = classes_of(
    GPTJConfig,
    parts=DECODER_CLASSES | {"Model": GPTJBackbone},
    naming=fp.Naming(stacks=("h",), ignored=(r"\.attn\.(masked_)?bias$",)),
    not_taken=frozenset(("head_mask",)),
    base_model_prefix="transformer",
    input_embeddings_path="wte",
)

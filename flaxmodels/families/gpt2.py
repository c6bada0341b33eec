"""GPT-2: learned positions, LayerNorm before each sublayer, one projection for q, k and v.

Radford et al. 2019; reference: `models/gpt2` of Transformers 5.23.
"""

from typing import Unpack

import jax
import jax.numpy as jnp
from flax import linen as nn

from .. import blocks
from .. import params as fp
from ..core import outputs
from ..documents.json_values import ConfigError
from ..models import decoder, task_heads
from ..models.decoder_model import DECODER_CLASSES, DecoderModel
from . import classes_of
from .gpt2_layers import GPT2Block, GPT2Config


class GPT2Backbone(DecoderModel):
    """tokens [B, T] -> hidden states [B, T, D], after the last norm. Token types are tokens of the
    vocabulary."""

    layer = GPT2Block


class DoubleHeads(task_heads.VocabularyHead, task_heads.OverChoices):
    """Tokens of several choices [B, C, T] -> a language model's logits [B, C, T, V], and one logit
    [B, C] for each choice, read off one of its tokens."""

    loss_kind = "double_heads"

    @nn.compact
    def __call__(
        self,
        input_ids: jax.Array | None = None,
        attention_mask: jax.Array | None = None,
        *,
        mc_token_ids: jax.Array | None = None,
        **inputs: Unpack[decoder.Inputs],
    ) -> outputs.DoubleHeadsOutput:
        """Computes both kinds of logits. The arguments are those of the backbone with an axis for
        choices, [B, C, T]; hidden states and attentions have it folded into the batch.

        Args:
            mc_token_ids: int [B, C], which token a choice is read off; the last if None.
        """
        if self.config.extra.get("summary_type", "cls_index") != "cls_index":
            raise ConfigError("GPT2DoubleHeadsModel: only summary_type 'cls_index' is implemented")
        tokens = {"input_ids": input_ids, "attention_mask": attention_mask}
        lead, folded = task_heads.fold_choices(tokens | inputs)
        base = self.base()
        out = base(**folded)
        x = out.last_hidden_state
        logits = self.vocabulary(base, x)
        if mc_token_ids is None:
            mc_token_ids = jnp.full(lead, x.shape[1] - 1, jnp.int32)
        blocks.check_ids("mc_token_ids", mc_token_ids, lead, x.shape[1], "tokens in a choice")
        chosen = jnp.take_along_axis(x, jnp.asarray(mc_token_ids).reshape(-1, 1, 1), axis=1)[:, 0]
        head = SequenceSummary(self.config, name="multiple_choice_head")
        scores = head(chosen, deterministic=inputs.get("deterministic", True))
        return outputs.DoubleHeadsOutput.of(
            out,
            logits=logits.reshape(*lead, *logits.shape[1:]),
            mc_logits=scores.reshape(*lead, *scores.shape[1:]),
        )


class SequenceSummary(nn.Module):
    """x [B, D] -> [B], or [B, D] if the config projects to no labels."""

    config: GPT2Config

    @nn.compact
    def __call__(self, x: jax.Array, *, deterministic: bool) -> jax.Array:
        cfg = self.config
        x = nn.Dropout(cfg.summary_first_dropout)(x, deterministic=deterministic)
        if cfg.summary_use_proj:
            features = 1 if cfg.summary_proj_to_labels else cfg.n_embd
            axes = ("embed", "labels")
            x = blocks.Linear(features, axes, cfg.initializer_range, name="summary")(x)
        if cfg.summary_activation:
            x = blocks.ACTIVATIONS[cfg.summary_activation](x)
        return x[:, 0] if x.shape[-1] == 1 else x


__getattr__ = classes_of(
    GPT2Config,
    parts=DECODER_CLASSES | {"Model": GPT2Backbone, "DoubleHeadsModel": DoubleHeads},
    naming=fp.Naming(
        stacks=("h",),
        kernels_in_out=(r"/(c_(attn|proj|fc)|q_attn)/kernel$",),
        flax_kernels_out_in=(r"/(c_(attn|proj|fc)|q_attn)/kernel$",),
        ignored=(r"\.attn\.(masked_)?bias$",),
        optional=(r"/(crossattention|ln_cross_attn)/",),  # of one that was trained alone
    ),
    not_taken=frozenset(),
    base_model_prefix="transformer",
    input_embeddings_path="wte",
    classifier_name="classifier",
)

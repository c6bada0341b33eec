"""GPT-2: learned positions, LayerNorm before each sublayer, one projection for q, k and v.

Radford et al. 2019; reference: `models/gpt2` of Transformers 5.23.
"""

import dataclasses
import math
from typing import Unpack

import jax
import jax.numpy as jnp
from flax import linen as nn

from .. import blocks
from .. import params as fp
from ..config.config import Config
from ..core import outputs
from ..core.inputs import Inputs
from ..documents.json_values import ConfigError
from ..models import config_checks, task_heads, vocabulary_heads
from ..models.decoder_layers import DecoderLayer
from ..models.decoder_model import DECODER_CLASSES
from ..models.decoder_style import Style
from ..models.plain_heads import GPTFields
from . import classes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class GPT2Config(GPTFields):
    """`config.json` of a GPT-2. `reorder_and_upcast_attn` is always so here: the attention logits
    and their softmax are float32. The `summary_*` fields are of `GPT2DoubleHeadsModel`. Token types
    are tokens of the vocabulary."""

    model_type = "gpt2"
    unsupported = {
        **config_checks.NO_COMPOSITES,
        "is_decoder": (False, True, None),
        "reorder_and_upcast_attn": (False, True),
    }

    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    summary_use_proj: bool = True
    summary_activation: str | None = None
    summary_proj_to_labels: bool = True
    summary_first_dropout: float = 0.1
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    classifier_dropout: float | None = None
    add_cross_attention: bool = False

    @property
    def style(self) -> Style:
        return super().style.replace(out_std=self.out_std)

    @property
    def out_std(self) -> float:
        """The deviation of projections that add to the residual: smaller with depth, so that their
        sum over the layers does not start larger."""
        return self.initializer_range / math.sqrt(2 * self.n_layer)

    def validate(self) -> None:
        config_checks.multiple(self, "n_embd", of="n_head")
        super().validate()
        if self.summary_activation:
            config_checks.activation(self, "summary_activation")


class _Projections(nn.Module):
    """Both kinds of attention: some projections are one, and queries may be scaled by layer."""

    config: Config
    options: blocks.ModelOptions

    def heads(self, x: jax.Array, name: str, parts: int, width: int) -> list[jax.Array]:
        """Projects x [B, S, D] to so many parts [B, S, N, H] of `width` = N * H."""
        axes, std = ("embed", "heads"), self.config.initializer_range
        joined = blocks.Linear(parts * width, axes, std, name=name)(x)
        return [blocks.split_heads(y, self.config.head_dim) for y in jnp.split(joined, parts, -1)]

    def queries(self, q: jax.Array, at: blocks.At) -> jax.Array:
        """Divides queries by the layer's number, from 1, if the config says so."""
        by_layer = self.config.scale_attn_by_inverse_layer_idx
        return q / jnp.asarray(at.layer + 1, q.dtype) if by_layer else q

    @property
    def scores(self) -> blocks.Scored:
        """The keywords of `blocks.attend` for scores."""
        scale = self.config.head_dim**-0.5 if self.config.scale_attn_weights else 1.0
        return {"options": self.options, "scale": scale, "dropout": self.config.attn_pdrop}

    def out(self, y: jax.Array) -> jax.Array:
        """Projects what attention gives: [B, T, N*H] -> [B, T, D]."""
        cfg = self.config
        return blocks.Linear(cfg.n_embd, ("heads", "embed"), cfg.out_std, name="c_proj")(y)


class GPT2Attention(_Projections):
    """(x [B, T, D], context, at) -> ([B, T, D], cache, attention weights or None)."""

    @nn.compact
    def __call__(self, x: jax.Array, context: blocks.PassContext, at: blocks.At):
        width = blocks.num_heads(self.config, at.layer)[0] * self.config.head_dim
        q, k, v = self.heads(x, "c_attn", 3, width)
        q = self.queries(q, at)
        y, cache, weights = blocks.self_attention(self, q, k, v, context, at, **self.scores)
        return self.out(y), cache, weights


class GPT2CrossAttention(_Projections):
    """The same over an encoder's states, as wide as the model's own."""

    @nn.compact
    def __call__(self, x: jax.Array, context: blocks.PassContext, at: blocks.At):
        width = self.config.n_embd

        def keys_and_values(states: jax.Array) -> tuple[jax.Array, jax.Array]:
            k, v = self.heads(states, "c_attn", 2, width)
            return k, v

        (q,) = self.heads(x, "q_attn", 1, width)
        given = (self, self.queries(q, at), keys_and_values, context, at)
        y, cache, weights = blocks.cross_attention(*given, **self.scores)
        return self.out(y), cache, weights


class GPT2Block(DecoderLayer):
    """(x [B, T, D], context, at) -> (x, cache, attention weights or None)."""

    attention = GPT2Attention

    def attend_more(self, x, cache, weights, context: blocks.PassContext, at: blocks.At):
        cfg = self.config
        if not (cfg.add_cross_attention and context.has_encoder):
            return x, cache, weights
        normed = cfg.style.norm("ln_cross_attn")(x)
        cross = GPT2CrossAttention(cfg, self.options, name="crossattention")
        y, cache, over_encoder = cross(normed, context._replace(cache=cache), at)
        y = nn.Dropout(cfg.resid_pdrop)(y, deterministic=context.deterministic)
        return x + y, cache, (weights, over_encoder)


class DoubleHeads(vocabulary_heads.VocabularyHead, task_heads.OverChoices):
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
        **inputs: Unpack[Inputs],
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
    parts=DECODER_CLASSES | {"DoubleHeadsModel": DoubleHeads},
    layer=GPT2Block,
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

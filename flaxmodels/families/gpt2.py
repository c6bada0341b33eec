"""GPT-2: learned positions, LayerNorm before each sublayer, one projection for q, k and v.

Radford et al. 2019; reference: `models/gpt2` of Transformers 5.23.
"""

import dataclasses
import math
from typing import ClassVar, Unpack

import jax
import jax.numpy as jnp
from flax import linen as nn

from .. import blocks
from .. import params as fp
from .. import sharding as fs
from ..core import outputs
from ..documents.json_values import ConfigError
from ..models import config_checks, decoder, task_heads
from ..models.layer_types import LayerKinds


@dataclasses.dataclass(frozen=True, kw_only=True)
class GPT2Config(LayerKinds):
    """`config.json` of a GPT-2. `reorder_and_upcast_attn` is always so here: the attention logits
    and their softmax are float32. The `summary_*` fields are of `GPT2DoubleHeadsModel`."""

    model_type: ClassVar[str] = "gpt2"
    aliases: ClassVar = {
        "hidden_size": "n_embd",
        "max_position_embeddings": "n_positions",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    }
    unsupported: ClassVar = {
        **config_checks.NO_COMPOSITES,
        "is_decoder": (False, True, None),
        "reorder_and_upcast_attn": (False, True),
    }

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    activation_function: str = "gelu_new"
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    summary_use_proj: bool = True
    summary_activation: str | None = None
    summary_proj_to_labels: bool = True
    summary_first_dropout: float = 0.1
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    classifier_dropout: float | None = None
    add_cross_attention: bool = False
    bos_token_id: int | None = 50256
    eos_token_id: int | tuple[int, ...] | None = 50256

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.n_embd // self.n_head

    @property
    def num_key_value_heads(self) -> int:
        """Every head has keys and values of its own."""
        return self.n_head

    @property
    def position_limit(self) -> int:
        return self.n_positions

    def validate(self) -> None:
        config_checks.multiple(self, "n_embd", of="n_head")
        config_checks.pruned_heads(self)
        config_checks.activation(self, "activation_function")
        if self.summary_activation:
            config_checks.activation(self, "summary_activation")


class GPT2Attention(nn.Module):
    config: GPT2Config
    options: blocks.ModelOptions

    @nn.compact
    def __call__(self, x, context, at):
        cfg = self.config
        std = cfg.initializer_range
        width = blocks.num_heads(cfg, at.layer)[0] * cfg.head_dim
        qkv = blocks.Linear(3 * width, ("embed", "heads"), std, name="c_attn")(x)
        q, k, v = (blocks.split_heads(each, cfg.head_dim) for each in jnp.split(qkv, 3, axis=-1))
        if cfg.scale_attn_by_inverse_layer_idx:
            q = q / jnp.asarray(at.layer + 1, q.dtype)
        y, cache, weights = blocks.self_attention(
            self,
            q,
            k,
            v,
            context,
            at,
            options=self.options,
            scale=cfg.head_dim**-0.5 if cfg.scale_attn_weights else 1.0,
            dropout=cfg.attn_pdrop,
        )
        y = blocks.Linear(cfg.n_embd, ("heads", "embed"), _residual_std(cfg), name="c_proj")(y)
        y = nn.Dropout(cfg.resid_pdrop)(y, deterministic=context.deterministic)
        return y, cache, weights


class GPT2CrossAttention(nn.Module):
    """Attends to an encoder's states, as wide as the model's own."""

    config: GPT2Config
    options: blocks.ModelOptions

    @nn.compact
    def __call__(self, x, context, at):
        cfg, std = self.config, self.config.initializer_range

        def keys_and_values(states):
            y = blocks.Linear(2 * cfg.n_embd, ("embed", "heads"), std, name="c_attn")(states)
            k, v = (blocks.split_heads(each, cfg.head_dim) for each in jnp.split(y, 2, axis=-1))
            return k, v

        q = blocks.Linear(cfg.n_embd, ("embed", "heads"), std, name="q_attn")(x)
        scale = cfg.head_dim**-0.5 if cfg.scale_attn_weights else 1.0
        if cfg.scale_attn_by_inverse_layer_idx:
            q = q / jnp.asarray(at.layer + 1, q.dtype)
        y, cache, weights = blocks.cross_attention(
            self,
            blocks.split_heads(q, cfg.head_dim),
            keys_and_values,
            context,
            at,
            options=self.options,
            scale=scale,
            dropout=cfg.attn_pdrop,
        )
        y = blocks.Linear(cfg.n_embd, ("heads", "embed"), _residual_std(cfg), name="c_proj")(y)
        y = nn.Dropout(cfg.resid_pdrop)(y, deterministic=context.deterministic)
        return y, cache, weights


class GPT2Block(nn.Module):
    """(x [B, T, D], context, at) -> (x, cache, attention weights or None)."""

    config: GPT2Config
    options: blocks.ModelOptions

    @nn.compact
    def __call__(self, x, context, at):
        cfg = self.config
        y = blocks.LayerNorm(cfg.layer_norm_epsilon, name="ln_1")(x)
        attention = GPT2Attention(cfg, self.options, name="attn")
        y, cache, weights = attention(y, context, at)
        x = x + y
        if cfg.add_cross_attention and context.has_encoder:
            y = blocks.LayerNorm(cfg.layer_norm_epsilon, name="ln_cross_attn")(x)
            cross = GPT2CrossAttention(cfg, self.options, name="crossattention")
            y, cache, over_encoder = cross(y, context._replace(cache=cache), at)
            x, weights = x + y, (weights, over_encoder)
        y = blocks.LayerNorm(cfg.layer_norm_epsilon, name="ln_2")(x)
        mlp = blocks.MLP(
            cfg.n_embd,
            4 * cfg.n_embd if cfg.n_inner is None else cfg.n_inner,
            cfg.activation_function,
            cfg.initializer_range,
            self.options.rules,
            names=("c_fc", "c_proj"),
            out_std=_residual_std(cfg),
            dropout=cfg.resid_pdrop,
            name="mlp",
        )
        x = x + mlp(y, deterministic=context.deterministic)
        return fs.constrain(x, ("batch", "length", "hidden"), self.options.rules), cache, weights


def _residual_std(config: GPT2Config) -> float:
    """Returns the deviation of the projections that add to the residual: smaller with depth, so
    that their sum over the layers does not start larger."""
    return config.initializer_range / math.sqrt(2 * config.n_layer)


class GPT2Pretrained(decoder.Decoder):
    """The base of every model of the family."""

    config_class = GPT2Config
    naming = fp.Naming(
        stacks=("h",),
        kernels_in_out=(r"/(c_(attn|proj|fc)|q_attn)/kernel$",),
        flax_kernels_out_in=(r"/(c_(attn|proj|fc)|q_attn)/kernel$",),
        ignored=(r"\.attn\.(masked_)?bias$",),
    )
    tied = (("lm_head/kernel", "transformer/wte/embedding"),)
    is_parallelizable = True
    base_model_prefix = "transformer"
    input_embeddings_path = "wte"

    def dummy_inputs(self) -> dict[str, jax.Array]:
        return decoder.with_encoder_inputs(super().dummy_inputs(), self.config)


class GPT2Model(decoder.Backbone, GPT2Pretrained):
    """tokens [B, T] -> hidden states [B, T, D], after the last norm; token types are tokens of the
    vocabulary."""

    not_taken = frozenset()

    def setup(self) -> None:
        cfg = self.config
        std = cfg.initializer_range
        self.wte = blocks.Embed(cfg.vocab_size, cfg.n_embd, std)
        self.wpe = blocks.Embed(cfg.n_positions, cfg.n_embd, std, axes=("position", "embed"))
        self.drop = nn.Dropout(cfg.embd_pdrop)
        self.h = blocks.Layers(GPT2Block, cfg, cfg.layer_kinds, self.options)
        self.ln_f = blocks.LayerNorm(cfg.layer_norm_epsilon)

    @property
    def token_types(self) -> int:
        return self.config.vocab_size

    def embed(self, tokens: blocks.Tokens, context: blocks.PassContext) -> jax.Array:
        x = self.perturb_embeddings(blocks.embed_inputs(self.wte, tokens, self.dtype))
        x = x + jnp.broadcast_to(self.wpe(context.positions, self.dtype), x.shape)
        if tokens.token_type_ids is not None:
            x = x + jnp.broadcast_to(self.wte(tokens.token_type_ids, self.dtype), x.shape)
        return self.drop(x, deterministic=context.deterministic)

    def run_layers(self, x: jax.Array, context: blocks.PassContext) -> blocks.LayersOutput:
        return self.h(x, context)

    def finish(self, x: jax.Array) -> jax.Array:
        return self.ln_f(x)


class GPT2LMHeadModel(GPT2Pretrained, task_heads.CausalLM):
    backbone = GPT2Model


class GPT2ForSequenceClassification(GPT2Pretrained, task_heads.LastTokenClassification):
    backbone = GPT2Model


class GPT2ForTokenClassification(GPT2Pretrained, task_heads.TokenClassification):
    backbone = GPT2Model


class GPT2ForQuestionAnswering(GPT2Pretrained, task_heads.QuestionAnswering):
    backbone = GPT2Model


class GPT2DoubleHeadsModel(GPT2Pretrained, task_heads.VocabularyHead, task_heads.OverChoices):
    """Tokens of several choices [B, C, T] -> a language model's logits [B, C, T, V], and one logit
    [B, C] for each choice, read off one of its tokens."""

    backbone = GPT2Model

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
        chosen = jnp.take_along_axis(x, jnp.reshape(mc_token_ids, (-1, 1, 1)), axis=1)[:, 0]
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

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
from .gpt2_layers import GPT2Block, GPT2Config


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

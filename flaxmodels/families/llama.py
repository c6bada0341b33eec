"""Llama 1-3: RMSNorm before each sublayer, rotary grouped-query attention, SwiGLU, no biases.

Touvron et al. 2023, arXiv:2302.13971; reference: `models/llama` of Transformers 5.23.
"""

import dataclasses
from typing import Any, ClassVar

import jax
from flax import linen as nn

from .. import blocks
from .. import params as fp
from .. import sharding as fs
from ..core import outputs
from ..models import config_checks, decoder, rope_config, task_heads

_FROM_OTHERS: Any = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class LlamaConfig(rope_config.Rotary):
    """`config.json` of a Llama. `head_dim` and `num_key_value_heads` follow from the other fields
    if None, and what `rope_parameters` leaves open is filled in."""

    model_type: ClassVar[str] = "llama"
    unsupported: ClassVar = {
        **config_checks.NOT_IMPLEMENTED,
        "is_decoder": (False, True, None),
        "token_classification_bias": (True,),
    }

    derived: ClassVar[tuple[str, ...]] = ("num_key_value_heads", "head_dim")

    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int = _FROM_OTHERS
    head_dim: int = _FROM_OTHERS
    hidden_act: str = "silu"
    max_position_embeddings: int = 2048
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    attention_bias: bool = False
    attention_dropout: float = 0.0
    mlp_bias: bool = False
    classifier_dropout: float | None = None
    bos_token_id: int | None = 1
    eos_token_id: int | tuple[int, ...] | None = 2
    tie_word_embeddings: bool = False

    def derive(self) -> None:
        super().derive()
        if self.num_key_value_heads is None:
            object.__setattr__(self, "num_key_value_heads", self.num_attention_heads)
        if self.head_dim is None:
            object.__setattr__(self, "head_dim", self.hidden_size // self.num_attention_heads)

    def validate(self) -> None:
        super().validate()
        config_checks.multiple(self, "hidden_size", of="num_attention_heads")
        config_checks.multiple(self, "num_attention_heads", of="num_key_value_heads")
        config_checks.pruned_heads(self)
        config_checks.activation(self, "hidden_act")


class LlamaAttention(nn.Module):
    config: LlamaConfig
    options: blocks.ModelOptions

    @nn.compact
    def __call__(self, x, context, index):
        cfg = self.config
        num_heads, num_kv_heads = blocks.num_heads(cfg, index)

        def project(x, heads, axis, name):
            return blocks.Linear(
                heads * cfg.head_dim,
                ("embed", axis),
                cfg.initializer_range,
                use_bias=cfg.attention_bias,
                name=name,
            )(x)

        qkv = (
            project(x, num_heads, "heads", "q_proj"),
            project(x, num_kv_heads, "kv_heads", "k_proj"),
            project(x, num_kv_heads, "kv_heads", "v_proj"),
        )
        y, cache, weights = blocks.self_attention(
            self,
            qkv,
            context,
            index,
            options=self.options,
            head_dim=cfg.head_dim,
            scale=cfg.head_dim**-0.5,
            dropout=cfg.attention_dropout,
        )
        out = blocks.Linear(
            cfg.hidden_size,
            ("heads", "embed"),
            cfg.initializer_range,
            use_bias=cfg.attention_bias,
            name="o_proj",
        )
        return out(y), cache, weights


class LlamaLayer(nn.Module):
    """(x [B, T, D], context, index) -> (x, cache, attention weights or None)."""

    config: LlamaConfig
    options: blocks.ModelOptions

    @nn.compact
    def __call__(self, x, context, index):
        cfg = self.config
        y = blocks.RMSNorm(cfg.rms_norm_eps, name="input_layernorm")(x)
        y, cache, weights = LlamaAttention(cfg, self.options, name="self_attn")(y, context, index)
        x = x + y
        y = blocks.RMSNorm(cfg.rms_norm_eps, name="post_attention_layernorm")(x)
        mlp = blocks.GatedMLP(
            cfg.hidden_size,
            cfg.intermediate_size,
            cfg.hidden_act,
            cfg.initializer_range,
            self.options.rules,
            use_bias=cfg.mlp_bias,
            name="mlp",
        )
        x = x + mlp(y)
        return fs.constrain(x, ("batch", "length", "hidden"), self.options.rules), cache, weights


class LlamaPretrained(decoder.Decoder):
    """The base of every model of the family."""

    config_class = LlamaConfig
    is_parallelizable = True
    base_model_prefix = "model"
    input_embeddings_path = "embed_tokens"
    naming = fp.Naming(
        stacks=("layers",),
        flax_names=((r"norm/scale$", "norm/weight"),),
        ignored=(r"\.rotary_emb\.inv_freq$",),
    )
    tied = (("lm_head/kernel", "model/embed_tokens/embedding"),)


class LlamaModel(LlamaPretrained):
    """tokens [B, T] -> hidden states [B, T, D], after the last norm."""

    def setup(self) -> None:
        cfg = self.config
        self.embed_tokens = blocks.Embed(
            cfg.vocab_size, cfg.hidden_size, cfg.initializer_range, padding_id=cfg.pad_token_id
        )
        self.layers = blocks.Layers(LlamaLayer, cfg, cfg.num_hidden_layers, self.options)
        self.norm = blocks.RMSNorm(cfg.rms_norm_eps)

    def __call__(
        self,
        input_ids: jax.Array | None = None,
        attention_mask: jax.Array | None = None,
        *,
        position_ids: jax.Array | None = None,
        inputs_embeds: jax.Array | None = None,
        cache: blocks.Cache | None = None,
        deterministic: bool = True,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> outputs.BaseOutput:
        """Computes hidden states. The arguments are those of `decoder.Inputs`, without token types
        and head mask."""
        tokens, context = self.begin_pass(
            blocks.Tokens(input_ids, inputs_embeds, attention_mask, position_ids=position_ids),
            cache=cache,
            deterministic=deterministic,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
        )
        x = self.perturb_embeddings(blocks.embed_inputs(self.embed_tokens, tokens, self.dtype))
        x = fs.constrain(x, ("batch", "length", "hidden"), self.rules)
        out = self.layers(x, context)
        return outputs.of_backbone(outputs.BaseOutput, context, self.norm(out.x), out)

    def rotary(self, positions: jax.Array) -> blocks.Rotation:
        cfg = self.config
        return blocks.rotary(
            cfg.rope_for("default"),
            positions,
            head_dim=cfg.head_dim,
            max_positions=cfg.max_position_embeddings,
        )


class LlamaForCausalLM(LlamaPretrained, task_heads.CausalLM):
    backbone = LlamaModel


class LlamaForSequenceClassification(LlamaPretrained, task_heads.LastTokenClassification):
    backbone = LlamaModel


class LlamaForTokenClassification(LlamaPretrained, task_heads.TokenClassification):
    backbone = LlamaModel
    classifier_name = "score"


class LlamaForQuestionAnswering(LlamaPretrained, task_heads.QuestionAnswering):
    """Its checkpoints call the backbone `transformer`."""

    backbone = LlamaModel
    base_model_prefix = "transformer"

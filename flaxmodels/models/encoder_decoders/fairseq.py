"""Encoder-decoders of fairseq's kind: BART and what differs from it by its `BartStyle`.

Lewis et al. 2019, arXiv:1910.13461; reference: `models/bart` of Transformers 5.23.
"""

import dataclasses
import functools
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from ... import blocks
from ... import params as fp
from ...core.model import by_config
from ...core.outputs import BaseOutput
from ...params.tree.weights import Weight
from .. import decoder, vocabulary_heads
from ..bart_layers import BartLayer
from ..base import PretrainedModel
from ..encoders.positions import counted, sinusoid_table, sinusoids
from . import heads
from .fairseq_config import FairseqConfig
from .inputs import wrapped
from .scaffold import EncoderDecoder, EncoderDecoderBackbone


def token_table(config: FairseqConfig) -> blocks.Embed:
    """Makes the table of tokens of a model or a half."""
    pad = config.pad_token_id
    return blocks.Embed(config.vocab_size, config.d_model, config.init_std, padding_id=pad)


NAMING = fp.Naming(
    stacks=("layers",),
    ignored=(r"(^|\.)(encoder|decoder)\.version$",),
    optional=(r"^final_logits_bias$",),
)


class FairseqPretrained(PretrainedModel):
    """The base of every model of the kind."""

    config_class = FairseqConfig
    is_parallelizable = True
    base_model_prefix = "model"
    naming = NAMING
    saves_positions: ClassVar[bool] = True
    """Whether checkpoints have sinusoids of as many rows as there are positions."""
    wraps_last_token: ClassVar[bool] = False
    """Whether the last token, a language's code, is the first of the decoder in training, and not
    `config.decoder_start_token_id`."""


class FairseqStack(decoder.Backbone, FairseqPretrained):
    """tokens [B, T] -> hidden states [B, T, D]: an encoder or, where its config `is_decoder`, a
    decoder."""

    table: ClassVar[Any] = None
    """Of tokens; None for one of its own, `embed_tokens`."""
    not_taken = frozenset(("token_type_ids", "head_mask"))
    input_embeddings_path = "embed_tokens"

    @property
    def is_causal(self) -> bool:
        return self.config.is_decoder

    def setup(self) -> None:
        cfg, style = self.config, self.config.style
        if self.table is None:
            self.embed_tokens = token_table(cfg)
        if style.positions == "learned":
            rows, axes = cfg.max_position_embeddings + style.position_offset, ("position", "embed")
            self.embed_positions = blocks.Embed(rows, cfg.d_model, cfg.init_std, axes=axes)
        if style.embedding_norm != "nothing":
            self.layernorm_embedding = style.norm()
        self.drop = nn.Dropout(cfg.dropout)
        self.layers = blocks.Layers(BartLayer, cfg, cfg.layer_kinds, self.options)
        if style.norm_first:
            self.layer_norm = style.norm()

    def embed(self, tokens: blocks.Tokens, context: blocks.PassContext) -> jax.Array:
        cfg, style = self.config, self.config.style
        table = self.embed_tokens if self.table is None else self.table
        x = blocks.embed_inputs(table, tokens, self.dtype)
        looked_up = style.scaled == "tokens" and tokens.input_ids is not None
        if cfg.scale_embedding and (looked_up or style.scaled == "all"):
            x = x * math.sqrt(cfg.d_model)
        x = self.perturb_embeddings(x)
        if style.embedding_norm == "tokens":
            x = self.layernorm_embedding(x)
        x = x + jnp.broadcast_to(self.positions(tokens, context), x.shape)
        if style.embedding_norm == "sum":
            x = self.layernorm_embedding(x)
        return self.drop(x, deterministic=context.deterministic)

    def positions(self, tokens: blocks.Tokens, context: blocks.PassContext) -> jax.Array:
        """Returns what is added to the vectors of tokens for where they stand: [B or 1, T, D]."""
        cfg, style = self.config, self.config.style
        if style.positions == "learned":
            return self.embed_positions(context.positions + style.position_offset, self.dtype)
        if style.positions == "sinusoids":
            table = sinusoid_table(cfg.max_position_embeddings, cfg.d_model)
            return jnp.take(table, context.positions, axis=0).astype(self.dtype)
        start = 0 if context.cache is None else context.cache.index
        ids = tokens.input_ids if tokens.position_ids is None else None
        rows = counted(ids, context.positions, cfg.pad_token_id, start)
        return sinusoids(rows, cfg.d_model, cfg.pad_token_id).astype(self.dtype)

    def run_layers(self, x: jax.Array, context: blocks.PassContext) -> blocks.LayersOutput:
        return self.layers(x, context)

    def finish(self, x: jax.Array) -> jax.Array:
        return self.layer_norm(x) if self.config.style.norm_first else x


class FairseqHalf(FairseqStack):
    """A half of a model, which may be given the `table` of tokens that both halves read."""

    table: Any = None


def _tables(model: PretrainedModel) -> tuple[str, str, str]:
    """Returns the paths of the tables of tokens that there may be: of both halves, of the encoder,
    of the decoder."""
    modules = ("shared", "encoder/embed_tokens", "decoder/embed_tokens")
    shared, encoder, decoder = (model.in_backbone(f"{each}/embedding") for each in modules)
    return shared, encoder, decoder


def _tied(model: PretrainedModel) -> tuple[tuple[str, str], ...]:
    shared, encoder, decoder = _tables(model)
    if model.config.shares_tables:
        return (("lm_head/kernel", shared), (encoder, shared), (decoder, shared))
    return (("lm_head/kernel", decoder), (shared, encoder), (shared, decoder))


def _naming(model: PretrainedModel) -> fp.Naming:
    shared, encoder, decoder = _tables(model)
    # where tables are apart, PyTorch has one more that nothing reads
    copies = ((encoder, shared),) if model.config.has_shared else ()
    one = ((shared, (encoder, decoder)),)
    return dataclasses.replace(_names(model), copies=copies, flax_shared=one)


def _names(model: PretrainedModel) -> fp.Naming:
    """Returns the naming of a model with any of the halves: sinusoids may be in checkpoints."""
    cfg, computed = model.config, (r"(^|\.)embed_positions\.weights?$",)
    if cfg.kind.positions == "learned":
        return NAMING
    naming = dataclasses.replace(NAMING, ignored=NAMING.ignored + computed)
    if cfg.kind.positions == "counted" or not model.saves_positions:
        return naming
    table = functools.partial(sinusoid_table, cfg.max_position_embeddings, cfg.d_model)
    beside, path = r"(.*/)?((?:en|de)coder)/layers/0/fc1/kernel", r"\1\2/embed_positions/embedding"
    return dataclasses.replace(naming, constants=(fp.Constant(beside, path, table),))


class FairseqBoth(FairseqPretrained, EncoderDecoder):
    """The base of models with both halves."""

    @nn.nowrap
    def shifted_right(self, ids: jax.Array) -> jax.Array:
        if self.wraps_last_token:
            return wrapped(ids, self.config.pad_token_id)
        return super().shifted_right(ids)

    input_embeddings_path = by_config(
        lambda model: "shared" if model.config.shares_tables else "encoder/embed_tokens"
    )
    tied = by_config(_tied)
    naming = by_config(_naming)

    @property
    def decoder_alone(self) -> decoder.Decoder:
        return FairseqStack(**{**self.shared_fields, "config": self.config.half(is_decoder=True)})


class FairseqModel(FairseqBoth, EncoderDecoderBackbone):
    """tokens [B, S] and decoder tokens [B, T] -> hidden states of the decoder [B, T, D]."""

    def setup(self) -> None:
        table = None
        if self.config.shares_tables:
            self.shared = table = token_table(self.config)
        self.encoder, self.decoder = (
            FairseqHalf(**{**self.shared_fields, "config": config, "table": table})
            for config in (self.config.half(is_decoder=False), self.config.half(is_decoder=True))
        )

    def token_table(self) -> jax.Array | Weight:
        """Returns the table of the decoder's tokens [V, D], which a tied head multiplies with."""
        table = self.shared if self.config.shares_tables else self.decoder.embed_tokens
        return table.embedding


class FairseqUnbiased(FairseqBoth, heads.ConditionalGeneration):
    """tokens [B, S] and decoder tokens [B, T] -> logits [B, T, V] of the token after each."""


class FairseqConditionalGeneration(FairseqUnbiased):
    """The same, with a bias of logits, which no training changes."""

    loss_kind = "restoring_lm"

    def projection(self, base: nn.Module) -> vocabulary_heads.Projection:
        shape, axes = (1, self.logit_count), ("position", "vocab")  # the same in all positions
        bias = blocks.parameter(self, "final_logits_bias", nn.initializers.zeros, shape, axes)
        return super().projection(base)._replace(bias=jax.lax.stop_gradient(bias)[0])


class FairseqTranslation(FairseqConditionalGeneration):
    """The same, without sinusoids in its checkpoints."""

    saves_positions = False


class FairseqSequenceClassification(FairseqBoth, heads.SequenceClassification):
    """tokens [B, S] -> logits [B, labels], read off the decoder's last end-of-sequence token."""


class FairseqQuestionAnswering(FairseqBoth, heads.QuestionAnswering):
    """tokens [B, S] and decoder tokens [B, T] -> logits [B, T] of the first and the last token of
    the answer."""


class FairseqDecoderOnly(decoder.Decoder, FairseqPretrained):
    """The decoder under the name that it has beside an encoder."""

    input_embeddings_path = "decoder/embed_tokens"

    def setup(self) -> None:
        self.decoder = FairseqStack(**self.shared_fields)

    def __call__(self, *args: Any, **inputs: Any) -> BaseOutput:
        return self.decoder(*args, **inputs)


class FairseqCausalLM(decoder.Decoder, FairseqPretrained, vocabulary_heads.CausalLM):
    """tokens [B, T] -> logits [B, T, V] of the token after each, by the decoder alone, which
    attends to an encoder's states where it is given some. The config `is_decoder`."""

    loss_kind = "unshifted_lm"
    input_embeddings_path = "decoder/embed_tokens"
    tied = (
        ("lm_head/kernel", "model/decoder/embed_tokens/embedding"),
        ("model/shared/embedding", "model/decoder/embed_tokens/embedding"),
    )
    naming = by_config(
        lambda model: dataclasses.replace(
            naming := _names(model), ignored=(*naming.ignored, r"(^|\.)encoder\.")
        )
    )

    def __post_init__(self) -> None:
        if isinstance(self.config, FairseqConfig):
            self.config = self.config.half(is_decoder=True).replace(is_encoder_decoder=False)
        super().__post_init__()

    def base(self) -> nn.Module:
        return FairseqDecoderOnly(**self.shared_fields, name=self.base_model_prefix)


FAIRSEQ_CLASSES: dict[str, type[PretrainedModel]] = {
    "Pretrained": FairseqPretrained,
    "Model": FairseqModel,
    "ForConditionalGeneration": FairseqConditionalGeneration,
    "ForSequenceClassification": FairseqSequenceClassification,
    "ForQuestionAnswering": FairseqQuestionAnswering,
    "ForCausalLM": FairseqCausalLM,
}
"""How a class's name ends -> what the class is, for `families.classes_of`."""

"""Encoder-decoders of fairseq's kind: BART and what differs from it by its `BartStyle`.

Lewis et al. 2019, arXiv:1910.13461; reference: `models/bart` of Transformers 5.23.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
from flax import linen as nn

from ... import blocks
from ... import params as fp
from ...documents.json_values import ConfigError
from .. import decoder, task_heads
from ..bart_layers import BartFields, BartLayer, BartStyle
from ..base import PretrainedModel
from . import heads, positions
from .inputs import wrapped
from .scaffold import EncoderDecoder, EncoderDecoderBackbone


@dataclasses.dataclass(frozen=True, kw_only=True)
class FairseqConfig(BartFields):
    """The fields of two stacks of BART's layers. One that `is_decoder` is that of the decoder: its
    `num_hidden_layers`, `num_attention_heads` and `ffn_dim` are the decoder's."""

    unsupported: ClassVar = {
        "cross_attention_hidden_size": (None,),
        "tie_encoder_decoder": (False,),
    }
    aliases: ClassVar = {
        "hidden_size": "d_model",
        "num_attention_heads": "encoder_attention_heads",
        "num_hidden_layers": "encoder_layers",
    }

    vocab_size: int = 50265
    max_position_embeddings: int = 1024
    encoder_layers: int = 12
    encoder_ffn_dim: int = 4096
    encoder_attention_heads: int = 16
    decoder_layers: int = 12
    decoder_ffn_dim: int = 4096
    decoder_attention_heads: int = 16
    encoder_layerdrop: float = 0.0
    decoder_layerdrop: float = 0.0
    d_model: int = 1024
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    scale_embedding: bool = False
    is_encoder_decoder: bool = True
    is_decoder: bool = False
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | tuple[int, ...] | None = 2
    decoder_start_token_id: int | None = 2
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | tuple[int, ...] | None = 2

    kind: ClassVar[BartStyle] = BartStyle()
    """What of the style is the same in all models of the family."""

    @property
    def bart_style(self) -> BartStyle:
        drop = self.decoder_layerdrop if self.is_decoder else self.encoder_layerdrop
        return dataclasses.replace(
            self.kind,
            inner_dropout=self.activation_dropout,
            layer_drop=drop,
            over_encoder=self.is_decoder,
        )

    @property
    def num_hidden_layers(self) -> int:
        """Layers of the stack."""
        return self.decoder_layers if self.is_decoder else self.encoder_layers

    @property
    def num_attention_heads(self) -> int:
        """Heads of a layer of the stack."""
        return self.decoder_attention_heads if self.is_decoder else self.encoder_attention_heads

    @property
    def ffn_dim(self) -> int:
        """Width between the two products of the stack's MLPs."""
        return self.decoder_ffn_dim if self.is_decoder else self.encoder_ffn_dim

    @property
    def add_cross_attention(self) -> bool:
        """Whether the layers attend to an encoder."""
        return self.is_decoder

    @property
    def shares_tables(self) -> bool:
        """Whether encoder and decoder have one table of tokens."""
        return self.tie_word_embeddings

    @property
    def position_limit(self) -> int | None:
        return None if self.kind.positions == "counted" else self.max_position_embeddings

    @property
    def text(self) -> Self:
        return self.half(is_decoder=True)

    @property
    def has_shared(self) -> bool:
        """Whether PyTorch's model has a table beside those of encoder and decoder."""
        return True

    def half(self, *, is_decoder: bool) -> Self:
        """Returns the configuration of the encoder, or of the decoder."""
        return _half(self, is_decoder)

    def changes_of_half(self, *, is_decoder: bool) -> dict[str, Any]:
        """Returns the fields that the configuration of a half has otherwise."""
        return {"is_decoder": is_decoder}

    def validate(self) -> None:
        super().validate()
        for half in ("encoder", "decoder"):
            heads = getattr(self, f"{half}_attention_heads")
            if heads < 1 or self.d_model % heads:
                raise ConfigError(
                    f"{type(self).__name__}: d_model = {self.d_model} is not a multiple of "
                    f"{half}_attention_heads = {heads}"
                )
        if self.pruned_heads:
            raise ConfigError(
                f"{type(self).__name__}: pruned_heads is not implemented: encoder and decoder "
                "number their layers alike"
            )


@functools.lru_cache(maxsize=256)
def _half(config: Any, is_decoder: bool) -> Any:
    changes = config.changes_of_half(is_decoder=is_decoder)
    return config if config.is_decoder == is_decoder else config.replace(**changes)


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
    decoder.

    Attributes:
        table: of tokens; None for one of its own, `embed_tokens`.
    """

    table: Any = None

    not_taken = frozenset(("token_type_ids", "head_mask"))
    input_embeddings_path = "embed_tokens"

    @property
    def is_causal(self) -> bool:
        return self.config.is_decoder

    def setup(self) -> None:
        cfg, style = self.config, self.config.bart_style
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
        cfg, style = self.config, self.config.bart_style
        table = self.embed_tokens if self.table is None else self.table
        x = blocks.embed_inputs(table, tokens, self.dtype)
        if cfg.scale_embedding and tokens.input_ids is not None:
            x = x * math.sqrt(cfg.d_model)
        x = self.perturb_embeddings(x)
        if style.embedding_norm == "tokens":
            x = self.layernorm_embedding(x)
        x = x + jnp.broadcast_to(self._positions(tokens, context), x.shape)
        if style.embedding_norm == "sum":
            x = self.layernorm_embedding(x)
        return self.drop(x, deterministic=context.deterministic)

    def _positions(self, tokens: blocks.Tokens, context: blocks.PassContext) -> jax.Array:
        """Returns what is added to the vectors of tokens for where they stand: [B or 1, T, D]."""
        cfg, style = self.config, self.config.bart_style
        if style.positions == "learned":
            return self.embed_positions(context.positions + style.position_offset, self.dtype)
        if style.positions == "sinusoids":
            table = positions.sinusoid_table(cfg.max_position_embeddings, cfg.d_model)
            return jnp.take(table, context.positions, axis=0).astype(self.dtype)
        start = 0 if context.cache is None else context.cache.index
        ids = tokens.input_ids if tokens.position_ids is None else None
        rows = positions.counted(ids, context.positions, cfg.pad_token_id, start)
        return positions.sinusoids(rows, cfg.d_model, cfg.pad_token_id).astype(self.dtype)

    def run_layers(self, x: jax.Array, context: blocks.PassContext) -> blocks.LayersOutput:
        return self.layers(x, context)

    def finish(self, x: jax.Array) -> jax.Array:
        return self.layer_norm(x) if self.config.bart_style.norm_first else x


def _by_config(of_model: Callable[[Any], Any]) -> Any:
    """Makes an attribute of a class that follows from the model's configuration."""
    return property(of_model)


def _tables(model: Any) -> tuple[str, str, str]:
    """Returns the paths of the tables of tokens that there may be: of both halves, of the encoder,
    of the decoder."""
    modules = ("shared", "encoder/embed_tokens", "decoder/embed_tokens")
    shared, encoder, decoder = (model.in_backbone(f"{each}/embedding") for each in modules)
    return shared, encoder, decoder


def _tied(model: Any) -> tuple[tuple[str, str], ...]:
    shared, encoder, decoder = _tables(model)
    if model.config.shares_tables:
        return (("lm_head/kernel", shared), (encoder, shared), (decoder, shared))
    return (("lm_head/kernel", decoder), (shared, encoder), (shared, decoder))


def _naming(model: Any) -> fp.Naming:
    shared, encoder, _ = _tables(model)
    # where tables are apart, PyTorch has one more that nothing reads
    copies = ((encoder, shared),) if model.config.has_shared else ()
    return dataclasses.replace(_names(model), copies=copies)


def _names(model: Any) -> fp.Naming:
    """Returns the naming of a model with any of the halves: sinusoids may be in checkpoints."""
    cfg, computed = model.config, (r"(^|\.)embed_positions\.weights?$",)
    if cfg.kind.positions == "learned":
        return NAMING
    naming = dataclasses.replace(NAMING, ignored=NAMING.ignored + computed)
    if cfg.kind.positions == "counted" or not model.saves_positions:
        return naming
    table = functools.partial(positions.sinusoid_table, cfg.max_position_embeddings, cfg.d_model)
    beside, path = r"(.*/)?((?:en|de)coder)/layers/0/fc1/kernel", r"\1\2/embed_positions/embedding"
    return dataclasses.replace(naming, constants=(fp.Constant(beside, path, table),))


class FairseqBoth(FairseqPretrained, EncoderDecoder):
    """The base of models with both halves."""

    @nn.nowrap
    def shifted_right(self, ids: jax.Array) -> jax.Array:
        if self.wraps_last_token:
            return wrapped(ids, self.config.pad_token_id)
        return super().shifted_right(ids)

    input_embeddings_path = _by_config(
        lambda model: "shared" if model.config.shares_tables else "encoder/embed_tokens"
    )
    tied = _by_config(_tied)
    naming = _by_config(_naming)

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
            FairseqStack(**{**self.shared_fields, "config": config, "table": table})
            for config in (self.config.half(is_decoder=False), self.config.half(is_decoder=True))
        )

    def attend(self, x: jax.Array) -> jax.Array:
        """Multiplies x [..., D] with the table of the decoder's tokens -> [..., V], as a tied
        head."""
        table = self.shared if self.config.shares_tables else self.decoder.embed_tokens
        return table.attend(x)


class FairseqUnbiased(FairseqBoth, heads.ConditionalGeneration):
    """tokens [B, S] and decoder tokens [B, T] -> logits [B, T, V] of the token after each."""


class FairseqConditionalGeneration(FairseqUnbiased):
    """The same, with a bias of logits, which no training changes."""

    def vocabulary(self, base: Any, x: jax.Array) -> jax.Array:
        logits, zeros = super().vocabulary(base, x), nn.initializers.zeros
        shape, axes = (1, self.logit_count), ("position", "vocab")  # the same in all positions
        bias = blocks.parameter(self, "final_logits_bias", zeros, shape, axes)
        return logits + jax.lax.stop_gradient(bias).astype(logits.dtype)[None]


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

    def __call__(self, *args: Any, **inputs: Any) -> Any:
        return self.decoder(*args, **inputs)


class FairseqCausalLM(decoder.Decoder, FairseqPretrained, task_heads.CausalLM):
    """tokens [B, T] -> logits [B, T, V] of the token after each, by the decoder alone, which
    attends to an encoder's states where it is given some. The config `is_decoder`."""

    input_embeddings_path = "decoder/embed_tokens"
    tied = (
        ("lm_head/kernel", "model/decoder/embed_tokens/embedding"),
        ("model/shared/embedding", "model/decoder/embed_tokens/embedding"),
    )
    naming = _by_config(
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

    def dummy_inputs(self) -> dict[str, jax.Array]:
        return decoder.with_encoder_inputs(super().dummy_inputs(), self.config)


FAIRSEQ_CLASSES: dict[str, type[PretrainedModel]] = {
    "Pretrained": FairseqPretrained,
    "Model": FairseqModel,
    "ForConditionalGeneration": FairseqConditionalGeneration,
    "ForSequenceClassification": FairseqSequenceClassification,
    "ForQuestionAnswering": FairseqQuestionAnswering,
    "ForCausalLM": FairseqCausalLM,
}
"""How a class's name ends -> what the class is, for `families.classes_of`."""

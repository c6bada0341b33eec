"""Encoder-decoders of T5's kind: the stacks, the bare models, and their heads.

Raffel et al. 2019, arXiv:1910.10683; reference: `models/t5` of Transformers 5.23.
"""

from typing import Any, ClassVar, Unpack

import jax
from flax import linen as nn

from ... import blocks
from ... import params as fp
from ...config.config import Config
from ...core import outputs
from ...core.model import by_config
from ...params.tree.weights import Weight
from .. import decoder, task_heads
from ..base import PretrainedModel
from . import heads, inputs
from .scaffold import EncoderDecoder, EncoderDecoderBackbone
from .t5_layers import T5Layer, distances, relative_bias

_HALVES = ("encoder", "decoder")
_HEADS = ("lm_head", "qa_outputs", "classification_head", "classifier")
NOT_TAKEN = frozenset(("position_ids",))
"""No table has positions."""


def t5_naming(encoder: str = "SelfAttention", heads: tuple[str, ...] = ()) -> fp.Naming:
    """Makes the naming of a model. Checkpoints have the tables of bias of all layers in the first.

    Args:
        encoder: what they call the attention in the encoder.
        heads: more modules of a whole model that this one has not.
    """
    tables = tuple(
        (
            rf"(^|/){half}/((global_)?relative_attention_bias)/",
            rf"\1{half}/block/0/layer/0/{inside}/\2/",
        )
        for half, inside in zip(_HALVES, (encoder, "SelfAttention"), strict=True)
    )
    return fp.Naming(
        stacks=("block",),
        names=tables,
        flax_names=(*tables, (r"norm/scale$", "norm/weight")),
        ignored=(r"EncDecAttention\.relative_attention_bias\.weight$",),
        head_paths=(rf"(^|/)({'|'.join((*_HEADS, *heads))})/",),
    )


def token_table(config: Config) -> blocks.Embed:
    """Makes the table of tokens, which both stacks read."""
    return blocks.Embed(config.vocab_size, config.d_model, config.initializer_factor)


class T5Stack(decoder.Backbone):
    """tokens [B, T] -> hidden states [B, T, D]: an encoder or, where its config `is_decoder`, a
    decoder. Distances are between places, whatever `position_ids` say.

    Attributes:
        table: of tokens; None in a model without params, for its cache.
    """

    table: Any = None

    is_parallelizable = True
    naming = t5_naming()
    not_taken = frozenset(("token_type_ids", "head_mask"))

    @property
    def layer(self) -> type[nn.Module]:
        """The class of its layers."""
        return T5Layer

    @property
    def is_causal(self) -> bool:
        return self.config.is_decoder

    def setup(self) -> None:
        cfg = self.config
        if not cfg.bias_in_every_layer:
            self.relative_attention_bias = relative_bias(cfg, both_ways=not cfg.is_decoder)
        self.block = blocks.Layers(self.layer, cfg, cfg.layer_kinds, self.options)
        self.final_layer_norm = blocks.RMSNorm(cfg.layer_norm_epsilon)
        self.drop = nn.Dropout(cfg.dropout_rate)

    def score_bias(self, mask: blocks.AttentionMask, length: int) -> jax.Array | None:
        if self.config.bias_in_every_layer:
            return None
        return self.relative_attention_bias(distances(mask, length), self.dtype)[None]

    def embed(self, tokens: blocks.Tokens, context: blocks.PassContext) -> jax.Array:
        x = self.perturb_embeddings(blocks.embed_inputs(self.table, tokens, self.dtype))
        return self.drop(x, deterministic=context.deterministic)

    def run_layers(self, x: jax.Array, context: blocks.PassContext) -> blocks.LayersOutput:
        out = self.block(x, context)
        x = self.drop(self.final_layer_norm(out.x), deterministic=context.deterministic)
        return out._replace(x=x)


def _ties_of(model: "T5Pretrained") -> tuple[tuple[str, str], ...]:
    table = model.in_backbone("shared/embedding")
    halves = (model.in_backbone(f"{half}/embed_tokens/embedding") for half in _HALVES)
    return (("lm_head/kernel", table), *((half, table) for half in halves))


class T5Pretrained(PretrainedModel):
    """The base of every model of the kind."""

    is_parallelizable = True
    base_model_prefix = ""
    input_embeddings_path = "shared"
    encoder_class: ClassVar[type[T5Stack]] = T5Stack
    is_encoder: ClassVar[bool] = False
    """Whether there is no decoder."""
    encoder_attention: ClassVar[str] = "SelfAttention"
    """What checkpoints call the attention in the encoder."""

    naming = by_config(
        lambda self: t5_naming(self.encoder_attention, ("decoder",) if self.is_encoder else ())
    )
    tied = by_config(_ties_of)

    @nn.nowrap
    def stack(self, table: blocks.Embed | None, *, is_decoder: bool) -> T5Stack:
        """Makes a half of the model, which reads the `table` of tokens."""
        kind = T5Stack if is_decoder else self.encoder_class
        config = self.config.half(is_decoder=is_decoder)
        return kind(**{**self.shared_fields, "config": config}, table=table)


class T5EncoderAlone(T5Pretrained):
    """tokens [B, T] -> hidden states [B, T, D] of the encoder."""

    is_encoder = True

    def setup(self) -> None:
        self.shared = token_table(self.config)
        self.encoder = self.stack(self.shared, is_decoder=False)

    def __call__(
        self,
        input_ids: jax.Array | None = None,
        attention_mask: jax.Array | None = None,
        **given: Unpack[inputs.EncoderInputs],
    ) -> outputs.BaseOutput:
        """Computes hidden states."""
        inputs.check_names(type(self).__name__, {**given}, inputs.EncoderInputs, NOT_TAKEN)
        return self.encoder(input_ids, attention_mask, **given)


class T5Both(T5Pretrained, EncoderDecoder):
    """The base of models with both halves."""

    not_taken = NOT_TAKEN

    @property
    def decoder_alone(self) -> decoder.Decoder:
        return self.stack(None, is_decoder=True)


class T5Bare(T5Both, EncoderDecoderBackbone):
    """tokens [B, S] and decoder tokens [B, T] -> hidden states of the decoder [B, T, D]."""

    def setup(self) -> None:
        self.shared = token_table(self.config)
        self.encoder = self.stack(self.shared, is_decoder=False)
        self.decoder = self.stack(self.shared, is_decoder=True)

    def token_table(self) -> jax.Array | Weight:
        """Returns the table of tokens [V, D], which a tied head multiplies with."""
        return self.shared.embedding


class T5Generation(T5Both, heads.ConditionalGeneration):
    """tokens [B, S] and decoder tokens [B, T] -> logits [B, T, V] of the token after each."""

    head_by_file = True  # "tie_word_embeddings" of a file says whether states are scaled

    def vocabulary(self, base: nn.Module, x: jax.Array) -> jax.Array:
        if self.config.scales_states:
            x = blocks.scaled(x, self.config.d_model**-0.5)
        return super().vocabulary(base, x)


class T5Classification(T5Both, heads.SequenceClassification):
    """tokens [B, S] -> logits [B, labels], read off the decoder's state of the last end-of-sequence
    token."""

    base_model_prefix = "transformer"
    shifts_input_ids = True


class T5TokenClassification(T5Pretrained, task_heads.TokenClassification):
    """tokens [B, T] -> logits [B, T, labels], by the encoder alone."""

    base_model_prefix = "transformer"
    is_encoder = True

    def base(self) -> nn.Module:
        return T5EncoderAlone(**self.shared_fields, name=self.base_model_prefix)


class T5Answering(T5Both, heads.QuestionAnswering):
    """tokens [B, S] and decoder tokens [B, T], by default the same shifted, -> logits [B, T] of the
    first and of the last token of the answer."""

    shifts_input_ids = True


T5_CLASSES: dict[str, type[PretrainedModel]] = {
    "Pretrained": T5Pretrained,
    "Model": T5Bare,
    "ForConditionalGeneration": T5Generation,
    "EncoderModel": T5EncoderAlone,
    "ForSequenceClassification": T5Classification,
    "ForTokenClassification": T5TokenClassification,
    "ForQuestionAnswering": T5Answering,
}
"""How a class's name ends -> what the class is, for `families.classes_of`."""

"""BigBird: BERT for long texts, whose attention is block-sparse where it would save something.

Zaheer et al. 2020, arXiv:2007.14062; reference: `models/big_bird` of Transformers 5.23.
"""

import dataclasses
import functools
import math
from typing import Unpack

import jax
import jax.numpy as jnp
from flax import linen as nn

from .. import blocks
from .. import sharding as fs
from ..blocks.inputs import as_array
from ..calls.known_values import exceeds
from ..core import outputs
from ..core.inputs import Inputs
from ..models import config_checks
from ..models.encoders import heads, paths, roberta
from ..models.encoders.branch import Part, at, grown
from ..models.encoders.fields import BertFields
from ..models.encoders.layers import EncoderLayer
from ..models.encoders.model import EncoderPretrained, PooledEncoderModel
from ..models.encoders.style import EncoderStyle
from ..params.errors import warn_once
from . import classes_of

_FULL, _SPARSE = "original_full", "block_sparse"
_OF_QUESTIONS = 1e6
"""What is taken off the logits of tokens that no answer may begin or end with."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BigBirdConfig(BertFields):
    """`config.json` of a BigBird. "block_sparse" attention is of blocks of `block_size` tokens, of
    which each draws `num_random_blocks`; up to 5 + 2 * `num_random_blocks` blocks, and in one that
    `is_decoder`, attention is full. `sep_token_id` ends a question."""

    model_type = "big_bird"

    vocab_size: int = 50358
    hidden_act: str = "gelu_new"
    max_position_embeddings: int = 4096
    bos_token_id: int | None = 1
    eos_token_id: int | tuple[int, ...] | None = 2
    sep_token_id: int | None = 66
    attention_type: str = _SPARSE
    use_bias: bool = True
    rescale_embeddings: bool = False
    block_size: int = 64
    num_random_blocks: int = 3

    @property
    def style(self) -> EncoderStyle:
        return super().style.replace(
            pooler="pooler",
            qkv_bias=self.use_bias,
            words_scale=math.sqrt(self.hidden_size) if self.rescale_embeddings else None,
            drop_before_norm=True,
        )

    @property
    def full_length(self) -> int:
        """The most tokens that attend in full where attention is block-sparse."""
        return (5 + 2 * self.num_random_blocks) * self.block_size

    @property
    def may_be_sparse(self) -> bool:
        """Whether attention is block-sparse for texts that are long enough."""
        return self.attention_type == _SPARSE and not self.is_decoder

    def attends_by_blocks(self, length: int) -> bool:
        """Tells whether the attention of so many tokens is block-sparse."""
        limit = self.full_length
        why = f"attention is block-sparse beyond {limit} tokens"
        return self.may_be_sparse and exceeds(length, limit, why)

    def validate(self) -> None:
        super().validate()
        config_checks.one_of(self, "attention_type", (_SPARSE, _FULL))
        why = "blocks are drawn for each of num_attention_heads heads"
        config_checks.no_pruned_heads(self, why)


class BlockSparseLayer(EncoderLayer):
    """(x [B, T, D], context, at) -> (x, cache, attention weights or None). Its config says for how
    many tokens attention is by blocks (`attends_by_blocks`), and of which; which are drawn is the
    layer's input, None for the first one every time."""

    def self_attention(self, q, k, v, context, at, bias, **told):
        cfg = self.config
        if not cfg.attends_by_blocks(q.shape[1]):
            return super().self_attention(q, k, v, context, at, bias, **told)
        axes = ("batch", "length", "heads", None)
        q, k, v = (fs.constrain(x, axes, self.options.rules) for x in (q, k, v))
        q, k, v = blocks.named((q, k, v), "attention_qkv")
        out, weights = blocks.block_sparse(
            q,
            k,
            v,
            context.masks[at.kind.attention].tokens,
            size=cfg.block_size,
            count=cfg.num_random_blocks,
            scale=told["scale"],
            drawn=context.layer_inputs,
            need_weights=context.output_attentions,
        )
        out, weights = blocks.scaled_heads(out, weights, context, at)
        return blocks.named(out, "attention_out"), context.cache, weights


def _drawn(config: BigBirdConfig, length: int) -> jax.Array:
    """Returns the blocks that each layer draws in training, for so many tokens: int32 [L, N,
    blocks - 2, R]."""
    table = blocks.drawn_blocks(
        config.num_hidden_layers,
        config.num_attention_heads,
        -(-length // config.block_size),
        config.block_size,
        config.num_random_blocks,
        config.max_position_embeddings,
    )
    return jnp.asarray(table)


def _tell(config: BigBirdConfig, length: int, name: str) -> None:
    """Warns, once, where so many tokens are too few for blocks, or fill the last one up."""
    size = config.block_size
    if not config.attends_by_blocks(length):
        warn_once(
            f"{name}: up to {config.full_length} tokens attend in full: (5 + 2 * "
            "num_random_blocks) * block_size; config.attention_type = 'original_full' is for that"
        )
    elif more := -length % size:
        warn_once(
            f"{name}: {length} tokens are no multiple of block_size = {size}; {more} of padding "
            "fill up the last block"
        )


class BigBirdPretrained(EncoderPretrained):
    """The base of every model of the family."""

    config_class = BigBirdConfig
    base_model_prefix = "bert"
    pooling = True
    """Whether the backbone of a head has a pooler, be it of use or not."""


class BigBirdModel(PooledEncoderModel, BigBirdPretrained):
    """tokens [B, T] -> hidden states [B, T, D] and, if `add_pooling_layer`, the first of them
    through one more layer [B, D]. Causal if the config says `is_decoder`.

    Attention that is block-sparse is told, once, where it is full because T is small, and where T
    is no multiple of `block_size`: padding fills up the last block then. Unless `deterministic`,
    blocks are drawn as the reference draws them in training: they are the same each time, no key
    changes them, and weights of this attention are not dropped."""

    layer = BlockSparseLayer

    def run_layers(self, x: jax.Array, context: blocks.PassContext) -> blocks.LayersOutput:
        cfg, length, drawn = self.config, x.shape[1], None
        if cfg.may_be_sparse and not self.is_initializing():
            _tell(cfg, length, type(self).__name__)
        if cfg.attends_by_blocks(length) and not context.deterministic:
            drawn = _drawn(cfg, length)
        return at(self, cfg.style.layers)(x, context, drawn)


class BigBirdForSequenceClassification(BigBirdPretrained, heads.FirstTokenClassification):
    backbone = BigBirdModel
    classifier = paths.Classifier(act=None)


class BigBirdForQuestionAnswering(BigBirdPretrained, heads.EncoderHead):
    """tokens [B, T] of a question and a text -> logits [B, T] of the first and of the last token of
    the answer, which is no token of the question but perhaps the first one."""

    loss_kind = "question_answering"
    backbone = BigBirdModel
    pooling = False

    @nn.compact
    def __call__(
        self,
        input_ids: jax.Array | None = None,
        attention_mask: jax.Array | None = None,
        *,
        question_lengths: jax.Array | None = None,
        **inputs: Unpack[Inputs],
    ) -> outputs.QuestionAnsweringOutput:
        """Computes the logits.

        Args:
            question_lengths: int [B, 1], tokens before the text; None for those up to the first
                `config.sep_token_id`, or for none where there are no `input_ids`. Unless
                `token_type_ids` are given, these tokens are of type 0, and others of type 1.
        """
        base = self.base()
        question = self._question(input_ids, inputs.get("inputs_embeds"), question_lengths)
        if question is not None and inputs.get("token_type_ids") is None:
            inputs["token_type_ids"] = jnp.where(question, 0, 1)
        out = base(input_ids, attention_mask, **inputs)
        logits = self._answers(out.last_hidden_state, inputs.get("deterministic", True))
        if question is not None:
            question = question.at[:, 0].set(False)
            logits = logits - jnp.where(question, _OF_QUESTIONS, 0.0)[..., None]
        start, end = logits[..., 0], logits[..., 1]
        return outputs.QuestionAnsweringOutput.of(out, start_logits=start, end_logits=end)

    def _question(
        self, ids: jax.Array | None, vectors: jax.Array | None, lengths: jax.Array | None
    ) -> jax.Array | None:
        """Returns bool [B, T], which tokens are of the question; None where nothing says it, and
        for tokens that the backbone will refuse."""
        tokens = as_array("input_ids", vectors if ids is None else ids)
        if tokens is None or tokens.ndim != (3 if ids is None else 2) or tokens.size == 0:
            return None
        if lengths is None and ids is None:
            return None
        if lengths is None:
            ends = jnp.asarray(tokens) == self.config.sep_token_id
            lengths = jnp.argmax(ends, axis=-1, keepdims=True) + 1
        batch, length = tokens.shape[:2]
        blocks.check_ids("question_lengths", lengths, (batch, 1), length + 1, "lengths")
        return jnp.arange(length)[None] < jnp.asarray(lengths)

    def _answers(self, x: jax.Array, deterministic: bool) -> jax.Array:
        """Computes logits [B, T, 2] of x [B, T, D]: by an MLP, normed after it, and a product."""
        cfg, up, down, norm, last = self.config, *(f"qa_classifier/{name}" for name in _ANSWERS)
        parts: dict[str, Part] = {
            up: self.linear(cfg.intermediate_size, ("embed", "mlp")),
            down: self.linear(cfg.hidden_size, ("mlp", "embed")),
            norm: cfg.style.norm,
            last: self.linear(2, ("embed", "labels")),
        }
        modules = grown(self, parts)
        drop = functools.partial(nn.Dropout(cfg.hidden_dropout_prob), deterministic=deterministic)
        y = blocks.ACTIVATIONS[cfg.hidden_act](modules.at(up)(drop(x)))
        y = modules.at(norm)(drop(modules.at(down)(y)) + x)
        return modules.at(last)(y)


_ANSWERS = ("intermediate/dense", "output/dense", "output/LayerNorm", "qa_outputs")

__getattr__ = classes_of(
    BigBirdConfig, parts=heads.ENCODER_CLASSES | {"ForMultipleChoice": roberta.MultipleChoice}
)

"""Outputs of models: pytrees, in which what was not asked for is None.

Shapes: B batch, T tokens, D model, V vocabulary, N heads, S tokens attended to.
"""

import operator
from collections.abc import Iterator
from typing import TYPE_CHECKING, Self, TypeVar

import jax
from flax import struct

from ..blocks import Cache, LayersOutput, PassContext
from ..params.types import PyTree


class ModelOutput:
    """Makes a dataclass answer as Transformers' `ModelOutput` does: as a mapping over the fields
    that are not None, in its order, which takes numbers and slices in the place of names too.

    `out["logits"]`, `out[0]`, `out[:2]`, `out.to_tuple()`, `len(out)`, `"cache" in out`, `{**out}`;
    like a dict it iterates over names: `start, end = out.to_tuple()`.
    """

    if TYPE_CHECKING:  # made by `struct.dataclass`

        def replace(self, **changes: object) -> Self: ...

    def keys(self) -> tuple[str, ...]:
        """Returns the names of the fields that are not None: first those that the class itself
        declares, then those of its bases."""
        names = dict.fromkeys(
            name for cls in type(self).__mro__ for name in cls.__dict__.get("__annotations__", ())
        )
        return tuple(name for name in names if getattr(self, name) is not None)

    def values(self) -> tuple[PyTree, ...]:
        """Returns the fields that are not None."""
        return tuple(getattr(self, name) for name in self.keys())

    def items(self) -> tuple[tuple[str, PyTree], ...]:
        """Returns (name, field) of the fields that are not None."""
        return tuple(zip(self.keys(), self.values(), strict=True))

    def get(self, name: str, default: object = None) -> PyTree:
        """Returns the field `name`, or `default` if it is None or absent."""
        return self[name] if name in self else default

    to_tuple = values

    def __getitem__(self, key: str | int | slice) -> PyTree:
        if isinstance(key, slice):
            return self.to_tuple()[key]
        if not isinstance(key, str):
            return self.to_tuple()[operator.index(key)]
        if key not in self:
            raise KeyError(f"{key!r}: this {type(self).__name__} has {', '.join(self.keys())}")
        return getattr(self, key)

    def __len__(self) -> int:
        return len(self.keys())

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __contains__(self, name: object) -> bool:
        return name in self.keys()


@struct.dataclass(kw_only=True)
class Output(ModelOutput):
    """Holds what every model can return.

    Attributes:
        hidden_states: [B, T, D] each: what enters the first layer, what leaves every layer; of a
            model with a norm at its end the last is what leaves that.
        attentions: weights [B, N, T, S] of every layer.
        cross_attentions: the same over the states of an encoder that was attended to.
        cache: of a decoder that was given one, with the new tokens in it.
    """

    cache: Cache | None = None
    hidden_states: tuple[jax.Array, ...] | None = None
    attentions: tuple[jax.Array, ...] | None = None
    cross_attentions: tuple[jax.Array, ...] | None = None

    @classmethod
    def of(cls, base: "Output", **fields: PyTree) -> Self:
        """Makes an output of `fields`, and of what the backbone returned beside its last state."""
        shared = ("cache", "hidden_states", "attentions", "cross_attentions")
        return cls(**{name: getattr(base, name) for name in shared}, **fields)


@struct.dataclass(kw_only=True)
class BaseOutput(Output):
    """Output of a backbone: last_hidden_state [B, T, D], and of a pooler pooler_output [B, D]."""

    last_hidden_state: jax.Array
    pooler_output: jax.Array | None = None


@struct.dataclass(kw_only=True)
class PooledOutput(BaseOutput):
    """Output of BERT's backbone, in the order that it has in Transformers."""

    last_hidden_state: jax.Array
    pooler_output: jax.Array | None = None
    hidden_states: tuple[jax.Array, ...] | None = None
    cache: Cache | None = None
    attentions: tuple[jax.Array, ...] | None = None
    cross_attentions: tuple[jax.Array, ...] | None = None


@struct.dataclass(kw_only=True)
class LogitsOutput(Output):
    """Output of a model with one head: logits [B, T, V] of a language model, [B, T, labels] of a
    token classifier, [B, labels] of a sequence classifier, [B, choices] of multiple choice."""

    logits: jax.Array


@struct.dataclass(kw_only=True)
class QuestionAnsweringOutput(Output):
    """start_logits and end_logits [B, T]: where the answer starts, and its last token."""

    start_logits: jax.Array
    end_logits: jax.Array


@struct.dataclass(kw_only=True)
class PreTrainingOutput(Output):
    """Output of BERT's two: prediction_logits [B, T, V] and seq_relationship_logits [B, 2]."""

    prediction_logits: jax.Array
    seq_relationship_logits: jax.Array


@struct.dataclass(kw_only=True)
class SentenceOrderOutput(Output):
    """Output of ALBERT's two: prediction_logits [B, T, V], and sop_logits [B, 2] of the order of
    two sentences."""

    prediction_logits: jax.Array
    sop_logits: jax.Array


@struct.dataclass(kw_only=True)
class DoubleHeadsOutput(Output):
    """logits [B, choices, T, V] of the language model, and mc_logits [B, choices]."""

    logits: jax.Array
    mc_logits: jax.Array


@struct.dataclass(kw_only=True)
class Seq2SeqOutput(ModelOutput):
    """Holds what every model from sequence to sequence can return, of T tokens of the decoder and S
    of the encoder.

    Attributes:
        cache, decoder_hidden_states, decoder_attentions, cross_attentions: as `Output`, of the
            decoder.
        encoder_last_hidden_state: [B, S, D]; None where the cache has seen it.
        encoder_hidden_states, encoder_attentions: as `Output`, of the encoder.
    """

    cache: Cache | None = None
    decoder_hidden_states: tuple[jax.Array, ...] | None = None
    decoder_attentions: tuple[jax.Array, ...] | None = None
    cross_attentions: tuple[jax.Array, ...] | None = None
    encoder_last_hidden_state: jax.Array | None = None
    encoder_hidden_states: tuple[jax.Array, ...] | None = None
    encoder_attentions: tuple[jax.Array, ...] | None = None

    @classmethod
    def of(cls, encoded: BaseOutput | None, decoded: Output, **fields: PyTree) -> Self:
        """Makes an output of `fields`, and of what encoder and decoder returned beside."""
        if encoded is not None:
            fields |= {
                "encoder_last_hidden_state": encoded.last_hidden_state,
                "encoder_hidden_states": encoded.hidden_states,
                "encoder_attentions": encoded.attentions,
            }
        return cls(
            cache=decoded.cache,
            decoder_hidden_states=decoded.hidden_states,
            decoder_attentions=decoded.attentions,
            cross_attentions=decoded.cross_attentions,
            **fields,
        )


@struct.dataclass(kw_only=True)
class Seq2SeqModelOutput(Seq2SeqOutput):
    """Output of the bare model: last_hidden_state [B, T, D] of the decoder."""

    last_hidden_state: jax.Array


@struct.dataclass(kw_only=True)
class Seq2SeqLogitsOutput(Seq2SeqOutput):
    """Output of a model with one head: logits [B, T, V] of tokens, or [B, labels]."""

    logits: jax.Array


@struct.dataclass(kw_only=True)
class Seq2SeqQuestionAnsweringOutput(Seq2SeqOutput):
    """start_logits and end_logits [B, T]: where the answer starts, and its last token."""

    start_logits: jax.Array
    end_logits: jax.Array


Base = TypeVar("Base", bound=BaseOutput)


def of_backbone(
    cls: type[Base], context: PassContext, x: jax.Array, layers: LayersOutput, **fields: PyTree
) -> Base:
    """Makes the output of a backbone, of class `cls`: its last hidden state x [B, T, D], and what
    `context` asks for of what the layers returned."""
    cache, weights, cross = layers.cache, layers.attentions, None
    if weights and isinstance(weights[0], tuple):
        weights, cross = zip(*weights, strict=True)
    return cls(
        hidden_states=(*layers.entered, x) if context.output_hidden_states else None,
        attentions=weights if context.output_attentions else None,
        cross_attentions=cross,
        cache=None if cache is None else cache.advance(x.shape[1]),
        last_hidden_state=x,
        **fields,
    )

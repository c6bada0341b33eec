"""What models return: pytrees, in which what a model was not asked for is None.

Shapes: B batch, T tokens, D model, V vocabulary, N heads, S tokens attended to.
"""

from typing import Any, Self

import jax
from flax import struct

from .blocks import Cache, Call


@struct.dataclass(kw_only=True)
class Output:
    """What every model can return.

    Attributes:
        hidden_states: [B, T, D] each: what enters the first layer, what leaves every layer; of a
            model with a norm at its end the last is what leaves that.
        attentions: weights [B, N, T, S] of every layer.
        cache: of a decoder that was given one, with the new tokens in it.
    """

    hidden_states: tuple[jax.Array, ...] | None = None
    attentions: tuple[jax.Array, ...] | None = None
    cache: Cache | None = None

    @classmethod
    def of(cls, base: "Output", **fields: Any) -> Self:
        """`fields`, with what the backbone returned beside its last hidden state."""
        fields |= {"hidden_states": base.hidden_states, "attentions": base.attentions}
        return cls(cache=base.cache, **fields)


@struct.dataclass(kw_only=True)
class BaseOutput(Output):
    """Of a backbone: last_hidden_state [B, T, D], and pooler_output [B, D] if it has a pooler."""

    last_hidden_state: jax.Array
    pooler_output: jax.Array | None = None


@struct.dataclass(kw_only=True)
class LogitsOutput(Output):
    """Of a model with one head: logits [B, T, V] of a language model, [B, T, labels] of a token
    classifier, [B, labels] of a sequence classifier, [B, choices] of multiple choice."""

    logits: jax.Array


@struct.dataclass(kw_only=True)
class QuestionAnsweringOutput(Output):
    """start_logits and end_logits [B, T]: where the answer starts, and its last token."""

    start_logits: jax.Array
    end_logits: jax.Array


@struct.dataclass(kw_only=True)
class PreTrainingOutput(Output):
    """BERT's two: prediction_logits [B, T, V] and seq_relationship_logits [B, 2]."""

    prediction_logits: jax.Array
    seq_relationship_logits: jax.Array


@struct.dataclass(kw_only=True)
class DoubleHeadsOutput(Output):
    """logits [B, choices, T, V] of the language model, and mc_logits [B, choices]."""

    logits: jax.Array
    mc_logits: jax.Array


def backbone(
    call: Call,
    x: jax.Array,
    entered: tuple[jax.Array, ...],
    weights: tuple[jax.Array, ...],
    cache: Cache | None,
    **fields: Any,
) -> BaseOutput:
    """The output of a backbone: its last hidden state x [B, T, D], and of what `Layers` returned
    that which `call` asks for."""
    return BaseOutput(
        hidden_states=(*entered, x) if call.output_hidden_states else None,
        attentions=weights if call.output_attentions else None,
        cache=None if cache is None else cache.advance(x.shape[1]),
        last_hidden_state=x,
        **fields,
    )

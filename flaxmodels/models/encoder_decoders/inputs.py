"""Arguments of encoder-decoders: what each half is given, and what is made where nothing is."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TypedDict

import jax
import jax.numpy as jnp

from ... import blocks
from ...core import outputs
from ...core.inputs import not_taken_error


class Asked(TypedDict, total=False):
    """What a call asks of both halves; see `flaxmodels.core.inputs.Inputs`."""

    deterministic: bool
    output_hidden_states: bool | None
    output_attentions: bool | None


class EncoderInputs(Asked, total=False):
    """Arguments of `encode` beside `input_ids` int [B, S] and `attention_mask` [B or 1, S].

    Attributes:
        position_ids: int [B or 1, S].
        inputs_embeds: [B, S, D], in the place of `input_ids`.
    """

    position_ids: jax.Array | None
    inputs_embeds: jax.Array | None


class DecoderInputs(Asked, total=False):
    """Arguments of `decode` beside `decoder_input_ids` int [B, T] and `decoder_attention_mask`
    [B or 1, T].

    Attributes:
        decoder_position_ids: int [B or 1, T].
        decoder_inputs_embeds: [B, T, D], in the place of `decoder_input_ids`.
        cache: from `init_cache`; it keeps what the decoder needs of the encoder, and further calls
            with it give no `encoder_outputs`.
    """

    decoder_position_ids: jax.Array | None
    decoder_inputs_embeds: jax.Array | None
    cache: blocks.Cache | None


class Inputs(EncoderInputs, DecoderInputs, total=False):
    """Arguments of a model beside `input_ids`, `attention_mask`, `decoder_input_ids` and
    `decoder_attention_mask`: those of both halves.

    Attributes:
        encoder_outputs: of `encode`, in the place of `input_ids`: as it is, its `to_tuple()`, or
            the states [B, S, D] alone.
    """

    encoder_outputs: "Encoded"


Encoded = outputs.BaseOutput | Sequence[jax.Array] | jax.Array | None
"""What an encoder returned."""


_FIRST = {"input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask"}


def check_names(
    owner: str, given: Mapping[str, object], names: type, not_taken: frozenset[str]
) -> None:
    """Raises `TypeError` for a keyword that `names`, a TypedDict, or the family has not."""
    taken = {*names.__annotations__} - not_taken
    if odd := sorted(given.keys() - taken):
        raise not_taken_error(owner, odd[0], taken | _FIRST)


def encoded(owner: str, given: Encoded) -> outputs.BaseOutput | None:
    """Returns what an encoder returned as an output, however it is given.

    Raises:
        TypeError: it is none of the forms of `Encoded`.
    """
    if given is None or isinstance(given, outputs.BaseOutput):
        return given
    states = given[0] if isinstance(given, tuple | list) and given else given
    if not hasattr(states, "ndim"):
        raise TypeError(
            f"{owner}: encoder_outputs is a {type(given).__name__}; expected what encode returns, "
            "or its last_hidden_state"
        )
    return outputs.BaseOutput(last_hidden_state=jnp.asarray(states))


@contextlib.contextmanager
def of_the_decoder() -> Iterator[None]:
    """Says of errors that they are about the decoder's inputs: both halves call theirs alike."""
    try:
        yield
    except (TypeError, ValueError) as error:
        if type(error) not in (TypeError, ValueError):
            raise
        raise type(error)(f"decoder: {error}") from error


def shifted(ids: jax.Array, start: int, pad: int | None) -> jax.Array:
    """Shifts ids [B, T] by one to the right: `start` is the first, the last is lost; -100, which
    labels have where no loss is, becomes `pad`. Source: `shift_tokens_right` of BART."""
    ids = _tokens(ids)
    first = jnp.full_like(ids[:, :1], start)
    return _padded(jnp.concatenate([first, ids[:, :-1]], axis=1), pad)


def wrapped(ids: jax.Array, pad: int | None) -> jax.Array:
    """Shifts ids [B, T] by one to the right: the last that is not `pad`, a language's code, is the
    first. Source: `shift_tokens_right` of mBART."""
    ids = _padded(_tokens(ids), pad)
    last = (ids != pad).sum(axis=1, keepdims=True) - 1
    first = jnp.take_along_axis(ids, last, axis=1)
    return jnp.concatenate([first, ids[:, :-1]], axis=1)[:, : ids.shape[1]]


def _tokens(ids: object) -> jax.Array:
    array = blocks.as_numbers("labels", ids)
    if array.ndim != 2 or not jnp.issubdtype(array.dtype, jnp.integer):
        raise ValueError(
            f"labels or input_ids are {array.dtype} {list(array.shape)}: to make decoder inputs "
            "of them they must be integers [B, T]"
        )
    return array


def _padded(ids: jax.Array, pad: int | None) -> jax.Array:
    if pad is None:
        raise ValueError(
            "decoder inputs cannot be made of labels or input_ids: config.pad_token_id is None"
        )
    return jnp.where(ids == -100, pad, ids)

"""Prompts: checked, and their padding found and moved."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..blocks.inputs import as_array, is_of_numbers
from ..calls.known_values import check_token_ids, known
from ..params.errors import warn


class Prompt(NamedTuple):
    """A batch to be continued.

    Attributes:
        ids: int32 [B, T].
        mask: bool [B, T], which are tokens rather than padding; None if all are.
        decoder: what the decoder begins with, where an encoder reads the prompt.
    """

    ids: jax.Array
    mask: jax.Array | None
    decoder: "Prompt | None" = None

    @property
    def continued(self) -> "Prompt":
        """The tokens that new ones follow."""
        return self if self.decoder is None else self.decoder


def read_prompt(
    input_ids: object,
    attention_mask: object = None,
    *,
    pad: int | None = None,
    eos: tuple[int, ...] = (),
    vocab_size: int | None = None,
    name: str = "input_ids",
) -> Prompt:
    """Checks a prompt as far as it is known (see `check_token_ids`), and finds its padding.

    Without a mask, `pad` is padding in every place, unless it ends sequences too: the rule of
    Transformers' `generate`. If it does, and rows begin or end with it, a warning asks for a mask.

    Args:
        name: of the ids, for errors.

    Raises:
        TypeError: ids that are no integers.
        ValueError: other shapes than [B, T], ids out of range, a row without a token, an additive
            mask.
    """
    input_ids = _array(name, input_ids)
    if input_ids.ndim != 2 or 0 in input_ids.shape:
        hint = f"; a single prompt is {name}[None]" if input_ids.ndim == 1 else ""
        raise ValueError(
            f"{name} has shape {input_ids.shape}; expected [B, T], with at least one row and "
            f"one token{hint}"
        )
    check_token_ids(input_ids, vocab_size, name)
    ids = jnp.asarray(input_ids, jnp.int32)
    if attention_mask is not None:
        return Prompt(ids, _mask(attention_mask, input_ids.shape, name))
    if pad is not None and pad not in eos:
        _check_rows(
            known(input_ids), lambda ids: ids != pad, f"{name} has no token but padding ({pad})"
        )
        return Prompt(ids, ids != pad)
    if pad is not None or eos:
        pad, why = eos[0] if pad is None else pad, "ends sequences too"
        _warn_of_padding(known(input_ids), pad, name, why)
    return Prompt(ids, None)


def begin_decoder(
    prompt: Prompt,
    start: int,
    decoder_input_ids: object = None,
    decoder_attention_mask: object = None,
    *,
    pad: int | None = None,
    vocab_size: int | None = None,
) -> Prompt:
    """Returns a prompt for an encoder with what the decoder begins with: `start`, and then the ids
    that are given, unless one of their rows begins with it, or none is known: the rule of
    Transformers' `generate`. Without a mask all of them are tokens.

    Raises:
        TypeError: ids that are no integers.
        ValueError: as `read_prompt`, another number of rows than the prompt's, or a mask alone.
    """
    batch, name = prompt.ids.shape[0], "decoder_input_ids"
    first = jnp.full((batch, 1), start, jnp.int32)
    if decoder_input_ids is None:
        if decoder_attention_mask is not None:
            raise ValueError(f"decoder_attention_mask is of {name}, which are not given")
        return prompt._replace(decoder=Prompt(first, None))
    begun = read_prompt(decoder_input_ids, decoder_attention_mask, vocab_size=vocab_size, name=name)
    if begun.ids.shape[0] != batch:
        raise ValueError(
            f"{name} has {begun.ids.shape[0]} rows, input_ids {batch}: expected as many"
        )
    ids = known(_array(name, decoder_input_ids))
    if begun.mask is None and pad is not None:
        _warn_of_padding(ids, pad, name, "may be a token")
    if ids is not None and (ids[:, 0] != start).all():
        mask = begun.mask
        mask = None if mask is None else jnp.concatenate([first == start, mask], axis=1)
        begun = Prompt(jnp.concatenate([first, begun.ids], axis=1), mask)
    return prompt._replace(decoder=begun)


def align_right(prompt: Prompt) -> Prompt:
    """Moves the padding after the last token of each row before the first: then all rows are
    continued at the same place. Order and positions of tokens stay."""
    if prompt.mask is None:
        return prompt
    length = prompt.ids.shape[1]
    behind = jnp.argmax(prompt.mask[:, ::-1], axis=1).astype(jnp.int32)
    source = (jnp.arange(length, dtype=jnp.int32)[None] - behind[:, None]) % length
    return Prompt(
        jnp.take_along_axis(prompt.ids, source, axis=1),
        jnp.take_along_axis(prompt.mask, source, axis=1),
    )


def _array(name: str, x: object) -> jax.Array | np.ndarray:
    """Returns an array of what a caller gave for one; raises as `as_array`, and `TypeError` for no
    numbers, as texts, None, or a tokenizer's whole output."""
    array = None if isinstance(x, jax.ShapeDtypeStruct) else as_array(name, x)
    if array is not None and is_of_numbers(array):
        return array
    got = f"an array of {x.dtype}" if isinstance(x, np.ndarray) else f"a {type(x).__name__}"
    hint = f": give its [{name!r}]" if isinstance(x, Mapping) else ""
    raise TypeError(f"{name} is {got}; expected numbers [B, T], as a tokenizer makes them{hint}")


def _mask(attention_mask: object, shape: tuple[int, ...], name: str) -> jax.Array:
    mask_name = _mask_of(name)
    mask = _array(mask_name, attention_mask)
    if mask.shape != shape:
        raise ValueError(
            f"{mask_name} has shape {mask.shape}, {name} {shape}: expected the same, nonzero "
            "where there are tokens"
        )
    values = known(mask)
    if values is not None and not (values >= 0).all():
        raise ValueError(
            f"{mask_name} holds {values.min()}: expected 1 for tokens and 0 for padding, not "
            "what is added to attention scores"
        )
    _check_rows(values, lambda mask: mask != 0, f"{name} has no token in {mask_name}")
    return jnp.asarray(mask).astype(bool)


def _mask_of(name: str) -> str:
    """Returns the name of the mask of ids."""
    return name.replace("input_ids", "attention_mask")


def _check_rows(
    values: np.ndarray | None, are_tokens: Callable[[np.ndarray], np.ndarray], problem: str
) -> None:
    if values is None:
        return
    empty = np.flatnonzero(~are_tokens(values).any(axis=1))
    if empty.size:
        raise ValueError(f"row {empty[0]} of {problem}: nothing to continue")


def _warn_of_padding(ids: np.ndarray | None, pad: int, name: str, why: str) -> None:
    """Warns of rows that differ in how often they begin, or end, with `pad`."""
    if ids is None:
        return
    for rows in (ids, ids[:, ::-1]):
        runs = np.logical_and.accumulate(rows == pad, axis=1).sum(axis=1)
        if runs.max() > 1 or runs.min() < runs.max():
            warn(
                f"{name} look padded with token {pad}, which {why}, so that padding cannot be told "
                f"from tokens: give {_mask_of(name)}, or all of them count"
            )
            return

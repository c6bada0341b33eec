"""Prompts: checked, and their padding found and moved."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..calls.concrete import check_token_ids, known
from ..params.errors import warn


class Prompt(NamedTuple):
    """A batch to be continued.

    Attributes:
        ids: int32 [B, T].
        mask: bool [B, T], which are tokens rather than padding; None if all are.
    """

    ids: jax.Array
    mask: jax.Array | None


def read_prompt(
    input_ids: object,
    attention_mask: object = None,
    *,
    pad: int | None = None,
    eos: tuple[int, ...] = (),
    vocab_size: int | None = None,
) -> Prompt:
    """Checks a prompt as far as it is known (see `check_token_ids`), and finds its padding.

    Without a mask, `pad` is padding in every place, unless it ends sequences too: the rule of
    Transformers' `generate`. If it does, and rows begin or end with it, a warning asks for a mask.

    Raises:
        TypeError: ids that are no integers.
        ValueError: other shapes than [B, T], ids out of range, a row without a token, an additive
            mask.
    """
    input_ids = _array("input_ids", input_ids)
    if input_ids.ndim != 2 or 0 in input_ids.shape:
        hint = "; a single prompt is input_ids[None]" if input_ids.ndim == 1 else ""
        raise ValueError(
            f"input_ids has shape {input_ids.shape}; expected [B, T], with at least one row and "
            f"one token{hint}"
        )
    check_token_ids(input_ids, vocab_size)
    ids = jnp.asarray(input_ids, jnp.int32)
    if attention_mask is not None:
        return Prompt(ids, _mask(attention_mask, input_ids.shape))
    if pad is not None and pad not in eos:
        _check_rows(known(input_ids), lambda ids: ids != pad, f"but padding ({pad})")
        return Prompt(ids, ids != pad)
    if pad is not None or eos:
        _warn_of_padding(known(input_ids), eos[0] if pad is None else pad)
    return Prompt(ids, None)


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
    if isinstance(x, jax.Array | np.ndarray):
        return x
    try:
        return np.asarray(x)
    except ValueError:
        raise ValueError(
            f"{name} has rows of different lengths: pad them, and give an attention_mask that is "
            "0 there"
        ) from None


def _mask(attention_mask: object, shape: tuple[int, ...]) -> jax.Array:
    mask = _array("attention_mask", attention_mask)
    if mask.shape != shape:
        raise ValueError(
            f"attention_mask has shape {mask.shape}, input_ids {shape}: expected the same, nonzero "
            "where there are tokens"
        )
    values = known(mask)
    if values is not None and (values < 0).any():
        raise ValueError(
            f"attention_mask holds {values.min()}: expected 1 for tokens and 0 for padding, not "
            "what is added to attention scores"
        )
    _check_rows(values, lambda mask: mask != 0, "in attention_mask")
    return jnp.asarray(mask).astype(bool)


def _check_rows(
    values: np.ndarray | None, are_tokens: Callable[[np.ndarray], np.ndarray], location: str
) -> None:
    if values is None:
        return
    empty = np.flatnonzero(~are_tokens(values).any(axis=1))
    if empty.size:
        raise ValueError(
            f"row {empty[0]} of input_ids has no token {location}: nothing to continue"
        )


def _warn_of_padding(ids: np.ndarray | None, pad: int) -> None:
    if ids is None:
        return
    for rows in (ids, ids[:, ::-1]):
        runs = np.logical_and.accumulate(rows == pad, axis=1).sum(axis=1)
        if runs.max() > 1 or runs.min() < runs.max():
            warn(
                f"input_ids look padded with token {pad}, which ends sequences too, so that "
                "padding cannot be told from tokens: give attention_mask, or all of them count"
            )
            return

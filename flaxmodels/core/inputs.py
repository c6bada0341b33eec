"""What a forward pass is given, and what is said of arguments that it does not take."""

from collections.abc import Collection
from typing import TypedDict

import jax

from ..blocks import Cache
from ..calls.keyword_table import KEYWORDS
from ..registration import nearest


class Inputs(TypedDict, total=False):
    """Arguments of a model beside `input_ids` int [B, T] and `attention_mask`, which says where
    tokens are (1) and where padding (0): [B or 1, T], or [B or 1, T, T] over pairs (query, key).

    Ids, positions and masks are checked where their values are known, outside of `jit`. Traced ones
    must be right: a mask of other numbers is read as 1 where it is not 0, and an id that has no row
    gives NaN.

    Attributes:
        token_type_ids: int [B or 1, T], of families that have token types.
        position_ids: int [B or 1, T]; if None one after another from 0, or from the cache's index,
            under any mask: tokens after padding on the left stand at 0, 1, ... only if the caller
            says so (`generate` does).
        inputs_embeds: [B, T, D], in the place of `input_ids`.
        cache: of a decoder, from `init_cache`; `attention_mask` [B, T] then covers the new tokens
            alone, and the output has the cache with them in it.
        head_mask: [N], or [L, N] over layers and heads, of BERT and GPT-2: what the output of each
            head is multiplied with; 1 keeps it, 0 drops it.
        encoder_hidden_states: [B, S, De], of a decoder that attends to an encoder too
            (`config.add_cross_attention`); a cache keeps what is needed of them, and further calls
            with it give none.
        encoder_attention_mask: [B or 1, S], 1 for tokens of the encoder; with its states alone.
        deterministic: no dropout; False needs `rngs={"dropout": key}`.
        output_hidden_states: see `Output`; None for what the config says.
        output_attentions: see `Output`; None for what the config says. The weights are computed by
            the "eager" formula.
    """

    token_type_ids: jax.Array | None
    position_ids: jax.Array | None
    inputs_embeds: jax.Array | None
    cache: Cache | None
    head_mask: jax.Array | None
    encoder_hidden_states: jax.Array | None
    encoder_attention_mask: jax.Array | None
    deterministic: bool
    output_hidden_states: bool | None
    output_attentions: bool | None


_DROPOUT = "dropout is on with deterministic=False, rngs={'dropout': key}"
_INSTEAD = {
    "labels": "labels: models compute no loss; with inputs, labels = "
    "fm.training.match_labels(model, batch) it is fm.training.loss(model, "
    "model.apply({'params': params}, **inputs), labels)",
    "params": "params are in the first argument, model.apply({'params': params}, ...)",
    "past_key_values": "give cache=model.init_cache(rows, tokens)",
    "dropout_rng": _DROPOUT,
    "train": _DROPOUT,
    **{name: KEYWORDS[name].use for name in ("use_cache", "return_dict")},
}
"""Argument of a forward pass in Transformers or its Flax classes -> what to write."""


def not_taken_error(function: str, name: str, taken: Collection[str]) -> TypeError:
    """Makes the error for an argument that a forward pass does not take; `taken` are others."""
    if name in _INSTEAD:
        hint = f"; {_INSTEAD[name]}"
    else:
        hint = "" if name in Inputs.__annotations__ else nearest(name, [*taken])
    return TypeError(f"{function}() got an unexpected keyword argument {name!r}{hint}")

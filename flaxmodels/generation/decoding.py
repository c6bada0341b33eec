"""The program of generation: prefill and decode loop, compiled once per shape."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from .. import blocks
from ..core.model import Model
from ..core.outputs import ModelOutput
from .prompts import Prompt, align_right
from .sampling import Sampling, choose


@struct.dataclass
class GenerateOutput(ModelOutput):
    """What `generate` returns.

    Attributes:
        sequences: int32 [B, T + new tokens]: the prompt as it was given, the new tokens, and
            padding after an end-of-sequence token.
        lengths: int32 [B]: new tokens of each row, the end-of-sequence token included. Where the
            model's logits were not finite after n tokens it is -1 - n, and the others are padding;
            `generate` itself raises then, unless it is part of a traced program.
    """

    sequences: jax.Array
    lengths: jax.Array


class Choices(NamedTuple):
    """What a program is compiled for beside model and shapes.

    Attributes:
        steps: new tokens, at most.
        do_sample: draw.
        top_k: of the draw.
        eos: tokens that finish a row.
        pad: what follows then.
        watched: somebody raises an error if logits are not finite, and no row needs to go on.
    """

    steps: int
    do_sample: bool
    top_k: int | None
    eos: tuple[int, ...]
    pad: int
    watched: bool


class _State(NamedTuple):
    """What the loop carries: `step` tokens are there, the last of which the cache has not seen."""

    step: jax.Array
    token: jax.Array
    tokens: jax.Array
    lengths: jax.Array
    done: jax.Array
    cache: Any


@functools.partial(jax.jit, static_argnums=(0, 1))
def decode(
    model: Model,
    choices: Choices,
    params: Any,
    prompt: Prompt,
    temperature: jax.Array | None,
    top_p: jax.Array | None,
    key: jax.Array | None,
) -> tuple[GenerateOutput, jax.Array]:
    """Continues a batch; `temperature` and `top_p` are float32 []. Tokens have no gradient.

    Returns:
        the output, and int32 [3]: how many rows failed, the first of them, and after how many
        tokens.
    """
    params, temperature, top_p = jax.lax.stop_gradient((params, temperature, top_p))
    sampling = Sampling(choices.do_sample, choices.top_k, temperature, top_p)
    aligned = align_right(prompt)
    batch, length = prompt.ids.shape
    good = _are_tokens(prompt.ids, getattr(model.config, "vocab_size", None))
    mask, positions, ends = aligned.mask, None, jnp.full(batch, length, jnp.int32)
    if mask is not None:
        good &= mask.any(axis=1)
        ends = mask.sum(axis=1, dtype=jnp.int32)
        positions = jnp.maximum(jnp.cumsum(mask, axis=1, dtype=jnp.int32) - 1, 0)

    def forward(ids, cache, positions, mask=None):
        out: Any = model.apply(
            {"params": params},
            ids,
            attention_mask=mask,
            position_ids=positions,
            cache=cache,
            logits_to_keep=1,
        )
        return out.logits[:, -1], out.cache

    def add(state, logits, cache):
        """Adds the token that the logits say to the state."""
        step, going = state.step, ~state.done
        folded = None if key is None else jax.random.fold_in(key, step)
        chosen, fine = choose(logits, sampling, folded)
        fine &= good
        token = jnp.where(going & fine, chosen, choices.pad)
        lengths = jnp.where(going, jnp.where(fine, step + 1, -1 - step), state.lengths)
        done = state.done | ~fine | jnp.isin(token, jnp.array(choices.eos, jnp.int32))
        start = [jnp.zeros_like(step), step]
        tokens = jax.lax.dynamic_update_slice(state.tokens, token[:, None], start)
        return _State(step + 1, token, tokens, lengths, done, cache)

    def more(state):
        go_on = (state.step < choices.steps) & ~state.done.all()
        return go_on & (state.lengths >= 0).all() if choices.watched else go_on

    def next_token(state):
        at = (ends + state.step - 1)[:, None]
        return add(state, *forward(state.token[:, None], state.cache, at))

    none = jnp.zeros(batch, jnp.int32)
    empty = jnp.full((batch, choices.steps), choices.pad, jnp.int32)
    cache = model.init_cache(batch, length + choices.steps)
    start = _State(jnp.int32(0), none, empty, none, none.astype(bool), cache)
    start = blocks.varying(start, over=(params, prompt, temperature, top_p, key))
    state = add(start, *forward(aligned.ids, start.cache, positions, mask))
    state = jax.lax.while_loop(more, next_token, state)
    sequences = jnp.concatenate([prompt.ids, state.tokens], axis=1)
    return GenerateOutput(sequences, state.lengths), _failure(state.lengths)


def _are_tokens(ids: jax.Array, vocab_size: int | None) -> jax.Array:
    """int32 [B, T] -> bool [B]: the rows all of whose ids are in the vocabulary."""
    fine = ids >= 0 if vocab_size is None else (ids >= 0) & (ids < vocab_size)
    return fine.all(axis=1)


def _failure(lengths: jax.Array) -> jax.Array:
    failed = lengths < 0
    row = jnp.argmax(failed).astype(jnp.int32)
    return jnp.stack([failed.sum(dtype=jnp.int32), row, -1 - lengths[row]])

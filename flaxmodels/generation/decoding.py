"""The program of generation: prefill and decode loop, compiled once per shape."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from .. import blocks
from .. import params as fp
from .. import sharding as fs
from ..core.outputs import ModelOutput
from .prompts import Prompt
from .sampling import Sampling, choose, only


@struct.dataclass
class GenerateOutput(ModelOutput):
    """The result of `generate`.

    Attributes:
        sequences: int32 [B, T + new tokens]: the prompt as given, the new tokens, and padding after
            an end-of-sequence token.
        lengths: int32 [B]: new tokens of each row, the end-of-sequence token included. Where the
            model's logits were not finite after n tokens it is -1 - n, and the others are padding;
            `generate` itself raises then, unless it is part of a traced program.
    """

    sequences: jax.Array
    lengths: jax.Array


class DecodeOptions(NamedTuple):
    """Static options of the program: it is compiled for these, beside model and shapes.

    Attributes:
        steps: new tokens, at most.
        do_sample: draw.
        top_k: of the draw.
        eos: tokens that finish a row.
        pad: what follows then.
        stop_on_failure: the caller raises an error if logits are not finite, so that the loop may
            end for all rows.
        start: what a decoder over an encoder begins with.
        forced_first: the first new token after a single one; None for any.
        forced_last: of which the last token of a row is one; () for any.
    """

    steps: int
    do_sample: bool
    top_k: int | None
    eos: tuple[int, ...]
    pad: int
    stop_on_failure: bool
    start: int | None = None
    forced_first: int | None = None
    forced_last: tuple[int, ...] = ()


class Draw(NamedTuple):
    """The arrays of a draw: temperature and top-p float32 [], and a `jax.random.key`."""

    temperature: jax.Array | None = None
    top_p: jax.Array | None = None
    key: jax.Array | None = None


class _State(NamedTuple):
    """What the loop carries: `step` tokens are there, the last of which the cache has not seen."""

    step: jax.Array
    token: jax.Array
    tokens: jax.Array
    lengths: jax.Array
    done: jax.Array
    cache: blocks.Cache


@functools.partial(jax.jit, static_argnums=(0, 1))
def decode(
    model: Any, options: DecodeOptions, params: fp.Params, prompt: Prompt, draw: Draw
) -> tuple[GenerateOutput, jax.Array]:
    """Continues a batch. Tokens have no gradient.

    Returns:
        the output, and int32 [3]: how many rows failed, the first of them, and after how many
        tokens.
    """
    params, *scales = jax.lax.stop_gradient((params, draw.temperature, draw.top_p))
    sampling = Sampling(options.do_sample, options.top_k, *scales)
    length = 1 if model.is_encoder_decoder else prompt.ids.shape[1]

    def add(state, logits, cache, *, first=False):
        """Adds the token that the logits choose to the state."""
        step = state.step
        if first and length == 1 and options.forced_first is not None:
            logits = only(logits, (options.forced_first,))
        if options.forced_last:
            last = step == options.steps - 1
            logits = jnp.where(last, only(logits, options.forced_last), logits)
        key = None if draw.key is None else jax.random.fold_in(draw.key, step)
        chosen, finite = choose(logits, sampling, key)
        return _with_token(state, chosen, finite & rows.valid, cache, options)

    def more(state):
        go_on = (state.step < options.steps) & ~state.done.all()
        return go_on & (state.lengths >= 0).all() if options.stop_on_failure else go_on

    def next_token(state):
        before, token = rows.lengths + state.step - 1, state.token[:, None]
        return add(state, *model.next_pass(params, token, state.cache, before))

    logits, cache, rows = model.first_pass(params, prompt, length + options.steps, options.start)
    start = _start(options, cache)
    start = fs.varying(start, over=(params, prompt, *scales, draw.key))
    state = add(start, logits, cache, first=True)
    if options.steps > 1:  # XLA would compile the loop's layers even if none of it ran
        state = jax.lax.while_loop(more, next_token, state)
    given = rows.ids if model.is_encoder_decoder else prompt.ids
    sequences = jnp.concatenate([given, state.tokens], axis=1)
    return GenerateOutput(sequences, state.lengths), _failure(state.lengths)


def _start(options: DecodeOptions, cache: blocks.Cache) -> _State:
    batch = cache.mask.shape[0]
    none = jnp.zeros(batch, jnp.int32)
    tokens = jnp.full((batch, options.steps), options.pad, jnp.int32)
    return _State(jnp.int32(0), none, tokens, none, none.astype(bool), cache)


def _with_token(
    state: _State, chosen: jax.Array, good: jax.Array, cache: blocks.Cache, options: DecodeOptions
) -> _State:
    """Adds a token to each row that is not done; a row that is not `good` ends without one."""
    step, going = state.step, ~state.done
    token = jnp.where(going & good, chosen, options.pad)
    lengths = jnp.where(going, jnp.where(good, step + 1, -1 - step), state.lengths)
    done = state.done | ~good | jnp.isin(token, jnp.array(options.eos, jnp.int32))
    place = [jnp.zeros_like(step), step]
    tokens = jax.lax.dynamic_update_slice(state.tokens, token[:, None], place)
    return _State(step + 1, token, tokens, lengths, done, cache)


def _failure(lengths: jax.Array) -> jax.Array:
    failed = lengths < 0
    row = jnp.argmax(failed).astype(jnp.int32)
    return jnp.stack([failed.sum(dtype=jnp.int32), row, -1 - lengths[row]])

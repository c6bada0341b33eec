"""The program of generation: prefill and decode loop, compiled once per shape."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from .. import blocks
from .. import params as fp
from .. import sharding as fs
from ..config.config import Config
from ..core.model import Model
from ..core.outputs import ModelOutput
from .prompts import Prompt, align_right
from .sampling import Sampling, choose


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
    """

    steps: int
    do_sample: bool
    top_k: int | None
    eos: tuple[int, ...]
    pad: int
    stop_on_failure: bool


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


class Rows(NamedTuple):
    """A prompt made ready: padded on the left alone.

    Attributes:
        valid: bool [B], rows that can be continued.
        lengths: int32 [B], tokens of each row.
        positions: int32 [B, T]; None without padding.
    """

    ids: jax.Array
    mask: jax.Array | None
    valid: jax.Array
    lengths: jax.Array
    positions: jax.Array | None


@functools.partial(jax.jit, static_argnums=(0, 1))
def decode(
    model: Model, options: DecodeOptions, params: fp.Params, prompt: Prompt, draw: Draw
) -> tuple[GenerateOutput, jax.Array]:
    """Continues a batch. Tokens have no gradient.

    Returns:
        the output, and int32 [3]: how many rows failed, the first of them, and after how many
        tokens.
    """
    params, *scales = jax.lax.stop_gradient((params, draw.temperature, draw.top_p))
    sampling = Sampling(options.do_sample, options.top_k, *scales)
    rows = ready(prompt, model.config.text)

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
        """Adds the token that the logits choose to the state."""
        step = state.step
        key = None if draw.key is None else jax.random.fold_in(draw.key, step)
        chosen, finite = choose(logits, sampling, key)
        return _with_token(state, chosen, finite & rows.valid, cache, options)

    def more(state):
        go_on = (state.step < options.steps) & ~state.done.all()
        return go_on & (state.lengths >= 0).all() if options.stop_on_failure else go_on

    def next_token(state):
        positions = (rows.lengths + state.step - 1)[:, None] + model.config.text.first_position
        return add(state, *forward(state.token[:, None], state.cache, positions))

    start = _start(model, options, prompt)
    start = fs.varying(start, over=(params, prompt, *scales, draw.key))
    state = add(start, *forward(rows.ids, start.cache, rows.positions, rows.mask))
    if options.steps > 1:  # XLA would compile the loop's layers even if none of it ran
        state = jax.lax.while_loop(more, next_token, state)
    sequences = jnp.concatenate([prompt.ids, state.tokens], axis=1)
    return GenerateOutput(sequences, state.lengths), _failure(state.lengths)


def ready(prompt: Prompt, config: Config) -> Rows:
    """Makes a prompt ready: padding moves to the left, and positions count tokens alone."""
    batch, length = prompt.ids.shape
    ids, mask = align_right(prompt)
    valid, vocab_size = prompt.ids >= 0, getattr(config, "vocab_size", None)
    if vocab_size is not None:
        valid &= prompt.ids < vocab_size
    valid = valid.all(axis=1)
    if mask is None:
        return Rows(ids, None, valid, jnp.full(batch, length, jnp.int32), None)
    lengths = mask.sum(axis=1, dtype=jnp.int32)
    positions = jnp.maximum(jnp.cumsum(mask, axis=1, dtype=jnp.int32) - 1, 0)
    positions = positions + config.first_position
    return Rows(ids, mask, valid & mask.any(axis=1), lengths, positions)


def _start(model: Any, options: DecodeOptions, prompt: Prompt) -> _State:
    batch, length = prompt.ids.shape
    none = jnp.zeros(batch, jnp.int32)
    tokens = jnp.full((batch, options.steps), options.pad, jnp.int32)
    cache = model.init_cache(batch, length + options.steps)
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

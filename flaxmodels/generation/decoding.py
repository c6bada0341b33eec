"""The program of generation: prefill and decode loop, compiled once per shape."""

import functools
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from .. import blocks
from .. import params as fp
from .. import sharding as fs
from ..config.generation_config import GenerationConfig
from ..core.model import Model
from ..core.outputs import ModelOutput
from .prompts import Prompt
from .sampling import Choice, Draw, next_token


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
        choice: how each is chosen.
        stop_on_failure: the caller raises an error if logits are not finite, so that the loop may
            end for all rows.
    """

    steps: int
    choice: Choice
    stop_on_failure: bool


class Ends(NamedTuple):
    """What a row ends with: arrays, so that other tokens are no other program.

    Attributes:
        eos: int32 [E], tokens that finish a row; -1, which no token is, if there is none.
        pad: int32 [], what follows then.
    """

    eos: jax.Array
    pad: jax.Array

    @classmethod
    def of(cls, settings: GenerationConfig) -> Self:
        """Reads the settings of a call."""
        eos, pad = settings.eos or (-1,), settings.pad
        return cls(*(jnp.asarray(np.array(ids, np.int32)) for ids in (eos, pad)))


class State(NamedTuple):
    """What the loop carries: `step` tokens are there, the last of which the cache has not seen. It
    has no cache where the loop is no program."""

    step: jax.Array
    token: jax.Array
    tokens: jax.Array
    lengths: jax.Array
    done: jax.Array
    cache: blocks.Cache | None


@functools.partial(jax.jit, static_argnums=(0, 1))
def decode(
    model: Model, options: DecodeOptions, params: fp.Params, prompt: Prompt, draw: Draw, ends: Ends
) -> tuple[GenerateOutput, jax.Array]:
    """Continues a batch. Tokens have no gradient.

    Returns:
        the output, and int32 [3]: how many rows failed, the first of them, and after how many
        tokens.
    """
    params, temperature, top_p = jax.lax.stop_gradient((params, draw.temperature, draw.top_p))
    draw = Draw(temperature, top_p, draw.key)

    def one_more(state):
        before, token = rows.lengths + state.step - 1, state.token[:, None]
        logits, cache = model.next_pass(params, token, state.cache, before)
        return with_token(options, state, logits, rows.valid, draw, ends, cache)

    given = prompt.continued.ids
    logits, cache, rows = model.first_pass(params, prompt, given.shape[1] + options.steps)
    begun = fs.varying(start(options, ends, cache), over=(params, prompt, draw))
    state = with_token(options, begun, logits, rows.valid, draw, ends, cache)
    if options.steps > 1:  # XLA would compile the loop's layers even if none of it ran
        go_on = functools.partial(goes_on, options)
        state = jax.lax.while_loop(go_on, one_more, state)
    sequences = jnp.concatenate([given, state.tokens], axis=1)
    return GenerateOutput(sequences, state.lengths), failure(state.lengths)


def start(options: DecodeOptions, ends: Ends, cache: blocks.Cache) -> State:
    """Returns the state without a new token."""
    batch = cache.mask.shape[0]
    none = jnp.zeros(batch, jnp.int32)
    tokens = jnp.full((batch, options.steps), ends.pad, jnp.int32)
    return State(jnp.int32(0), none, tokens, none, none.astype(bool), cache)


def goes_on(options: DecodeOptions, state: State) -> jax.Array:
    """Tells whether another token is to be added: bool []."""
    more = (state.step < options.steps) & ~state.done.all()
    return more & (state.lengths >= 0).all() if options.stop_on_failure else more


def with_token(
    options: DecodeOptions,
    state: State,
    logits: jax.Array,
    valid: jax.Array,
    draw: Draw,
    ends: Ends,
    cache: blocks.Cache | None,
) -> State:
    """Adds the token that the logits [B, V] choose to each row that is not done. A row that is not
    `valid` bool [B], or whose logits are not finite, ends without one."""
    step, going = state.step, ~state.done
    chosen, finite = next_token(logits, options.choice, draw, step, step == options.steps - 1)
    good = finite & valid
    token = jnp.where(going & good, chosen, ends.pad)
    lengths = jnp.where(going, jnp.where(good, step + 1, -1 - step), state.lengths)
    done = state.done | ~good | jnp.isin(token, ends.eos)
    place = [jnp.zeros_like(step), step]
    tokens = jax.lax.dynamic_update_slice(state.tokens, token[:, None], place)
    return State(step + 1, token, tokens, lengths, done, cache)


def failure(lengths: jax.Array) -> jax.Array:
    """Returns int32 [3]: how many rows failed, the first of them, and after how many tokens."""
    failed = lengths < 0
    row = jnp.argmax(failed).astype(jnp.int32)
    return jnp.stack([failed.sum(dtype=jnp.int32), row, -1 - lengths[row]])

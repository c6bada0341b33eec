"""Generation with params in stages: the loop of `decode` step by step, each pass a staged one."""

import functools

import jax
import jax.numpy as jnp

from .. import params as fp
from ..core.model import Model
from .decoding import DecodeOptions, GenerateOutput, State, failure, start, with_token
from .prompts import Prompt
from .sampling import Draw, next_token


def decode_in_stages(
    model: Model, options: DecodeOptions, params: fp.Params, prompt: Prompt, draw: Draw
) -> tuple[GenerateOutput, jax.Array]:
    """Continues a batch, with arguments and results as `decode`; the passes read params that a
    `device_map` has placed, so that the loop is no program."""
    given = prompt.continued.ids
    logits, cache, rows = model.first_pass(params, prompt, given.shape[1] + options.steps)
    state = _add(options, start(options, cache)._replace(cache=None), logits, rows.valid, draw)
    while int(state.step) < options.steps and not _ended(state, options):
        before, token = rows.lengths + (int(state.step) - 1), state.token[:, None]
        logits, cache = model.next_pass(params, token, cache, before)
        state = _add(options, state, logits, rows.valid, draw)
    tokens, lengths = jax.device_get((state.tokens, state.lengths))
    lengths = jnp.asarray(lengths)
    sequences = jnp.concatenate([given, jnp.asarray(tokens)], axis=1)
    return GenerateOutput(sequences, lengths), failure(lengths)


def _ended(state: State, options: DecodeOptions) -> bool:
    failed = options.stop_on_failure and bool((state.lengths < 0).any())
    return failed or bool(state.done.all())


@functools.partial(jax.jit, static_argnums=0)
def _add(
    options: DecodeOptions, state: State, logits: jax.Array, valid: jax.Array, draw: Draw
) -> State:
    """Adds the token that the logits choose to the state."""
    last = state.step == options.steps - 1
    chosen, finite = next_token(logits, options.choice, draw, state.step, last)
    return with_token(state, chosen, finite & valid, None, options)

"""Generation with params in stages: the loop of `decode` step by step, each pass a staged one."""

import jax
import jax.numpy as jnp

from .. import params as fp
from ..core.model import Model
from .decoding import DecodeOptions, Ends, GenerateOutput, failure, goes_on, start, with_token
from .prompts import Prompt
from .sampling import Draw


def decode_in_stages(
    model: Model, options: DecodeOptions, params: fp.Params, prompt: Prompt, draw: Draw, ends: Ends
) -> tuple[GenerateOutput, jax.Array]:
    """Continues a batch, with arguments and results as `decode`; the passes read params that a
    `device_map` has placed, so that the loop is no program."""
    given = prompt.continued.ids
    logits, cache, rows = model.first_pass(params, prompt, given.shape[1] + options.steps)
    state = start(options, ends, cache)._replace(cache=None)
    state = _with_token(options, state, logits, rows.valid, draw, ends, None)
    while goes_on(options, state):
        before, token = rows.lengths + (int(state.step) - 1), state.token[:, None]
        logits, cache = model.next_pass(params, token, cache, before)
        state = _with_token(options, state, logits, rows.valid, draw, ends, None)
    tokens, lengths = jax.device_get((state.tokens, state.lengths))
    lengths = jnp.asarray(lengths)
    sequences = jnp.concatenate([given, jnp.asarray(tokens)], axis=1)
    return GenerateOutput(sequences, lengths), failure(lengths)


_with_token = jax.jit(with_token, static_argnums=0)

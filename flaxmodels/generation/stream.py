"""Streaming: tokens one by one, as they are made.

`generate` gives a row when it is finished. Here two programs share a cache: one reads the prompt
and chooses the first token, the other adds a token, again and again, to a cache that is donated to
it. Lengths are rounded up, by padding on the left and by more slots, so that the turns of a
conversation run the programs of the turns before.
"""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import blocks
from ..calls.concrete import is_traced
from ..config.generation_config import GenerationConfig
from ..core.model import Model
from ..params.types import Params
from .arguments import (
    check_finite,
    check_memory,
    check_params,
    count_tokens,
    draw_of,
    no_room,
    settle,
    start_token,
)
from .decoding import Draw
from .passes import Passes
from .prompts import Prompt, read_prompt
from .sampling import Sampling, choose, only

_SMALLEST, _STEP = 64, 512  # lengths: powers of two, then multiples


class Streams(Passes):
    """Adds `stream` to models with a head over the vocabulary and a cache."""

    def stream(
        self,
        params: Params,
        input_ids: jax.Array | np.ndarray,
        attention_mask: jax.Array | np.ndarray | None = None,
        *,
        generation_config: GenerationConfig | None = None,
        max_new_tokens: int | None = None,
        do_sample: bool | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        eos_token_id: int | tuple[int, ...] | None = None,
        pad_token_id: int | None = None,
        decoder_start_token_id: int | None = None,
        forced_bos_token_id: int | None = None,
        forced_eos_token_id: int | tuple[int, ...] | None = None,
        key: jax.Array | None = None,
    ) -> Iterator[np.ndarray]:
        """Continues prompts and yields the new tokens, int32 [B], step by step: those that
        `generate` returns at once, by the same settings.

        Each step waits for its token. Programs are compiled for rounded lengths of prompt and
        continuation, and kept. It ends when all rows have; a row that ended gives padding.

        Args:
            input_ids: int [B, T]; the other arguments as `generate`.

        Raises:
            TypeError: as `generate`; or params, prompt or key of a traced program, which has no
                tokens to show.
            ValueError: as `generate`, and while it runs for logits that are not finite.
        """
        if not self.can_generate():
            raise TypeError(
                f"{type(self).__name__} has no head over the vocabulary and cannot generate"
            )
        check_params(params)
        asked = {
            "max_new_tokens": max_new_tokens,
            "do_sample": do_sample,
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "eos_token_id": eos_token_id,
            "pad_token_id": pad_token_id,
            "decoder_start_token_id": decoder_start_token_id,
            "forced_bos_token_id": forced_bos_token_id,
            "forced_eos_token_id": forced_eos_token_id,
        }
        options = settle(self, asked, generation_config, {})
        prompt = read_prompt(
            input_ids,
            attention_mask,
            pad=options.pad_token_id,
            eos=options.eos,
            vocab_size=self.prompt_vocab_size,
        )
        draw = draw_of(options, {}, key)
        if is_traced(params, prompt, draw):
            raise TypeError("stream shows tokens while it runs, and cannot be traced: use generate")
        start = start_token(self, options)
        length = prompt.ids.shape[1] if start is None else 1
        count = count_tokens(self.config, length, options)
        return _stream(self.clone(generation_config=None), params, prompt, options, draw, count)


class _Options(NamedTuple):
    """What the programs are compiled for, beside model and shapes: slots of the cache, and how the
    next token is chosen; as of `DecodeOptions`."""

    slots: int
    do_sample: bool
    top_k: int | None
    start: int | None = None
    forced_first: int | None = None
    forced_last: tuple[int, ...] = ()


class _Running(NamedTuple):
    """What a step gives to the next.

    Attributes:
        token: int32 [B, 1].
        lengths: int32 [B], tokens of each row, prompt and continuation: the place of `token`.
        cache: which has not seen `token`.
    """

    token: jax.Array
    lengths: jax.Array
    cache: blocks.Cache


def _stream(
    model: Model,
    params: Params,
    prompt: Prompt,
    settings: GenerationConfig,
    draw: Draw,
    count: int,
) -> Iterator[np.ndarray]:
    batch, given = prompt.ids.shape
    limit, start = model.config.text.position_limit, start_token(model, settings)
    if start is None:
        length = rounded(given, None if limit is None else limit - count)
        slots = length + rounded(count, None if limit is None else limit - length)
    else:
        length, slots = rounded(given, limit), rounded(1 + count, limit)
    check_memory(model, batch, 0, slots)
    forced = (settings.forced_bos_token_id if start is not None or given == 1 else None,)
    choice = bool(settings.do_sample), settings.top_k or None
    options = _Options(slots, *choice, start, *forced, settings.forced_last)
    prompt = _padded(prompt, length, on_the_right=start is not None)
    try:
        running, good = _begin(model, options, params, prompt, draw, jnp.bool_(count == 1))
        done = np.zeros(batch, bool)
        for step in range(count):
            if step:
                at = jnp.int32(step), jnp.bool_(step == count - 1)
                running, good = _go_on(model, options, params, running, draw, *at)
            check_finite(_failure(np.asarray(good) | done, step))
            token = np.where(done, settings.pad, np.asarray(running.token)[:, 0])
            yield token.astype(np.int32)
            done |= np.isin(token, settings.eos)
            if done.all():
                return
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise ValueError(no_room(batch, given, count)) from error


def rounded(length: int, most: int | None) -> int:
    """Rounds a length up to one that others share: 64, 128, 256, 512, and multiples of 512; no
    further than `most`."""
    step = _SMALLEST
    while step < min(length, _STEP):
        step *= 2
    up = -(-length // step) * step
    return up if most is None else max(length, min(up, most))


def _padded(prompt: Prompt, length: int, *, on_the_right: bool) -> Prompt:
    """Pads a prompt on the left; on the right one that an encoder reads, which says positions by
    places."""
    more = length - prompt.ids.shape[1]
    mask = jnp.ones(prompt.ids.shape, bool) if prompt.mask is None else prompt.mask
    side = ((0, 0), (0, more) if on_the_right else (more, 0))
    return Prompt(jnp.pad(prompt.ids, side), jnp.pad(mask, side))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _begin(
    model: Any, options: _Options, params: Params, prompt: Prompt, draw: Draw, last: jax.Array
) -> tuple[_Running, jax.Array]:
    """Reads the prompt -> the first tokens, and bool [B], whether each is valid; `last` bool [] for
    the only ones."""
    logits, cache, rows = model.first_pass(params, prompt, options.slots, options.start)
    if options.forced_first is not None:
        logits = only(logits, (options.forced_first,))
    token, good = _chosen(logits, options, draw, jnp.int32(0), last)
    return _Running(token, rows.lengths, cache), good & rows.valid


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=3)
def _go_on(
    model: Any,
    options: _Options,
    params: Params,
    running: _Running,
    draw: Draw,
    step: jax.Array,
    last: jax.Array,
) -> tuple[_Running, jax.Array]:
    """Adds a token to each row; the cache is written in place."""
    logits, cache = model.next_pass(params, running.token, running.cache, running.lengths)
    token, good = _chosen(logits, options, draw, step, last)
    return _Running(token, running.lengths + 1, cache), good


def _chosen(
    logits: jax.Array, options: _Options, draw: Draw, step: jax.Array, last: jax.Array
) -> tuple[jax.Array, jax.Array]:
    sampling = Sampling(options.do_sample, options.top_k, draw.temperature, draw.top_p)
    key = None if draw.key is None else jax.random.fold_in(draw.key, step)
    if options.forced_last:
        logits = jnp.where(last, only(logits, options.forced_last), logits)
    token, finite = choose(logits, sampling, key)
    return token[:, None], finite


def _failure(good: np.ndarray, step: int) -> np.ndarray:
    return np.array([(~good).sum(), np.argmin(good), step])

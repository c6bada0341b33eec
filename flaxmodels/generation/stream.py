"""Streaming: tokens one by one, as they are made.

`generate` gives a row when it is finished. Here two programs share a cache: one reads the prompt
and chooses the first token, the other adds a token, again and again, to a cache that is donated to
it. Lengths are rounded up, by padding on the left and by more slots, so that the turns of a
conversation run the programs of the turns before.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from .. import blocks
from ..calls.known_values import is_traced
from ..calls.signature import shows
from ..core.model import Model
from ..params.types import Params
from ..placement.leaves import is_placed
from .arguments import check_finite, check_memory, memory_named
from .generation_agreement import check_agreement
from .passes import Passes
from .prompts import Prompt
from .sampling import Choice, Draw, next_token
from .task import DEFAULTS, Keywords, Task, task_of

_SMALLEST, _STEP = 64, 512  # lengths: powers of two, then multiples


class Streams(Passes):
    """Adds `stream` to models with a head over the vocabulary and a cache."""

    @shows(DEFAULTS)
    def stream(
        self,
        params: Params,
        input_ids: jax.Array | np.ndarray,
        attention_mask: jax.Array | np.ndarray | None = None,
        **settings: Unpack[Keywords],
    ) -> Iterator[np.ndarray]:
        """Continues prompts and yields the new tokens, int32 [B], step by step: those that
        `generate` returns at once, by the same settings.

        Each step waits for its token. Programs are compiled for rounded lengths of prompt and
        continuation, and kept. It ends when all rows have; a row that ended gives padding.

        Args:
            input_ids: int [B, T]; the other arguments as `generate`, of which none may be traced.

        Raises:
            TypeError: as `generate`; or params, prompt or key of a traced program, which has no
                tokens to show.
            ValueError: as `generate`, and while it runs for logits that are not finite.
        """
        task = task_of("stream", self, params, input_ids, attention_mask, {**settings})
        if is_traced(params, task.prompt, task.draw):
            raise TypeError("stream shows tokens while it runs, and cannot be traced: use generate")
        return _stream(params, task)


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


_Pass: TypeAlias = Callable[..., tuple[_Running, jax.Array]]


def _stream(params: Params, task: Task) -> Iterator[np.ndarray]:
    check_agreement("stream", params, task)
    batch, given = task.prompt.ids.shape
    prompt, slots = _rounded_up(task)
    model, settings, count = task.model, task.settings, task.steps
    check_memory(model, batch, 0, slots)
    how = model, task.choice, params
    # Passes over params in stages are several programs.
    begin, go_on = (_begin, _go_on) if is_placed(params) else _COMPILED
    with memory_named(batch, given, count):
        running, good = begin(*how, slots, prompt, task.draw, jnp.bool_(count == 1))
        done = np.zeros(batch, bool)
        for step in range(count):
            if step:
                at = jnp.int32(step), jnp.bool_(step == count - 1)
                running, good = go_on(*how, running, task.draw, *at)
            fine = np.asarray(good) | done
            check_finite(np.array([(~fine).sum(), np.argmin(fine), step]))
            token = np.where(done, settings.pad, np.asarray(running.token)[:, 0])
            yield token.astype(np.int32)
            done |= np.isin(token, settings.eos)
            if done.all():
                return


def _rounded_up(task: Task) -> tuple[Prompt, int]:
    """Returns the prompt of a rounded length, and the slots of the cache for it and what follows.
    What a decoder over an encoder begins with stays: its positions are places."""
    prompt, count, limit = task.prompt, task.steps, task.model.config.text.position_limit
    given = prompt.ids.shape[1]
    if prompt.decoder is None:
        length = rounded(given, None if limit is None else limit - count)
        slots = length + rounded(count, None if limit is None else limit - length)
        return _padded(prompt, length, on_the_right=False), slots
    slots = rounded(prompt.decoder.ids.shape[1] + count, limit)
    return _padded(prompt, rounded(given, limit), on_the_right=True), slots


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
    return prompt._replace(ids=jnp.pad(prompt.ids, side), mask=jnp.pad(mask, side))


def _begin(
    model: Model,
    choice: Choice,
    params: Params,
    slots: int,
    prompt: Prompt,
    draw: Draw,
    last: jax.Array,
) -> tuple[_Running, jax.Array]:
    """Reads the prompt -> the first tokens, and bool [B], whether each is valid; `last` bool [] for
    the only ones."""
    logits, cache, rows = model.first_pass(params, prompt, slots)
    token, good = next_token(logits, choice, draw, jnp.int32(0), last)
    return _Running(token[:, None], rows.lengths, cache), good & rows.valid


def _go_on(
    model: Model,
    choice: Choice,
    params: Params,
    running: _Running,
    draw: Draw,
    step: jax.Array,
    last: jax.Array,
) -> tuple[_Running, jax.Array]:
    """Adds a token to each row; the cache is written in place."""
    logits, cache = model.next_pass(params, running.token, running.cache, running.lengths)
    token, good = next_token(logits, choice, draw, step, last)
    return _Running(token[:, None], running.lengths + 1, cache), good


_COMPILED: tuple[_Pass, _Pass] = (
    jax.jit(_begin, static_argnums=(0, 1, 3)),
    jax.jit(_go_on, static_argnums=(0, 1), donate_argnums=3),
)

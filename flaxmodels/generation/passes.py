"""The passes of generation: over the prompt, and over each new token. A model that reads its prompt
by an encoder has passes of its own."""

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from .. import blocks
from ..config.config import Config
from ..core.model import Mixin
from ..params.types import Params
from .prompts import Prompt, align_right


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


class Passes(Mixin):
    """Says how a model begins and goes on."""

    is_encoder_decoder: ClassVar[bool] = False
    """Whether an encoder reads the prompt, and the decoder begins with a token of its own."""

    @property
    def prompt_vocab_size(self) -> int | None:
        """How many tokens a prompt may have; None if that is not known."""
        return getattr(self.config.text, "vocab_size", None)

    def first_pass(
        self, params: Params, prompt: Prompt, slots: int
    ) -> tuple[jax.Array, blocks.Cache, Rows]:
        """Reads the prompt.

        Args:
            slots: of the cache.

        Returns:
            the logits [B, V] of the first new token, the cache, and the rows that are continued.
        """
        rows = ready(prompt, self.config.text)
        model: Any = self
        cache = model.init_cache(prompt.ids.shape[0], slots)
        given = {"attention_mask": rows.mask, "position_ids": rows.positions}
        out = self.apply({"params": params}, rows.ids, **given, cache=cache, logits_to_keep=1)
        return out.logits[:, -1], out.cache, rows

    def next_pass(
        self, params: Params, token: jax.Array, cache: blocks.Cache, before: jax.Array
    ) -> tuple[jax.Array, blocks.Cache]:
        """Reads a new token int32 [B, 1] -> the logits [B, V] of the next one, and the cache.

        Args:
            before: int32 [B], how many tokens its row had before it.
        """
        positions = before[:, None] + self.config.text.first_position
        given = {"position_ids": positions, "cache": cache}
        out = self.apply({"params": params}, token, **given, logits_to_keep=1)
        return out.logits[:, -1], out.cache


def ready(prompt: Prompt, config: Config) -> Rows:
    """Makes a prompt ready: padding moves to the left, and positions count tokens alone."""
    batch, length = prompt.ids.shape
    ids, mask, _ = align_right(prompt)
    valid = is_valid(prompt, getattr(config, "vocab_size", None))
    if mask is None:
        return Rows(ids, None, valid, jnp.full(batch, length, jnp.int32), None)
    lengths = mask.sum(axis=1, dtype=jnp.int32)
    positions = jnp.maximum(jnp.cumsum(mask, axis=1, dtype=jnp.int32) - 1, 0)
    positions = positions + config.first_position
    return Rows(ids, mask, valid & mask.any(axis=1), lengths, positions)


def is_valid(prompt: Prompt, vocab_size: int | None) -> jax.Array:
    """Tells of each row whether all of its ids are of the vocabulary: bool [B]."""
    valid = prompt.ids >= 0
    if vocab_size is not None:
        valid &= prompt.ids < vocab_size
    return valid.all(axis=1)

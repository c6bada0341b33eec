"""The scaffold of decoders: what a forward pass is given, checked, and its context and cache."""

import functools
from typing import TypedDict

import jax

from .. import blocks
from .base import PretrainedModel


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
        deterministic: no dropout; False needs `rngs={"dropout": key}`.
        output_hidden_states: see `Output`; None for what the config says.
        output_attentions: see `Output`; None for what the config says. The weights are computed by
            the "eager" formula.
    """

    token_type_ids: jax.Array | None
    position_ids: jax.Array | None
    inputs_embeds: jax.Array | None
    cache: blocks.Cache | None
    head_mask: jax.Array | None
    deterministic: bool
    output_hidden_states: bool | None
    output_attentions: bool | None


class Decoder(PretrainedModel):
    """A model, or the backbone of one, that generates from left to right."""

    @property
    def is_causal(self) -> bool:
        """Whether a token attends to itself and those before it alone."""
        return True

    def begin_pass(
        self,
        tokens: blocks.Tokens,
        *,
        token_types: int | None = None,
        cache: blocks.Cache | None,
        head_mask: jax.Array | None = None,
        deterministic: bool,
        output_hidden_states: bool | None,
        output_attentions: bool | None,
    ) -> tuple[blocks.Tokens, blocks.PassContext]:
        """Checks what a forward pass is given, and builds from it the context that layers read.

        Args:
            token_types: how many there are; None for a family without them.
            **others: as in `Inputs`.

        Raises:
            TypeError: see `Tokens.checked`.
            ValueError: see `Tokens.checked`; or a cache for a model that is no decoder.
        """
        cfg = self.config
        tokens = tokens.checked(cfg, cache=cache, stacked=self.scan_layers, token_types=token_types)
        if cache is not None:
            self._check_decoder()
        context = (
            blocks.decoder_context(tokens, cache)
            if self.is_causal
            else blocks.encoder_context(tokens)
        )
        states, weights = output_hidden_states, output_attentions
        return tokens, context._replace(
            head_scales=blocks.head_scales(cfg, head_mask, stacked=self.scan_layers),
            rotary=self.rotary(context.positions),
            deterministic=deterministic,
            output_hidden_states=cfg.output_hidden_states if states is None else states,
            output_attentions=cfg.output_attentions if weights is None else weights,
        )

    def rotary(self, positions: jax.Array) -> blocks.Rotation | None:
        """Returns the rotation at positions int [B or 1, T] for a family with rotary embedding,
        which overrides this; None for others."""
        return None

    def init_cache(
        self, batch_size: int, max_length: int, dtype: jax.typing.DTypeLike | None = None
    ) -> blocks.Cache:
        """Makes an empty cache for `max_length` tokens, in `dtype` (`self.dtype` if None).

        Raises:
            ValueError: more tokens than the model has positions, or a model that is no decoder.
        """
        cfg = self.config
        self._check_decoder()
        blocks.check_positions(cfg, max_length, "slots")
        return blocks.init_cache(
            batch_size=batch_size,
            max_length=max_length,
            num_heads=[blocks.num_heads(cfg, i)[1] for i in range(cfg.num_hidden_layers)],
            head_dim=cfg.head_dim,
            dtype=self.dtype if dtype is None else dtype,
            stacked=self.scan_layers,
        )

    def attend(self, x: jax.Array) -> jax.Array:
        """Multiplies x [..., D] with the table of input embeddings -> [..., V], as a tied head."""
        table = functools.reduce(getattr, self.input_embeddings_path.split("/"), self)
        return table.attend(x)  # pyright: ignore[reportAttributeAccessIssue] (a submodule, Embed)

    def _check_decoder(self) -> None:
        if not self.is_causal:
            raise ValueError(
                f"{type(self).__name__}: a cache is for a decoder; set config.is_decoder"
            )

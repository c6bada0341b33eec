"""Encoders that differ from BERT by their `EncoderStyle`: names and backbone."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from ... import blocks
from ... import params as fp
from ...core import outputs
from ...core.model import by_config
from .. import decoder
from . import paths
from .branch import Part, at, grow
from .layers import EncoderLayer
from .positions import counted

ENCODER_INPUTS = frozenset(("encoder_hidden_states", "encoder_attention_mask"))
"""Arguments that a family without `is_decoder` does not take."""


class EncoderPretrained(decoder.Decoder):
    """The base of every model of such a family."""

    is_parallelizable = True
    input_embeddings_path = "embeddings/word_embeddings"
    predictions: ClassVar[paths.Predictions] = paths.Predictions()
    """Names of the head over the vocabulary."""
    more_naming: ClassVar[Mapping[str, object]] = {}
    """What of the naming is the family's own, or is not as `encoder_naming` has it."""
    naming = by_config(lambda self: encoder_naming(self.predictions, **self.more_naming))
    tied = by_config(
        lambda self: self.predictions.tied(self.base_model_prefix, self.input_embeddings_path)
    )

    @property
    def is_causal(self) -> bool:
        return "is_decoder" in self.config.names() and self.config.is_decoder


def encoder_naming(predictions: paths.Predictions, **more: object) -> fp.Naming:
    """Makes the `naming` of a family: buffers of positions are ignored; a pooler may be missing,
    and a decoder's attention to an encoder, where it was trained alone."""
    usual = fp.Naming(
        stacks=("layer",),
        ignored=(r"embeddings\.position_ids$",),
        optional=("pooler/", "crossattention/"),
        copies=predictions.copies,
    )
    return dataclasses.replace(usual, **more)


class EncoderModel(decoder.Backbone, EncoderPretrained):
    """tokens [B, T] -> hidden states [B, T, D]. Causal if the config says `is_decoder`."""

    layer: ClassVar[type[nn.Module]] = EncoderLayer

    not_taken = frozenset()

    def setup(self) -> None:
        grow(self, self.parts())
        self.drop = nn.Dropout(self.config.style.embedding_dropout)

    def parts(self) -> dict[str, Part]:
        """Returns what stands at which path."""
        cfg, style, names = self.config, self.config.style, self.config.style.embeddings
        std, axes = cfg.initializer_range, ("position", "embed")
        table = functools.partial(blocks.Embed, features=cfg.embedding_size, std=std)
        layers = functools.partial(blocks.Layers, self.layer, cfg, cfg.layer_kinds, self.options)
        padding = style.padding_position
        words_padding = cfg.pad_token_id if padding is None else padding
        parts: dict[str, Part] = {
            names.words: functools.partial(table, cfg.vocab_size, padding_id=words_padding),
            style.layers: layers,
        }
        if names.types is not None:
            parts[names.types] = functools.partial(table, cfg.type_vocab_size, axes=axes)
        if names.positions is not None:
            rows = cfg.max_position_embeddings
            parts[names.positions] = functools.partial(table, rows, axes=axes, padding_id=padding)
        if names.project is not None:
            project = functools.partial(blocks.Linear, cfg.hidden_size, ("embed", "hidden"), std)
            parts[names.project] = project
        for path in filter(None, (names.norm, style.final_norm)):
            parts[path] = style.norm
        return parts

    @property
    def token_types(self) -> int | None:
        return None if self.config.style.embeddings.types is None else self.config.type_vocab_size

    def embed(self, tokens: blocks.Tokens, context: blocks.PassContext) -> jax.Array:
        style, names = self.config.style, self.config.style.embeddings
        x = blocks.embed_inputs(at(self, names.words), tokens, self.dtype)
        x = self.perturb_embeddings(x)
        x = x if style.words_scale is None else blocks.scaled(x, style.words_scale)
        ids = tokens.token_type_ids
        for path, rows in (
            (names.types, jnp.zeros((1, 1), jnp.int32) if ids is None else ids),
            (names.positions, self.positions(tokens, context)),
        ):
            if path is not None:
                x = x + jnp.broadcast_to(at(self, path)(rows, self.dtype), x.shape)
        x = self.drop(x, deterministic=context.deterministic) if style.drop_before_norm else x
        x = x if names.norm is None else at(self, names.norm)(x)
        x = x if style.drop_before_norm else self.drop(x, deterministic=context.deterministic)
        return x if names.project is None else at(self, names.project)(x)

    def positions(self, tokens: blocks.Tokens, context: blocks.PassContext) -> jax.Array:
        """Returns the row int32 [B or 1, T] of each token in the table of positions."""
        padding, start = self.config.style.padding_position, 0
        if padding is None or tokens.position_ids is not None:
            return context.positions
        if (cache := context.cache) is not None:  # tokens before are counted by its mask
            before = jnp.arange(cache.mask.shape[1], dtype=jnp.int32) < cache.index
            start = (cache.mask & before[None]).sum(1, dtype=jnp.int32, keepdims=True)
        return counted(tokens.input_ids, context.positions, padding, start)

    def run_layers(self, x: jax.Array, context: blocks.PassContext) -> blocks.LayersOutput:
        return at(self, self.config.style.layers)(x, context)

    def finish(self, x: jax.Array) -> jax.Array:
        norm = self.config.style.final_norm
        return x if norm is None else at(self, norm)(x)


class PooledEncoderModel(EncoderModel):
    """tokens [B, T] -> hidden states [B, T, D] and, if `add_pooling_layer`, the first of them
    through one more layer [B, D]. Causal if the config says `is_decoder`."""

    add_pooling_layer: bool = True

    output_class = outputs.PooledOutput

    def __post_init__(self) -> None:
        blocks.as_flag("add_pooling_layer", self.add_pooling_layer)
        super().__post_init__()

    def parts(self) -> dict[str, Part]:
        parts = super().parts()
        if self.add_pooling_layer:
            cfg, axes = self.config, ("embed", "hidden")
            pooler = functools.partial(blocks.Linear, cfg.hidden_size, axes, cfg.initializer_range)
            parts[cfg.style.pooler] = pooler
        return parts

    def more_outputs(self, x: jax.Array) -> dict[str, jax.Array | None]:
        if not self.add_pooling_layer:
            return {"pooler_output": None}
        return {"pooler_output": jnp.tanh(at(self, self.config.style.pooler)(x[:, 0]))}


class UnpooledEncoderModel(PooledEncoderModel):
    """tokens [B, T] -> hidden states [B, T, D] and, if a head asks for it by `add_pooling_layer`,
    the first of them through one more layer [B, D]."""

    add_pooling_layer: bool = False

    not_taken = ENCODER_INPUTS

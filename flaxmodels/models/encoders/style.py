"""Styles: the values that tell encoders apart which are built of the same layer."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Self

from flax import linen as nn

from ... import blocks
from . import paths


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderStyle:
    """Holds what `EncoderLayer` and `EncoderModel` read beside the usual fields of a config; the
    defaults are BERT's.

    Attributes:
        norm_eps: of every norm.
        norm_bias: of every norm.
        act: activation of the MLP.
        norm_first: norms stand before attention and MLP, not after their sums.
        attention, mlp, embeddings: paths.
        cross: first name in a layer of what attends to an encoder.
        layers: path of the list of layers.
        final_norm: path of the norm after the last layer.
        pooler: path of the layer that the first token goes through.
        qkv_bias, out_bias, mlp_bias: of the projections.
        down_bias: of the MLP's last projection; `mlp_bias` if None.
        score_scale: of attention scores; H**-0.5 if None.
        rotate_values: values are rotated as keys are.
        padding_position: where padding stands; tokens stand at the positions after it, counted by
            ids that are not padding, whose id is the same number. None: tokens and padding stand
            at 0, 1, ...
        words_scale: factor of the vectors of words, before others are added; None for 1.
        drop_before_norm: embeddings are dropped before their norm, not after it.
        embedding_dropout, score_dropout, attention_dropout, mlp_dropout: rates, of embeddings,
            attention weights, and of what attention and MLP add.
        inner_dropout: rate of what enters the MLP's last projection.
        classifier_dropout: rate before a classifier.
    """

    norm_eps: float
    norm_bias: bool = True
    act: str
    norm_first: bool = False
    attention: paths.Attention = paths.Attention()
    mlp: paths.MLP = paths.MLP()
    embeddings: paths.Embeddings = paths.Embeddings()
    cross: str = "crossattention"
    layers: str = "encoder/layer"
    final_norm: str | None = None
    pooler: str = "pooler/dense"
    qkv_bias: bool = True
    out_bias: bool = True
    mlp_bias: bool = True
    down_bias: bool | None = None
    score_scale: float | None = None
    rotate_values: bool = False
    padding_position: int | None = None
    words_scale: float | None = None
    drop_before_norm: bool = False
    embedding_dropout: float = 0.0
    score_dropout: float = 0.0
    attention_dropout: float = 0.0
    mlp_dropout: float = 0.0
    inner_dropout: float = 0.0
    classifier_dropout: float = 0.0

    def replace(self, **changes: object) -> Self:
        """Returns the style with some values changed."""
        return dataclasses.replace(self, **changes)

    @property
    def norm(self) -> Callable[[], nn.Module]:
        """Returns what makes a norm."""
        return functools.partial(blocks.LayerNorm, self.norm_eps, self.norm_bias)

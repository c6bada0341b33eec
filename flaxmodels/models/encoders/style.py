"""Styles: the values that tell encoders apart which are built of the same layer. Names of modules
are paths; None stands for what a family does not have."""

import dataclasses
import functools
import posixpath
from collections.abc import Callable
from typing import Self

from flax import linen as nn

from ... import blocks


@dataclasses.dataclass(frozen=True)
class AttentionNames:
    """Paths of the modules of attention in a layer; there may be no norm."""

    query: str = "attention/self/query"
    key: str = "attention/self/key"
    value: str = "attention/self/value"
    out: str = "attention/output/dense"
    norm: str | None = "attention/output/LayerNorm"

    def under(self, name: str) -> "AttentionNames":
        """Returns the same with another first name, as of attention to an encoder."""
        paths = {key: path for key, path in dataclasses.asdict(self).items() if path is not None}
        under = {key: f"{name}/{path.partition('/')[2]}" for key, path in paths.items()}
        return dataclasses.replace(self, **under)


@dataclasses.dataclass(frozen=True)
class MLPNames:
    """Paths of the modules of the MLP in a layer; one with a `gate` multiplies act(gate) and up."""

    up: str = "intermediate/dense"
    down: str = "output/dense"
    norm: str = "output/LayerNorm"
    gate: str | None = None


@dataclasses.dataclass(frozen=True)
class EmbeddingNames:
    """Paths of the tables, of the norm of their sum, and of what projects that."""

    words: str = "embeddings/word_embeddings"
    types: str | None = "embeddings/token_type_embeddings"
    positions: str | None = "embeddings/position_embeddings"
    norm: str | None = "embeddings/LayerNorm"
    project: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderStyle:
    """Holds what `EncoderLayer` and `EncoderModel` read beside the usual fields of a config; the
    defaults are BERT's.

    Attributes:
        norm_eps: of every norm.
        norm_bias: of every norm.
        act: activation of the MLP.
        norm_first: norms stand before attention and MLP, not after their sums.
        attention, mlp, embeddings: names.
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
    attention: AttentionNames = AttentionNames()
    mlp: MLPNames = MLPNames()
    embeddings: EmbeddingNames = EmbeddingNames()
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


@dataclasses.dataclass(frozen=True)
class PredictionNames:
    """Paths of the head over the vocabulary: decoder(norm(act(dense(x)))) + bias.

    Attributes:
        bias: of a head that is tied to the table of words; an untied decoder has its own, and if
            this is None neither has one.
        bias_apart: an untied decoder has none, and `bias` stands beside it.
        act: None for that of the layers.
        dense_bias: of `dense`.
    """

    dense: str = "cls/predictions/transform/dense"
    norm: str = "cls/predictions/transform/LayerNorm"
    decoder: str = "cls/predictions/decoder"
    bias: str | None = "cls/predictions/bias"
    act: str | None = None
    dense_bias: bool = True
    bias_apart: bool = False

    @property
    def whole(self) -> str:
        """Path of all of these, or of the decoder if they have no path in common."""
        return posixpath.commonpath((self.dense, self.norm, self.decoder)) or self.decoder

    @property
    def biases(self) -> tuple[str, str] | None:
        """Paths of the bias of an untied decoder and of a tied one; None if there is one path for
        both, or no bias."""
        own = f"{self.decoder}/bias"
        if self.bias is None or self.bias_apart or self.bias == own:
            return None
        return own, self.bias

    def tied(self, prefix: str, words: str) -> tuple[tuple[str, str], ...]:
        """Returns `tied` of a model whose backbone has the prefix, and there the table `words`."""
        table, pair = (f"{self.decoder}/kernel", f"{prefix}/{words}/embedding"), self.biases
        return (table,) if pair is None else (table, pair, (pair[1], pair[0]))

    @property
    def copies(self) -> tuple[tuple[str, str], ...]:
        """`copies` of the naming: an untied head has its bias twice in PyTorch."""
        return () if self.biases is None else (self.biases,)


@dataclasses.dataclass(frozen=True)
class ClassifierNames:
    """Paths of the head on the first token: out(act(dense(x))), dropped before each product.

    Attributes:
        act: None for that of the layers.
        drop_first: the first token is dropped too, before `dense`.
    """

    dense: str = "classifier/dense"
    out: str = "classifier/out_proj"
    act: str | None = "tanh"
    drop_first: bool = True

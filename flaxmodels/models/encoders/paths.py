"""Paths of modules, which checkpoints of encoders nest differently; None stands for what a family
does not have."""

import dataclasses
import posixpath


@dataclasses.dataclass(frozen=True)
class Attention:
    """Paths of the modules of attention in a layer; there may be no norm."""

    query: str = "attention/self/query"
    key: str = "attention/self/key"
    value: str = "attention/self/value"
    out: str = "attention/output/dense"
    norm: str | None = "attention/output/LayerNorm"

    def under(self, name: str) -> "Attention":
        """Returns the same with another first name, as of attention to an encoder."""
        paths = {key: path for key, path in dataclasses.asdict(self).items() if path is not None}
        under = {key: f"{name}/{path.partition('/')[2]}" for key, path in paths.items()}
        return dataclasses.replace(self, **under)


@dataclasses.dataclass(frozen=True)
class MLP:
    """Paths of the modules of the MLP in a layer; one with a `gate` multiplies act(gate) and up."""

    up: str = "intermediate/dense"
    down: str = "output/dense"
    norm: str = "output/LayerNorm"
    gate: str | None = None


@dataclasses.dataclass(frozen=True)
class Embeddings:
    """Paths of the tables, of the norm of their sum, and of what projects that."""

    words: str = "embeddings/word_embeddings"
    types: str | None = "embeddings/token_type_embeddings"
    positions: str | None = "embeddings/position_embeddings"
    norm: str | None = "embeddings/LayerNorm"
    project: str | None = None


@dataclasses.dataclass(frozen=True)
class Predictions:
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
class Classifier:
    """Paths of the head on the first token: out(act(dense(x))), dropped before each product.

    Attributes:
        act: None for that of the layers.
        drop_first: the first token is dropped too, before `dense`.
    """

    dense: str = "classifier/dense"
    out: str = "classifier/out_proj"
    act: str | None = "tanh"
    drop_first: bool = True


@dataclasses.dataclass(frozen=True)
class Distances:
    """Paths in a layer of what projects distances to keys and to queries; those of the tokens' own
    projections if they serve both."""

    key: str = "attention/self/key_proj"
    query: str = "attention/self/query_proj"
    key_bias: bool = True

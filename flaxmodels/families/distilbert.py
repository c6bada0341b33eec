"""DistilBERT: half of BERT's layers, without token types and pooler.

Sanh et al. 2019, arXiv:1910.01108; reference: `models/distilbert` of Transformers 5.23.
"""

import dataclasses
import functools

import jax
import numpy as np
from flax import linen as nn

from .. import blocks
from ..models import config_checks, task_heads
from ..models.encoders import heads, paths
from ..models.encoders.branch import Part
from ..models.encoders.fields import EncoderFields
from ..models.encoders.model import ENCODER_INPUTS, EncoderModel
from ..models.encoders.style import EncoderStyle
from . import classes_of

_LIN = [f"attention/{name}_lin" for name in ("q", "k", "v", "out")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistilBertConfig(EncoderFields):
    """`config.json` of a DistilBERT."""

    model_type = "distilbert"
    unsupported = {**config_checks.NOT_IMPLEMENTED, "is_decoder": (False, None)}
    aliases = {
        "hidden_size": "dim",
        "num_attention_heads": "n_heads",
        "num_hidden_layers": "n_layers",
    }

    vocab_size: int = 30522
    max_position_embeddings: int = 512
    sinusoidal_pos_embds: bool = False
    n_layers: int = 6
    n_heads: int = 12
    dim: int = 768
    hidden_dim: int = 3072
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation: str = "gelu"
    initializer_range: float = 0.02
    qa_dropout: float = 0.1
    seq_classif_dropout: float = 0.2
    pad_token_id: int | None = 0

    @property
    def intermediate_size(self) -> int:
        """Width of the MLP."""
        return self.hidden_dim

    @property
    def style(self) -> EncoderStyle:
        return EncoderStyle(
            norm_eps=1e-12,
            act=self.activation,
            attention=paths.Attention(*_LIN, norm="sa_layer_norm"),
            mlp=paths.MLP("ffn/lin1", "ffn/lin2", norm="output_layer_norm"),
            embeddings=paths.Embeddings(types=None),
            layers="transformer/layer",
            embedding_dropout=self.dropout,
            score_dropout=self.attention_dropout,
            mlp_dropout=self.dropout,
            classifier_dropout=self.dropout,
        )


class Sinusoids(blocks.Embed):
    """A table that starts as sinusoids: sines in even columns, cosines in odd ones."""

    def setup(self) -> None:
        rows, width = self.rows, self.features
        steps = np.power(10_000, np.arange(width) // 2 * 2 / width)
        angles = np.arange(rows)[:, None] / steps[None]
        table = np.where(np.arange(width)[None] % 2, np.cos(angles), np.sin(angles))
        draw = nn.initializers.constant(table.astype(np.float32), np.float32)
        self.embedding = blocks.parameter(self, "embedding", draw, (rows, width), self.axes)


class DistilBertBackbone(EncoderModel):
    """tokens [B, T] -> hidden states [B, T, D]."""

    def parts(self) -> dict[str, Part]:
        cfg, parts = self.config, super().parts()
        if cfg.sinusoidal_pos_embds:
            rows, width, axes = cfg.max_position_embeddings, cfg.dim, ("position", "embed")
            table = functools.partial(Sinusoids, rows, width, cfg.initializer_range, axes)
            parts["embeddings/position_embeddings"] = table
        return parts


class DistilBertHead(heads.FirstTokenHead):
    """Two layers on the first token, with their own rate of dropout."""

    classifier = paths.Classifier("pre_classifier", "classifier", act="relu", drop_first=False)
    dropout = "seq_classif_dropout"


class SequenceClassification(DistilBertHead, task_heads.SequenceClassification):
    """tokens [B, T] -> logits [B, labels], read off the first token."""


class MultipleChoice(DistilBertHead, task_heads.MultipleChoice):
    """Tokens of several choices [B, C, T] -> logits [B, C], read off the first token."""


class QuestionAnswering(heads.QuestionAnswering):
    """tokens [B, T] -> logits [B, T] of the first and of the last token of the answer, of hidden
    states dropped by a rate of their own."""

    def logits(self, base, out, given) -> jax.Array:
        dropped = nn.Dropout(self.config.qa_dropout)
        x = dropped(out.last_hidden_state, deterministic=given.deterministic)
        return super().logits(base, out.replace(last_hidden_state=x), given)


__getattr__ = classes_of(
    DistilBertConfig,
    parts=heads.ENCODER_CLASSES
    | {
        "Model": DistilBertBackbone,
        "ForSequenceClassification": SequenceClassification,
        "ForMultipleChoice": MultipleChoice,
        "ForQuestionAnswering": QuestionAnswering,
    },
    base_model_prefix="distilbert",
    predictions=paths.Predictions(
        "vocab_transform", "vocab_layer_norm", "vocab_projector", "vocab_projector/bias"
    ),
    not_taken=ENCODER_INPUTS | {"token_type_ids"},
)

"""ELECTRA: BERT that tells which tokens were replaced; embeddings of their own width.

Clark et al. 2020, arXiv:2003.10555; reference: `models/electra` of Transformers 5.23.
"""

import dataclasses

import jax
from flax import linen as nn

from .. import blocks
from ..models import config_checks, task_heads
from ..models.encoders import heads, paths
from ..models.encoders.branch import grown
from ..models.encoders.fields import BertFields
from ..models.encoders.model import EncoderModel
from ..models.encoders.style import EncoderStyle
from . import classes_of

_DENSE, _REPLACED = (f"discriminator_predictions/{name}" for name in ("dense", "dense_prediction"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ElectraConfig(BertFields):
    """`config.json` of an ELECTRA. The `summary_*` fields are of `ElectraForMultipleChoice`."""

    model_type = "electra"

    embedding_size: int = 128  # pyright: ignore[reportIncompatibleMethodOverride] (a property elsewhere)
    hidden_size: int = 256
    num_attention_heads: int = 4
    intermediate_size: int = 1024
    summary_type: str = "first"
    summary_use_proj: bool = True
    summary_activation: str | None = "gelu"
    summary_last_dropout: float = 0.1

    @property
    def style(self) -> EncoderStyle:
        project = None if self.embedding_size == self.hidden_size else "embeddings_project"
        return super().style.replace(embeddings=paths.Embeddings(project=project))

    def validate(self) -> None:
        super().validate()
        if self.summary_activation:
            config_checks.activation(self, "summary_activation")
        config_checks.one_of(self, "summary_type", heads.SUMMARIES)


class ReplacedTokens(heads.EncoderHead, task_heads.SimpleHead):
    """tokens [B, T] -> logits [B, T]: the token was replaced, or is the text's own."""

    loss_kind = "replaced_tokens"

    def logits(self, base, out, given) -> jax.Array:
        cfg = self.config
        parts = {
            _DENSE: self.linear(cfg.hidden_size),
            _REPLACED: self.linear(1, ("embed", "labels")),
        }
        modules = grown(self, parts)
        x = blocks.ACTIVATIONS[cfg.hidden_act](modules.at(_DENSE)(out.last_hidden_state))
        return modules.at(_REPLACED)(x)[..., 0]


class FirstTokenClassification(heads.FirstTokenClassification):
    classifier = paths.Classifier(act="gelu")


class SummaryMultipleChoice(heads.EncoderHead, task_heads.MultipleChoice):
    """Tokens of several choices [B, C, T] -> logits [B, C], read off a summary of hidden states."""

    def label(self, out, given, labels: int) -> jax.Array:
        cfg, path = self.config, "sequence_summary/summary"
        x = heads.SUMMARIES[cfg.summary_type](out.last_hidden_state)
        if cfg.summary_use_proj:
            x = grown(self, {path: self.linear(cfg.hidden_size)}).at(path)(x)
        if cfg.summary_activation:
            x = blocks.ACTIVATIONS[cfg.summary_activation](x)
        x = nn.Dropout(cfg.summary_last_dropout)(x, deterministic=given.deterministic)
        return self.classify(x, labels)


__getattr__ = classes_of(
    ElectraConfig,
    parts=heads.ENCODER_CLASSES
    | {
        "Model": EncoderModel,
        "ForPreTraining": ReplacedTokens,
        "ForSequenceClassification": FirstTokenClassification,
        "ForMultipleChoice": SummaryMultipleChoice,
    },
    base_model_prefix="electra",
    predictions=paths.Predictions(
        "generator_predictions/dense",
        "generator_predictions/LayerNorm",
        "generator_lm_head",
        "generator_lm_head/bias",
        act="gelu",
    ),
)

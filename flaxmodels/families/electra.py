"""ELECTRA: BERT that tells which tokens were replaced; embeddings of their own width.

Clark et al. 2020, arXiv:2003.10555; reference: `models/electra` of Transformers 5.23.
"""

import dataclasses
from typing import ClassVar

import jax
from flax import linen as nn

from .. import blocks
from ..core import outputs
from ..documents.json_values import ConfigError
from ..models import config_checks, task_heads
from ..models.encoders import heads
from ..models.encoders.branch import grown
from ..models.encoders.fields import BertFields
from ..models.encoders.model import EncoderModel, EncoderPretrained, encoder_naming
from ..models.encoders.style import (
    ClassifierNames,
    EmbeddingNames,
    EncoderStyle,
    PredictionNames,
)
from . import classes_of

_DENSE, _REPLACED = (f"discriminator_predictions/{name}" for name in ("dense", "dense_prediction"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ElectraConfig(BertFields):
    """`config.json` of an ELECTRA. The `summary_*` fields are of `ElectraForMultipleChoice`."""

    model_type: ClassVar[str] = "electra"

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
        return dataclasses.replace(super().style, embeddings=EmbeddingNames(project=project))

    def validate(self) -> None:
        super().validate()
        if self.summary_activation:
            config_checks.activation(self, "summary_activation")
        if self.summary_type not in heads.SUMMARIES:
            raise ConfigError(
                f"{type(self).__name__}: summary_type = {self.summary_type!r} is not implemented "
                f"(implemented: {', '.join(heads.SUMMARIES)})"
            )


class ElectraPretrained(EncoderPretrained):
    """The base of every model of the family."""

    config_class = ElectraConfig
    base_model_prefix = "electra"
    predictions = PredictionNames(
        dense="generator_predictions/dense",
        norm="generator_predictions/LayerNorm",
        decoder="generator_lm_head",
        bias="generator_lm_head/bias",
        whole="generator_lm_head",
        act="gelu",
    )
    naming = encoder_naming(predictions)
    tied = predictions.tied(base_model_prefix)


class ElectraModel(EncoderModel, ElectraPretrained):
    """tokens [B, T] -> hidden states [B, T, D]. Causal if the config says `is_decoder`."""


class ElectraForPreTraining(ElectraPretrained, heads.EncoderHead, task_heads.SimpleHead):
    """tokens [B, T] -> logits [B, T]: the token was replaced, or is the text's own."""

    loss_kind = "replaced_tokens"
    backbone = ElectraModel

    def head(self, base, out, given) -> outputs.LogitsOutput:
        cfg = self.config
        parts = {
            _DENSE: self.linear(cfg.hidden_size),
            _REPLACED: self.linear(1, ("embed", "labels")),
        }
        modules = grown(self, parts)
        x = blocks.ACTIVATIONS[cfg.hidden_act](modules.at(_DENSE)(out.last_hidden_state))
        return outputs.LogitsOutput.of(out, logits=modules.at(_REPLACED)(x)[..., 0])


class ElectraForSequenceClassification(ElectraPretrained, heads.FirstTokenClassification):
    backbone = ElectraModel
    classifier = ClassifierNames(act="gelu")


class ElectraForMultipleChoice(ElectraPretrained, heads.EncoderHead, task_heads.MultipleChoice):
    """Tokens of several choices [B, C, T] -> logits [B, C], read off a summary of hidden states."""

    backbone = ElectraModel

    def choose(self, out: outputs.BaseOutput, given: task_heads.HeadInputs) -> jax.Array:
        cfg, path = self.config, "sequence_summary/summary"
        x = heads.SUMMARIES[cfg.summary_type](out.last_hidden_state)
        if cfg.summary_use_proj:
            x = grown(self, {path: self.linear(cfg.hidden_size)}).at(path)(x)
        if cfg.summary_activation:
            x = blocks.ACTIVATIONS[cfg.summary_activation](x)
        x = nn.Dropout(cfg.summary_last_dropout)(x, deterministic=given.deterministic)
        return self.classify(x, 1)


__getattr__ = classes_of(ElectraConfig, parts=heads.ENCODER_CLASSES)

"""Configurations of encoders."""

import dataclasses
from typing import ClassVar

from ...documents.json_values import ConfigError
from .. import config_checks
from ..plain_heads import EvenHeads
from .style import EncoderStyle


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderFields(EvenHeads):
    """What follows of the fields of an encoder."""

    def style_of(self, form: str) -> EncoderStyle:
        """Returns the style of layers of a form (`blocks.Kind`)."""
        return self.style

    @property
    def first_position(self) -> int:
        padding = self.style.padding_position
        return 0 if padding is None else padding + 1

    @property
    def position_limit(self) -> int | None:
        if self.style.embeddings.positions is None:
            return None
        return self.max_position_embeddings - self.first_position


@dataclasses.dataclass(frozen=True, kw_only=True)
class SizeFields(EncoderFields):
    """The fields of `config.json` that most encoders have."""

    unsupported: ClassVar = {
        **config_checks.NOT_IMPLEMENTED,
        "position_embedding_type": ("absolute", None),
        "is_decoder": (False, None),
    }

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0

    @property
    def style(self) -> EncoderStyle:
        dropped = self.hidden_dropout_prob
        return EncoderStyle(
            norm_eps=self.layer_norm_eps,
            act=self.hidden_act,
            embedding_dropout=dropped,
            score_dropout=self.attention_probs_dropout_prob,
            attention_dropout=dropped,
            mlp_dropout=dropped,
            classifier_dropout=dropped,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassifierFields(SizeFields):
    """Adds the rate before a classifier; None for that of hidden states."""

    classifier_dropout: float | None = None

    @property
    def style(self) -> EncoderStyle:
        rate = self.classifier_dropout
        rate = self.hidden_dropout_prob if rate is None else rate
        return super().style.replace(classifier_dropout=rate)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodingFields(SizeFields):
    """Adds token types, and what makes a decoder of an encoder: one that `is_decoder` attends to
    what comes before alone."""

    unsupported: ClassVar = {
        **config_checks.NO_COMPOSITES,
        "position_embedding_type": ("absolute", None),
    }

    type_vocab_size: int = 2
    is_decoder: bool = False
    add_cross_attention: bool = False

    def validate(self) -> None:
        super().validate()
        if self.add_cross_attention and not self.is_decoder:
            raise ConfigError("add_cross_attention is for a decoder; set is_decoder")


@dataclasses.dataclass(frozen=True, kw_only=True)
class BertFields(DecodingFields, ClassifierFields):
    """The fields of BERT's `config.json`."""

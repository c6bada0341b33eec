"""What RoBERTa and its kin share: positions that begin after that of padding, and the names of
their heads.

Liu et al. 2019, arXiv:1907.11692.
"""

import dataclasses

from .. import config_checks
from ..base import PretrainedModel
from . import heads, paths
from .fields import BertFields
from .model import EncoderPretrained
from .style import EncoderStyle


@dataclasses.dataclass(frozen=True, kw_only=True)
class RobertaFields(BertFields):
    """The fields of RoBERTa's `config.json`: those of BERT."""

    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | tuple[int, ...] | None = 2

    @property
    def style(self) -> EncoderStyle:
        return super().style.replace(padding_position=self.pad_token_id)

    def validate(self) -> None:
        super().validate()
        config_checks.padding_token(self)


class RobertaLike(EncoderPretrained):
    """The base of every model of such a family."""

    base_model_prefix = "roberta"
    predictions = paths.Predictions(
        "lm_head/dense", "lm_head/layer_norm", "lm_head/decoder", "lm_head/bias", act="gelu"
    )


class MultipleChoice(heads.MultipleChoice):
    """Tokens of several choices [B, C, T] -> logits [B, C], read off the pooled outputs, which are
    dropped as hidden states are."""

    dropout = "hidden_dropout_prob"


ROBERTA_CLASSES: dict[str, type[PretrainedModel]] = {
    **heads.ENCODER_CLASSES,
    "Pretrained": RobertaLike,
    "ForSequenceClassification": heads.FirstTokenClassification,
    "ForMultipleChoice": MultipleChoice,
}
"""How a class's name ends -> what the class is, for `families.classes_of`."""

"""M2M-100 and NLLB: norms before attention and MLP, and one more at the end; sinusoids by the
number of tokens before each.

Fan et al. 2020, arXiv:2010.11125; reference: `models/m2m_100` of Transformers 5.23.
"""

import dataclasses

from ..models import config_checks
from ..models.bart_layers import BartStyle
from ..models.encoder_decoders.fairseq import FAIRSEQ_CLASSES, FairseqUnbiased
from ..models.encoder_decoders.fairseq_config import FairseqConfig
from . import classes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class M2M100Config(FairseqConfig):
    """`config.json` of an M2M-100. Sinusoids go on beyond `max_position_embeddings`."""

    model_type = "m2m_100"
    kind = BartStyle(positions="counted")

    vocab_size: int = 128112
    encoder_layerdrop: float = 0.05
    decoder_layerdrop: float = 0.05
    activation_function: str = "relu"
    attention_dropout: float = 0.1
    scale_embedding: bool = True
    forced_eos_token_id: int | tuple[int, ...] | None = None

    def validate(self) -> None:
        super().validate()
        config_checks.padding_token(self)


__getattr__ = classes_of(
    M2M100Config, parts={**FAIRSEQ_CLASSES, "ForConditionalGeneration": FairseqUnbiased}
)

"""UMT5: mT5 with a table of bias in every layer. States are scaled before the head, as in
Transformers 5; in 4 only where the head is the table of tokens, which changes no greatest logit.

Chung et al. 2023, arXiv:2304.09151; reference: `models/umt5` of Transformers 5.23.
"""

import dataclasses

from ..models.encoder_decoders.t5 import T5_CLASSES
from . import classes_of
from .mt5 import MT5Fields


@dataclasses.dataclass(frozen=True, kw_only=True)
class UMT5Config(MT5Fields):
    """`config.json` of a UMT5."""

    model_type = "umt5"
    bias_in_every_layer = True
    scales_states = True


__getattr__ = classes_of(UMT5Config, parts=T5_CLASSES)

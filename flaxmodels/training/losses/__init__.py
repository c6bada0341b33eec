"""Losses: of each head, and cross-entropy over large vocabularies."""

from ...core.deferred import DeferredLogits as DeferredLogits
from .chunked import chunked_cross_entropy as chunked_cross_entropy
from .cross_entropy import cross_entropy as cross_entropy
from .ctc import ctc_loss as ctc_loss
from .loss import counts as counts
from .loss import loss as loss
from .loss import loss_parts as loss_parts
from .loss import targets as targets
from .matching import match_labels as match_labels
from .parts import Part as Part
from .parts import loss_value as loss_value

"""Data: from datasets to batches that a model is trained on."""

from .batches import Batches as Batches
from .collate import DataCollatorWithPadding as DataCollatorWithPadding
from .collate import DefaultDataCollator as DefaultDataCollator
from .prepare import prepare as prepare

"""Checkpoints of a training run, which a run is taken up from."""

from .run import Checkpoints as Checkpoints

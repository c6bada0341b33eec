"""TensorFlow checkpoints."""

from .bundle import read_index as read_index

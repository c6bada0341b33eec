"""Models in GGUF files: their configuration out of the metadata, and their tensors under the names,
and in the layout, of PyTorch's checkpoints."""

from .config import config_of as config_of
from .tensors import source_of as source_of

ENDING = ".gguf"

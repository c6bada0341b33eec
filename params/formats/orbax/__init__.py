"""orbax checkpoints: read by TensorStore, written by orbax itself."""

from .tree import read_folder as read_folder
from .tree import write_folder as write_folder

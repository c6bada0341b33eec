"""Checkpoint formats: each opens as a `Source`, name -> lazy tensor."""

from .folder import MSGPACK as MSGPACK
from .folder import SAFETENSORS as SAFETENSORS
from .folder import open_checkpoint as open_checkpoint
from .source import Source as Source
from .source import Tensor as Tensor

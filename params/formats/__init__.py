"""Checkpoint formats: each opens as a `Source`, name -> lazy tensor."""

from .folder import MSGPACK as MSGPACK
from .folder import SAFETENSORS as SAFETENSORS
from .folder import Format as Format
from .folder import heads as heads
from .folder import is_head as is_head
from .folder import is_weights as is_weights
from .folder import open_checkpoint as open_checkpoint
from .source import Source as Source
from .source import Tensor as Tensor

"""Rotary position embedding, and the ways of stretching it to longer contexts."""

from .rope_scaling import ROPE_TYPES as ROPE_TYPES
from .rope_scaling import rope_frequencies as rope_frequencies
from .rope_scaling import rotary_dims as rotary_dims
from .rotary import Rotation as Rotation
from .rotary import apply_rotary as apply_rotary
from .rotary import rotary as rotary
from .rotary import rotate as rotate

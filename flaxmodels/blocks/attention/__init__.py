"""Scaled dot-product attention, and its masks."""

from .additive_mask import extended_attention_mask as extended_attention_mask
from .additive_mask import invert_attention_mask as invert_attention_mask
from .alibi import alibi as alibi
from .alibi import alibi_slopes as alibi_slopes
from .mask import AttentionMask as AttentionMask
from .mask import token_mask as token_mask
from .paths import IMPLEMENTATIONS as IMPLEMENTATIONS
from .paths import attend as attend
from .paths import check_attention as check_attention
from .rules import Causal as Causal
from .rules import Chunk as Chunk
from .rules import Rule as Rule
from .rules import SameSegment as SameSegment
from .rules import TwoWayWindow as TwoWayWindow
from .rules import Window as Window

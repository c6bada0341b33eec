"""What families are composed of.

Shapes: B batch, T queries, S keys (slots of a cache), D model, F hidden width of the MLP, N heads,
K key-value heads, G = N / K, H head dimension, V vocabulary, L layers.
"""

from .activations import ACTIVATIONS as ACTIVATIONS
from .attention import AttentionMask as AttentionMask
from .attention import Causal as Causal
from .attention import Chunk as Chunk
from .attention import Rule as Rule
from .attention import SameSegment as SameSegment
from .attention import TwoWayWindow as TwoWayWindow
from .attention import Window as Window
from .attention import alibi as alibi
from .attention import attend as attend
from .attention import check_attention as check_attention
from .attention import extended_attention_mask as extended_attention_mask
from .attention import invert_attention_mask as invert_attention_mask
from .attention import token_mask as token_mask
from .attention_heads import get_head_mask as get_head_mask
from .attention_heads import head_scales as head_scales
from .attention_heads import heads_are_even as heads_are_even
from .attention_heads import kept_heads as kept_heads
from .attention_heads import kept_kv_heads as kept_kv_heads
from .attention_heads import num_heads as num_heads
from .context import ModelOptions as ModelOptions
from .context import PassContext as PassContext
from .context import check_dtype as check_dtype
from .context import pass_context as pass_context
from .inputs import Tokens as Tokens
from .inputs import check_attention_mask as check_attention_mask
from .inputs import check_ids as check_ids
from .inputs import check_positions as check_positions
from .kinds import Kind as Kind
from .kinds import Segment as Segment
from .kinds import segments as segments
from .kv_cache import KV as KV
from .kv_cache import Cache as Cache
from .kv_cache import CacheSpec as CacheSpec
from .kv_cache import Ring as Ring
from .kv_cache import init_cache as init_cache
from .linear import Bias as Bias
from .linear import Embed as Embed
from .linear import Linear as Linear
from .linear import embed_inputs as embed_inputs
from .mlp import MLP as MLP
from .mlp import GatedMLP as GatedMLP
from .norm import LayerNorm as LayerNorm
from .norm import RMSNorm as RMSNorm
from .parameter import parameter as parameter
from .remat import as_remat as as_remat
from .rope_scaling import ROPE_TYPES as ROPE_TYPES
from .rope_scaling import rope_frequencies as rope_frequencies
from .rope_scaling import rotary_dims as rotary_dims
from .rotary import Rotation as Rotation
from .rotary import apply_rotary as apply_rotary
from .rotary import rotary as rotary
from .rotary import rotate as rotate
from .self_attention import self_attention as self_attention
from .self_attention import split_heads as split_heads
from .stack import At as At
from .stack import LayerOutput as LayerOutput
from .stack import Layers as Layers
from .stack import LayersOutput as LayersOutput
from .stack import varying as varying

"""What families are composed of.

Shapes: B batch, T queries, S keys (slots of a cache), D model, F hidden width of the MLP, N heads,
K key-value heads, G = N / K, H head dimension, V vocabulary, L layers.
"""

from .activations import ACTIVATIONS as ACTIVATIONS
from .attention import attend as attend
from .attention import check_attention as check_attention
from .attention import make_mask as make_mask
from .cache import Cache as Cache
from .cache import init_cache as init_cache
from .context import Call as Call
from .context import Run as Run
from .context import check_dtype as check_dtype
from .heads import get_head_mask as get_head_mask
from .heads import head_scales as head_scales
from .heads import heads_are_even as heads_are_even
from .heads import heads_left as heads_left
from .heads import kv_heads_left as kv_heads_left
from .heads import num_heads as num_heads
from .inputs import Tokens as Tokens
from .inputs import check_attention_mask as check_attention_mask
from .inputs import check_ids as check_ids
from .inputs import check_positions as check_positions
from .linear import Embed as Embed
from .linear import Linear as Linear
from .linear import embed_inputs as embed_inputs
from .mask import bidirectional as bidirectional
from .mask import causal as causal
from .norm import LayerNorm as LayerNorm
from .norm import RMSNorm as RMSNorm
from .parameter import parameter as parameter
from .remat import as_remat as as_remat
from .rotary import ROPE_TYPES as ROPE_TYPES
from .rotary import apply_rotary as apply_rotary
from .rotary import rope_frequencies as rope_frequencies
from .rotary import rotary as rotary
from .self_attention import self_attention as self_attention
from .stack import Layers as Layers
from .varying import varying as varying

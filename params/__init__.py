"""Parameter trees: everything about them that needs no model.

What users call; the library itself imports from the modules that have it.
"""

from .adapters import PeftConfig as PeftConfig
from .adapters import active_adapters as active_adapters
from .adapters import adapter_dropout as adapter_dropout
from .adapters import adapter_names as adapter_names
from .adapters import attach as attach
from .adapters import choose_adapters as choose_adapters
from .adapters import delete_adapters as delete_adapters
from .adapters import enable_adapters as enable_adapters
from .adapters import get_adapters as get_adapters
from .adapters import join_adapters as join_adapters
from .adapters import lora_init as lora_init
from .adapters import merge_adapters as merge_adapters
from .adapters import put_adapter as put_adapter
from .adapters import set_adapters as set_adapters
from .adapters import split_adapters as split_adapters
from .adapters import stack_adapters as stack_adapters
from .adapters import unmerge_adapters as unmerge_adapters
from .adapters import without_adapters as without_adapters
from .atomic import replace as publish  # noqa: F401  its old name, which others' tests patch
from .checkpoint.standalone import LoadResult as LoadResult
from .checkpoint.standalone import load_flax_sharded_weights, load_sharded_checkpoint
from .compare.diff import Diff as Diff
from .compare.diff import diff
from .errors import CheckpointError
from .formats import Source, Tensor, open_checkpoint
from .quantized.qtensor import QTensor
from .quantized.trees import dequantize, quantize
from .tree.arithmetic import add, ema, interpolate, scale
from .tree.cast import cast, parse_dtype, to_bf16, to_fp16, to_fp32
from .tree.initialize import initialize
from .tree.masks import Mask, as_mask, mask_except
from .tree.measure import memory_footprint, num_parameters, summary
from .tree.naming import Constant as Constant
from .tree.naming import Joined as Joined
from .tree.naming import Naming
from .tree.paths import flatten, unflatten
from .tree.select import get_leaf, merge, partition, select
from .tree.stack import stack_layers, unstack_layers
from .types import Params, PyTree

__all__ = [
    "CheckpointError",
    "Mask",
    "Naming",
    "Params",
    "PyTree",
    "QTensor",
    "Source",
    "Tensor",
    "add",
    "as_mask",
    "cast",
    "dequantize",
    "diff",
    "ema",
    "flatten",
    "get_leaf",
    "initialize",
    "interpolate",
    "load_flax_sharded_weights",
    "load_sharded_checkpoint",
    "mask_except",
    "memory_footprint",
    "merge",
    "num_parameters",
    "open_checkpoint",
    "parse_dtype",
    "partition",
    "quantize",
    "scale",
    "select",
    "stack_layers",
    "summary",
    "to_bf16",
    "to_fp16",
    "to_fp32",
    "unflatten",
    "unstack_layers",
]

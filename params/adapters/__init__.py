"""Adapters: small arrays beside a weight that change what it computes, LoRA and its kin.

What users call; `fp` has the same names.
"""

from .attach import active_adapters as active_adapters
from .attach import adapter_names as adapter_names
from .attach import attach as attach
from .attach import delete_adapters as delete_adapters
from .attach import enable_adapters as enable_adapters
from .attach import get_adapters as get_adapters
from .attach import set_adapters as set_adapters
from .attach import without_adapters as without_adapters
from .merging import merge_adapters as merge_adapters
from .merging import unmerge_adapters as unmerge_adapters
from .new_adapters import lora_init as lora_init
from .peft.config import PeftConfig as PeftConfig
from .stacked_adapters import choose_adapters as choose_adapters
from .stacked_adapters import put_adapter as put_adapter
from .stacked_adapters import stack_adapters as stack_adapters
from .training import adapter_dropout as adapter_dropout
from .training import join_adapters as join_adapters
from .training import split_adapters as split_adapters

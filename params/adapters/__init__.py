"""Adapters: small arrays beside a weight that change what it computes, LoRA and its kin.

What users call; `fp` has the same names.
"""

from .attach import (
    active_adapters,
    adapter_dropout,
    adapter_names,
    attach,
    delete_adapters,
    enable_adapters,
    get_adapters,
    join_adapters,
    set_adapters,
    split_adapters,
    without_adapters,
)
from .making import lora_init
from .merging import merge_adapters, unmerge_adapters
from .peft.config import PeftConfig
from .rows import choose_adapters, put_adapter, stack_adapters

__all__ = [
    "PeftConfig",
    "active_adapters",
    "adapter_dropout",
    "adapter_names",
    "attach",
    "choose_adapters",
    "delete_adapters",
    "enable_adapters",
    "get_adapters",
    "join_adapters",
    "lora_init",
    "merge_adapters",
    "put_adapter",
    "set_adapters",
    "split_adapters",
    "stack_adapters",
    "unmerge_adapters",
    "without_adapters",
]

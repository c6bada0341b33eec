"""What children (`_children.py`) need, done once in the process that they fork from."""

import gc

import jax._src.source_info_util as sources
import jaxlib.mlir.dialects.mhlo  # noqa: F401  imported with the first program that is lowered
from _lowering import share_contexts

import flaxmodels.auto  # noqa: F401
import flaxmodels.families.llama  # noqa: F401

share_contexts()
sources._exclude_path_regex()  # a long expression, kept
gc.freeze()
gc.set_threshold(50_000, 20, 20)

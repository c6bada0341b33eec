"""The types of tensors in GGUF: numbers as they are, and blocks of quantised numbers."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from ..source import Tensor


@dataclasses.dataclass(frozen=True)
class Block:
    """A type of blocks: a row of a tensor is a run of them.

    Attributes:
        size: numbers in a block.
        nbytes: bytes of a block.
    """

    name: str
    size: int
    nbytes: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockTensor(Tensor):
    """The bytes of a tensor of quantised numbers, uint8 (..., bytes of a row);
    `params/quantized/readers/gguf.py` makes numbers of them."""

    block: Block


PLAIN = {
    0: np.dtype(np.float32),
    1: np.dtype(np.float16),
    24: np.dtype(np.int8),
    25: np.dtype(np.int16),
    26: np.dtype(np.int32),
    27: np.dtype(np.int64),
    28: np.dtype(np.float64),
    30: jnp.dtype(jnp.bfloat16),
}
"""{number of a type in files: dtype} of numbers that are as they are."""

BLOCKS = {
    2: Block("Q4_0", 32, 18),
    3: Block("Q4_1", 32, 20),
    6: Block("Q5_0", 32, 22),
    7: Block("Q5_1", 32, 24),
    8: Block("Q8_0", 32, 34),
    10: Block("Q2_K", 256, 84),
    11: Block("Q3_K", 256, 110),
    12: Block("Q4_K", 256, 144),
    13: Block("Q5_K", 256, 176),
    14: Block("Q6_K", 256, 210),
    39: Block("MXFP4", 32, 17),
}
"""{number of a type in files: its blocks}."""

REFUSED = {
    **dict(enumerate("IQ2_XXS IQ2_XS IQ3_XXS IQ1_S IQ4_NL IQ3_S IQ2_S IQ4_XS".split(), 16)),
    **{4: "Q4_2", 5: "Q4_3", 9: "Q8_1", 15: "Q8_K", 29: "IQ1_M", 31: "Q4_0_4_4", 32: "Q4_0_4_8"},
    **{33: "Q4_0_8_8", 34: "TQ1_0", 35: "TQ2_0", 36: "IQ4_NL_4_4", 37: "IQ4_NL_4_8"},
    **{38: "IQ4_NL_8_8", 40: "NVFP4", 41: "Q1_0"},
}
"""The names of types that are not read."""

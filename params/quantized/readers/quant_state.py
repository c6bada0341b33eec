"""The JSON that bitsandbytes keeps beside a weight of 4 bits, `quant_state`: read and checked."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from ... import strict_json
from ...errors import quoted
from ...formats import Tensor
from ..lazy_tensors import misfit

DTYPES = {name: jnp.dtype(name) for name in ("float32", "float16", "bfloat16")}
"""The dtypes that a weight may have been of."""
_LARGEST = 1 << 16  # bytes


@dataclasses.dataclass(frozen=True)
class QuantState:
    """What the JSON says."""

    shape: tuple[int, int]
    dtype: np.dtype
    blocksize: int
    nested_blocksize: int
    nested_offset: float

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def read_state(tensor: Tensor, kind: str) -> QuantState:
    """Reads the JSON of a weight of `kind`, nf4 or fp4.

    Raises:
        CheckpointError: it is not JSON, or not what bitsandbytes writes.
    """
    if tensor.nbytes > _LARGEST or tensor.dtype != np.uint8:
        raise misfit(
            tensor,
            f"is {tensor.nbytes} bytes of {tensor.dtype}; expected JSON as uint8, of at most "
            f"{_LARGEST}",
        )
    try:
        said = strict_json.loads(tensor.read().tobytes(), 1000)
    except ValueError as error:
        raise misfit(tensor, f"is not JSON: {error}") from None
    if not isinstance(said, dict):
        raise misfit(tensor, f"is {quoted(said)}; expected a JSON object")

    def value(key: str, ok: Callable[[Any], bool], expected: str, default: Any = None) -> Any:
        found = said.get(key, default)
        if not ok(found):
            raise misfit(tensor, f"says {key} {quoted(found)}; expected {expected}")
        return found

    value("quant_type", lambda x: x == kind and kind in ("nf4", "fp4"), "nf4 or fp4, as its name")
    shape = value("shape", _is_shape, "two sizes above 0")
    dtype = value("dtype", lambda x: isinstance(x, str) and x in DTYPES, " or ".join(DTYPES))
    blocksize = value("blocksize", _is_size, "a number above 0")
    nested = value("nested_blocksize", _is_size, "a number above 0", 256)
    offset = value("nested_offset", _is_number, "a finite number", 0.0)
    return QuantState((shape[0], shape[1]), DTYPES[dtype], blocksize, nested, offset)


def _is_size(value: object) -> bool:
    return type(value) is int and 0 < value < 1 << 48


def _is_shape(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_size, value))


def _is_number(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) < float(np.finfo(np.float32).max)

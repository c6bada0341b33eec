"""What a model says of how it is served."""

from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp

from ..core.model import Mixin
from ..params.tree.paths import flatten_arrays
from ..params.types import Params, PyTree
from .arrays import Arrays
from .signatures import Function


class Serves(Mixin):
    """Adds the function that an export runs; both methods may be overridden."""

    decoder_is_as_long: ClassVar[bool] = False
    """Whether the decoder reads as many tokens as the encoder before it."""

    def serving(self) -> Function:
        """Returns the function that serves the model: `f(params, inputs)`, of inputs {name: array}
        as `apply` takes them, gives {name: array}. It is made special to shapes and dtypes by
        `jax.jit`, or by an export."""

        def serve(params: Params, inputs: Arrays) -> Arrays:
            return self.serving_output(self.apply({"params": params}, **inputs))

        return serve

    def serving_output(self, output: PyTree) -> Arrays:
        """Returns an output as a flat dict of arrays: what is None is left out, a tuple of arrays
        of one shape, as hidden states, is stacked [L, ...], and other trees have the paths of their
        arrays, "cache/index"."""
        if not hasattr(output, "items"):
            several = isinstance(output, tuple | list)
            output = {f"output_{i}": x for i, x in enumerate(output if several else (output,))}
        found: Arrays = {}
        for name, value in output.items():
            if isinstance(value, tuple | list) and (stacked := _stacked(value)) is not None:
                value = stacked
            found |= {
                f"{name}/{path}" if path else name: array
                for path, array in flatten_arrays(value).items()
            }
        return found


def _stacked(values: Sequence[jax.Array]) -> jax.Array | None:
    """Returns arrays of one shape and dtype as one; None for others."""
    if not values or not all(hasattr(x, "shape") for x in values):
        return None
    forms = {(tuple(map(str, x.shape)), str(x.dtype)) for x in values}
    return jnp.stack(values) if len(forms) == 1 else None

"""FLOPs: floating-point operations of a forward and backward pass, estimated or counted by XLA."""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from .. import params as fp
from ..calls.arguments import abstract, split
from ..core.model import Model
from ..params.errors import warn_once


def estimate_tokens(model: Model, inputs: Mapping[str, ArrayLike]) -> int:
    """Returns how many tokens the main input holds, in arrays, lists, abstract values or tracers;
    0, with one warning in a process, if it is absent."""
    if model.main_input_name in inputs:
        return math.prod(np.shape(inputs[model.main_input_name]))
    warn_once(
        f"{type(model).__name__}: without {model.main_input_name!r} the number of tokens is not "
        "known, and the estimate of floating-point operations is 0"
    )
    return 0


def floating_point_ops(
    model: Model,
    inputs: Mapping[str, ArrayLike],
    *,
    exclude_embeddings: bool = True,
    exact: bool = False,
) -> int:
    """Returns the floating-point operations of a forward and a backward pass over `inputs`.

    By default 6 x tokens x parameters (Kaplan et al. 2020, arXiv:2001.08361, section 2.1): right
    while 12 x hidden size is much more than the sequence length, since attention's quadratic part
    is left out.

    Args:
        inputs: arguments of the model, arrays or abstract.
        exclude_embeddings: leave embedding tables out of the number of parameters.
        exact: what XLA counts in the compiled program of the gradient with respect to the params;
            takes as long as compiling it, runs nothing.
    """
    if exact:
        arrays = {k: np.asarray(v) if isinstance(v, list | tuple) else v for k, v in inputs.items()}
        return _counted_by_xla(model.clone(scan_layers=False), arrays)  # it counts a scan once
    counted = is_no_embedding if exclude_embeddings else True
    count = fp.num_parameters(model.abstract_params(), counted)
    return 6 * estimate_tokens(model, inputs) * count


def is_no_embedding(path: str, leaf: object) -> bool:
    """Tells whether a leaf is no embedding table, of tokens, positions or types."""
    return path.rpartition("/")[2] != "embedding"


def _counted_by_xla(model: Model, inputs: Mapping[str, object]) -> int:
    arrays, rebuild = split(dict(inputs))

    def total(params: fp.Params, arrays: list[jax.Array]) -> jax.Array:
        out = jax.tree.leaves(model.apply({"params": params}, **rebuild(arrays)))
        floats = [leaf for leaf in out if jnp.issubdtype(leaf.dtype, jnp.floating)]
        return jnp.stack([leaf.astype(jnp.float32).sum() for leaf in floats]).sum()

    shapes = [abstract(array) for array in arrays]
    lowered = jax.jit(jax.grad(total)).lower(model.abstract_params(), shapes)
    costs = lowered.compile().cost_analysis() or {"flops": 0}
    return int(costs["flops"])

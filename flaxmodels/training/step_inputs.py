"""What steps are given: states, params and batches, checked before a program sees them."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import NamedSharding

from .. import params as fp
from ..calls.known_values import check_token_ids
from ..core.model import Model
from ..params.tree.paths import flatten_arrays, nearest
from ..params.types import PyTree
from .metrics import IGNORED
from .recipe import Given
from .state import TrainState


def named(model: Model, batch: Given) -> Given:
    """Returns a batch whose inputs have names; raises `ValueError` for what is no batch."""
    if isinstance(batch, Mapping):
        if odd := [name for name in batch if not isinstance(name, str)]:
            raise ValueError(f"a batch has a column called {odd[0]!r}; expected texts for names")
        return dict(batch)
    if not isinstance(batch, tuple) or not 1 < len(batch) < 4:
        raise ValueError(
            f"a batch is a {type(batch).__name__}: expected {{column: array}}, or a pair of inputs "
            "and labels"
        )
    inputs, *others = batch
    inputs = dict(inputs) if isinstance(inputs, Mapping) else {model.main_input_name: inputs}
    return inputs, *others


def check_columns(
    arrays: Mapping[str, jax.Array | np.ndarray], vocab_size: int | None, labels: int | None
) -> None:
    """Raises `ValueError` for columns that are no numbers, and for labels in host memory of which
    none counts, or that are none of so many, or tokens there that the vocabulary does not have:
    their step would be left out."""
    for name, x in arrays.items():
        if isinstance(x, np.ndarray) and x.dtype.kind not in "biufcV":  # V: bfloat16
            raise ValueError(
                f"the batch's {name} is {x.dtype}, which no device takes; leave it out"
            )
        is_labels = name.endswith("labels")
        if is_labels and isinstance(x, np.ndarray) and x.size and x.dtype.kind in "iu":
            if (x == IGNORED).all():
                raise ValueError(f"all {name} of the batch are {IGNORED}, so that no loss counts")
            if labels is not None and name.rpartition("/")[2] in ("labels", "shift_labels"):
                check_labels(name, x, labels)
        if name.rpartition("/")[2] == "input_ids" and isinstance(x, np.ndarray) and vocab_size:
            check_token_ids(x, vocab_size, f"the batch's {name}")


def check_labels(name: str, x: np.ndarray, count: int) -> None:
    """Raises `ValueError` for a label that is none of `count`, and does not stand for none."""
    odd = (x < 0) | (x >= count)
    odd &= x != IGNORED
    if odd.any():
        raise ValueError(
            f"the batch's {name} hold {x[odd][0]}; the labels are 0 to {count - 1}, and {IGNORED} "
            "where there is none"
        )


def check_kind(state: object) -> None:
    """Raises `TypeError` for what is no state."""
    if not isinstance(state, TrainState):
        raise TypeError(
            f"the state is a {type(state).__name__}; expected a TrainState, as init and "
            "train_step return it"
        )


def check_state(state: TrainState, mesh: jax.sharding.Mesh | None) -> None:
    """Raises `TypeError` for what is no state, and `ValueError` for one that was donated, or
    that is on other devices."""
    check_kind(state)
    step = state.step
    if isinstance(step, jax.ShapeDtypeStruct):
        raise TypeError("the state is abstract: make one by init, or lower(state, batch)")
    if not isinstance(step, jax.Array) or isinstance(step, Tracer):
        return
    if step.is_deleted():
        raise ValueError(
            "the state was donated: a train_step took it, and its arrays are gone; go on with "
            "the state that the step returned"
        )
    if mesh is not None and step.sharding.device_set != {*mesh.devices.flat}:
        raise ValueError(
            f"the state is on {len(step.sharding.device_set)} devices and not on those of the "
            "mesh of these steps; make it by their init, or restore it into abstract_state()"
        )


def check_params(model: Model, params: fp.Params, stored: Mapping[str, tuple[int, ...]]) -> None:
    """Raises `ValueError` unless params have the leaves of the model, in its shapes.

    Args:
        stored: {path: shape} of params on a mesh, with padding.
    """
    if not isinstance(params, Mapping):
        raise TypeError(f"params are a {type(params).__name__}; expected a tree, or a key")
    expected, found = fp.flatten(model.abstract_params()), fp.flatten(params)
    if odd := [path for path in found if path not in expected]:
        raise ValueError(f"the model has no param at {odd[0]}{nearest(odd[0], expected)}")
    if lost := [path for path in expected if path not in found]:
        raise ValueError(f"the params lack {lost[0]}{nearest(lost[0], found)}")
    for path, x in found.items():
        if np.shape(x) not in (shape := expected[path].shape, stored.get(path, shape)):
            raise ValueError(f"{path} has shape {np.shape(x)}, and the model {shape}")


def check_real(params: fp.Params) -> None:
    """Raises `TypeError` for params of which no state can be made."""
    for path, x in flatten_arrays(params).items():
        if isinstance(x, Tracer):
            raise TypeError(f"{path} is traced: init puts arrays where they belong; call it apart")
        if not isinstance(x, jax.Array | np.ndarray):
            raise TypeError(f"{path} is a {type(x).__name__}; expected an array")


def collections(variables: Mapping[str, PyTree] | None) -> dict[str, PyTree]:
    """Returns collections of variables other than params, checked."""
    if variables is None:
        return {}
    if not isinstance(variables, Mapping) or "params" in variables:
        raise ValueError(
            f"variables is {variables!r:.80}; expected {{collection: tree}}, without params"
        )
    return dict(variables)


def unplaced(params: fp.Params) -> fp.Params:
    """Returns params as arrays of JAX; raises `ValueError` for params on a mesh."""
    for path, x in flatten_arrays(params).items():
        where = getattr(x, "sharding", None)
        if isinstance(where, NamedSharding) and where.mesh.size > 1:
            raise ValueError(f"{path} is on a mesh; give compile(..., mesh=) the same one")
    return jax.tree.map(jnp.asarray, params)

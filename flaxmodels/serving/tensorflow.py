"""TensorFlow's SavedModel, through `jax.experimental.jax2tf`, where TensorFlow is installed.

The program is the same StableHLO, in one operation of TensorFlow's (XlaCallModule); the params are
its variables. Tried with tensorflow-cpu 2.21.0 and jax 0.10.2.
"""

import importlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import numpy as np

from .. import params as fp
from ..core.model import Model
from ..params.atomic.replace import atomic_replace
from ..params.save.saveable import saveable
from ..params.tree.paths import flatten_arrays
from ..params.types import PyTree
from .arrays import Arrays
from .errors import ServingError
from .lowering import FlatTree, portable
from .request import Request
from .signatures import Function, Signature


def prepare(
    model: Model,
    params: fp.PyTree,
    target: Path,
    request: Request,
) -> Callable[[], Path]:
    """Returns what writes a version folder as a SavedModel, without programs of generation.

    Raises:
        ImportError: TensorFlow is not installed.
        ServingError: params that it cannot hold.
    """
    tf, jax2tf = _libraries()
    params = model.cut(saveable(params, model.abstract_params()))
    model = portable(model)
    arrays = flatten_arrays(params)
    if odd := [path for path, x in arrays.items() if str(x.dtype).startswith(("int4", "uint4"))]:
        raise ServingError(
            f"{odd[0]} is {arrays[odd[0]].dtype}, of which TensorFlow makes no variables: "
            "fp.dequantize(params) is what it can hold"
        )
    module, made = tf.Module(), {}
    module.weights = {
        path.replace("/", "."): tf.Variable(np.asarray(x), trainable=False)
        for path, x in arrays.items()
    }
    flat = FlatTree.of(params)
    for name, each in request.signatures.items():
        program = _program(model, flat, each.function or model.serving())
        made[name] = _traced(tf, jax2tf.convert, program, module.weights, each, request.slots)
    module.functions = made

    def write() -> Path:
        is_main = lambda name: name == "saved_model.pb"  # noqa: E731
        with atomic_replace(target, is_ours=lambda _: True, is_main_file=is_main) as place:
            tf.saved_model.save(module, os.fspath(place.path), signatures=made)
        return target

    return write


def _program(model: Model, flat: FlatTree, run: Function) -> Callable[[Arrays, Arrays], Arrays]:
    """Returns the function of arrays by name, and of inputs, that is saved."""

    def program(arrays: Arrays, inputs: Arrays) -> Arrays:
        tree = flat.tree({path: arrays[path.replace("/", ".")] for path in flat.paths})
        return model.serving_output(run(tree, inputs))

    return program


def _traced(
    tf: ModuleType,
    convert: Callable[..., Callable[..., PyTree]],
    program: Callable[[Arrays, Arrays], Arrays],
    weights: Mapping[str, object],
    each: Signature,
    most: int,
) -> object:
    """Returns the concrete function of a signature, which TensorFlow saves, for at most so many
    tokens."""
    shapes = {
        name: f"({', '.join(map(str, spec.dims))}{',' if spec.dims else ''})"
        for name, spec in each.inputs.items()
    }
    converted = convert(
        program,
        polymorphic_shapes=[None, shapes],
        polymorphic_constraints=[f"{dim} <= {most}" for dim in each.dims if "length" in dim],
        with_gradient=False,
    )
    traced = tf.function(
        lambda **inputs: converted(dict(weights), inputs), autograph=False, jit_compile=True
    )
    return traced.get_concrete_function(
        **{
            name: tf.TensorSpec(
                [dim if isinstance(dim, int) else None for dim in spec.dims], spec.dtype, name
            )
            for name, spec in each.inputs.items()
        }
    )


def _libraries() -> tuple[ModuleType, ModuleType]:
    """Imports TensorFlow, by name: nothing else of this library depends on it."""
    try:
        return (
            importlib.import_module("tensorflow"),
            importlib.import_module("jax.experimental.jax2tf"),
        )
    except ImportError as error:
        raise ImportError(
            f"TensorFlow's SavedModel is written by tensorflow itself, which cannot be imported "
            f"({error}): pip install tensorflow-cpu, or give saved_model=True for the format of "
            "fm.serving, which needs jax alone"
        ) from None

"""Programs of a forward pass in pieces: what is around the stacks of layers, and one layer.

A model's own call is traced up to its first stack, from the first to the second, and so on, and one
of its layers. No family takes part: flax tells of the call of a `Layers` module, and there the
trace ends, or goes on with what the layers gave.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from .. import blocks
from .. import params as fp
from ..blocks.stack import Carry, Trace, step_of
from ..config.config import Config
from ..params.checkpoint.disk_leaf import Recipe
from ..params.types import PyTree
from .mixed import Abstract, Mixed

X = TypeVar("X")


class Call(NamedTuple):
    """What of a call of `model.apply` is compiled for, beside its arguments.

    Attributes:
        method: as of `apply`.
        others: {path: abstract leaf} of those that are not given, because nothing that is returned
            depends on them: flax asks for them all the same.
        recipes: (path, what makes the leaf of what is given).
        by_rows: paths of embedding tables of which no more than the rows of the ids are to be read.
    """

    model: nn.Module
    method: Callable[..., Any] | str | None = None
    others: Abstract | None = None
    recipes: tuple[tuple[str, Recipe], ...] = ()
    by_rows: tuple[str, ...] = ()


class Maker(NamedTuple):
    """What makes a layer of a stack."""

    layer: Callable[..., Any]
    config: Config
    options: blocks.ModelOptions


class Stack(NamedTuple):
    """A stack of layers that a call came to, and what it gave to it.

    Attributes:
        path: of the module that has the layers as submodules "0", "1", ...
        inputs: see `blocks.Layers`.
    """

    path: str
    maker: Maker
    kinds: tuple[blocks.Kind, ...]
    x: jax.Array
    context: blocks.PassContext
    inputs: PyTree


class Finished(NamedTuple):
    """What a call returned."""

    output: PyTree


class Lookup(NamedTuple):
    """Rows of an embedding table that a call asked for.

    Attributes:
        path: of the table.
        ids: int [...].
        dtype: of the rows [..., D].
    """

    path: str
    ids: jax.Array
    dtype: np.dtype


class _Reached(Exception):
    """A call came to what is not part of a program: layers, or rows of a table."""

    def __init__(self, what: Stack | Lookup):
        self.what = what


def run_part(
    call: Call, params: Mapping[str, jax.Array], given: Mixed, done: tuple[Mixed, ...]
) -> Mixed:
    """Runs a call from what is done, stacks and lookups, to the next one of them.

    Args:
        params: {path: leaf}, of those that `used_paths` tells.
        given: (args, kwargs) of the call.
        done: `blocks.LayersOutput` of each stack that was run, rows of each lookup.

    Returns:
        a `Stack`, a `Lookup`, or `Finished`.
    """
    args, kwargs = given.tree
    outputs = iter(done)

    def intercept(function: Any, args: Any, kwargs: Any, told: Any) -> Any:
        module = told.module
        if told.method_name != "__call__" or not _ends_a_program(call, module, args):
            return function(*args, **kwargs)
        if (output := next(outputs, None)) is not None:
            return output.tree
        if isinstance(module, blocks.Layers):
            raise _Reached(_stack(module, *args, **kwargs))
        raise _Reached(_lookup(module, *args, **kwargs))

    try:
        with nn.intercept_methods(intercept):
            leaves = _unread(call.others) | _made(params, call.recipes)
            variables = {"params": fp.unflatten(leaves)}
            run = nn.Module.apply
            output = run(call.model, variables, *args, method=call.method, **kwargs)
    except _Reached as reached:
        return Mixed.of(reached.what)
    return Mixed.of(Finished(output))


compiled_part = functools.partial(jax.jit, static_argnums=0)(run_part)


def _made(
    params: Mapping[str, jax.Array], recipes: tuple[tuple[str, Recipe], ...]
) -> dict[str, jax.Array]:
    """Makes leaves of what files hold of them."""
    leaves = {**params}
    for path, recipe in recipes:
        leaves[path] = recipe.made(leaves[path])
    return leaves


def _unread(leaves: Abstract | None) -> dict[str, jax.Array]:
    """Returns {path: zeros}, which the compiler leaves out."""
    tree = {} if leaves is None else leaves.mixed.tree
    return {path: jnp.zeros(leaf.shape, leaf.dtype) for path, leaf in tree.items()}


def _ends_a_program(call: Call, module: object, args: tuple[Any, ...]) -> bool:
    """Tells whether a module is called by the engine: layers, and tables of which a call needs
    fewer rows than there are."""
    if isinstance(module, blocks.Layers):
        return True
    if not isinstance(module, blocks.Embed) or _table(module) not in call.by_rows:
        return False
    return bool(args) and jnp.size(args[0]) < module.rows


def _table(module: blocks.Embed) -> str:
    return "/".join((*module.path, "embedding"))


def _lookup(module: blocks.Embed, ids: jax.Array, dtype: jax.typing.DTypeLike) -> Lookup:
    return Lookup(_table(module), jnp.asarray(ids), jnp.dtype(dtype))


def _stack(
    module: blocks.Layers, x: jax.Array, context: blocks.PassContext, inputs: PyTree = None
) -> Stack:
    maker = Maker(module.layer, module.config, module.options)
    return Stack("/".join(module.path), maker, module.kinds, x, context, inputs)


@functools.lru_cache(maxsize=256)
def used_paths(
    call: Call, template: Abstract, given: Abstract, done: tuple[Abstract, ...]
) -> tuple[tuple[str, ...], Mixed]:
    """Tells which leaves `run_part` reads, by what reaches its result, and what it returns.

    Args:
        template: of {path: leaf}, all of them.
    """
    leaves = template.mixed.tree
    trace = jax.make_jaxpr(functools.partial(run_part, call), return_shape=True)
    jaxpr, result = trace(leaves, given.mixed, tuple(one.mixed for one in done))
    live = {id(var) for var in jaxpr.jaxpr.outvars}
    for equation in reversed(jaxpr.jaxpr.eqns):
        if any(id(var) in live for var in equation.outvars):
            live |= {id(var) for var in equation.invars}
    # A dict is flattened in the order of its keys.
    variables = zip(sorted(leaves), jaxpr.jaxpr.invars, strict=False)
    return tuple(path for path, var in variables if id(var) in live), result


class LayerCall(NamedTuple):
    """What a program of one layer is compiled for, beside shapes.

    Attributes:
        recipes: (path in the layer, what makes the leaf of what is given); () of those that are
            given as they are.
    """

    maker: Maker
    kind: blocks.Kind
    recipes: tuple[tuple[str, Recipe], ...] = ()


@functools.partial(jax.jit, static_argnums=0)
def run_layer(
    call: LayerCall, params: Mapping[str, jax.Array], carry: Mixed, context: Mixed, number: Mixed
) -> tuple[Mixed, Trace]:
    """Runs one layer, whose cache has its own entry alone.

    Args:
        params: {path in the layer: array}.
        carry: a `Carry`.
        context: (`PassContext`, inputs of the layer).
        number: the layer's, traced where all layers are one program.
    """
    leaves = _made(params, call.recipes)
    told, inputs = context.tree
    index = number.tree
    if not isinstance(index, int) and told.head_scales is not None:
        told = told._replace(head_scales=jnp.stack(told.head_scales))
    at = blocks.At((call.kind,), 0, index, 0)
    layer = call.maker.layer(call.maker.config, call.maker.options)
    step = step_of(told, at, inputs)
    given = _with_cross(carry.tree, lambda own: own[0][None])
    after, trace = layer.apply({"params": fp.unflatten(leaves)}, given, method=step)
    return Mixed.of(_with_cross(after, lambda stack: (stack[0],))), trace


def _with_cross(carry: Carry, change: Callable[[Any], Any]) -> Carry:
    """Changes the form of what a layer keeps of an encoder. As a stack of one, it is found by
    whatever number of the layer, since JAX takes an index that is too large for the last."""
    if carry.cache is None or carry.cache.cross is None:
        return carry
    cross = carry.cache.cross
    keys, values = change(cross.keys), change(cross.values)
    cross = dataclasses.replace(cross, keys=keys, values=values)
    return carry._replace(cache=dataclasses.replace(carry.cache, cross=cross))


def layer_leaves(leaves: Mapping[str, X], path: str, count: int) -> Iterator[dict[str, X]]:
    """Yields the leaves of each layer of a stack: {path in the layer: leaf}.

    Raises:
        ValueError: a layer without params, or params of a layer that there is not.
    """
    layers: list[dict[str, X]] = [{} for _ in range(count)]
    for name, leaf in leaves.items():
        if name.startswith(f"{path}/"):
            number, _, inside = name[len(path) + 1 :].partition("/")
            if not number.isdecimal() or int(number) >= count:
                raise ValueError(f"{name}: the model has the layers {path}/0 to {count - 1}")
            layers[int(number)][inside] = leaf
    if {} in layers:
        raise ValueError(
            f"the params have no {path}/{layers.index({})}; the model has {count} layers"
        )
    yield from layers

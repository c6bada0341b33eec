"""The staged run of a model: what is around the layers, and the layers one after another, each on
the device that its params are on or are brought to."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np

from .. import blocks
from ..blocks.stack import Carry, places_of
from ..calls.known_values import check_token_ids, is_traced, known
from ..core.model import Mixin, Model, naming_the_key
from ..params.checkpoint.disk_leaf import DiskLeaf
from ..params.types import PyTree
from .fetching import fetched, fetched_in_turn
from .leaves import PlacedLeaf, device_for, flat_leaves, is_placed
from .mixed import Mixed, abstract_leaves
from .programs import (
    Call,
    Finished,
    LayerCall,
    Lookup,
    Stack,
    compiled_part,
    layer_leaves,
    run_layer,
    used_paths,
)
from .table_rows import looked_up, tables_by_rows

Held = TypeVar("Held", blocks.KV, blocks.Cross)

_OF_LINEN = ("mutable", "rngs", "capture_intermediates")
"""Keywords of linen's `apply` that ask for more than an output."""


class Staged(Mixin):
    """Adds the run of params that are on several devices, in host memory or on the disk."""

    def apply(self, variables: Any, *args: Any, **kwargs: Any) -> Any:
        """Runs the model with {"params": params}: `model.apply({"params": params}, input_ids)`.

        One program runs the whole model. Where a `device_map` has offloaded params, or spread
        layers over devices, each layer is run by a program of its own, and the next one is read
        meanwhile; see `docs/offload.md`. That cannot be traced: no `jit`, no gradients.

        Raises:
            TypeError: offloaded params in a trace, or with keywords of linen that need variables,
                such as `mutable` and `rngs`.
            fp.CheckpointError: a file that params are in has changed, or is gone.
        """
        params = variables.get("params") if isinstance(variables, Mapping) else None
        if params is None or not is_placed(params):
            return super().apply(variables, *args, **kwargs)
        with naming_the_key():
            return run_staged(self, params, args, kwargs)


def run_staged(model: Model, params: PyTree, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Runs `model.apply({"params": params}, *args, **kwargs)` in stages."""
    name = type(model).__name__
    if is_traced(args, kwargs):
        raise TypeError(
            f"{name}: params that are offloaded, or on several devices, are run in stages, which "
            "cannot be traced: call model.apply outside of jit, grad and vmap"
        )
    if not jax.sharding.get_mesh().empty:
        raise TypeError(
            f"{name}: params that are offloaded, or on several devices, are run in stages, each on "
            "its device, and jax.set_mesh asks for all devices of its mesh: call outside of it"
        )
    of_linen = {name: kwargs.pop(name, None) for name in _OF_LINEN}
    if odd := [name for name, value in of_linen.items() if value]:
        raise TypeError(f"{name}: {odd[0]} needs params on one device; these are run in stages")
    check_looped(model)
    leaves = flat_leaves(params)
    call = Call(model.clone(generation_config=None), kwargs.pop("method", None))
    call = call._replace(by_rows=tables_by_rows(leaves))
    cache = kwargs.get("cache")
    _check_given(model, args, kwargs, cache)
    entries = _Entries(cache)
    if cache is not None:
        kwargs = kwargs | {"cache": entries.hollow(cache)}
    given, done = Mixed.of((tuple(args), kwargs)), ()
    shapes = abstract_leaves(leaves)
    while True:
        paths, _ = used_paths(call, shapes, given.abstract, tuple(one.abstract for one in done))
        part = fetched({path: leaves[path] for path in paths}, device_for(leaves.values()))
        told = [one.at(part.device) for one in (given, *done)]
        others = {path: leaf for path, leaf in leaves.items() if path not in part.arrays}
        call_here = call._replace(others=abstract_leaves(others), recipes=part.recipes)
        result = compiled_part(call_here, part.arrays, told[0], tuple(told[1:])).tree
        if isinstance(result, Finished):
            return entries.filled(result.output)
        if isinstance(result, Lookup):
            table = leaves[result.path]
            assert isinstance(table, DiskLeaf)
            output = looked_up(table, result.ids, result.dtype)
        else:
            output = _run_layers(result, leaves, entries)
        done = (*done, Mixed.of(output))


def check_looped(model: Model) -> None:
    """Refuses a scanned model.

    Raises:
        TypeError: its layers are one stack, which is on one device as a whole.
    """
    if model.scan_layers:
        raise TypeError(
            f"{type(model).__name__}: scan_layers=True keeps all layers in one array, which cannot "
            "be on several devices, in host memory and on the disk by turns; load with "
            "scan_layers=False: one program serves all layers of a kind there too"
        )


def _check_given(
    model: Model, args: Sequence[Any], kwargs: Mapping[str, Any], cache: blocks.Cache | None
) -> None:
    """Checks the values that programs would have to trust: ids, and the room in a cache."""
    if not isinstance(cache, blocks.Cache | None):
        raise TypeError(f"cache is a {type(cache).__name__}; expected what init_cache returns")
    ids = args[0] if args else kwargs.get("input_ids")
    if ids is None:
        return
    check_token_ids(ids, getattr(model.config.text, "vocab_size", None))
    if cache is not None and not model.is_encoder_decoder:
        slots, filled = cache.mask.shape[1], int(known(cache.index))  # pyright: ignore
        if filled + np.shape(ids)[1] > slots:
            raise ValueError(
                f"the cache has {slots} slots, {filled} of them filled, and there are "
                f"{np.shape(ids)[1]} new tokens"
            )


class _Entries:
    """What layers keep of tokens, array by array, while programs are told of the shapes alone: each
    array stays on its layer's device."""

    def __init__(self, cache: blocks.Cache | None):
        self.entries: dict[str, blocks.KV] = {} if cache is None else {**cache.entries}
        self.cross: blocks.Cross | None = None if cache is None else cache.cross

    def hollow(self, cache: blocks.Cache) -> blocks.Cache:
        """Returns a cache with shapes in the place of its layers' arrays."""
        cross = cache.cross
        if cross is not None:
            keys, values = _shapes(cross.keys), _shapes(cross.values)
            cross = dataclasses.replace(cross, keys=keys, values=values)
        return dataclasses.replace(cache, entries=_shapes(cache.entries), cross=cross)

    def begin(self, cache: blocks.Cache) -> None:
        """Takes the arrays for an encoder's states that a part has made."""
        if cache.cross is not None and isinstance(cache.cross.keys[0], jax.Array):
            self.cross = cache.cross

    def of_layer(self, cache: blocks.Cache, at: blocks.At) -> blocks.Cache:
        """Returns the cache that has the layer's own arrays alone."""
        attention, cross = at.kind.attention, self.cross
        own = {attention: _alone(self.entries[attention], at.slot)}
        if cross is not None:
            tokens = cache.cross.tokens  # pyright: ignore
            cross = dataclasses.replace(_alone(cross, at.layer), tokens=tokens)
        return dataclasses.replace(cache, entries=own, cross=cross)

    def put(self, cache: blocks.Cache, at: blocks.At) -> None:
        """Puts what a layer returned into the place of what it was given."""
        attention = at.kind.attention
        self.entries[attention] = _with(self.entries[attention], at.slot, cache.entries[attention])
        if cache.cross is not None and self.cross is not None:
            self.cross = _with(self.cross, at.layer, cache.cross)

    def filled(self, output: Any) -> Any:
        """Returns an output whose cache has the arrays again."""
        cache = getattr(output, "cache", None)
        if cache is None:
            return output
        cross = cache.cross
        if cross is not None and self.cross is not None:
            cross = dataclasses.replace(self.cross, tokens=cross.tokens)
        cache = dataclasses.replace(cache, entries=self.entries, cross=cross)
        return output.replace(cache=cache)


def _shapes(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


def _alone(held: Held, place: Any) -> Held:
    """Returns what is held of one layer."""
    return dataclasses.replace(held, keys=(held.keys[place],), values=(held.values[place],))


def _with(held: Held, place: Any, own: Held) -> Held:
    """Returns what is held of all layers, `own` in the place of one."""

    def put(arrays: Any, array: Any) -> tuple[jax.Array, ...]:
        return (*arrays[:place], array, *arrays[place + 1 :])

    keys, values = put(held.keys, own.keys[0]), put(held.values, own.values[0])
    return dataclasses.replace(held, keys=keys, values=values)


def _run_layers(
    stack: Stack, leaves: Mapping[str, PlacedLeaf], entries: _Entries
) -> blocks.LayersOutput:
    """Runs the layers of a stack, each waited for before its params' memory is used again."""
    units = [*layer_leaves(leaves, stack.path, len(stack.kinds))]
    even = blocks.heads_are_even(stack.maker.config)
    context, cache = stack.context, stack.context.cache
    if cache is not None:
        entries.begin(cache)
    told: dict[jax.Device, Mixed] = {}
    x, shared, traces = stack.x, context.shared, []
    bare = context._replace(cache=None, shared=None)
    for at, unit in zip(places_of(stack.kinds), fetched_in_turn(units), strict=True):
        inputs = jax.tree.map(lambda leaf, i=at.layer: leaf[i], stack.inputs)
        if unit.device not in told:
            told[unit.device] = Mixed.of(bare).at(unit.device)
        own = None if cache is None else entries.of_layer(cache, at)
        carry = Mixed.of(Carry(x, own, shared)).at(unit.device)
        context_here = Mixed.of((told[unit.device].tree, inputs)).at(unit.device)
        call = LayerCall(stack.maker, at.kind, unit.recipes)
        number = Mixed.of(np.int32(at.layer) if even else int(at.layer))
        try:
            after, trace = run_layer(call, unit.arrays, carry, context_here, number)
        except ValueError as error:  # about a leaf, by its path in the layer
            raise ValueError(f"{stack.path}/{at.layer}: {error}") from error
        x, own, shared = after.tree
        if own is not None:
            entries.put(own, at)
        traces.append(trace)
        if unit.is_streamed:
            jax.block_until_ready(x)
    entered = tuple(trace.entered for trace in traces if trace.entered is not None)
    weights = tuple(trace.weights for trace in traces if trace.weights is not None)
    left = None if cache is None else entries.hollow(cache)
    return blocks.LayersOutput(x, left, entered, weights)

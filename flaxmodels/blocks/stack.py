"""Layers one after another: a loop, or scans over stacked params, under the same names."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from ..config.config import Config
from ..params.types import PyTree
from ..sharding import varying
from .context import ModelOptions, PassContext
from .kinds import Kind, Segment, segments
from .kv_cache import Cache
from .remat import named, remat

T = TypeVar("T")


class At(NamedTuple):
    """What a layer is among the others. Numbers are ints in the loop, traced int32 [] in a scan.

    Attributes:
        kinds: those that the layer may be of, all of one form: in the loop its own, in a scan those
            of all layers that the program serves.
        which: the number of its own among them.
        layer: its number.
        slot: its number among the layers that share an entry of the cache with it.
    """

    kinds: tuple[Kind, ...]
    which: int | jax.Array
    layer: int | jax.Array
    slot: int | jax.Array

    @property
    def form(self) -> str:
        return self.kinds[0].form

    @property
    def kind(self) -> Kind:
        """The layer's kind.

        Raises:
            ValueError: one program serves layers of several.
        """
        kind, *others = self.kinds
        if others:
            raise ValueError(
                f"a layer of any of the kinds {self.kinds}: use at.of(field, function)"
            )
        return kind

    def among(self, field: str) -> tuple[tuple[str, ...], int | jax.Array]:
        """Returns the values that a field of the kind may have, and the number of the layer's own
        among them."""
        values = [getattr(kind, field) for kind in self.kinds]
        distinct = tuple(dict.fromkeys(values))
        if len(distinct) == 1:
            return distinct, 0
        return distinct, jnp.array([distinct.index(x) for x in values], jnp.int32)[self.which]

    def of(self, field: str, function: Callable[[Any], T]) -> T:
        """Returns `function` of the field of the layer's kind. Where there are several values, each
        is traced, and one computed: all give arrays of the same shapes."""
        values, own = self.among(field)
        if len(values) == 1:
            return function(values[0])
        return jax.lax.switch(own, [functools.partial(function, value) for value in values])


class LayerOutput(NamedTuple):
    """The result of a layer; a layer may return it as a tuple without the last ones.

    Attributes:
        x: [B, T, D].
        cache: with the keys and values of the new tokens.
        weights: attention weights [B, N, T, S], a pair of them of a layer that attends to an
            encoder too, or None.
        shared: what later layers read as `context.shared`; None leaves it.
    """

    x: jax.Array
    cache: Cache | None
    weights: PyTree = None
    shared: PyTree = None


class LayersOutput(NamedTuple):
    """The result of a stack of layers.

    Attributes:
        x: [B, T, D].
        cache: with the keys and values of the new tokens.
        entered: what entered each layer; () unless `context.output_hidden_states`.
        attentions: weights of each layer; () unless `context.output_attentions`.
    """

    x: jax.Array
    cache: Cache | None
    entered: tuple[jax.Array, ...]
    attentions: tuple[PyTree, ...]


class Carry(NamedTuple):
    """What a layer gives to the next: x [B, T, D], the cache, and what it leaves for it."""

    x: jax.Array
    cache: Cache | None
    shared: PyTree


class Trace(NamedTuple):
    """What is kept of a layer, where it is asked for: what entered it, and attention weights."""

    entered: jax.Array | None
    weights: PyTree


class Layers(nn.Module):
    """Applies one layer for each kind: params at `<name>/<i>/...`, or stacked if scanned.

    A layer is a module `layer(config, options)` with the call `(x [B, T, D], context, at) ->
    LayerOutput`.

    A scan runs over layers whose forms repeat (`segments`): its body is one period. Stacked params
    are at `<name>/...` if all forms are equal, else at `<name>/<first>+<period>/...`: layers first,
    first + period, ... Where layers of one place in a period differ in their attention, the body
    branches there (`At.of`). Compile time grows with the periods, not with the depth.

    `options.remat` recomputes a layer in the backward pass, except what the policy saves.
    """

    layer: Callable[..., nn.Module]
    config: Config
    kinds: tuple[Kind, ...]
    options: ModelOptions

    @nn.compact
    def __call__(self, x: jax.Array, context: PassContext, inputs: PyTree = None) -> LayersOutput:
        """Applies the layers.

        Args:
            inputs: arrays [L, ...], of which each layer reads its own as `context.layer_inputs`.
        """
        carry = Carry(x, context.cache, context.shared)
        run = self._scan if self.options.scan_layers else self._loop
        if self.options.scan_layers:
            if "0" in self.variables.get("params", ()):
                raise ValueError(
                    f"{'/'.join(self.path)} of the params has layers one by one, and the model "
                    "scans them: give fp.stack_layers(params), or clone it with scan_layers=False"
                )
            carry = varying(carry, over=(x, context, inputs, self.variables))
        carry, traces = run(carry, context, inputs)
        entered = tuple(trace.entered for trace in traces if trace.entered is not None)
        weights = tuple(trace.weights for trace in traces if trace.weights is not None)
        return LayersOutput(carry.x, carry.cache, entered, weights)

    def _loop(self, carry: Carry, context: PassContext, inputs: PyTree) -> tuple[Carry, list]:
        traces = []
        for index, at in enumerate(places_of(self.kinds)):
            layer = self.layer(self.config, self.options, name=str(index))
            own = jax.tree.map(lambda leaf, i=index: leaf[i], inputs)
            body = remat(step_of(context, at, own), self.options.remat)
            carry, trace = body(layer, carry)
            traces.append(trace)
        return carry, traces

    def _scan(self, carry: Carry, context: PassContext, inputs: PyTree) -> tuple[Carry, list]:
        traces = []
        for segment in segments(tuple(kind.form for kind in self.kinds)):
            carry, stacked = self._scan_segment(segment, carry, context, inputs)
            traces += [
                jax.tree.map(lambda leaf, i=repeat: leaf[i], trace)
                for repeat in range(segment.count)
                for trace in stacked
            ]
        return carry, [
            _cut(trace, context, kind) for trace, kind in zip(traces, self.kinds, strict=True)
        ]

    def _scan_segment(
        self, segment: Segment, carry: Carry, context: PassContext, inputs: PyTree
    ) -> tuple[Carry, tuple[Trace, ...]]:
        """Returns the carry, and one stacked trace for each position of the period."""
        first, period, count = segment
        end = first + period * count
        kinds = [tuple(dict.fromkeys(self.kinds[first + i : end : period])) for i in range(period)]
        places = [
            (kinds[i % period].index(at.kind), at.layer, at.slot)
            for i, at in enumerate(places_of(self.kinds)[first:end])
        ]
        numbers = jnp.array(places, jnp.int32).reshape(count, period, 3)
        own = jax.tree.map(
            lambda leaf: leaf[first:end].reshape(count, period, *leaf.shape[1:]), inputs
        )

        def step(body, carry, each):
            numbers, own = each
            traces = []
            for i, layer in enumerate(body.layers):
                mine = jax.tree.map(lambda leaf, i=i: leaf[i], own)
                # prevent_cse is for programs without a loop around the layer; here it only costs
                one = step_of(context, At(kinds[i], *numbers[i]), mine)
                carry, trace = remat(one, self.options.remat, prevent_cse=False)(layer, carry)
                traces.append(trace)
            return carry, tuple(traces)

        body = nn.scan(
            step,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            metadata_params={"axis": "layers"},
            length=count,
            check_constancy_invariants=False,  # nothing is broadcast: each body is traced once
        )
        return body(Period(self._period(segment)), carry, (numbers, own))

    def _period(self, segment: Segment) -> tuple[nn.Module, ...]:
        first, period, count = segment
        if count == len(self.kinds):  # all are of one form: its params are this module's own
            layer = self.layer(self.config, self.options)
            nn.share_scope(self, layer)
            return (layer,)
        names = [f"{first + i}+{period}" for i in range(period)]
        return tuple(self.layer(self.config, self.options, name=name) for name in names)


def places_of(kinds: Sequence[Kind]) -> list[At]:
    """Returns where each layer of a stack stands, of a kind each."""
    used: dict[str, int] = {}
    found = []
    for index, kind in enumerate(kinds):
        slot = used.get(kind.attention, 0)
        used[kind.attention] = slot + 1
        found.append(At((kind,), 0, index, slot))
    return found


class Period(nn.Module):
    """Holds the layers of a scan's body, which are lifted with it."""

    layers: tuple[nn.Module, ...]


def _cut(trace: Trace, context: PassContext, kind: Kind) -> Trace:
    """Cuts off weights of keys that a layer of this kind has not: layers of others have more."""
    if trace.weights is None or context.cache is None:
        return trace
    several = isinstance(trace.weights, tuple)
    own, *others = trace.weights if several else (trace.weights,)
    own = own[..., : context.num_keys(kind.attention)]
    return trace._replace(weights=(own, *others) if several else own)


def step_of(context: PassContext, at: At, inputs: PyTree) -> Callable[..., tuple[Carry, Trace]]:
    """Makes the function (layer, carry) -> (carry, trace) of the layer that stands `at`."""

    def step(layer: Callable[..., tuple], carry: Carry) -> tuple[Carry, Trace]:
        x, cache, shared = carry
        x = named(x, "residual")
        told = context._replace(cache=cache, shared=shared, layer_inputs=inputs)
        out = LayerOutput(*layer(x, told, at))
        shared = shared if out.shared is None else out.shared
        entered = x if context.output_hidden_states else None
        weights = out.weights if context.output_attentions else None
        return Carry(out.x, out.cache, shared), Trace(entered, weights)

    return step

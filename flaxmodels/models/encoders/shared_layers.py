"""Layers that are applied several times with the same params, as in ALBERT."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from ... import blocks
from ... import sharding as fs
from ...blocks.remat import remat
from ...config.config import Config
from ...params.types import PyTree
from .branch import Part, grown

_Trace = tuple[jax.Array | None, PyTree]
"""What entered a layer, and its attention weights, if they are asked for."""


class SharedLayers(nn.Module):
    """Applies the layers of each group one after another, so often that all `config.layer_kinds`
    are served: params at `<name>/<group>/<inner_name>/<i>/...`, scanned or not.

    Attributes:
        layer: as of `blocks.Layers`; all are of one kind, and none has a cache.
        groups: how many there are; the layer number i of L is of the group
            int(i / (L / groups)), rounded as the reference does.
        inner: layers of a group.
    """

    layer: Callable[..., nn.Module]
    config: Config
    options: blocks.ModelOptions
    groups: int
    inner: int
    inner_name: str

    @nn.compact
    def __call__(self, x: jax.Array, context: blocks.PassContext) -> blocks.LayersOutput:
        """Applies the layers."""
        share, traces = len(self.config.layer_kinds) / self.groups, []
        paths = [
            [f"{group}/{self.inner_name}/{i}" for i in range(self.inner)]
            for group in range(self.groups)
        ]
        make = functools.partial(self.layer, self.config, self.options)
        parts: dict[str, Part] = {path: make for group in paths for path in group}
        modules = grown(self, parts)
        if self.options.scan_layers:
            x = fs.varying(x, over=(x, context, self.variables))
        for group, names in enumerate(paths):
            numbers = [i for i, _ in enumerate(self.config.layer_kinds) if int(i / share) == group]
            layers = _Group(tuple(modules.at(name) for name in names))
            if self.options.scan_layers:
                x, stacked = self._scan(layers, x, context, numbers)
                traces += [
                    jax.tree.map(lambda leaf, i=i: leaf[i], trace)
                    for i in range(len(numbers))
                    for trace in stacked
                ]
            else:
                for number in numbers:
                    x, more = self._apply(layers, x, context, number)
                    traces += more
        entered = tuple(state for state, _ in traces if state is not None)
        weights = tuple(weight for _, weight in traces if weight is not None)
        return blocks.LayersOutput(x, None, entered, weights)

    def _apply(
        self, layers: nn.Module, x: jax.Array, context: blocks.PassContext, number: int | jax.Array
    ) -> tuple[jax.Array, tuple[_Trace, ...]]:
        at = blocks.At(self.config.layer_kinds[:1], 0, number, number)
        keep_states, keep_weights = context.output_hidden_states, context.output_attentions

        def step(layer: nn.Module, x: jax.Array) -> tuple[jax.Array, _Trace]:
            x = blocks.named(x, "residual")
            out = blocks.LayerOutput(*layer(x, context, at))
            return out.x, (x if keep_states else None, out.weights if keep_weights else None)

        traces = []
        for layer in layers.layers:
            in_scan = self.options.scan_layers
            body = remat(step, self.options.remat, prevent_cse=not in_scan)
            x, trace = body(layer, x)
            traces.append(trace)
        return x, tuple(traces)

    def _scan(
        self, layers: nn.Module, x: jax.Array, context: blocks.PassContext, numbers: list[int]
    ) -> tuple[jax.Array, tuple[_Trace, ...]]:
        scanned = nn.scan(
            lambda layers, x, number: self._apply(layers, x, context, number),
            variable_broadcast="params",
            split_rngs={"params": False, "dropout": True},
            length=len(numbers),
        )
        return scanned(layers, x, jnp.array(numbers, jnp.int32))


class _Group(nn.Module):
    """Holds the layers of a group: lifted, their params are the same at each step."""

    layers: tuple[nn.Module, ...]

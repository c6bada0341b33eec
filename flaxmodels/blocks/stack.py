"""Layers one after another: a loop, or a scan over stacked params, under the same names."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from ..config.config import Config
from ..sharding import varying as varying
from .context import ModelOptions, PassContext
from .kv_cache import Cache
from .remat import remat


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
    attentions: tuple[jax.Array, ...]


class Layers(nn.Module):
    """Applies `depth` layers: params at `<name>/<i>/...`, or stacked at `<name>/...` if scanned.

    A layer is a module `layer(config, options)` with the call
    `(x [B, T, D], context, index) -> (x, cache, attention weights or None)`, where `index` is its
    number: an int in the loop, a traced int32 in the scan.

    `options.remat` recomputes a layer in the backward pass, except what the policy saves.
    """

    layer: type[nn.Module]
    config: Config
    depth: int
    options: ModelOptions

    @nn.compact
    def __call__(self, x: jax.Array, context: PassContext) -> LayersOutput:
        def step(layer, carry, index):
            x, cache = carry
            y, cache, weights = layer(x, context._replace(cache=cache), index)
            kept = x if context.output_hidden_states else None
            return (y, cache), (kept, weights if context.output_attentions else None)

        carry = (x, context.cache)
        if self.options.scan_layers:
            carry = varying(carry, over=(x, context, self.variables))
            (x, cache), (entered, weights) = self._scan(step, carry)
        else:
            (x, cache), (entered, weights) = self._loop(step, carry)
        return LayersOutput(x, cache, entered, weights)

    def _loop(self, step: Callable, carry):
        entered, weights = [], []
        for index in range(self.depth):
            layer = self.layer(self.config, self.options, name=str(index))
            body = remat(lambda layer, carry, i=index: step(layer, carry, i), self.options.remat)
            carry, trace = body(layer, carry)
            entered.append(trace[0])
            weights.append(trace[1])
        return carry, (_present(entered), _present(weights))

    def _scan(self, step: Callable, carry):
        layer = self.layer(self.config, self.options)
        nn.share_scope(self, layer)  # its params are this module's own, without a name between
        body = nn.scan(
            # prevent_cse is for programs without a loop around the layer; in a scan it only costs
            remat(step, self.options.remat, prevent_cse=False),
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            metadata_params={"axis": "layers"},
            length=self.depth,
        )
        carry, traces = body(layer, carry, jnp.arange(self.depth))
        return carry, tuple(() if trace is None else tuple(trace) for trace in traces)


def _present(traces: list) -> tuple[jax.Array, ...]:
    return tuple(trace for trace in traces if trace is not None)

"""Layers one after another: a loop, or a scan over stacked params, under the same names."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from .cache import Cache
from .context import Call, Run
from .remat import remat
from .varying import varying


class Layers(nn.Module):
    """`depth` layers: params at `<name>/<i>/...`, or stacked at `<name>/...` if scanned.

    A layer is a module `layer(config, run)` with the call
    `(x [B, T, D], cache, index, call) -> (x, cache, attention weights or None)`, where `index` is
    its number: an int in the loop, a traced int32 in the scan.

    `run.remat` recomputes a layer in the backward pass, except what the policy saves.
    """

    layer: type[nn.Module]
    config: Any
    depth: int
    run: Run

    @nn.compact
    def __call__(
        self, x: jax.Array, cache: Cache | None, call: Call
    ) -> tuple[jax.Array, Cache | None, tuple[jax.Array, ...], tuple[jax.Array, ...]]:
        """-> (x, cache, what entered each layer, attention weights of each layer).

        The last two are () unless `call` asks for them.
        """

        def step(layer, carry, index):
            x, cache = carry
            y, cache, weights = layer(x, cache, index, call)
            kept = x if call.output_hidden_states else None
            return (y, cache), (kept, weights if call.output_attentions else None)

        if self.run.scan_layers:
            carry = varying((x, cache), over=(x, cache, call, self.variables))
            (x, cache), (entered, weights) = self._scan(step, carry)
        else:
            (x, cache), (entered, weights) = self._loop(step, (x, cache))
        return x, cache, entered, weights

    def _loop(self, step: Callable, carry):
        entered, weights = [], []
        for index in range(self.depth):
            layer = self.layer(self.config, self.run, name=str(index))
            body = remat(lambda layer, carry, i=index: step(layer, carry, i), self.run.remat)
            carry, trace = body(layer, carry)
            entered.append(trace[0])
            weights.append(trace[1])
        return carry, (_present(entered), _present(weights))

    def _scan(self, step: Callable, carry):
        layer = self.layer(self.config, self.run)
        nn.share_scope(self, layer)
        body = nn.scan(
            remat(step, self.run.remat, prevent_cse=False),
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            metadata_params={"axis": "layers"},
            length=self.depth,
        )
        carry, traces = body(layer, carry, jnp.arange(self.depth))
        return carry, tuple(() if trace is None else tuple(trace) for trace in traces)


def _present(traces: list) -> tuple[jax.Array, ...]:
    return tuple(trace for trace in traces if trace is not None)

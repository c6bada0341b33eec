"""A small model of three layers, and adapters on it."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from flaxmodels import params as fp
from flaxmodels.blocks import Embed, Linear

ROWS, D, WIDE, LAYERS = 10, 12, 16, 3
IDS = np.array([[1, 2, 3], [4, 5, 6], [1, 2, 3], [7, 8, 9]])
LORA = {"peft_type": "LORA", "r": 2, "lora_alpha": 3, "target_modules": ["up"]}
DORA = {**LORA, "target_modules": ["up", "down"], "use_dora": True, "r": 3}
IA3 = {"peft_type": "IA3", "target_modules": ["up", "down"], "feedforward_modules": ["down"]}
TABLE = {**LORA, "target_modules": ["embed", "down"], "r": 1}


class Layer(nn.Module):
    """x [..., D] -> x + down(tanh(up(x)))."""

    @nn.compact
    def __call__(self, x: jax.Array, _: Any = None) -> tuple[jax.Array, None]:
        y = jnp.tanh(Linear(WIDE, ("embed", "mlp"), 0.3, name="up")(x))
        return x + Linear(D, ("mlp", "embed"), 0.3, name="down")(y), None


class Model(nn.Module):
    """ids [B, T] -> logits [B, T, rows], by layers that are looped over or scanned."""

    scan: bool = False

    @nn.compact
    def __call__(self, ids: jax.Array) -> jax.Array:
        table = Embed(ROWS, D, 1.0, name="embed")
        x = table(ids, jnp.float32)
        if self.scan:
            scanned = nn.scan(
                Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=LAYERS
            )
            x, _ = scanned(name="layers")(x, None)
        else:
            x = Stack(name="layers")(x)
        return table.attend(x)


class Stack(nn.Module):
    """The layers one after another, under their numbers."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for i in range(LAYERS):
            x, _ = Layer(name=str(i))(x)
        return x


@functools.cache
def base() -> fp.Params:
    """Draws params of the looped model, by NumPy, as the model begins."""
    made = jax.eval_shape(Model().init, jax.random.key(0), IDS)["params"]
    random = np.random.default_rng(0)

    def leaf(path: str, x: jax.ShapeDtypeStruct) -> jax.Array:
        std = {"embed/embedding": 1.0}.get(path, 0.3 if path.endswith("kernel") else 0.0)
        return jax.device_put((std * random.standard_normal(x.shape)).astype(np.float32))

    return fp.unflatten({path: leaf(path, x) for path, x in fp.flatten(made).items()})


def drawn(params: fp.Params, seed: int) -> fp.Params:
    """Moves what adapters train away from where it begins."""
    trained, rest = fp.split_adapters(params)
    leaves, tree = jax.tree.flatten(trained)
    random = np.random.default_rng(seed)
    moved = [
        jax.device_put(
            np.asarray(x) + np.float32(0.3) * random.standard_normal(x.shape, np.float32)
        )
        for x in leaves
    ]
    return fp.join_adapters(jax.tree.unflatten(tree, moved), rest)


def adapted(config: dict[str, Any], name: str = "default", seed: int = 1) -> fp.Params:
    """Makes params with an adapter that changes something."""
    return drawn(fp.lora_init(jax.random.key(seed), base(), config, name), seed)


def run(params: fp.Params, ids: np.ndarray = IDS) -> np.ndarray:
    """Runs the model as it is stacked."""
    return np.asarray(_PROGRAMS["0" not in params["layers"]]({"params": params}, ids))


_PROGRAMS = {
    scan: jax.jit(Model(scan).apply) for scan in (False, True)
}  # traced once for each kind


def stacked(params: fp.Params) -> fp.Params:
    """Stacks the layers."""
    return fp.stack_layers(params, ["layers"])

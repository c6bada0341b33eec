"""Models and params for tests that want some, whichever.

Params are drawn by NumPy, since the program that `init_params` compiles takes 1 to 2 s of CPU time,
more than a model's own."""

from typing import Any

import jax
import numpy as np

import flaxmodels as fm
from flaxmodels import params as fp


def tiny_llama(**fields: Any) -> fm.LlamaConfig:
    """The config of a Llama of two layers that compiles soon, with what a test has of its own."""
    sizes = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 32}
    return fm.LlamaConfig(**sizes | {"num_hidden_layers": 2, "num_attention_heads": 2} | fields)


def params_of(model: Any, seed: int = 0) -> Any:
    """Draws params of a model as they are initialised: weights around 0, scales 1, biases 0."""
    return jax.device_put(host_params_of(model, seed))  # jnp.asarray: a program for each shape


def host_params_of(model: Any, seed: int = 0) -> Any:
    """Those of `params_of` as arrays of NumPy, for a test that puts them onto a mesh: what cuts
    an array of JAX's into shards is compiled for each shape."""
    rng = np.random.default_rng(seed)
    std = getattr(model.config, "initializer_range", 0.02)

    def leaf(path: str, shape: tuple[int, ...]) -> np.ndarray:
        if path.endswith(("scale", "bias")):
            return np.full(shape, path.endswith("scale"), np.float32)
        return rng.normal(0.0, std, shape).astype(np.float32)

    leaves = fp.flatten(model.abstract_params())
    return fp.unflatten({path: leaf(path, x.shape) for path, x in leaves.items()})


def initial(model: Any, ending: str, seed: int = 0) -> Any:
    """Draws as `init_params` does, of the model's leaves those whose paths end so."""
    part, _ = fp.partition(model.abstract_params(), lambda path, _: path.endswith(ending))
    draw = jax.jit(lambda key: fp.initialize(part, key, naming=model.naming))
    return draw(jax.random.key(seed))


def applied(model: Any, params: Any, *args: Any, **given: Any) -> Any:
    """What `model.apply` gives, compiled as one program: operation by operation the first pass of
    a tiny model takes 1 s."""
    return jax.jit(lambda params: model.apply({"params": params}, *args, **given))(params)

"""Loading, initialising and saving in each of JAX's modes (D4; `_modes`)."""

import jax
import numpy as np
import pytest
from _drawn import tiny_llama
from _modes import COMPILED, CONTEXTS, MODES, ROWS, check
from _turns import some_of

import flaxmodels as fm

# Kernels of one shape: where nothing is compiled as a whole, their operations are, one by one.
MODEL = fm.LlamaForCausalLM(
    tiny_llama(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1)
)
IDS = np.arange(3 * ROWS).reshape(ROWS, 3)


@pytest.fixture(scope="module")
def params():
    return MODEL.init_params(jax.random.key(0))


@pytest.fixture(scope="module")
def folder(params, tmp_path_factory):
    path = tmp_path_factory.mktemp("modes")
    MODEL.save_pretrained(params, path)
    return path


def rows(params, ids):
    """What depends on params, by one operation: the table [V, D] for each row [B, V, D]."""
    table = params["model"]["embed_tokens"]["embedding"]
    return jax.lax.broadcast_in_dim(table, (ids.shape[0], *table.shape), (1, 2))


# What a mode changes of tracing shows without compiling.
@some_of("mode", [*MODES], *(mode for mode in MODES if mode not in COMPILED))
def test_D4_load(params, folder, mode):
    def load(_, ids):
        return rows(fm.AutoModelForCausalLM.from_pretrained(folder, progress=False)[1], ids)

    check(mode, load, params, jax.numpy.asarray(IDS), rows(params, IDS), 0)


# It is compiled in each of these; what they change is in tracing, `traced, ...`.
DRAWN = ("strict promotion", "rank promotion", "debug_infs", "checking_leaks")
DRAWN += ("auto mesh", "explicit mesh", "vmap", "remat")  # a load in these; `jit`, `scan`


@some_of("mode", [*MODES], *(mode for mode in MODES if mode not in (*COMPILED, *DRAWN)))
def test_init_params(params, mode):
    def init(_, ids):
        return rows(MODEL.init_params(jax.random.key(0)), ids)

    check(mode, init, params, jax.numpy.asarray(IDS), rows(params, IDS), 1e-6)


@pytest.mark.parametrize("mode", CONTEXTS)
def test_save(params, mode, tmp_path):
    with CONTEXTS[mode]():
        MODEL.save_pretrained(params, tmp_path)
    _, read = fm.LlamaForCausalLM.from_pretrained(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, read, params)


@pytest.mark.parametrize("transform", [jax.jit, jax.vmap, jax.grad, jax.checkpoint, jax.make_jaxpr])
def test_save_of_arrays_in_a_trace(params, tmp_path, transform):
    """Params that the program closes over are arrays, and are saved while it is traced."""

    def program(x):
        MODEL.save_pretrained(params, tmp_path)
        return x.sum() if transform is jax.grad else x

    transform(program)(np.ones(2))
    _, read = fm.LlamaForCausalLM.from_pretrained(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, read, params)

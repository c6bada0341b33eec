"""Steps of training: what they change, what they leave, and that neither the mesh nor microbatches
change what comes out."""

import functools

import jax
import numpy as np
import pytest
from _drawn import applied, params_of, tiny_llama

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels import sharding as fs
from flaxmodels import training

ROWS, LENGTH = 8, 12
MODEL = fm.LlamaForCausalLM(tiny_llama())


@functools.cache
def params():
    return params_of(MODEL)


def batch(seed=0):
    """Rows whose labels count differently many: microbatches weigh differently."""
    random = np.random.default_rng(seed)
    ids = random.integers(0, 64, (ROWS, LENGTH)).astype(np.int32)
    labels = np.where(np.arange(ROWS)[:, None] % 4 < np.arange(LENGTH)[None] / 2, ids, -100)
    return {"input_ids": ids, "labels": labels.astype(np.int32)}


def trained(steps=2, given=None, **options):
    """The state after some steps, and the metrics of the last."""
    made = training.compile(MODEL, **{"learning_rate": 1e-2, "clip_norm": 0.5} | options)
    state, values = made.init(params() if given is None else given), {}
    for i in range(steps):
        state, values = made.train_step(state, batch(i))
    return state, values


@functools.cache
def alone():
    return trained()


def assert_same(state, values, of=None, tolerance=1e-5):
    expected, there = alone() if of is None else of
    assert float(values["loss"]) == pytest.approx(float(there["loss"]), abs=tolerance)
    assert float(values["count"]) == float(there["count"])
    for path, x in fp.flatten(expected.params).items():
        np.testing.assert_allclose(fp.get_leaf(state.params, path), x, atol=tolerance)


def test_T28_a_step_lowers_the_loss_and_leaves_the_callers_params():
    before = jax.tree.map(np.array, params())
    state, values = alone()
    assert set(values) == {"loss", "count", "grad_norm", "finite", "learning_rate"}
    assert (int(state.step), int(state.skipped)) == (2, 0)
    inputs, labels = training.match_labels(MODEL, batch(0))
    both = [
        float(training.loss(MODEL, applied(MODEL, p, **inputs), labels))
        for p in (params(), state.params)
    ]
    assert both[1] < both[0] - 0.1
    jax.tree.map(np.testing.assert_array_equal, params(), before)


def test_accumulated_is_one_batch():
    assert_same(*trained(accumulate=4))


@pytest.mark.parametrize(
    "axes, options",
    [
        ({"fsdp": 4, "tensor": 2}, {}),
        ({"fsdp": 4}, {"accumulate": 2}),
        ({"data": 8}, {"shard_optimizer": "data"}),
    ],
)
def test_a_mesh_changes_nothing(axes, options):
    mesh = fs.make_mesh(**axes, devices=jax.devices()[: np.prod([*axes.values()])])
    steps = training.compile(MODEL, learning_rate=1e-2, clip_norm=0.5, mesh=mesh, **options)
    state, values = steps.init(params()), {}
    abstract = steps.abstract_state()

    def check(x, y):
        assert (x.shape, x.dtype, x.sharding) == (y.shape, y.dtype, y.sharding)

    jax.tree.map(check, abstract, state)
    for i in range(2):
        state, values = steps.train_step(state, batch(i))
    jax.tree.map(check, abstract, state)
    assert_same(state, values)
    moments = fp.flatten(state.opt_state[0].mu)
    kernel = "model/layers/0/mlp/up_proj/kernel"
    own = fp.get_leaf(state.trained, kernel).sharding
    assert moments[kernel].sharding == own or "data" in moments[kernel].sharding.spec

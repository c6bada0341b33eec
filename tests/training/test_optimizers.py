"""Optimizers and schedules by name, what decays, and where their states are."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from _drawn import tiny_llama

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels import sharding as fs
from flaxmodels import training
from flaxmodels.training.optimizers.leaf_tests import decay_rule
from flaxmodels.training.optimizers.transforms import named, optimizers

KEYWORDS = {
    "adadelta": {"rho": 0.95, "eps": 1e-7},
    "adafactor": {"min_dim_size_to_factor": 2},
    "adamw": {"weight_decay": 0.01},
    "lion": {"weight_decay": 0.0},
    "rmsprop": {"eps": 1e-7},
}
"""Keywords with which optax's own function of that name is ours."""


@pytest.mark.parametrize("name", optimizers())
def test_T7_an_optimizer_is_what_its_name_says(name):
    params = {"a": {"kernel": jnp.array([[1.0, -2.0], [0.5, 3.0]])}}
    grads = {"a": {"kernel": jnp.array([[0.1, 0.3], [-2.0, 0.0]])}}
    options = {"min_dim_size_to_factor": 2} if name == "adafactor" else {}
    rule = {"options": options, "weight_decay": None, "decays": None, "factors": {}}
    ours = named(name, lambda _: 0.1, matrices=lambda *_: True, **rule)
    theirs = getattr(optax, name)(0.1, **KEYWORDS.get(name, {}))

    @jax.jit
    def two_steps():
        found = []
        for transform in (ours, theirs):
            now, state = params, transform.init(params)
            for _ in range(2):
                updates, state = transform.update(grads, state, now)
                now = optax.apply_updates(now, updates)
            found.append(now["a"]["kernel"])
        return found

    got, expected = two_steps()
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    assert (got != params["a"]["kernel"])[0].all()


def test_T7_schedules_rise_and_fall():
    steps = np.array([0, 5, 10, 55, 100, 200])
    rates = {
        "cosine": training.schedule("cosine", 1.0, warmup=10, steps=100, end=0.1),
        "linear": training.schedule("linear", 2.0, warmup=10, steps=100),
        "inverse_sqrt": training.schedule("inverse_sqrt", 1.0, warmup=10),
        "constant": training.schedule("constant", 3.0),
    }
    expected = {
        "cosine": [0, 0.5, 1, 0.55, 0.1, 0.1],
        "linear": [0, 1, 2, 1, 0, 0],
        "inverse_sqrt": [0, 0.5, 1, (10 / 55) ** 0.5, 0.1**0.5, 0.05**0.5],
        "constant": 3.0,
    }
    found = jax.jit(lambda steps: {name: rate(steps) for name, rate in rates.items()})(steps)
    for name, values in found.items():
        np.testing.assert_allclose(values, expected[name], atol=1e-6, err_msg=name)


@pytest.mark.parametrize("scan", [False, True])
def test_biases_and_norms_do_not_decay(scan):
    config = tiny_llama(attention_bias=True)
    model = fm.LlamaForCausalLM(config, scan_layers=scan)
    template = model.abstract_params()
    decays = decay_rule(template)
    for path, leaf in fp.flatten(template).items():
        assert decays(path, leaf) == path.endswith(("/kernel", "/embedding")), path
    layer = "model/layers" if scan else "model/layers/0"
    lead = (2,) if scan else ()
    array = jax.ShapeDtypeStruct((*lead, 16, 4), jnp.float32)
    assert decays(f"{layer}/mlp/up_proj/kernel/default/a", array)
    assert not decays(
        f"{layer}/mlp/up_proj/kernel/default/magnitude", array.update(shape=(*lead, 4))
    )


def test_factored_states_drop_the_axis_of_their_param():
    mesh = fs.make_mesh(fsdp=2, tensor=2, devices=jax.devices()[:4])
    options = {"min_dim_size_to_factor": 4}
    steps = training.compile(
        fm.LlamaForCausalLM(tiny_llama()), "adafactor", mesh=mesh, optimizer_options=options
    )
    state = steps.abstract_state()
    factored = state.opt_state[0][0]
    kernel = "model/layers/0/mlp/up_proj/kernel"  # [16, 32] over fsdp, tensor
    row, col = fp.get_leaf(factored.v_row, kernel), fp.get_leaf(factored.v_col, kernel)
    assert {row.shape: row.sharding.spec, col.shape: col.sharding.spec} == {
        (16,): jax.P("fsdp"),
        (32,): jax.P("tensor"),
    }
    square = "model/layers/0/self_attn/q_proj/kernel"  # [16, 16]
    specs = {fp.get_leaf(x, square).sharding.spec for x in (factored.v_row, factored.v_col)}
    assert specs == {jax.P("fsdp"), jax.P("tensor")}
    norm = fp.get_leaf(factored.v, "model/norm/scale")
    assert (
        norm.shape == (16,)
        and norm.sharding.spec == fp.get_leaf(state.trained, "model/norm/scale").sharding.spec
    )
    assert factored.count.sharding.spec == jax.P()

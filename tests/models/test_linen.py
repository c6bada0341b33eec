"""D30: what users of Flax do with a linen module works on ours: the params are plain everywhere."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _drawn import params_of
from _turns import in_turn, some_of
from flax import linen as nn
from flax import nnx

import flaxmodels as fm
from flaxmodels import params as fp

TINY = {"vocab_size": 32, "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
CLASSES = {
    "bert": (fm.BertForMaskedLM, fm.BertConfig(**TINY, intermediate_size=16)),
    "gpt2": (fm.GPT2LMHeadModel, fm.GPT2Config.from_dict({"model_type": "gpt2", **TINY})),
    "llama": (fm.LlamaForCausalLM, fm.LlamaConfig(**TINY, intermediate_size=16)),
}
IDS = np.arange(6).reshape(2, 3)
KEY = jax.random.key(0)


@functools.cache
def made(family, scan=False):
    """(model, params as those of `model.init`, the logits of IDS)."""
    cls, config = CLASSES[family]
    model = cls(config, scan_layers=scan)
    params = params_of(model)
    return model, params, logits(model, params)


@functools.partial(jax.jit, static_argnums=0)
def logits(model, params, ids=IDS):
    return model.apply({"params": params}, ids).logits


@pytest.mark.parametrize(("family", "scan"), [("bert", False), ("gpt2", True), ("llama", True)])
def test_D30_model_init_makes_the_tree_of_init_params(family, scan):
    model, params, _ = made(family, scan)
    initial = jax.eval_shape(model.init_params, KEY)
    for tree in (params, jax.eval_shape(model.init, KEY, IDS)["params"]):
        assert jax.tree.map(lambda x: (x.shape, x.dtype), tree) == jax.tree.map(
            lambda x: (x.shape, x.dtype), initial
        )


def test_D30_model_init_draws_what_it_puts_out():
    model, _, _ = made("llama", True)
    out, variables = jax.jit(model.init_with_output)(KEY, IDS)
    np.testing.assert_allclose(out.logits, logits(model, variables["params"]), atol=1e-6)


@some_of("family", [*CLASSES], "llama")
def test_D30_what_model_init_makes_can_be_saved_resized_and_cast(family, tmp_path):
    model, params, expected = made(family)
    model.save_pretrained(params, tmp_path)
    again, loaded = type(model).from_pretrained(tmp_path)
    np.testing.assert_array_equal(logits(again, loaded), expected)
    wider, resized = model.resize_token_embeddings(params, 40, key=KEY)
    np.testing.assert_allclose(logits(wider, resized)[..., :32], expected, atol=1e-6)
    half = fp.cast(params, "bfloat16")
    assert {leaf.dtype.name for leaf in jax.tree.leaves(half)} == {"bfloat16"}


@some_of("family", [*CLASSES], "bert")
def test_D30_nn_vmap_over_members_of_an_ensemble(family):
    cls, config = CLASSES[family]
    over = {"params": 0}
    ensemble = nn.vmap(
        cls, in_axes=None, variable_axes=over, split_rngs={"params": True}, axis_size=3
    )
    model, _, _ = made(family)
    members = [params_of(model, seed) for seed in range(3)]
    params = jax.tree.map(lambda *leaves: np.stack(leaves), *members)
    described = jax.eval_shape(ensemble(config).init, KEY, IDS)["params"]
    assert jax.tree.map(np.shape, described) == jax.tree.map(np.shape, params)
    out = jax.jit(ensemble(config).apply)({"params": params}, IDS).logits
    for one, member in zip(out, members, strict=True):
        np.testing.assert_allclose(one, logits(model, member), atol=1e-5)


@in_turn("family", [*CLASSES], "lift", [nn.jit, nn.remat], ids=(None, ["jit", "remat"]))
def test_D30_lifted_classes(family, lift):
    cls, config = CLASSES[family]
    _, params, expected = made(family)
    lifted = lift(cls)(config)
    made_by_init = jax.eval_shape(lifted.init, KEY, IDS)["params"]
    assert jax.tree.structure(made_by_init) == jax.tree.structure(params)
    np.testing.assert_allclose(logits(lifted, params), expected, atol=1e-5)


@some_of("family", [*CLASSES], "gpt2")
def test_D30_nn_scan_over_a_sequence_of_batches(family):
    model, params, expected = made(family)

    def step(model, carry, ids):
        return carry, model(ids).logits

    class Batches(nn.Module):
        member: nn.Module

        @nn.compact
        def __call__(self, batches):
            body = nn.scan(step, variable_broadcast="params", split_rngs={"params": False})
            return body(self.member, (), batches)[1]

    batches = np.stack([IDS, IDS[::-1]])
    out = jax.jit(Batches(model).apply)({"params": {"member": params}}, batches)
    np.testing.assert_allclose(out[0], expected, atol=1e-5)
    np.testing.assert_allclose(out[1], expected[::-1], atol=1e-5)


@some_of("family", [*CLASSES], "llama")
def test_D30_nnx_bridge(family):
    model, params, expected = made(family)
    bridged = nnx.bridge.lazy_init(nnx.bridge.ToNNX(model, rngs=nnx.Rngs(0)), IDS)
    state = nnx.to_pure_dict(nnx.state(bridged, nnx.Param))
    assert jax.tree.map(jnp.shape, dict(state)) == jax.tree.map(jnp.shape, params)
    np.testing.assert_allclose(bridged(IDS).logits, logits(model, dict(state)), atol=1e-5)
    nnx.update(bridged, params)
    np.testing.assert_allclose(bridged(IDS).logits, expected, atol=1e-5)


@some_of("family", [*CLASSES], "gpt2")
def test_D30_a_model_inside_a_module_of_ones_own(family):
    model, params, expected = made(family)

    class Scored(nn.Module):
        member: nn.Module

        @nn.compact
        def __call__(self, ids):
            return nn.Dense(1)(self.member(ids).logits)

    described = jax.eval_shape(Scored(model).init, KEY, IDS)["params"]
    assert jax.tree.map(np.shape, described["member"]) == jax.tree.map(np.shape, params)
    scores = {"kernel": np.ones((32, 1)), "bias": np.zeros(1)}
    assert jax.tree.map(np.shape, described["Dense_0"]) == jax.tree.map(np.shape, scores)
    found = jax.jit(Scored(model).apply)({"params": {"member": params, "Dense_0": scores}}, IDS)
    np.testing.assert_allclose(found, expected.sum(-1, keepdims=True), atol=1e-5)

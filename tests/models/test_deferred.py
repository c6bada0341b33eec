"""Heads over a vocabulary that defer their logits: which do, what these stand for, and who makes
them after all."""

import functools
import re

import _families as families
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _turns import some_of
from reference import Reference

import flaxmodels as fm
from flaxmodels import sharding as fs
from flaxmodels.core.deferred import DeferredLogits


@functools.cache
def reference(model_type):
    return Reference(model_type)


def is_deferred(x):
    return isinstance(x, DeferredLogits)


def made(output):
    """An output whose logits are made."""
    return jax.tree.map(lambda x: x.logits() if is_deferred(x) else x, output, is_leaf=is_deferred)


def deferring_and_made(run, *args):
    """The program whose logits are made after all, and what they were before; of one trace."""
    outputs = []

    def then_made(*args):
        outputs.append(run(*args))
        return made(outputs[0])

    return jax.make_jaxpr(then_made)(*args), outputs[0]


def heads(model_type):
    """The models of a family, tied and untied, without arrays: (model, its arguments)."""
    it = reference(model_type)
    variants = [name for name in ("untied", "tied") if name in it.golden["variants"]]
    for name in [*it.golden["classes"], *variants]:
        cls = it.cls(name)
        config = cls.config_class.from_dict(it.entry(name)["config"])
        yield cls(config), it.inputs(name)


KINDS = ("phi", "bert", "marian")
"""Families whose heads end in different ways: a kernel and a bias; a transform, a table, a bias and
other logits beside; a table, and a bias that is not trained."""


@some_of("model_type", families.names(), *KINDS)
def test_every_head_over_a_vocabulary_defers_its_logits(model_type):
    for model, arguments in heads(model_type):
        params, deferring = model.abstract_params(), model.clone(defer_logits=True)
        trace = functools.partial(jax.make_jaxpr, return_shape=True)
        if model.output_embeddings_path is None:
            continue
        run = lambda params, x, model=model: model.apply({"params": params}, **x)  # noqa: E731
        later = functools.partial(run, model=deferring)
        jaxpr, whole = trace(run)(params, arguments)
        again, output = deferring_and_made(later, params, arguments)
        deferred = {name: x for name, x in output.items() if is_deferred(x)}
        assert len(deferred) == 1, type(model).__name__
        ((name, logits),) = deferred.items()
        assert (logits.shape, logits.dtype) == (whole[name].shape, whole[name].dtype)
        # The same program; beside other logits these are made in another order, and the axis of
        # choices is folded elsewhere.
        if sum(each.endswith("logits") for each in output) == 1:
            assert str(again) == str(jaxpr)


@some_of("model_type", ["gemma2", "phi", "bert", "t5", "marian"], "gemma2")
def test_a_loss_of_deferred_logits_has_the_gradients_of_the_loss(model_type):
    it = reference(model_type)
    model, params = it.load(it.table.main, scan_layers=True)
    arguments = it.inputs(it.table.main, "whole")
    whole = jax.eval_shape(lambda p: model.apply({"params": p}, **arguments), params)
    rows = whole.logits.shape[:-1]
    ids = jnp.asarray(np.random.default_rng(0).integers(1, 61, rows)).at[0, :3].set(-100)

    def loss(params, model):
        output = model.apply({"params": params}, **arguments)
        options = {"z_loss": 0.01, "label_smoothing": 0.1}
        return fm.training.loss(model, output, {"labels": ids}, **options)

    def both(params):
        models = model, model.clone(defer_logits=5)
        return [jax.value_and_grad(loss)(params, each) for each in models]

    (expected, of_expected), (found, of_found) = jax.jit(both)(params)
    assert abs(found - expected) < 1e-6 * expected
    largest = max(np.abs(x).max() for x in jax.tree.leaves(of_expected))
    pairs = zip(jax.tree.leaves(of_found), jax.tree.leaves(of_expected), strict=True)
    assert max(np.abs(got - want).max() for got, want in pairs) < 2e-6 * largest


@pytest.mark.soak
@pytest.mark.optimized
def test_on_a_mesh_no_device_gathers_logits_or_the_vocabulary():
    mesh, it = fs.make_mesh(data=2, fsdp=2, tensor=2), reference("gemma2")
    values = it.entry("Gemma2ForCausalLM")["config"]
    values = values | {"vocab_size": 64, "num_hidden_layers": 1, "layer_types": None}
    config = fm.Gemma2Config.from_dict(values)
    model = fm.Gemma2ForCausalLM(config, defer_logits=3)
    placed = model.init_params(jax.random.key(0), mesh)
    ids = jnp.asarray(np.random.default_rng(0).integers(0, 64, (4, 8)))

    def loss(params, model):
        output = model.apply({"params": params}, ids)
        return fm.training.loss(model, output, {"labels": ids})

    step = jax.jit(jax.value_and_grad(loss), static_argnums=1)
    found = fs.collectives(step.lower(placed, model).compile(), mesh)
    widths = {s[-1] for each in found for _, s in each.shapes if each.kind == "all-gather" and s}
    assert widths and not widths & {64}
    whole = step(jax.device_get(placed), model.clone(defer_logits=False))
    split = jax.device_get(step(placed, model))
    for got, want in zip(jax.tree.leaves(split), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_deferred_logits_go_in_and_out_of_programs():
    hidden, weight = jnp.ones((2, 3, 4)), jnp.ones((5, 4))
    logits = DeferredLogits(hidden, weight, axis=1, softcap=2.0)
    again = jax.jit(lambda x: x)(logits)
    assert (again.shape, again.ndim, again.dtype, again.softcap) == ((2, 3, 5), 3, hidden.dtype, 2)
    np.testing.assert_allclose(jax.jit(DeferredLogits.logits)(again), 2 * np.tanh(2), rtol=1e-6)
    assert again.reshape(1, 2, 3, 5).logits().shape == (1, 2, 3, 5)
    with pytest.raises(ValueError, match=re.escape("(2, 3, 5) as (6, 6): the last axis stays 5")):
        again.reshape(6, 6)


def test_generate_makes_logits_that_the_model_defers():
    it = reference("gemma2")
    model, params = it.load("Gemma2ForCausalLM")
    ids = np.array([[3, 5, 7]])
    expected = model.generate(params, ids, max_new_tokens=3).sequences
    model = model.clone(defer_logits=True)
    assert is_deferred(jax.eval_shape(model.apply, {"params": params}, ids).logits)
    assert (model.generate(params, ids, max_new_tokens=3).sequences == expected).all()
    steps = list(model.stream(params, ids, max_new_tokens=3))
    assert np.array_equal(np.stack(steps, 1), np.asarray(expected)[:, 3:])


@pytest.mark.parametrize("value", ["yes", -1, 2.0])
def test_what_is_no_number_of_tokens_is_no_way_to_defer(value):
    config = reference("gemma2").entry("Gemma2ForCausalLM")["config"]
    with pytest.raises(
        ValueError, match=f"defer_logits is {value!r}; expected True, False, or how"
    ):
        fm.Gemma2ForCausalLM(fm.Gemma2Config.from_dict(config), defer_logits=value)

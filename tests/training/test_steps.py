"""Steps of training: what they change, what they leave, and that neither the mesh nor microbatches
change what comes out."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from _drawn import params_of, tiny_llama
from _turns import some_of
from flax import linen as nn
from jax.core import Tracer

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels import sharding as fs
from flaxmodels import training
from flaxmodels.core.outputs import LogitsOutput
from flaxmodels.training.precision import LossScale
from flaxmodels.training.recipe import split_batch
from flaxmodels.training.step_functions import clipped, global_norm

ROWS, LENGTH = 8, 12
CONFIG = tiny_llama(num_hidden_layers=1, intermediate_size=16)  # one shape of kernels
MODEL = fm.LlamaForCausalLM(CONFIG)
DROPPING = fm.LlamaForCausalLM(CONFIG.replace(attention_dropout=0.3), attn_implementation="eager")
KERNEL = "model/layers/0/mlp/up_proj/kernel"
ADAM = {"learning_rate": 1e-2, "clip_norm": 0.5, "optimizer_options": {"eps": 1e-5}}
"""With an eps of 1e-8 a gradient that is 0 but for rounding would make a step of any size."""


@functools.cache
def params():
    """On a device, as those of a state are: one program takes both."""
    return jax.device_put(params_of(MODEL), jax.devices()[0])


def batch(seed=0):
    """Rows whose labels count differently many: microbatches weigh differently."""
    random = np.random.default_rng(seed)
    ids = random.integers(0, 64, (ROWS, LENGTH)).astype(np.int32)
    labels = np.where(np.arange(ROWS)[:, None] % 4 < np.arange(LENGTH)[None] / 2, ids, -100)
    return {"input_ids": ids, "labels": labels.astype(np.int32)}


def trained(model=MODEL, **options):
    """The steps, the state after two of them, and the metrics of the last."""
    steps = training.compile(model, **ADAM | options)
    state, values = steps.init(params()), {}
    for i in range(2):
        state, values = steps.train_step(state, batch(i))
    return steps, state, values


@functools.cache
def alone():
    return trained()


def assert_same(one, other, tolerance=1e-5):
    """The states and metrics of two runs are the same."""
    (_, state, values), (_, expected, there) = one, other
    assert float(values["loss"]) == pytest.approx(float(there["loss"]), abs=tolerance)
    assert float(values["count"]) == float(there["count"])
    for path, x in fp.flatten(expected.params).items():
        np.testing.assert_allclose(fp.get_leaf(state.params, path), x, atol=tolerance)


@jax.jit
def of_first_batch(params):
    """The loss that `training.loss` computes of the first batch, and the logits."""
    inputs, labels = training.match_labels(MODEL, batch(0))
    out = MODEL.apply({"params": params}, **inputs)
    return training.loss(MODEL, out, labels), out.logits


def same_trees(tree, other):
    jax.tree.map(np.testing.assert_array_equal, tree, other)


# --- one step, whole or in parts, on one device or many ---


def test_T28_a_step_lowers_the_loss_and_leaves_the_callers_params():
    before = jax.tree.map(np.array, params())
    _, state, values = alone()
    assert set(values) == {"loss", "count", "grad_norm", "finite", "learning_rate"}
    assert (int(state.step), int(state.skipped)) == (2, 0)
    assert of_first_batch(state.params)[0] < of_first_batch(params())[0] - 0.05
    same_trees(params(), before)


def test_T27_a_test_step_changes_nothing_and_predictions_need_no_labels():
    steps, state, _ = alone()
    before = jax.tree.map(np.array, state.params)
    values = steps.test_step(state, batch(0))
    expected, logits = of_first_batch(state.params)
    assert float(values["loss"]) == pytest.approx(float(expected), rel=1e-6)
    predicted = steps.predict_step(state, {"input_ids": batch(0)["input_ids"]})
    np.testing.assert_allclose(predicted.logits, logits, atol=1e-5)
    same_trees(state.params, before)


def test_T28_a_batch_may_be_inputs_labels_and_weights():
    recipe, given, weights = rich().recipe, batch(), np.arange(ROWS)
    pair = {"input_ids": given["input_ids"]}, {"logits": given["labels"]}, weights
    same_trees(split_batch(recipe, pair), split_batch(recipe, given | {"sample_weight": weights}))


@pytest.mark.soak
@pytest.mark.parametrize("options", [{"accumulate": 4}, {"chunked_loss": 5}])
def test_accumulated_is_one_batch_and_chunks_are_one_loss(options):
    assert_same(trained(**options), alone())


@some_of("options", {"whole": {}, "in parts": {"accumulate": 4, "chunked_loss": 5}}, "in parts")
def test_T7_several_steps_in_one_execution_are_these_steps(options):
    steps = training.compile(MODEL, **ADAM, steps_per_execution=2, **options)
    both = {name: np.stack([batch(0)[name], batch(1)[name]]) for name in batch()}
    state, values = steps.train_step(steps.init(params()), both)
    assert values["loss"].shape == (2,)
    assert_same((steps, state, {k: x[1] for k, x in values.items()}), alone())


def mesh_of(**axes):
    return fs.make_mesh(**axes, devices=jax.devices()[: np.prod([*axes.values()])])


def test_a_mesh_changes_nothing():
    """Nor an optimizer that is cut over its data axis; abstract states are where states are."""
    mesh = mesh_of(data=2, fsdp=2, tensor=2)
    ran = trained(mesh=mesh, shard_optimizer="data", accumulate=2, ema=0.5)

    def check(x, y):
        assert (x.shape, x.dtype, x.sharding) == (y.shape, y.dtype, y.sharding)

    steps, state, _ = ran
    jax.tree.map(check, steps.abstract_state(), state)
    assert_same(ran, alone())
    leaf = fp.get_leaf(state.trained, KERNEL)
    assert leaf.sharding.spec == jax.P("fsdp", "tensor")
    for tree in (state.opt_state[0].mu, state.opt_state[0].nu, state.ema):
        assert "data" in str(fp.get_leaf(tree, KERNEL).sharding.spec)
    plain = training.compile(MODEL, mesh=mesh, ema=0.5).abstract_state()
    for tree in (plain.opt_state[0].mu, plain.ema):
        assert fp.get_leaf(tree, KERNEL).sharding == leaf.sharding


@pytest.mark.soak
def test_a_mesh_does_not_change_the_keys_of_dropout():
    options = {"accumulate": 2, "seed": 3}
    ran = trained(DROPPING, mesh=mesh_of(fsdp=2, tensor=2), **options)
    assert_same(ran, expected := trained(DROPPING, **options))
    assert abs(float(expected[2]["loss"]) - float(alone()[2]["loss"])) > 1e-5


def test_dropout_is_drawn_in_each_microbatch_of_a_step():
    steps = training.compile(DROPPING, accumulate=2)
    step = jax.make_jaxpr(lambda state: steps.train_step(state, batch()))
    before, in_loop = str(step(steps.abstract_state())).split("scan[", 1)
    assert "random_bits" in in_loop and "random_bits" not in before


@pytest.mark.soak
@pytest.mark.parametrize("axes", [{"fsdp": 8}, {"tensor": 2}, {"data": 2, "fsdp": 2, "tensor": 2}])
def test_no_mesh_changes_anything(axes):
    assert_same(trained(mesh=mesh_of(**axes)), alone())


def test_new_params_are_drawn_where_they_belong():
    """Of one leaf: the program of all of a model takes 1.5 s to compile."""
    model, key = Bigrams(CONFIG), jax.random.key(1)
    steps = training.compile(model, mesh=mesh_of(fsdp=2), param_dtype="bfloat16")
    state = steps.init(key)
    same_trees(state.params, model.init_params(key, param_dtype=jnp.bfloat16))
    leaf = state.trained["table"]
    assert leaf.dtype == jnp.bfloat16 and leaf.sharding.spec == jax.P(None, "fsdp")
    assert state.opt_state[0].mu["table"].dtype == jnp.float32


def test_clipping_gathers_no_gradients():
    """The norm is of the shards, and what leaves a device is a number."""
    spread = jax.NamedSharding(mesh_of(fsdp=4), jax.P("fsdp"))
    grads = {name: jax.ShapeDtypeStruct((8, 16), jnp.float32, sharding=spread) for name in "ab"}

    @jax.jit
    def clip(grads):
        return clipped(grads, global_norm(grads), 0.5)

    found = fs.collectives(clip.lower(grads).compile().as_text())
    assert {(c.kind, shape) for c in found for _, shape in c.shapes} == {("all-reduce", ())}


@pytest.mark.soak
def test_a_step_that_clips_gathers_what_one_without_does():
    gathered = []
    for limit in (None, 0.5):
        steps = training.compile(MODEL, clip_norm=limit, mesh=mesh_of(fsdp=4))
        shapes = {k: jax.ShapeDtypeStruct(x.shape, x.dtype) for k, x in batch().items()}
        text = steps.lower(steps.abstract_state(), shapes).compile().as_text()
        found = [c for c in fs.collectives(text) if c.kind == "all-gather"]
        gathered.append(sorted(c.shapes for c in found))
    assert gathered[0] == gathered[1] != []


# --- what is trained, how it is kept, and what is skipped ---


def rich(**options):
    """Steps with much of what there is: one program for several tests."""
    return training.compile(
        fm.LlamaForCausalLM(CONFIG, attn_implementation="eager"),
        "sgd",
        metrics=["accuracy", "perplexity", hits],
        weighted_metrics="accuracy",
        learning_rate=lambda step: 0.1 / (step + 1),
        rate_factors={"lm_head": 0.0},
        trainable=["mlp", "lm_head"],
        ema=0.75,
        compute_dtype="float16",
        **options,
    )


def hits(y_true, y_pred):
    return jnp.mean(jnp.argmax(y_pred, -1) == y_true)


@functools.cache
def rich_run():
    """The steps, the states before and after one, as NumPy arrays, and its metrics."""
    steps = rich()
    state = steps.init(params())
    before = jax.tree.map(np.array, state.replace(key=0))
    weights = np.array([1, 1, 0, 0, 0, 0, 0, 0], np.float32)
    state, values = steps.train_step(state, batch() | {"sample_weight": weights})
    return steps, state, before, values


def test_what_is_not_in_the_mask_stays_and_is_not_copied():
    _, state, before, _ = rich_run()
    assert set(fp.flatten(state.trained)) | set(fp.flatten(state.frozen)) == {*fp.flatten(params())}
    assert all("mlp" in path or "lm_head" in path for path in fp.flatten(state.trained))
    for path, leaf in fp.flatten(state.frozen).items():
        assert leaf is fp.get_leaf(params(), path)
    moved = {
        p
        for p, x in fp.flatten(before.trained).items()
        if (fp.get_leaf(state.trained, p) != x).any()
    }
    assert moved == {
        p for p in fp.flatten(state.trained) if "mlp" in p
    }  # the factor of others is 0
    assert float(rich_run()[3]["learning_rate"]) == pytest.approx(0.1)


def test_an_average_follows_what_is_trained():
    _, state, before, _ = rich_run()
    first, now = (fp.get_leaf(tree, KERNEL) for tree in (before.trained, state.trained))
    np.testing.assert_allclose(fp.get_leaf(state.ema, KERNEL), 0.75 * first + 0.25 * now, atol=1e-7)
    np.testing.assert_array_equal(
        fp.get_leaf(state.averaged().params, KERNEL), fp.get_leaf(state.ema, KERNEL)
    )
    with pytest.raises(ValueError, match=r"ema=0\.999"):
        alone()[1].averaged()


def test_T7_metrics_are_those_of_all_labels():
    _, _, _, values = rich_run()
    _, labels = training.match_labels(MODEL, batch())
    _, logits = of_first_batch(params())
    ((y_true, _),) = training.targets(MODEL, {"logits": logits}, labels).values()
    y_true, predicted = np.asarray(y_true), np.asarray(logits).argmax(-1)
    right, counts = predicted == y_true, y_true != -100
    assert float(values["accuracy"]) == pytest.approx(right[counts].mean(), abs=0.02)
    assert float(values["weighted_accuracy"]) == pytest.approx(
        right[:2][counts[:2]].mean(), abs=0.05
    )
    assert float(values["perplexity"]) == pytest.approx(np.exp(float(values["loss"])), rel=1e-5)
    assert float(values["hits"]) == pytest.approx(right.mean(), abs=0.02)


def test_a_step_that_is_not_finite_changes_nothing_but_the_scale():
    steps, state, _, values = rich_run()
    assert bool(values["finite"]) and float(values["loss_scale"]) == 65536
    state = jax.tree.map(jnp.copy, state)
    bad = fp.unflatten(
        {
            **fp.flatten(state.trained),
            KERNEL: state.trained["model"]["layers"]["0"]["mlp"]["up_proj"]["kernel"] * jnp.nan,
        }
    )
    before = jax.tree.map(np.array, (bad, state.opt_state, state.ema, state.step))
    weights = np.ones(ROWS, np.float32)
    state, values = steps.train_step(
        state.replace(trained=bad), batch() | {"sample_weight": weights}
    )
    assert not values["finite"] and np.isnan(values["loss"])
    assert (int(state.step), int(state.skipped)) == (1, 1)
    assert float(state.loss_scale.scale) == 32768
    same_trees(before, (state.trained, state.opt_state, state.ema, state.step))


def test_a_loss_scale_grows_after_2000_good_steps():
    scale = LossScale(jnp.float32(8), jnp.int32(1998))
    scale = scale.after(jnp.bool(True))
    assert (float(scale.scale), int(scale.good_steps)) == (8, 1999)
    scale = scale.after(jnp.bool(True))
    assert (float(scale.scale), int(scale.good_steps)) == (16, 0)
    scale = scale.after(jnp.bool(True)).after(jnp.bool(False))
    assert (float(scale.scale), int(scale.good_steps)) == (8, 0)
    fixed = LossScale(jnp.float32(8), jnp.int32(1999), dynamic=False)
    assert fixed.after(jnp.bool(False)) is fixed


def test_adapters_alone_are_trained_beside_quantised_weights():
    adapted = MODEL.add_adapter(
        jax.jit(fp.quantize, static_argnums=1)(params(), "int8"),
        fp.PeftConfig(target_modules="all-linear", r=2, alpha=4),
        key=jax.random.key(0),
    )
    steps = training.compile(MODEL, learning_rate=1e-2, trainable="adapters")
    state = steps.init(adapted)
    jax.tree.map(
        lambda x, y: (x.shape, x.dtype) == (y.shape, y.dtype) or pytest.fail(f"{x} is not {y}"),
        steps.abstract_state(adapted),
        state,
    )
    losses = []
    for _ in range(2):
        state, values = steps.train_step(state, batch())
        losses.append(float(values["loss"]))
    assert losses[1] < losses[0]
    frozen = jax.tree.leaves(state.frozen)
    assert all(any(x is y for y in jax.tree.leaves(adapted)) for x in frozen)
    changed = fp.split_adapters(state.params)[0]
    assert any(
        (x != y).any()
        for x, y in zip(
            jax.tree.leaves(changed), jax.tree.leaves(fp.split_adapters(adapted)[0]), strict=True
        )
    )
    with pytest.raises(ValueError, match="trainable='adapters'"):
        training.compile(MODEL).init(adapted)
    said = {"rate_factors": "rate_factors: 'mpl' matches no path", "decay_mask": "chooses none of"}
    for name, given in {"rate_factors": {"mpl": 0.1}, "decay_mask": "mpl"}.items():
        steps = training.compile(MODEL, trainable="adapters", **{name: given})
        with pytest.raises(ValueError, match=said[name]):
            steps.abstract_state(adapted)


def test_packed_rows_are_as_their_texts_apart():
    steps, state, _ = alone()
    ids = batch()["input_ids"]
    apart = {"input_ids": ids, "labels": ids}  # the shapes of another test, which compiled them
    texts = ids.reshape(4, 2, LENGTH)
    packed = {
        "input_ids": np.concatenate([*np.moveaxis(texts, 1, 0), np.zeros((4, 2), np.int32)], 1),
        "segment_ids": np.repeat([[1, 2, 0]], 4, 0).repeat([LENGTH, LENGTH, 2], 1),
    }
    packed["labels"] = packed["input_ids"]
    one, other = steps.test_step(state, apart), steps.test_step(state, packed)
    assert float(one["count"]) == float(other["count"]) == ROWS * (LENGTH - 1)
    assert float(one["loss"]) == pytest.approx(float(other["loss"]), rel=1e-5)


def test_other_variables_are_carried_on():
    steps = training.compile(Counting(CONFIG), optax.sgd(0.1), accumulate=2)
    seen = {"statistics": {"seen": jnp.int32(5)}}
    state = steps.init({"table": np.ones((64, 64), np.float32)}, variables=seen)
    state, _ = steps.train_step(state, batch())
    assert int(state.variables["statistics"]["seen"]) == 7


class Bigrams(fm.LlamaForCausalLM):
    """A table of logits: little to compile, and run eagerly each operation is a program."""

    @nn.compact
    def __call__(self, input_ids, deterministic=True):  # pyright: ignore[reportIncompatibleMethodOverride]
        init = fs.with_axes(nn.initializers.normal(), "vocab", "embed")
        table = self.param("table", init, (64, 64))
        return LogitsOutput(logits=table[input_ids])


class Counting(Bigrams):
    """Counts its passes in training."""

    @nn.compact
    def __call__(self, input_ids, deterministic=True):  # pyright: ignore[reportIncompatibleMethodOverride]
        seen = self.variable("statistics", "seen", lambda: jnp.int32(0))
        if self.is_mutable_collection("statistics") and not self.is_initializing():
            seen.value += 1
        return super().__call__(input_ids, deterministic)


# --- losses that are given ---


def test_T7_a_loss_may_be_a_function_of_outputs_and_labels():
    """Run eagerly, so that it gets values; with a column that the model does not take."""
    seen = []

    def loss(outputs, labels):
        seen.append((sorted(labels), isinstance(outputs.logits, Tracer)))
        return jnp.mean(outputs.logits, (1, 2)) * labels["worth"]

    steps = training.compile(Bigrams(CONFIG), loss=loss, run_eagerly=True)
    worth = np.arange(ROWS, dtype=np.float32)
    state = steps.init({"table": np.ones((64, 64), np.float32)})
    values = steps.test_step(state, {"input_ids": batch()["input_ids"], "worth": worth})
    assert seen == [(["worth"], False)] and float(values["count"]) == ROWS
    assert float(values["loss"]) == worth.mean()


def test_T7_the_default_words_of_keras_warn_once():
    with pytest.warns(UserWarning, match="no loss was given") as told:
        training.compile(MODEL, "rmsprop", "auto_with_warning")
    assert len(told) == 1
    training.compile(MODEL, "rmsprop", "passthrough")


def test_predictions_have_logits_though_a_chunked_loss_makes_none():
    steps = training.compile(MODEL, chunked_loss=5)
    predicted = jax.eval_shape(
        lambda state: steps.predict_step(state, batch()), steps.abstract_state()
    )
    assert predicted.logits.shape == (ROWS, LENGTH, 64)
    steps = training.compile(MODEL, chunked_loss=True, metrics="accuracy")
    with pytest.raises(ValueError, match="accuracy reads logits, which chunked_loss does not make"):
        jax.eval_shape(lambda state: steps.train_step(state, batch()), steps.abstract_state())


# --- bad input ---


def hits_too(y_true, y_pred):
    return 0.0


hits_too.__name__ = "hits"


def loss(y_true, y_pred):
    return 0.0


@pytest.mark.parametrize(
    "options, message",
    [
        ({"optimizer": "AdamW"}, r"none called 'AdamW' \(nearest: adamw"),
        ({"optimizer_options": {"b1": "0.9"}}, r"\['b1'\] is '0.9'; expected a number from 0"),
        ({"optimizer_options": {"b1": 2}}, "expected a decay below 1"),
        ({"optimizer_options": ["b1"]}, "expected {name: number}"),
        (
            {"optimizer": "sgd", "optimizer_options": {"nesterov": "yes"}},
            "nesterov'] is 'yes'; expected True or False",
        ),
        ({"optimizer": "adam", "decay_mask": "kernel"}, "no weight decays by adam; give weight_d"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1; expected a number from 0"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0; expected a number from 0"),
        ({"learning_rate": "cosine"}, 'a function of the step, or {"name": "cosine", ...}'),
        ({"learning_rate": {"name": "constant", "peak": 1.0, "end": 0.1}}, "has no end, and end"),
        ({"clip_norm": 0}, "clip_norm is 0; expected a number above 0"),
        ({"clip_norm": float("nan")}, "clip_norm is nan; expected a number above 0"),
        ({"clip_norm": 1e-50}, "clip_norm is 1e-50; expected a number above 0"),
        ({"clip_norm": 10**400}, "clip_norm is 1000.*expected a number above 0"),
        ({"ema": 1 - 1e-12}, "ema is 0.9999.*; expected a number between 0 and 1"),
        ({"loss_scale": 1e39}, r"loss_scale is 1e\+39; expected a number above 0"),
        ({"decay_mask": "mlp", "weight_decay": 0}, "no weight decays by adamw; give weight_d"),
        ({"param_dtype": "float64"}, "param_dtype float64: JAX makes float32 of it"),
        ({"accumulate": 2.0}, "accumulate is 2.0; expected a whole number"),
        ({"steps_per_execution": True}, "steps_per_execution is True; expected a whole number"),
        ({"label_smoothing": 1.5}, "label_smoothing is 1.5; expected a number from 0 to 1"),
        ({"z_loss": -1}, "z_loss is -1; expected a number from 0"),
        ({"loss_weights": {"logits": "2"}}, r"loss_weights\['logits'\] is '2'; expected a number"),
        ({"rate_factors": 0.1}, "rate_factors is 0.1; expected {name: number}"),
        ({"param_dtype": "float8_e4m3fn"}, "param_dtype is float8_e4m3fn: expected float32"),
        ({"chunked_loss": 0}, "chunked_loss is 0; expected at least 1"),
        ({"trainable": ["("]}, "no regular expression"),
        ({"trainable": [1]}, "pattern 1 is no regular expression"),
        ({"metrics": 3}, "metrics: 3 is no name and no function"),
        ({"metrics": [hits, hits_too]}, "the name 'hits' is taken"),
        ({"metrics": [loss]}, "the name 'loss' is taken"),
        ({"weighted_metrics": "perplexity"}, "there is none called 'perplexity'; there are"),
        ({"optimizer": "adamv"}, r"none called 'adamv' \(nearest: adam"),
        ({"optimizer": "adamw", "optimizer_options": {"beta1": 1}}, "adamw takes b1, b2, eps"),
        ({"optimizer": optax.sgd(0.1), "learning_rate": 0.1}, "learning_rate is of an optimizer"),
        ({"optimizer": 3}, "expected a name, such as 'adamw'"),
        ({"loss": "cross_entropy"}, "expected one of auto"),
        (
            {"loss": lambda outputs, labels: 0.0, "z_loss": 1e-4},
            "z_loss is of the model's own loss",
        ),
        ({"metrics": ["acuracy"]}, r"'acuracy' \(nearest: accuracy"),
        ({"trainable": "lora"}, "'lora' matches no path"),
        ({"trainable": lambda path, x: False}, "the mask chooses none of the 12 leaves"),
        ({"decay_mask": {"model": True}}, "decay_mask: the mask has no entry for lm_head"),
        ({"rate_factors": {"encoder": 0.1}}, "rate_factors: 'encoder' matches no path"),
        ({"learning_rate": {"name": "cosine", "peak": 1.0}}, "give the steps of the whole run"),
        ({"learning_rate": {"name": "step", "peak": 1.0}}, "schedule is 'step'; expected one of"),
        ({"learning_rate": {"peak": 1.0, "warm": 3}}, "expected name, peak, steps"),
        ({"ema": 1.5}, "expected a number between 0 and 1, such as"),
        ({"accumulate": 0}, "accumulate is 0; expected at least 1"),
        ({"loss_scale": "static"}, "expected a number above 0, or 'dynamic'"),
        ({"rules": "fsdp"}, "give mesh= as well"),
        ({"run_eagerly": "no"}, "run_eagerly is 'no'; expected True or False"),
        ({"seed": True}, "seed is True; expected a whole number"),
        ({"seed": 2**63}, "seed is 9223372036854775808; expected at most"),
    ],
)
def test_T7_what_cannot_act_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        training.compile(MODEL, **options)


def test_T7_numbers_are_static():
    with pytest.raises(ValueError, match="learning_rate is traced; it must be static: a number, a"):
        jax.eval_shape(lambda rate: training.compile(MODEL, learning_rate=rate), jnp.float32(1))


def test_T7_only_a_vocabulary_is_computed_in_chunks():
    with pytest.raises(ValueError, match="LlamaForTokenClassification has no head over a voc"):
        training.compile(fm.LlamaForTokenClassification(CONFIG), chunked_loss=True)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"loss": lambda outputs, labels: {}}, "of one part or more"),
        ({"loss": lambda outputs, labels: {"a": 1.0}}, "expected {name: Part"),
        ({"loss": lambda outputs, labels: jnp.int32(1)}, "returned an array of int32"),
        (
            {"loss": (lambda *_: {"a": training.Part(jnp.float32(1), 2)}, lambda labels: {"b": 2})},
            r"counts\(labels\) has b, and the loss the part 'a'",
        ),
        ({"metrics": lambda y_true, y_pred: None}, "<lambda> returned a NoneType"),
        ({"learning_rate": lambda step: jnp.ones(2)}, "learning_rate: the function returned"),
    ],
)
def test_T7_what_a_function_returns_is_checked(options, message):
    steps = training.compile(MODEL, **options)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda state: steps.train_step(state, batch()), steps.abstract_state())


@pytest.mark.parametrize("labels", [{}, {"labels": batch()["labels"]}])
def test_T28_weights_of_rows_act_or_raise(labels):
    """A loss of one's own finds them among the labels."""
    given = {"input_ids": batch()["input_ids"], "sample_weight": np.ones(ROWS, np.float32)}

    def loss(outputs, labels):
        return outputs.logits.mean((1, 2)) * labels["sample_weight"]

    run = lambda steps, more: jax.eval_shape(  # noqa: E731
        lambda state: steps.train_step(state, given | more), steps.abstract_state()
    )
    run(training.compile(MODEL, loss=loss), labels)
    if not labels:
        return
    with pytest.raises(ValueError, match="nothing is weighed by sample_weight: give weighted_"):
        run(training.compile(MODEL), {"labels": batch()["labels"]})
    with pytest.raises(
        ValueError, match=r"sample_weight has shape \(8, 3\), and a metric \(8, 12\)"
    ):
        steps = training.compile(MODEL, weighted_metrics="accuracy")
        run(steps, batch() | {"sample_weight": np.ones((ROWS, 3), np.float32)})


def test_T28_a_state_is_that_of_these_steps():
    steps, state, _ = alone()
    with pytest.raises(TypeError, match="the state is a dict; expected a TrainState"):
        steps.train_step(state.params, batch())
    with pytest.raises(TypeError, match="the state is a tuple"):
        steps.test_step((state, {}), batch())
    with pytest.raises(TypeError, match="the state is abstract: make one by init"):
        steps.test_step(steps.abstract_state(), batch())
    sgd = training.compile(MODEL, "sgd").init(params())
    with pytest.raises(ValueError, match="opt_state of the state is that of other steps"):
        steps.train_step(sgd, batch())
    part = training.compile(MODEL, trainable="mlp")
    with pytest.raises(ValueError, match="these train lm_head/kernel, which is frozen in it"):
        steps.lower(part.abstract_state(), batch())
    with pytest.raises(ValueError, match="do not train lm_head/kernel, which is trained in it"):
        part.lower(steps.abstract_state(), batch())
    with pytest.raises(TypeError, match="the state is a NoneType"):
        steps.lower(None, batch())
    on_mesh = training.compile(MODEL, mesh=mesh_of(fsdp=2))
    with pytest.raises(ValueError, match="the state is on 1 devices and not on those of the mesh"):
        on_mesh.train_step(state, batch())
    jax.tree.leaves(sgd.step)[0].delete()
    for step in (steps.train_step, steps.test_step, steps.predict_step):
        with pytest.raises(ValueError, match="the state was donated: a train_step took it"):
            step(sgd, batch())


@pytest.mark.parametrize(
    "given, message",
    [
        ({k: x.tolist() for k, x in batch().items()}, "as an array and no list"),
        ({k: x[0] for k, x in batch().items()}, r"input_ids has shape \(12,\); expected \[B, T"),
        (batch() | {"text": np.array(["a"] * ROWS)}, "the batch's text is <U1, which no device"),
        ({0: batch()["input_ids"]}, "a column called 0; expected texts for names"),
        ({"input_ids": batch()["input_ids"]}, "no labels in the batch, which has input_ids"),
        ({"labels": batch()["labels"]}, "no input_ids in the batch"),
        (batch() | {"start_positions": np.zeros(ROWS, int)}, "takes no labels called 'start_pos"),
        (batch() | {"labels": np.full((ROWS, LENGTH), -100)}, "all labels of the batch are -100"),
        (
            batch() | {"labels": np.full((ROWS, LENGTH), 64)},
            "labels hold 64; the labels are 0 to 6",
        ),
        (batch() | {"labels": np.full((ROWS, LENGTH), -1)}, "labels hold -1; the labels .* -100"),
        (
            batch() | {"input_ids": batch()["input_ids"] + 1000},
            "the batch's input_ids.* the model has",
        ),
        ({k: x[:7] for k, x in batch().items()}, "7 rows does not divide into 2 parts"),
        (batch() | {"labels": batch()["labels"][:4]}, "input_ids 8, labels 4"),
        ([1, 2], "a batch is a list"),
    ],
)
def test_T28_a_batch_that_does_not_fit_is_refused(given, message):
    steps = training.compile(MODEL, accumulate=2)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda state: steps.train_step(state, given), steps.abstract_state())


def test_params_that_are_not_the_models_are_refused():
    steps = training.compile(MODEL)
    with pytest.raises(ValueError, match="the params lack lm_head/kernel"):
        steps.init({"model": params()["model"]})
    with pytest.raises(ValueError, match="no param at head/kernel"):
        steps.init(params() | {"head": params()["lm_head"]})
    placed = jax.device_put(params(), jax.NamedSharding(mesh_of(fsdp=2), jax.P()))
    with pytest.raises(ValueError, match=r"is on a mesh; give compile\(\.\.\., mesh=\)"):
        steps.init(placed)
    for odd in (3, None, MODEL.abstract_params()):
        with pytest.raises(TypeError):
            steps.init(odd)
    with pytest.raises(TypeError, match="is traced: init puts arrays where they belong"):
        jax.jit(steps.init)(params())
    kernel = {"lm_head": {"kernel": jnp.zeros((16, 5))}}
    for call in (steps.init, steps.abstract_state):
        with pytest.raises(ValueError, match=r"lm_head/kernel has shape \(16, 5\), and the model"):
            call(params() | kernel)
    with pytest.raises(ValueError, match="expected {collection: tree}, without params"):
        steps.init(params(), variables={"params": {}})


def test_T7_executions_are_counted():
    steps = training.compile(MODEL, steps_per_execution=2)
    given = {name: np.stack([x] * 4) for name, x in batch().items()}
    with pytest.raises(ValueError, match="steps_per_execution is 2, and the arrays of the batch b"):
        steps.lower(steps.abstract_state(), given)

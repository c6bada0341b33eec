"""Cross-entropy a chunk of tokens at a time: that of all logits, with its gradients; what of it is
held; and what devices exchange where the vocabulary is split."""

import functools
import math
import re

import _stand_in
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _paths import ROOT
from _turns import some_of
from jax.sharding import NamedSharding, PartitionSpec

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels import sharding as fs
from flaxmodels.core.deferred import DeferredLogits
from flaxmodels.training import cross_entropy
from flaxmodels.training.losses.chunked import chunked_cross_entropy

B, T, D, V = 2, 7, 12, 37


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def labels(*shape, below=V, seed=0):
    found = np.random.default_rng(seed).integers(0, below, shape)
    found.reshape(-1)[::5] = -100
    return jnp.asarray(found)


def plain(logits, labels, *, label_smoothing=0.0, z_loss=0.0, ignore_index=-100, vocab_size=None):
    """The definition, over logits that are all there."""
    logits = logits[..., :vocab_size].astype(jnp.promote_types(logits.dtype, jnp.float32))
    log_p = jax.nn.log_softmax(logits)
    nll = -jnp.take_along_axis(log_p, jnp.maximum(labels, 0)[..., None], -1)[..., 0]
    loss = (1 - label_smoothing) * nll - label_smoothing * jnp.mean(log_p, -1)
    loss += z_loss * jnp.square(jax.nn.logsumexp(logits, -1))
    return jnp.where(labels == ignore_index, 0, loss)


def both(hidden, weight, bias, ids, *, axis=0, scale=None, softcap=None, chunk=4, **terms):
    """((losses, gradients) of the definition, those of the chunks): gradients with respect to
    hidden, weight and bias of a sum in which each token has a weight of its own."""
    share = jnp.asarray(drawn(*ids.shape, seed=3))
    shape = {"axis": axis, "scale": scale, "softcap": softcap}

    def reference(hidden, weight, bias):
        logits = DeferredLogits(hidden, weight, bias, **shape).logits()
        return plain(logits, ids, **terms)

    def ours(hidden, weight, bias):
        more = {**shape, **terms, "chunk": chunk}
        return chunked_cross_entropy(hidden, weight, ids, bias=bias, **more)

    def of(losses, *arguments):
        made, pull = jax.vjp(losses, *arguments)
        return made, pull(share.astype(made.dtype))

    run = jax.jit(lambda *arguments: (of(reference, *arguments), of(ours, *arguments)))
    return run(hidden, weight, bias)


def assert_equal(found, expected, tolerance=1e-6):
    for got, want in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert got.shape == want.shape and got.dtype == want.dtype
        got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
        largest = np.abs(want).max(initial=1e-2)
        assert np.abs(got - want).max(initial=0) <= tolerance * largest, got - want


VARIATIONS = {
    "kernel": {},
    "table": {"axis": 1},
    "all": {"scale": 0.3, "softcap": 2.0, "label_smoothing": 0.1, "z_loss": 0.01, "bias": True},
    "padding": {"axis": 1, "vocab_size": 30, "label_smoothing": 0.2, "z_loss": 0.1, "bias": True},
    "one chunk": {"chunk": 100, "softcap": 1.0},
    "one token": {"chunk": 1, "z_loss": 0.1},
    "ignored": {"ignore_index": 3, "label_smoothing": 1.0},
}


@some_of("given", VARIATIONS, "table", "all", "padding", "one chunk")
def test_chunks_equal_the_whole_with_gradients(given):
    given = dict(given)
    bias = jnp.asarray(drawn(V, seed=2)) if given.pop("bias", False) else None
    weight = drawn(*((V, D) if given.get("axis") else (D, V)), seed=1)
    ids = labels(B, T, below=given.get("vocab_size") or V)
    if "ignore_index" in given:
        ids = jnp.maximum(ids, 0)
    expected, found = both(jnp.asarray(drawn(B, T, D)), jnp.asarray(weight), bias, ids, **given)
    assert_equal(found, expected)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(60))
def test_chunks_equal_the_whole_in_many_ways(seed):
    random = np.random.default_rng(seed)
    one_of = lambda *values: values[random.integers(len(values))]  # noqa: E731
    shape = one_of((5,), (2, 9), (2, 3, 4), (1, 1), (3, 0))
    d, v, axis = int(random.integers(1, 40)), int(random.integers(2, 90)), one_of(0, 1)
    given = {
        "chunk": int(random.integers(1, 12)),
        "axis": axis,
        "scale": one_of(None, 0.25, 3.0),
        "softcap": one_of(None, 1.5, 30.0),
        "label_smoothing": one_of(0.0, 0.1, 1.0),
        "z_loss": one_of(0.0, 1e-4, 0.1),
        "vocab_size": one_of(None, v // 2 + 1),
    }
    weight = jnp.asarray(drawn(*((v, d) if axis else (d, v)), seed=seed))
    bias = one_of(None, jnp.asarray(drawn(v, seed=seed + 1)))
    ids = jnp.asarray(random.integers(0, given["vocab_size"] or v, shape))
    ids = jnp.where(random.random(shape) < 0.2, -100, ids)
    with jax.enable_x64(True):  # a cap that is reached leaves few digits of a gradient in float32
        wide = [jax.tree.map(lambda x: x.astype(np.float64), x) for x in (weight, bias)]
        expected, found = both(jnp.asarray(drawn(*shape, d), float), *wide, ids, **given)
    assert_equal(found, expected, 1e-12)


def test_products_of_bfloat16_are_summed_in_float32():
    hidden, weight = (jnp.asarray(x, jnp.bfloat16) for x in (drawn(B, T, D), drawn(V, D, seed=1)))
    ids = labels(B, T)
    wide = [x.astype(jnp.float32) for x in (hidden, weight)]

    @jax.jit
    def run(hidden, weight, wide):
        mean = lambda *a: jnp.mean(chunked_cross_entropy(*a, ids, axis=1, chunk=3))  # noqa: E731
        each = jax.value_and_grad(mean, (0, 1))
        return each(hidden, weight), each(*wide)

    (loss, found), (expected, of_wide) = run(hidden, weight, wide)
    assert loss.dtype == jnp.float32 and abs(loss - expected) < 1e-6 * expected
    for got, want in zip(found, of_wide, strict=True):
        assert got.dtype == jnp.bfloat16
        assert np.abs(got.astype(np.float32) - want).max() < 1e-2 * np.abs(want).max()


def shapes(jaxpr):
    """The shapes of all that a program makes, loops and calls in it included."""
    for equation in jaxpr.eqns:
        yield from (var.aval.shape for var in equation.outvars)
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")
        ):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from shapes(inner)


def test_no_logits_are_held_and_no_gradient_that_nobody_asks_for():
    tokens, d, v = 64, 4, 512
    hidden, weight, bias = jnp.zeros((1, tokens, d)), jnp.zeros((d, v)), jnp.zeros(v)
    ids = jnp.zeros((1, tokens), jnp.int32)

    def loss(hidden, weight, bias):
        return jnp.sum(chunked_cross_entropy(hidden, weight, ids, bias=bias, chunk=8))

    def made(*wanted):
        return [*shapes(jax.make_jaxpr(jax.grad(loss, wanted))(hidden, weight, bias).jaxpr)]

    everything = made(0, 1, 2)
    assert max(map(math.prod, everything)) == 8 * v  # the logits of a chunk
    assert (d, v) in everything and (d, v) not in made(0, 2)


CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 3, "target_modules": ["lm_head"]}


def adapted(params, **config):
    """Params with an adapter that changes something, and what of it is trained."""
    made = fp.lora_init(jax.random.key(0), params, {**CONFIG, **config})
    trained, rest = fp.split_adapters(made)
    trained = jax.tree.map(lambda x: x + jnp.asarray(drawn(*x.shape, seed=5)) / 3, trained)
    return trained, rest


@some_of("scheme", ["int8", "nf4", "float8"], "int8")
def test_the_weight_may_be_quantised_and_adapted(scheme):
    kernel, hidden = jnp.asarray(drawn(D, 2 * D, seed=1)), jnp.asarray(drawn(B, T, D))
    ids, bias = labels(B, T, below=2 * D), jnp.asarray(drawn(2 * D, seed=2))
    quantize = jax.jit(fp.quantize, static_argnums=1)
    trained, rest = adapted(quantize({"lm_head": {"kernel": kernel}}, scheme))

    def loss(trained, hidden, bias, chunk):
        weight = fp.join_adapters(trained, rest)["lm_head"]["kernel"]
        logits = DeferredLogits(hidden, weight, bias, softcap=5.0, chunk=chunk)
        if chunk is None:
            return jnp.mean(plain(logits.logits(), ids, z_loss=0.01))
        return jnp.mean(cross_entropy(logits, ids, z_loss=0.01)[0])

    @jax.jit
    def run(*arguments):
        return [jax.value_and_grad(loss, (0, 1, 2))(*arguments, chunk) for chunk in (None, 5)]

    expected, found = run(trained, hidden, bias)
    assert all(np.abs(x).max() > 1e-3 for x in jax.tree.leaves(expected))
    assert_equal(found, expected)


def test_an_adapter_drops_other_inputs_in_each_chunk():
    params = {"lm_head": {"kernel": jnp.asarray(drawn(D, V, seed=1))}}
    params = fp.join_adapters(*adapted(params, lora_dropout=0.5))
    params = fp.adapter_dropout(params, jax.random.key(3))
    hidden = jnp.broadcast_to(jnp.asarray(drawn(D)), (1, 4, D))
    logits = DeferredLogits(hidden, params["lm_head"]["kernel"], chunk=1)
    found, _ = jax.jit(cross_entropy)(logits, jnp.ones((1, 4), int))
    assert len({*np.asarray(found)[0].tolist()}) == 4


MESH = {"data": 2, "fsdp": 2, "tensor": 2}


def on_mesh(loss, mesh, hidden, weight, rows):
    """(compiled step, its arguments): value and gradients, which lie as what they are of."""
    put = lambda x, *spec: jax.device_put(x, NamedSharding(mesh, PartitionSpec(*spec)))  # noqa: E731
    arguments = put(hidden, rows), put(weight, "tensor", "fsdp")
    out = (NamedSharding(mesh, PartitionSpec()), tuple(x.sharding for x in arguments))
    return jax.jit(jax.value_and_grad(loss, (0, 1)), out_shardings=out), arguments


def test_a_split_vocabulary_is_never_gathered_nor_its_logits():
    mesh, size, chunk = fs.make_mesh(**MESH), 4 * V, 4
    hidden, weight = jnp.asarray(drawn(4, 8, D)), jnp.asarray(drawn(size, D, seed=1))
    ids = labels(4, 8, below=size)

    def loss(hidden, weight, split=True):
        terms = {"label_smoothing": 0.1, "z_loss": 0.01}
        if not split:
            return jnp.sum(plain(hidden @ weight.T, ids, **terms))
        hidden = jnp.tanh(hidden)
        return jnp.sum(chunked_cross_entropy(hidden, weight, ids, axis=1, chunk=chunk, **terms))

    step, arguments = on_mesh(loss, mesh, hidden, weight, ("data", "fsdp"))
    whole = jax.value_and_grad(lambda h, w: loss(jnp.tanh(h), w, split=False), (0, 1))
    assert_equal(jax.device_get(step(*arguments)), jax.jit(whole)(hidden, weight), 2e-6)
    found = fs.collectives(step.lower(*arguments).compile(), mesh)
    gathered = [each for each in found if each.kind != "all-reduce"]
    assert {each.axes for each in gathered} == {("fsdp",)}  # D of the weight
    assert {shape for each in gathered for _, shape in each.shapes} == {(size // 2, D)}
    over_vocabulary = [each for each in found if "tensor" in each.axes]
    assert {each.kind for each in over_vocabulary} == {"all-reduce"}
    numbers = max(math.prod(shape) for each in over_vocabulary for _, shape in each.shapes)
    assert numbers == chunk * D  # the gradient of a chunk's hidden states
    summed = [each for each in found if "data" in each.axes]  # once, after the loop
    assert sum(math.prod(s) for each in summed for _, s in each.shapes) == size // 2 * D + 1


@pytest.mark.soak
@pytest.mark.parametrize("rules", ["tensor", "fsdp", "length"])
def test_any_split_of_tokens_and_vocabulary_gives_the_same(rules):
    mesh = fs.make_mesh(data=2, tensor=4) if rules == "tensor" else fs.make_mesh(fsdp=4, tensor=2)
    if rules == "length":
        rules = (("length", "fsdp"), ("batch", None), *fs.DEFAULT_RULES)
    hidden, weight = jnp.asarray(drawn(4, 8, D)), jnp.asarray(drawn(36, D, seed=1))
    ids = labels(4, 8, below=36)

    def loss(hidden, weight):
        logits = DeferredLogits(hidden, weight, axis=1, rules=fs.as_rules(rules), chunk=3)
        return jnp.sum(cross_entropy(logits, ids)[0])

    sharding = NamedSharding(mesh, PartitionSpec("tensor"))
    found = jax.jit(jax.value_and_grad(loss, (0, 1)))(hidden, jax.device_put(weight, sharding))
    whole = jax.value_and_grad(lambda h, w: jnp.sum(plain(h @ w.T, ids)), (0, 1))
    assert_equal(jax.device_get(found), jax.jit(whole)(hidden, weight), 2e-6)


@pytest.mark.soak
def test_inside_of_shard_map_gradients_are_summed_over_devices():
    mesh = jax.make_mesh((8,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    hidden, weight, ids = jnp.asarray(drawn(8, T, D)), jnp.asarray(drawn(D, V)), labels(8, T)
    rows = PartitionSpec("rows")

    @functools.partial(
        jax.shard_map, mesh=mesh, in_specs=(rows, PartitionSpec(), rows), out_specs=rows
    )
    def losses(hidden, weight, ids):
        return chunked_cross_entropy(hidden, weight, ids, chunk=3)

    run = lambda losses: jax.jit(  # noqa: E731
        jax.value_and_grad(lambda h, w: jnp.sum(losses(h, w, ids)), (0, 1))
    )(hidden, weight)
    assert_equal(run(losses), run(lambda h, w, ids: plain(h @ w, ids)), 2e-6)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"labels": np.zeros((B, T))}, TypeError, "labels are float32; expected integers"),
        ({"labels": np.zeros((B, T + 1), int)}, ValueError, r"\(2, 8\).*a label for each token"),
        ({"chunk": 0}, ValueError, "chunk is 0"),
        ({"chunk": 2.5}, ValueError, "chunk is 2.5; expected a whole number"),
        ({"axis": 2}, ValueError, "with axis=2: expected"),
        ({"axis": 1}, ValueError, r"hidden has shape \(2, 7, 12\) and weight \(12, 37\), with ax"),
        ({"bias": np.zeros(3)}, ValueError, r"bias has shape \(3,\): expected \(37,\)"),
        ({"softcap": 0.0}, ValueError, "softcap is 0.0; expected a number above 0"),
        ({"scale": "1"}, ValueError, "scale is '1'; expected a number"),
        (
            {"label_smoothing": 1.5},
            ValueError,
            "label_smoothing is 1.5; expected a number from 0 to 1",
        ),
        ({"vocab_size": V + 1}, ValueError, "vocab_size is 38; expected at most 37"),
    ],
)
def test_what_is_no_loss_is_refused(changes, error, message):
    given = {"labels": jnp.zeros((B, T), int), **changes}
    with pytest.raises(error, match=message):
        chunked_cross_entropy(jnp.zeros((B, T, D)), jnp.zeros((D, V)), **given)


def test_the_snippet_of_the_docs_runs(monkeypatch):
    monkeypatch.setattr(fm, "bundled_checkpoint", _stand_in.bundled_checkpoint)
    page = (ROOT / "docs" / "training.md").read_text()
    (section,) = re.findall(r"\n## Large vocabularies\n.*?(?=\n## |\Z)", page, re.DOTALL)
    (snippet,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    exec(compile(snippet, "docs/training.md", "exec"), {})


def test_a_label_that_is_no_token_has_no_loss():
    ids = jnp.asarray([[-100, -1, 0, V - 1, V]])
    run = jax.jit(chunked_cross_entropy)
    found = run(np.ones((1, 5, D), np.float32), np.zeros((D, V), np.float32), ids)
    expected = [[0, np.nan, np.log(V), np.log(V), np.nan]]
    np.testing.assert_allclose(found, np.asarray(expected), rtol=1e-6)

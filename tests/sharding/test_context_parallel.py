"""Context parallelism: the length over a mesh axis gives the numbers of one device."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _drawn import host_params_of
from _turns import some_of
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import flaxmodels as fm
from flaxmodels import blocks
from flaxmodels import sharding as fs
from flaxmodels.blocks.attention import blocked, dot_product_attention
from flaxmodels.blocks.attention.over_length import attend_over_length

RULES = (("length", "context"), *fs.DEFAULT_RULES)
T = 32
SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": T,
}
FEW = {**SMALL, "intermediate_size": 48, "head_dim": 8}
KINDS = ("sliding_attention", "full_attention")
MODELS = {
    "llama": fm.LlamaForCausalLM(fm.LlamaConfig(**FEW, num_key_value_heads=2)),
    "gpt2": fm.GPT2LMHeadModel(fm.GPT2Config.from_dict({"model_type": "gpt2", **SMALL})),
    "gemma3_text": fm.Gemma3ForCausalLM(
        fm.Gemma3TextConfig(**FEW, num_key_value_heads=1, sliding_window=5, layer_types=KINDS)
    ),
    "bloom": fm.BloomForCausalLM(
        fm.BloomConfig(vocab_size=64, hidden_size=32, n_layer=2, n_head=4)
    ),
}
MESHES = {
    "context": {"context": 8},
    "tensor": {"context": 4, "tensor": 2},
    "data": {"data": 2, "context": 2, "tensor": 2},
}
CASES = {
    f"{name}-{'scan' if scan else 'loop'}-{mesh}": (name, scan, mesh)
    for name in MODELS
    for scan in (False, True)
    for mesh in MESHES
}


def inputs(name):
    """A row with padding on its left, and one of 11 and 21 tokens that are two texts."""
    ids = np.random.default_rng(0).integers(0, 64, (2, T)).astype(np.int32)
    if name == "bloom":  # its bias counts tokens: none over pairs
        return {"input_ids": ids, "attention_mask": np.arange(T)[None] >= np.array([[9], [0]])}
    texts = np.stack([np.arange(T) < 9, np.arange(T) < 11])
    pairs = texts[:, :, None] == texts[:, None]
    starts = np.where(texts, 0, [[9], [11]])
    return {
        "input_ids": ids,
        "attention_mask": pairs.astype(np.int32),
        "position_ids": (np.arange(T)[None] - starts).astype(np.int32),
    }


def gradient(model):
    given = inputs("bloom" if isinstance(model, fm.BloomForCausalLM) else "")

    def loss(params):
        logits = model.apply({"params": params}, **given).logits
        return jnp.sum(logits * jnp.cos(jnp.arange(logits.size)).reshape(logits.shape)), logits

    return jax.jit(jax.grad(loss, has_aux=True))


@some_of("case", CASES, "llama-loop-tensor", "gemma3_text-scan-data")
def test_logits_and_gradients_are_those_of_one_device(case):
    name, scan, mesh = case
    mesh, model = fs.make_mesh(**MESHES[mesh]), MODELS[name].clone(scan_layers=scan)
    params = host_params_of(model)
    want_tree, want = gradient(model)(params)
    uneven = name == "gemma3_text" and "tensor" in mesh.axis_names
    model = model.clone(rules=(("kv_heads", None), *RULES) if uneven else RULES)
    params = jax.device_put(params, fs.shardings(model.abstract_params(), mesh, model.rules))
    program = gradient(model).lower(params).compile()
    tree, got = program(params)
    tokens = inputs(name)["attention_mask"] if name == "bloom" else np.ones((2, T))
    np.testing.assert_allclose(*(x * tokens[..., None] for x in (got, want)), atol=1e-4)
    for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(want_tree), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3 * max(1, float(np.abs(b).max())))
    if name == "llama":  # of a layer's one key-value head a device, and both gradients of it
        found = [each for each in fs.collectives(program, mesh) if each.axes == ("context",)]
        kinds = ("all-gather", "reduce-scatter", "collective-permute")
        shapes = {kind: [each.shapes for each in found if each.kind == kind] for kind in kinds}
        assert shapes["all-gather"] == [(("f32", (2, 2, T, 1, 8)),)] * 2
        assert shapes["reduce-scatter"] == [(("f32", (2, 2, T // 4, 1, 8)),)] * 2
        assert shapes["collective-permute"] == [(("f32", (2, T // 8, 32)),)] * 8


# --- attention alone ---


def attention(case):
    """(arrays, mask, keywords) of 2 rows, 4 heads of 2 key-value heads."""
    draw = functools.partial(np.random.default_rng(1).normal, size=(2, T, 4, 8))
    q, k, v = (np.float32(draw()) for _ in range(3))
    k, v = k[:, :, :2], v[:, :, :2]
    ids = np.int32(np.arange(T)[None] // np.array([[7], [9]]))
    tokens = (np.arange(T) >= np.array([[5], [0]]))[:, None, None]
    rule = blocks.Causal()
    match case:
        case "window":
            return (q, k, v), blocks.AttentionMask(rule & blocks.Window(6), tokens), {}
        case "segments":
            return (q, k, v), blocks.AttentionMask(rule & blocks.SameSegment(ids)), {}
        case "bias":
            bias = np.float32(draw(size=(1, 4, T, T)))
            return (q, k, v), blocks.AttentionMask(rule), {"bias": bias, "softcap": 5.0}
        case "weights":
            more = {"sinks": np.arange(4, dtype=np.float32), "need_weights": True}
            return (q, k, v[..., :6]), blocks.AttentionMask(rule, tokens), more
        case _:  # "across": to fewer keys, which do not divide
            return (q, k[:, :9], v[:, :9]), blocks.AttentionMask(None, tokens[..., :9]), {}


@pytest.mark.parametrize("case", ["window", "segments", "bias", "weights", "across"])
def test_attention_in_any_order_is_that_of_one_device(case, monkeypatch):
    """Computed outside of `jit`, in blocks where there may be; tokens are in dual chunks."""
    (q, k, v), mask, more = attention(case)
    one_device = jax.jit(lambda *qkv: blocks.attend(*qkv, mask, scale=0.3, **more))
    want, want_weights = one_device(q, k, v)
    monkeypatch.setattr(dot_product_attention, "is_long", lambda queries, keys: True)
    monkeypatch.setattr(
        dot_product_attention, "blocked", functools.partial(blocked.blocked, block=(4, 8))
    )
    order, places = fs.dual_chunk_order(T, 2), np.arange(k.shape[1])
    mask = mask._replace(queries=order)
    if k.shape[1] == T:
        k, v, places = k[:, order], v[:, order], order
        mask = mask._replace(keys=order)
        if mask.tokens is not None:
            mask = mask._replace(tokens=mask.tokens[..., order])
        if "bias" in more:
            more["bias"] = more["bias"][:, :, order][..., order]
    mesh = fs.make_mesh(**MESHES["data"])
    q, k, v, mask, more["bias"], more["sinks"] = jax.device_put(
        (q[:, order], k, v, mask, more.get("bias"), more.get("sinks")), NamedSharding(mesh, P())
    )
    attend = functools.partial(attend_over_length, rules=RULES)
    got, weights = attend(q, k, v, mask, scale=0.3, **more)
    assert got.sharding.is_equivalent_to(NamedSharding(mesh, P("data", "context", "tensor")), 4)
    got = np.asarray(got)[:, np.argsort(order)]
    if case == "window":  # what padding attends to has no meaning
        got, want = (x[:, 5:] for x in (got, want))
    np.testing.assert_allclose(got, want, atol=1e-5)
    if want_weights is not None:
        weights = np.asarray(weights)[:, :, np.argsort(order)][..., np.argsort(places)]
        np.testing.assert_allclose(weights, want_weights, atol=1e-5)


def test_dropout_differs_between_devices():
    q = jnp.ones((2, T, 4, 8), jnp.float32)
    q = jax.device_put(q, NamedSharding(fs.make_mesh(**MESHES["tensor"]), P()))
    out, _ = attend_over_length(
        *(q, q, q, blocks.AttentionMask()),
        **{"rules": RULES, "scale": 1.0, "dropout": 0.5, "dropout_key": jax.random.key(0)},
    )
    parts = np.asarray(out).reshape(2, 4, T // 4, 2, 2, 8)[..., 0]
    assert len({part.tobytes() for part in np.moveaxis(parts, 3, 1).reshape(16, -1)}) == 16


# --- dual chunks ---


@pytest.mark.parametrize("axes", [{"context": 8}, {"data": 2, "context": 4}])
def test_dual_chunks_there_and_back(axes):
    mesh = fs.make_mesh(**axes)
    x = jax.device_put(np.arange(2 * T).reshape(2, T), NamedSharding(mesh, P(None, "context")))
    split = ((), ("context",))
    there = fs.to_dual_chunks(x, split)
    order = fs.dual_chunk_order(T, mesh.shape["context"])
    np.testing.assert_array_equal(there, np.asarray(x)[:, order])
    np.testing.assert_array_equal(fs.from_dual_chunks(there, split), x)


def test_devices_visit_as_many_blocks():
    parts, mask = 4, blocks.AttentionMask(blocks.Causal())

    @jax.jit
    def count(own, keys):
        told = mask._replace(queries=own, keys=keys)
        return blocked._visits(told, 16, 64, (4, 4))[1].sum()

    orders = {"dual": fs.dual_chunk_order(64, parts), "plain": np.arange(64)}
    visits = {
        name: [int(count(own, order)) for own in order.reshape(parts, 16)]
        for name, order in orders.items()
    }
    assert visits == {"dual": [34] * 4, "plain": [10, 26, 42, 58]}


def test_what_is_no_number_of_chunks_is_refused():
    with pytest.raises(ValueError, match="12 tokens are not 8 chunks of one length"):
        fs.dual_chunk_order(12, 4)


# --- what is asked for ---


def placed(**axes):
    model, mesh = MODELS["llama"].clone(rules=RULES), fs.make_mesh(**axes)
    shardings = fs.shardings(model.abstract_params(), mesh, RULES)
    return model, model.abstract_params(), shardings


def test_a_cache_is_refused():
    model, params, shardings = placed(context=4, tensor=2)
    params = jax.tree.map(lambda x, s: x.update(sharding=s), params, shardings)
    ids, cache = np.ones((1, 8), np.int32), model.init_cache(1, 8)

    def run(params):
        return model.apply({"params": params}, ids, cache=cache).logits

    with pytest.raises(ValueError, match="a cache, on a mesh whose axis context splits the length"):
        jax.eval_shape(run, params)
    model = model.clone(rules=(("length", None), *RULES))
    assert jax.eval_shape(run, params).shape == (1, 8, 64)


def test_a_length_that_is_no_number_of_chunks_keeps_its_order():
    model, params, shardings = placed(context=4, tensor=2)
    params = jax.tree.map(lambda x, s: x.update(sharding=s), params, shardings)
    run = lambda params, ids: model.apply({"params": params}, ids).logits  # noqa: E731
    text = {n: str(jax.make_jaxpr(run)(params, np.ones((1, n), np.int32))) for n in (10, 12, 16)}
    assert [text[n].count("all_gather") > 0 for n in text] == [False, True, True]
    assert [text[n].count("ppermute") > 0 for n in text] == [False, False, True]

"""Trees as values: sums, averages, interpolation, and optax by masks."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from _drawn import tiny_llama
from flax.core import FrozenDict
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels import sharding as fs

RNG = np.random.default_rng(0)
DTYPES = ("float32", "bfloat16", "float16", "float8_e4m3fn")
KINDS = {"numpy": np.asarray, "jax": jnp.asarray}
CALLS = {
    "add": lambda a, b, **kw: fp.add(a, b, **kw),
    "scale": lambda a, b, **kw: fp.scale(a, 1.5, **kw),
    "interpolate": lambda a, b, **kw: fp.interpolate(a, b, 0.25, **kw),
    "ema": lambda a, b, **kw: fp.ema(a, b, 0.75, **kw),
}
EXPECTED = {
    "add": lambda a, b: a + b,
    "scale": lambda a, b: a * 1.5,
    "interpolate": lambda a, b: a + 0.25 * (b - a),
    "ema": lambda a, b: 0.75 * a + 0.25 * b,
}


def pair(kind="numpy", dtype="float32", shape=(8, 12)):
    def make():
        drawn = RNG.standard_normal(shape).astype(np.float32).astype(jnp.dtype(dtype))
        counts = RNG.integers(0, 9, 3).astype(np.int32)
        return {"h": {"w": KINDS[kind](drawn)}, "n": KINDS[kind](counts)}

    return make(), make()


def wide(x):
    return np.asarray(x).astype(np.float64)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_values_kinds_and_dtypes(name, kind, dtype):
    a, b = pair(kind, dtype)
    before = jax.tree.map(np.array, (a, b))
    result = CALLS[name](a, b)
    leaf = result["h"]["w"]
    assert isinstance(leaf, np.ndarray if kind == "numpy" else jax.Array)
    assert leaf.dtype == jnp.dtype(dtype) and result["n"] is a["n"]
    expected = EXPECTED[name](wide(a["h"]["w"]), wide(b["h"]["w"]))
    # Half a unit of the dtype's last place: computed in float32, rounded once.
    unit = float(jnp.finfo(dtype).eps)
    rounding = {"rtol": 0.51 * unit + 2e-7, "atol": 0.01 * unit + 2e-7}
    np.testing.assert_allclose(wide(leaf), expected, **rounding)
    assert fp.diff(before, (a, b)).equal


def test_long_leaves_are_computed_run_by_run():
    """Larger than a run and than a thread's task, and no multiple of either."""
    shape = (1031, 2053)
    a, b = pair("numpy", "float32", shape)
    expected = EXPECTED["interpolate"](a["h"]["w"], b["h"]["w"])
    np.testing.assert_allclose(fp.interpolate(a, b, 0.25)["h"]["w"], expected, atol=1e-6)
    turned = {"h": {"w": np.asfortranarray(a["h"]["w"])}, "n": a["n"]}
    np.testing.assert_allclose(fp.interpolate(turned, b, 0.25)["h"]["w"], expected, atol=1e-6)
    narrow, back = fp.to_bf16(a)["h"]["w"], fp.to_fp32(fp.to_bf16(turned))["h"]["w"]
    assert (narrow == a["h"]["w"].astype(jnp.bfloat16)).all() and (narrow == back).all()
    stacked = fp.stack_layers({"0": a, "1": b})["h"]["w"]
    assert (stacked == np.stack([a["h"]["w"], b["h"]["w"]])).all()


@pytest.mark.parametrize("name", CALLS)
def test_masks_keep_the_first_trees_leaves(name):
    a, b = pair()
    assert CALLS[name](a, b, mask=lambda path, _: "w" not in path)["h"]["w"] is a["h"]["w"]
    assert CALLS[name](a, b, mask={"h": False, "n": True})["h"]["w"] is a["h"]["w"]
    with pytest.raises(ValueError, match="the mask has no entry for n"):
        CALLS[name](a, b, mask={"h": True})


@pytest.mark.parametrize("name", CALLS)
def test_traced_and_abstract(name):
    a, b = pair("jax", "bfloat16")
    eager, jitted = CALLS[name](a, b), jax.jit(CALLS[name])(a, b)
    np.testing.assert_allclose(wide(jitted["h"]["w"]), wide(eager["h"]["w"]), rtol=1e-2)
    shapes = jax.eval_shape(CALLS[name], a, b)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), shapes) == jax.tree.map(
        lambda x: (x.shape, x.dtype), a
    )
    abstract = fs.AbstractParam((2, 3), jnp.float32, axes=("vocab", "embed"))
    (leaf,) = jax.tree.leaves(CALLS[name]({"a": abstract}, {"a": abstract}))
    assert leaf == abstract and leaf.axes == ("vocab", "embed")


def test_numbers_may_be_traced_and_differentiated():
    for kind in KINDS:
        a, b = pair(kind)
        distance = wide(b["h"]["w"]) - wide(a["h"]["w"])
        slope = jax.grad(lambda t, a=a, b=b: fp.interpolate(a, b, t)["h"]["w"].sum())(0.3)
        np.testing.assert_allclose(slope, distance.sum(), rtol=1e-5)
        at = fp.interpolate(a, b, jnp.float32(0.25))["h"]["w"]
        np.testing.assert_allclose(at, fp.interpolate(a, b, 0.25)["h"]["w"], rtol=1e-6)


def test_containers_stay():
    a, b = map(FrozenDict, pair())
    assert isinstance(fp.add(a, b), FrozenDict)
    assert fp.add(a, {"n": b["n"], "h": b["h"]})["h"]["w"].shape == (8, 12)
    assert fp.add({}, {}) == {}


def test_eight_devices_and_their_shardings():
    mesh = fs.make_mesh(fsdp=4, tensor=2)
    array = RNG.standard_normal((8, 4)).astype(np.float32)
    for spec in (P("fsdp", "tensor"), P(None, "tensor"), P()):
        where = NamedSharding(mesh, spec)
        a = {"0": {"w": jax.device_put(array, where)}, "1": {"w": jax.device_put(-array, where)}}
        for b in (a, jax.tree.map(np.asarray, a), jax.device_put(a, NamedSharding(mesh, P()))):
            for name, call in CALLS.items():
                leaf = call(a, b)["1"]["w"]
                assert leaf.sharding == where
                np.testing.assert_allclose(leaf, EXPECTED[name](-array, -array), rtol=1e-6)
        stacked = fp.stack_layers(a)["w"]
        assert stacked.sharding == NamedSharding(mesh, P(None, *spec))
        np.testing.assert_array_equal(stacked, np.stack([array, -array]))
        struct = jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=where)
        made = fp.stack_layers({"0": {"w": struct}, "1": {"w": struct}})
        assert made["w"].sharding.spec == P(None, *spec)
        assert fp.unstack_layers({"h": made}, "h")["h"]["1"]["w"] == struct
        host = fp.add(jax.tree.map(np.asarray, a), a)["0"]["w"]
        assert isinstance(host, np.ndarray)
        np.testing.assert_allclose(host, 2 * array)


def test_eager_results_are_where_the_leaf_is():
    device = jax.devices()[3]
    a = {"0": {"w": jax.device_put(np.ones((4, 4), np.float32), device)}}
    for made in (fp.to_bf16(a)["0"], fp.stack_layers(a), fp.scale(a, 2.0)["0"]):
        assert made["w"].devices() == {device} and made["w"].committed
    assert not fp.to_bf16({"w": jnp.ones(3)})["w"].committed


def test_donated_memory_that_is_read_only_stays():
    fixed = np.ones(3, np.float32)
    fixed.flags.writeable = False
    assert fp.scale({"a": fixed}, 2.0, donate=True)["a"].tolist() == [2, 2, 2]
    assert fixed.tolist() == [1, 1, 1]


def test_an_average_is_wider_than_its_params():
    average, params = {"w": np.ones(3, np.float32)}, {"w": jnp.full(3, 2, jnp.bfloat16)}
    for _ in range(3):
        average = fp.ema(average, params, 0.999)
    assert average["w"].dtype == np.float32
    np.testing.assert_allclose(average["w"], 2 - 0.999**3, rtol=1e-6)
    step = jax.jit(fp.ema, donate_argnums=0)
    result = step(jax.tree.map(jnp.asarray, average), params, 0.999)
    np.testing.assert_allclose(result["w"], 2 - 0.999**4, rtol=1e-6)
    with pytest.raises(ValueError, match="w has shape .* dtype float32 in the first"):
        fp.ema(average, {"w": jnp.ones(3, jnp.int32)}, 0.9)


W = np.ones((2, 3), np.float32)
BAD = {
    "missing": ({"q": {"w": W}, "k": W}, {"q": {"w": W}}, r"k \(2, 3\) is in the first tree only"),
    "nearest": (
        {"q_proj": W},
        {"q_prog": W},
        r"q_proj \(2, 3\) is in the first tree only \(nearest: q_prog\)",
    ),
    "more": ({"w": W}, {"w": W, "v": W}, r"v \(2, 3\) is in the second tree only"),
    "shape": ({"w": W}, {"w": W.T}, r"w has shape \(2, 3\) .* \(3, 2\) and float32 in the second"),
    "dtype": ({"w": W}, {"w": W.astype(np.float16)}, "w has shape .* and float16 in the second"),
    "number": ({"w": 1.0}, {"w": 1.0}, "w is 1.0, a float; expected an array"),
}


@pytest.mark.parametrize("case", BAD)
def test_trees_that_are_no_pair_name_the_path(case):
    a, b, said = BAD[case]
    for call in (fp.add, lambda a, b: fp.interpolate(a, b, 0.5), jax.jit(fp.add)):
        if case == "number" and call not in (fp.add,):
            continue
        with pytest.raises(ValueError, match=said):
            call(a, b)


def test_one_number_is_expected():
    with pytest.raises(ValueError, match=r"t has shape \(2,\); expected one number"):
        fp.interpolate({"w": W}, {"w": W}, np.ones(2))
    with pytest.raises(ValueError, match=r"factor has shape \(1,\)"):
        fp.scale({"w": W}, [2.0])


TINY = tiny_llama(vocab_size=32, intermediate_size=16)


def tiny(scan: bool, sharded: bool):
    """Ones, on one device or on eight."""
    template = fm.LlamaForCausalLM(TINY, scan_layers=scan).abstract_params()
    params = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), template)
    if not sharded:
        return params
    mesh = fs.make_mesh(fsdp=4, tensor=2)
    return jax.device_put(params, fs.shardings(template, mesh, fs.DEFAULT_RULES))


def stepped(optimizer, params, loss=lambda p: sum(jnp.sum(x) for x in jax.tree.leaves(p))):
    """The params after one step on a loss whose gradient is 1 everywhere."""

    @jax.jit
    def step(params):
        updates, _ = optimizer.update(jax.grad(loss)(params), optimizer.init(params), params)
        return optax.apply_updates(params, updates)

    return fp.flatten(step(params))


def moved(before, after):
    """{path: by how much each element changed, where all changed alike}."""
    change = {path: wide(after[path]) - wide(leaf) for path, leaf in fp.flatten(before).items()}
    assert all(np.ptp(x) < 1e-6 for x in change.values())
    return {path: round(float(x.mean()), 4) for path, x in change.items()}


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("sharded", [False, True])
def test_optax_freezes_by_a_mask(scan, sharded):
    params = tiny(scan, sharded)
    trained = fp.as_mask(lambda path, _: "/mlp/" in path, params)
    frozen = jax.tree.map(lambda x: not x, trained)
    optimizer = optax.chain(optax.sgd(0.5), optax.masked(optax.set_to_zero(), frozen))
    change = moved(params, stepped(optimizer, params))
    assert {path: -0.5 * ("/mlp/" in path) for path in change} == change
    inside, outside = fp.partition(params, trained)  # the same without gradients of the rest

    def loss(inside):
        return sum(jnp.sum(x) for x in jax.tree.leaves(fp.merge(inside, outside)))

    after = stepped(optax.sgd(0.5), inside, loss)
    assert after.keys() == {path for path in change if "/mlp/" in path}
    assert set(moved(inside, after).values()) == {-0.5}


@pytest.mark.parametrize("scan", [False, True])
def test_optax_decays_kernels_only(scan):
    params = tiny(scan, False)
    decayed = fp.as_mask(lambda path, _: path.endswith("kernel"), params)
    optimizer = optax.chain(optax.add_decayed_weights(0.1, mask=decayed), optax.sgd(1.0))
    change = moved(params, stepped(optimizer, params))
    assert change == {path: -1.1 if path.endswith("kernel") else -1.0 for path in change}


@pytest.mark.parametrize("scan", [False, True])
def test_optax_has_a_learning_rate_per_group(scan):
    params = tiny(scan, False)
    head = fp.as_mask(lambda path, _: path.startswith("lm_head"), params)
    labels = jax.tree.map(lambda x: "head" if x else "body", head)
    groups = {"head": optax.sgd(1.0), "body": optax.sgd(0.01)}
    change = moved(params, stepped(optax.multi_transform(groups, labels), params))
    assert change == {path: -1.0 if path == "lm_head/kernel" else -0.01 for path in change}

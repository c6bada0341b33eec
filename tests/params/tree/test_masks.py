"""Masks and casts (rows F11-F13, M8, R4), and the paths that they are told by."""

import doctest
import importlib
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _files import quick, same
from flax.core import FrozenDict
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from flaxmodels import params as fp
from flaxmodels import sharding as fs

ONES = np.ones((8, 4), np.float32)
CASTS = {"bfloat16": fp.to_bf16, "float16": fp.to_fp16, "float32": fp.to_fp32}


def tree():
    """Leaves of every kind but abstract ones; keys unsorted."""
    return {
        "z": {"kernel": jnp.asarray(ONES), "bias": np.ones(4, np.float16)},
        "LayerNorm": {"scale": np.ones(4, np.float32), "bias": np.zeros(4, np.float32)},
        "a": {"steps": jnp.arange(3), "flags": np.array([True]), "bytes": np.ones(2, np.uint8)},
        "key": jax.random.key(0),
    }


def test_every_doctest():
    found = pkgutil.walk_packages(fp.__path__, "flaxmodels.params.")
    count = 0
    for info in [*found]:
        result = doctest.testmod(importlib.import_module(info.name))
        assert not result.failed, info.name
        count += result.attempted
    assert count > 20


@pytest.mark.parametrize("name", CASTS)
def test_F11_F12_F13_casts_floating_leaves_only(name):
    before = tree()
    after = CASTS[name](before)
    dtypes = {path: leaf.dtype for path, leaf in fp.flatten(after).items()}
    floats = {"z/kernel", "z/bias", "LayerNorm/scale", "LayerNorm/bias"}
    assert {path for path in dtypes if dtypes[path] == name} == floats
    for path in dtypes.keys() - floats:
        assert fp.flatten(after)[path] is fp.flatten(before)[path]
    assert isinstance(after["LayerNorm"]["scale"], np.ndarray)
    assert isinstance(after["z"]["kernel"], jax.Array)


def test_F11_returns_a_new_tree():
    before = tree()
    after = fp.to_bf16(before)
    assert after is not before and after["z"] is not before["z"]
    assert before["z"]["kernel"].dtype == jnp.float32
    assert before["LayerNorm"]["scale"].dtype == np.float32
    after["z"]["new"] = 1
    assert "new" not in before["z"]


def test_F11_leaves_not_cast_are_shared():
    before = tree()
    after = fp.to_fp32(before, mask={"z": True, "LayerNorm": False, "a": True, "key": True})
    assert after["z"]["kernel"] is before["z"]["kernel"]  # has the dtype
    assert after["LayerNorm"]["scale"] is before["LayerNorm"]["scale"]  # not selected
    assert after["z"]["bias"] is not before["z"]["bias"]


@pytest.mark.parametrize("name", CASTS)
def test_F11_F12_F13_values(name):
    values = np.array([0, -0.0, 1.5, 1e-8, 65504, 1e6, np.inf, np.nan], np.float32)
    for array in (values, jnp.asarray(values)):
        with np.errstate(over="ignore"):
            expected = values.astype(jnp.dtype(name))
            assert same(np.asarray(CASTS[name]({"a": array})["a"]), expected)


def test_F11_abstract_leaves():
    axes = ("vocab", "embed")
    before = {
        "a": jax.ShapeDtypeStruct((2, 3), jnp.float32),
        "b": fs.AbstractParam((2, 3), jnp.float32, axes=axes),
        "c": jax.ShapeDtypeStruct((2,), jnp.int32),
    }
    after = fp.to_bf16(before)
    assert after["a"] == jax.ShapeDtypeStruct((2, 3), jnp.bfloat16)
    assert after["b"].dtype == jnp.bfloat16 and after["b"].axes == axes
    assert after["c"] is before["c"]


def test_F11_keeps_the_sharding():
    mesh = fs.make_mesh(fsdp=4, tensor=2)
    for spec in (P("fsdp", "tensor"), P(None, "fsdp"), P()):
        sharding = NamedSharding(mesh, spec)
        leaf = fp.to_bf16({"a": jax.device_put(ONES, sharding)})["a"]
        assert leaf.sharding == sharding and leaf.dtype == jnp.bfloat16
    struct = jax.ShapeDtypeStruct((8, 4), jnp.float32, sharding=sharding)
    assert fp.to_bf16({"a": struct})["a"].sharding == sharding


def test_F11_under_jit():
    after = jax.jit(lambda p: fp.to_bf16(p, lambda path, leaf: "z" in path))(tree())
    leaves = fp.flatten(after)
    assert leaves["z/kernel"].dtype == jnp.bfloat16
    assert after["LayerNorm"]["scale"].dtype == jnp.float32
    gradient = jax.grad(lambda p: fp.to_bf16(p)["a"].sum().astype(jnp.float32))({"a": jnp.ones(2)})
    assert gradient["a"].dtype == jnp.float32
    shapes = jax.eval_shape(fp.to_bf16, {"a": ONES})
    assert shapes["a"].dtype == jnp.bfloat16


def test_F11_frozen_dict():
    before = FrozenDict(tree())
    after = fp.to_bf16(
        before, mask=FrozenDict({"z": True, "LayerNorm": False, "a": True, "key": True})
    )
    assert isinstance(after, FrozenDict)
    leaves = fp.flatten(after)
    assert leaves["z/kernel"].dtype == jnp.bfloat16
    assert leaves["LayerNorm/scale"].dtype == np.float32
    after = fp.to_bf16(before, {"key": True, "a": True, "z": False, "LayerNorm": True})
    assert after["z"]["kernel"].dtype == np.float32


def test_D4_mask_except_skips_bias_and_scale():
    params = tree()
    after = fp.to_bf16(params, fp.mask_except(params, ["LayerNorm"]))
    assert after["LayerNorm"]["scale"] is params["LayerNorm"]["scale"]
    assert after["LayerNorm"]["bias"] is params["LayerNorm"]["bias"]
    assert after["z"]["bias"].dtype == jnp.bfloat16
    assert fp.mask_except(params, "LayerNorm") == fp.mask_except(params, ("LayerNorm",))
    with pytest.raises(ValueError, match="pattern 'LayerNorn' matches no path"):
        fp.mask_except(params, ["LayerNorm", "LayerNorn"])


def test_D4_a_pattern_of_dtypes_that_matches_nothing_is_refused():
    assert fp.cast(tree(), {"^z/": "bf16"})["z"]["bias"].dtype == jnp.bfloat16
    with pytest.raises(ValueError, match=r"dtype: pattern 'LayerNorn' matches no path \(nearest"):
        fp.cast(tree(), {"LayerNorn": "bf16"})


def test_R4_masks_are_paired_by_path():
    """The predecessor paired sorted mask leaves with the params in order of insertion."""
    params = {"b": {"y": ONES, "x": ONES}, "a": ONES, "c": ONES}
    mask = {"c": False, "a": True, "b": {"x": False, "y": True}}
    after = fp.to_bf16(params, mask)
    dtypes = {path: str(leaf.dtype) for path, leaf in fp.flatten(after).items()}
    assert dtypes == {"a": "bfloat16", "b/x": "float32", "b/y": "bfloat16", "c": "float32"}


def test_predicates_get_path_and_leaf():
    params, seen = tree(), {}

    def predicate(path, leaf):
        seen[path] = leaf
        return leaf.ndim == 2

    after = fp.to_bf16(params, predicate)
    assert seen.keys() == fp.flatten(params).keys()
    assert all(seen[path] is leaf for path, leaf in fp.flatten(params).items())
    assert [p for p, x in fp.flatten(after).items() if x.dtype == jnp.bfloat16] == ["z/kernel"]


AB = {"a": {"x": 1, "y": 2}, "b": 3}


@pytest.mark.parametrize(
    ("mask", "chosen"),
    [
        (True, ["a/x", "a/y", "b"]),
        (None, ["a/x", "a/y", "b"]),
        (False, []),
        (np.True_, ["a/x", "a/y", "b"]),
        (jnp.asarray(False), []),
        ({"a": True, "b": False}, ["a/x", "a/y"]),
        ({"a": {"x": np.True_, "y": jnp.asarray(False)}, "b": True}, ["a/x", "b"]),
        ({"a/x": True, "a": False, "b": False}, ["a/x"]),
        ({"a/x": True, "a/y": False, "b": False}, ["a/x"]),
        (lambda path, leaf: leaf > 1, ["a/y", "b"]),
        (lambda path, leaf: np.bool_(path == "b"), ["b"]),
    ],
)
def test_good_masks(mask, chosen):
    made = fp.as_mask(mask, AB)
    assert jax.tree.structure(made) == jax.tree.structure(AB)
    assert [path for path, value in fp.flatten(made).items() if value] == chosen
    assert all(type(value) is bool for value in jax.tree.leaves(made))


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        ({"a": True}, "the mask has no entry for b"),
        ({"a": {"x": True}, "b": True}, r"the mask has no entry for a/y \(nearest: a/x"),
        ({}, "the mask has no entry for a/x"),
        ({"a": True, "b": True, "c": True}, "the mask names 'c', which the params do not have"),
        ({"a": {"x": True, "z": True}, "b": True}, "no entry for a/y"),
        ({"a": {"x": True, "y": True, "yy": True}, "b": True}, "names 'a/yy'.*nearest: a/y"),
        ({"a": {"x": {"w": True}, "y": True}, "b": True}, "no entry for a/x"),
        ({"a": {"x": True, "y": True, "x/w": True}, "b": True}, "names 'a/x/w'"),
        ({"a": 1, "b": True}, "the mask holds 1 at a; expected a bool"),
        ({"a": None, "b": True}, "the mask holds None at a; expected a bool"),
        ({"a": {"x": "no", "y": True}, "b": True}, "the mask holds 'no' at a/x"),
        ({"a": np.ones(2, bool), "b": True}, r"the mask holds array\(.* at a"),
        (1, "the mask holds 1 at its root"),
        ({"A": True, "b": True}, "the mask has no entry for a/x"),
    ],
)
@pytest.mark.parametrize(
    "function", [fp.as_mask, lambda m, p: fp.to_bf16(p, m), lambda m, p: fp.select(p, m)]
)
def test_masks_that_do_not_fit_name_the_path(function, mask, said):
    with pytest.raises(ValueError, match=said):
        function(mask, AB)


def test_an_unused_entry_above_full_ones():
    with pytest.raises(ValueError, match="the mask names 'a', which"):
        fp.as_mask({"a": True, "a/x": True, "a/y": True, "b": True}, AB)


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        ("bf16", "bfloat16"),
        ("fp16", "float16"),
        ("fp32", "float32"),
        ("half", "float16"),
        ("torch.bfloat16", "bfloat16"),
        ("torch.float32", "float32"),
        ("float8_e4m3fn", "float8_e4m3fn"),
        ("float64", "float64"),
        (jnp.bfloat16, "bfloat16"),
        (jnp.float8_e5m2, "float8_e5m2"),
        (np.float16, "float16"),
        (np.dtype("float32"), "float32"),
        (ONES.dtype, "float32"),
    ],
)
def test_names_of_dtypes(dtype, name):
    assert fp.parse_dtype(dtype) == jnp.dtype(name)
    assert isinstance(fp.parse_dtype(dtype), np.dtype)


@pytest.mark.parametrize(
    "dtype",
    [
        "float99",
        "os.system",
        "",
        "int8",
        "f4",
        "bool",
        "Float32",
        None,
        int,
        np.int32,
        3,
        {},
        object,
    ],
)
def test_C14_what_is_no_dtype(dtype):
    with pytest.raises(
        ValueError, match="unknown dtype .*; known: float64, float32, float16, bfloat16"
    ):
        fp.parse_dtype(dtype)


@pytest.mark.parametrize("dtype", ["float99", {"nothing": "float99"}, None])
def test_an_unknown_dtype_is_refused_even_if_nothing_is_cast(dtype):
    with pytest.raises(ValueError, match="unknown dtype"):
        fp.cast({"a": np.ones(1, np.int32)}, dtype, False)


def test_cast_by_patterns():
    params = tree()
    after = fp.flatten(fp.cast(params, {"LayerNorm": "auto", "bias$": jnp.float32, "": "bf16"}))
    assert after["LayerNorm/bias"] is params["LayerNorm"]["bias"]  # the first that matches decides
    assert after["z/bias"].dtype == np.float32
    assert after["z/kernel"].dtype == jnp.bfloat16
    assert after["a/steps"].dtype == jnp.int32
    assert fp.cast(params, "auto")["z"]["kernel"] is params["z"]["kernel"]


def test_leaves_that_are_no_arrays_stay():
    assert fp.to_bf16({"a": 1.0, "b": "x"}) == {"a": 1.0, "b": "x"}


names = st.text("abcXY_01", min_size=1, max_size=3)
trees = st.dictionaries(
    names,
    st.recursive(
        st.integers(), lambda inner: st.dictionaries(names, inner, min_size=1, max_size=3)
    ),
    max_size=4,
)


@quick
@given(trees)
def test_flatten_and_unflatten_are_inverse(tree):
    flat = fp.flatten(tree)
    assert fp.unflatten(flat) == tree
    assert list(flat.values()) == jax.tree.leaves(tree)
    assert fp.unflatten(dict(reversed(flat.items()))) == tree


def test_flatten_and_unflatten_of_odd_trees():
    assert fp.flatten({}) == {} and fp.unflatten({}) == {}
    assert fp.flatten(7) == {"": 7} and fp.unflatten({"": 7}) == 7
    assert fp.flatten({"a": [1, (2, 3)]}) == {"a/0": 1, "a/1/0": 2, "a/1/1": 3}
    assert fp.flatten(FrozenDict({"a": {"b": 1}})) == {"a/b": 1}
    assert fp.flatten({"a": {}, "b": None}) == {}
    with pytest.raises(ValueError, match="two leaves of the tree have the path 'a/b'"):
        fp.flatten({"a/b": 1, "a": {"b": 2}})
    for flat in ({"a": 1, "a/b": 2}, {"a/b": 2, "a": 1}, {"a/b/c": 2, "a": 1}):
        with pytest.raises(ValueError, match="runs through the leaf a"):
            fp.unflatten(flat)


@quick
@given(trees, st.data())
def test_any_mask_pairs_by_path(tree, data):
    flat = fp.flatten(tree)
    chosen = {path: data.draw(st.booleans()) for path in flat}
    full = fp.unflatten(dict(data.draw(st.permutations(list(chosen.items())))))
    for mask in (full, chosen, lambda path, leaf: chosen[path]):
        assert fp.flatten(fp.as_mask(mask, tree)) == chosen
    prefix = {name: data.draw(st.booleans()) for name in tree}
    expected = {path: prefix[path.partition("/")[0]] for path in flat}
    assert fp.flatten(fp.as_mask(prefix, tree)) == expected


@quick
@given(trees, st.data())
def test_partition_and_merge_are_inverse(tree, data):
    chosen = {path: data.draw(st.booleans()) for path in fp.flatten(tree)}
    inside, outside = fp.partition(tree, fp.unflatten(chosen))
    assert fp.flatten(inside).keys() == {path for path, value in chosen.items() if value}
    assert fp.flatten(outside).keys() == {path for path, value in chosen.items() if not value}
    assert fp.merge(inside, outside) == fp.merge(outside, inside) == tree
    assert fp.select(tree, fp.unflatten(chosen)) == inside


def test_partition_and_merge():
    params = tree()
    inside, outside = fp.partition(params, lambda path, leaf: path == "z/kernel")
    assert inside == {"z": {"kernel": params["z"]["kernel"]}}
    assert inside["z"]["kernel"] is params["z"]["kernel"]
    assert "kernel" not in outside["z"]
    assert fp.partition(params, False)[0] == {}
    with pytest.raises(ValueError, match="two of the trees have a leaf at a/x"):
        fp.merge({"a": {"x": 1}}, {"a": {"y": 1}}, {"a": {"x": 1}})
    with pytest.raises(ValueError, match="a/x runs through the leaf a"):
        fp.merge({"a": {"x": 1}}, {"a": 1})
    assert fp.merge() == {} and fp.merge({}, {"a": 1}) == {"a": 1}
    gradient = jax.grad(lambda p, q: jnp.sum(fp.merge(p, q)["a"]["x"] ** 2))(
        {"a": {"x": jnp.ones(2)}}, {"a": {"y": jnp.ones(2)}}
    )
    assert gradient["a"]["x"].tolist() == [2, 2]


def test_M8_num_parameters():
    params = {"wte": {"embedding": ONES}, "h": {"kernel": np.ones((4, 4)), "bias": np.float32(1)}}
    assert fp.num_parameters(params) == 32 + 16 + 1
    assert fp.num_parameters(params, lambda path, _: "embedding" not in path) == 17
    assert fp.num_parameters(params, {"wte": True, "h": False}) == 32
    assert fp.num_parameters(jax.eval_shape(lambda: params)) == 49
    assert fp.num_parameters({}) == 0
    assert fp.num_parameters({"a": np.ones((0, 3))}) == 0
    assert type(fp.num_parameters({"a": jax.ShapeDtypeStruct((2**20, 2**20), "int8")})) is int


def test_P16_memory_footprint():
    params = {"a": ONES, "b": jnp.ones(3, jnp.bfloat16), "c": np.ones((), np.int8)}
    assert fp.memory_footprint(params) == 128 + 6 + 1
    assert fp.memory_footprint(jax.eval_shape(lambda: params)) == 135
    assert fp.memory_footprint({}) == 0
    assert fp.memory_footprint({"key": jax.random.key(0)}) == 8


def test_P16_memory_footprint_per_device():
    mesh = fs.make_mesh(fsdp=4, tensor=2)
    params = {
        "a": jax.device_put(ONES, NamedSharding(mesh, P("fsdp", "tensor"))),
        "b": jax.device_put(ONES, NamedSharding(mesh, P("fsdp"))),
        "c": jax.device_put(ONES, jax.devices()[5]),
    }
    expected = {device: 128 // 8 + 128 // 4 for device in jax.devices()}
    expected[jax.devices()[5]] += 128
    assert fp.memory_footprint(params, per_device=True) == expected
    assert fp.memory_footprint(params) == 3 * 128


def test_summary():
    mesh = fs.make_mesh(fsdp=4, tensor=2)
    params = {
        "model": {
            "layers": {
                "0": {"q": {"kernel": ONES}, "norm": {"scale": jnp.ones(4, jnp.bfloat16)}},
                "1": {"q": {"kernel": ONES}},
            },
            "embed": {"embedding": jax.device_put(ONES, NamedSharding(mesh, P("fsdp", None)))},
        },
        "top": np.zeros((1000, 1000), np.int8),
    }
    assert fp.summary(params).splitlines() == [
        "module          leaves  parameters    bytes  dtype             sharding",
        "-" * 77,
        "model/embed          1          32    128 B  float32           ('fsdp', None)",
        "model/layers/0       2          36    136 B  bfloat16+float32",
        "model/layers/1       1          32    128 B  float32",
        "top                  1   1,000,000  1.00 MB  int8",
        "total                5   1,000,100  1.00 MB",
    ]
    lines = fp.summary(params, depth=1).splitlines()
    assert [line.split()[:3] for line in lines[2:]] == [
        ["model", "4", "100"],
        ["top", "1", "1,000,000"],
        ["total", "5", "1,000,100"],
    ]
    assert "bfloat16+float32" in fp.summary(params)
    for depth in ("x", -1, True, None):
        with pytest.raises((TypeError, ValueError), match="depth is "):
            fp.summary(params, depth)
    assert "total" in fp.summary({})


@pytest.mark.parametrize(
    ("size", "said"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (15_000_000, "15.00 MB"), (7e9, "7.00 GB"),
     (5e13, "50000.00 GB")],
)  # fmt: skip
def test_sizes_for_people(size, said):
    from flaxmodels.params.sizes import format_size

    assert format_size(size) == said

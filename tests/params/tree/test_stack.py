"""Stacking layers and taking them apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import FrozenDict

from flaxmodels import params as fp
from flaxmodels import sharding as fs

KINDS = {
    "numpy": lambda i: np.full((2, 3), i, np.float32),
    "jax": lambda i: jnp.full((2, 3), i, jnp.bfloat16),
    "abstract": lambda i: jax.ShapeDtypeStruct((2, 3), jnp.bfloat16),
    "axes": lambda i: fs.AbstractParam((2, 3), jnp.bfloat16, axes=("embed", None)),
}


def looped(make, depth=12):
    layers = {str(i): {"q": {"kernel": make(i)}, "bias": make(i)} for i in range(depth)}
    return {"model": {"layers": layers, "norm": {"scale": make(0)}}}


@pytest.mark.parametrize("kind", KINDS)
def test_stack_and_unstack_are_inverse(kind):
    tree = looped(KINDS[kind])
    stacked = fp.stack_layers(tree)
    assert list(fp.flatten(stacked)) == [
        "model/layers/bias",
        "model/layers/q/kernel",
        "model/norm/scale",
    ]
    leaf = stacked["model"]["layers"]["q"]["kernel"]
    assert leaf.shape == (12, 2, 3)
    assert stacked["model"]["norm"]["scale"] is tree["model"]["norm"]["scale"]
    assert leaf.dtype == tree["model"]["layers"]["0"]["bias"].dtype
    if kind in ("numpy", "jax"):
        assert isinstance(leaf, np.ndarray if kind == "numpy" else jax.Array)
        assert leaf[:, 0, 0].tolist() == list(range(12))  # "10" comes after "9"
    if kind == "axes":
        assert isinstance(leaf, fs.AbstractParam)
        assert leaf.axes == ("layers", "embed", None)
    back = fp.unstack_layers(stacked, "model/layers")
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    for path, leaf in fp.flatten(back).items():
        original = fp.flatten(tree)[path]
        assert (leaf.shape, leaf.dtype) == (original.shape, original.dtype)
        if kind in ("numpy", "jax"):
            assert (leaf == original).all()
        if kind == "axes":
            assert leaf.axes == original.axes


def test_lists_within_lists():
    tree = {
        "h": {
            str(i): {"e": {str(j): {"w": np.full(2, 10 * i + j)} for j in range(3)}}
            for i in range(2)
        }
    }
    stacked = fp.stack_layers(tree)
    assert stacked["h"]["e"]["w"].shape == (2, 3, 2)
    assert stacked["h"]["e"]["w"][..., 0].tolist() == [[0, 1, 2], [10, 11, 12]]


def test_lists_of_leaves():
    stacked = fp.stack_layers({"s": {"0": np.ones(2), "1": np.zeros(2)}})
    assert stacked["s"].tolist() == [[1, 1], [0, 0]]


def test_odd_trees():
    assert fp.stack_layers({}) == {}
    assert fp.stack_layers({"a": {}}) == {"a": {}}
    frozen = fp.stack_layers(FrozenDict(looped(KINDS["numpy"], 2)))
    assert frozen["model"]["layers"]["bias"].shape == (2, 2, 3)


BAD = {
    "missing": (
        {"0": {"w": np.ones(2)}, "2": {"w": np.ones(2)}},
        "m/h/1 is missing of the layers 0, 2",
    ),
    "no-zero": ({"1": {"w": np.ones(2)}}, "m/h/0 is missing"),
    "leaves": (
        {"0": {"w": np.ones(2)}, "1": {"v": np.ones(2)}},
        "m/h/1 and layer 0 do not have the same leaves: v",
    ),
    "shape": (
        {"0": {"w": np.ones(2)}, "1": {"w": np.ones(3)}},
        r"m/h/1/w has shape \(3,\) and dtype float64, in layer 0 it has \(2,\)",
    ),
    "dtype": (
        {"0": {"w": np.ones(2)}, "1": {"w": np.ones(2, np.int8)}},
        r"m/h/1/w has shape \(2,\) and dtype int8, in layer 0",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_layers_that_differ_are_refused_by_path(case):
    layers, said = BAD[case]
    with pytest.raises(ValueError, match=said):
        fp.stack_layers({"m": {"h": layers}})


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        (
            {"h": {"a": np.ones((2, 3)), "b": np.ones((3, 3))}},
            r"at 'h': leading axes .*\(2,\), \(3,\)",
        ),
        ({"h": {"a": np.ones(())}}, "no stacked layers at 'h'"),
        ({"h": {"a": np.ones(()), "b": np.ones((2, 1))}}, "no stacked layers at 'h'"),
        ({"g": {"a": np.ones((2, 3))}}, "no stacked layers at 'h'"),
        ({"h": np.ones((2, 3))}, "no stacked layers at 'h'"),
        ({"hh": {"a": np.ones((2, 3))}}, "no stacked layers at 'h'"),
    ],
)
def test_what_cannot_be_unstacked(tree, said):
    with pytest.raises(ValueError, match=said):
        fp.unstack_layers(tree, "h")

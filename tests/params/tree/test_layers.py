"""Which layers of a list a leaf holds: the spelling in its path, and what follows from it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxmodels import params as fp
from flaxmodels import sharding as fs
from flaxmodels.params.tree.layers import layer_paths, layers_of, list_paths, spellings
from flaxmodels.params.tree.leaf_places import places
from flaxmodels.params.tree.naming import FLAX, PATHS, TORCH

MOE = fp.Naming(stacks=("layers", "block"), experts=("experts",), heads=("norms",))


def leaf(shape, *axes, draw=None):
    axes = (*axes, *[None] * (len(shape) - len(axes)))
    return fs.AbstractParam(shape, jnp.float32, axes=axes, draw=draw)


PATHS_OF = {
    "alone": ("a/kernel", (2, 3), (), {(): "a/kernel"}),
    "one-layer": ("layers/3/a/kernel", (2, 3), (), {(): "layers/3/a/kernel"}),
    "all": ("m/layers/a/bias", (2, 3), ("layers",),
            {(0,): "m/layers/0/a/bias", (1,): "m/layers/1/a/bias"}),
    "segment": ("m/layers/3+6/a/bias", (3, 3), ("layers",),
                {(i,): f"m/layers/{3 + 6 * i}/a/bias" for i in range(3)}),
    "two-names": ("block/layer/0/a/bias", (2, 3), ("layers",),
                  {(0,): "block/0/layer/0/a/bias", (1,): "block/1/layer/0/a/bias"}),
    "inner-list": ("layers/1/block/a/bias", (2, 3), ("layers",),
                   {(0,): "layers/1/block/0/a/bias", (1,): "layers/1/block/1/a/bias"}),
    "experts": ("layers/4/experts/up/kernel", (2, 5, 7), ("experts",),
                {(i,): f"layers/4/experts/{i}/up/kernel" for i in range(2)}),
    "both": ("layers/1+2/mlp/experts/up/kernel", (2, 3, 5, 7), ("layers", "experts"),
             {(i, j): f"layers/{1 + 2 * i}/mlp/experts/{j}/up/kernel"
              for i in range(2) for j in range(3)}),
    "experts-in-one": ("layers/moe/up/kernel", (2, 3, 5, 7), ("layers", "experts"),
                       {(i,): f"layers/{i}/moe/up/kernel" for i in range(2)}),
    "heads": ("layers/norms/scale", (2, 3, 5), ("layers", "kv_heads", "norm"),
              {(i, j): f"layers/{i}/norms/{j}/scale" for i in range(2) for j in range(3)}),
    "heads-in-one": ("layers/q/bias", (2, 3), ("layers", "heads"),
                     {(i,): f"layers/{i}/q/bias" for i in range(2)}),
    "the-list-itself": ("scales/layers", (2, 3), ("layers",),
                        {(0,): "scales/layers/0", (1,): "scales/layers/1"}),
}  # fmt: skip


@pytest.mark.parametrize("case", PATHS_OF)
def test_one_path_for_each_layer(case):
    path, shape, axes, expected = PATHS_OF[case]
    assert layer_paths(path, leaf(shape, *axes), MOE.lists) == expected


def test_layers_of_a_leaf():
    stacked = leaf((3, 2), "layers")
    assert list(layers_of("m/layers/3+6/q/bias", stacked, ("layers",))) == [3, 9, 15]
    assert list(layers_of("m/layers/q/bias", stacked, ("layers",))) == [0, 1, 2]
    assert list(layers_of("m/layers/12/q/bias", leaf((2,)), ("h", "layers"))) == [12]
    assert list(layers_of("m/norm/bias", leaf((2,)), ("layers",))) == []
    tree = {"m/layers/0+2/a": stacked, "m/layers/1+2/a": stacked, "e/h/a": stacked, "b": leaf((2,))}
    assert list_paths(tree, ("layers", "h")) == ["m/layers", "e/h"]


@pytest.mark.parametrize("path", ["layers/3+0/a", "layers/+6/a", "layers/3+/a", "layers/3+6x/a"])
def test_what_is_no_segment_is_a_name(path):
    assert layer_paths(path, leaf((1, 2), "layers"), MOE.lists) == {
        (0,): path.replace("layers/", "layers/0/")
    }


def test_two_axes_in_each_layout():
    """Kernels of experts are turned as those of one are; our own trees keep them together."""
    tree = {"layers/mlp/experts/up/kernel": leaf((2, 3, 5, 7), "layers", "experts")}
    (found,) = places(tree, MOE, TORCH).values()
    assert found[4].name == "layers.1.mlp.experts.1.up.weight"
    assert (found[4].shape, found[4].permutation, found[4].index) == ((7, 5), (1, 0), (1, 1))
    (found,) = places(tree, MOE, FLAX).values()
    assert (found[4].name, found[4].shape) == ("layers/1/mlp/experts/1/up/kernel", (5, 7))
    (found,) = places(tree, MOE, PATHS).values()
    assert [(x.name, x.shape, x.index) for x in found] == [
        (f"layers/{i}/mlp/experts/up/kernel", (3, 5, 7), (i,)) for i in range(2)
    ]
    (found,) = places(tree, MOE, PATHS, apart=False).values()
    assert [(x.name, x.shape, x.index) for x in found] == [(*tree, (2, 3, 5, 7), ())]
    one = fp.Naming(stacks=("layers",))  # all experts of a layer are one tensor
    (found,) = places(tree, one, TORCH).values()
    assert [(x.name, x.shape, x.permutation) for x in found] == [
        (f"layers.{i}.mlp.experts.up.weight", (3, 7, 5), (0, 2, 1)) for i in range(2)
    ]


def test_spellings():
    names = ["m/layers/0/a", "m/layers/11/b", "h/1+2/a", "h/0+2/a", "block/a/layers", "norm/scale"]
    assert spellings(names, ("layers", "h", "block")) == {"layers/#", "h/0+2", "h/1+2", "block"}
    assert spellings(names, ()) == frozenset()


def looped(depth, kind=lambda i: 0):
    """Layers whose bias has one more element for each kind."""
    return {
        "m": {"layers": {str(i): {"b": np.full(2 + kind(i), i)} for i in range(depth)}},
        "classifier": {"1": {"w": np.ones(2)}, "4": {"w": np.ones(2)}},
    }


SEGMENTS = {
    "all": (4, lambda i: 0, None, {"m/layers/b": [0, 1, 2, 3]}),
    "one-segment": (4, lambda i: 0, [(0, 1, 4)], {"m/layers/b": [0, 1, 2, 3]}),
    "periods": (5, lambda i: i % 2, [(0, 2, 2), (4, 1, 1)],
                {"m/layers/0+2/b": [0, 2], "m/layers/1+2/b": [1, 3], "m/layers/4+1/b": [4]}),
    "first-differs": (4, lambda i: i > 0, [(0, 1, 1), (1, 1, 3)],
                      {"m/layers/0+1/b": [0], "m/layers/1+1/b": [1, 2, 3]}),
    "gemma3": (26, lambda i: i % 6 == 5, ((0, 6, 4), (24, 1, 2)),
               {f"m/layers/{j}+6/b": [*range(j, 24, 6)] for j in range(6)}
               | {"m/layers/24+1/b": [24, 25]}),
}  # fmt: skip


@pytest.mark.parametrize("case", SEGMENTS)
def test_stacking_by_segments_and_back(case):
    depth, kind, segments, expected = SEGMENTS[case]
    tree = looped(depth, kind)
    stacked = fp.stack_layers(tree, ("layers",), segments=segments)
    flat = fp.flatten(stacked["m"])
    assert {f"m/{path}": leaf[:, 0].tolist() for path, leaf in flat.items()} == expected
    assert stacked["classifier"] == tree["classifier"]  # numbers that no list of layers has
    back = fp.unstack_layers(stacked, "m/layers")
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, back, tree)))


def test_lists_by_the_end_of_their_path():
    tree = {"a": looped(2)["m"], "b": looped(2)["m"]}
    stacked = fp.stack_layers(tree, ["b/layers"])
    assert [*fp.flatten(stacked)] == ["a/layers/0/b", "a/layers/1/b", "b/layers/b"]


@pytest.mark.parametrize(
    "segments", [[(0, 2, 1)], [(0, 2, 3)], [(0, 1, 2), (3, 1, 2)], [(1, 1, 4)], [(0, 0, 5)], []]
)
def test_segments_that_are_not_the_layers(segments):
    with pytest.raises(ValueError, match=r"are not the 5 layers of m/layers/: each is \(first"):
        fp.stack_layers(looped(5), ("layers",), segments=segments)


def test_layers_of_a_segment_that_differ():
    with pytest.raises(ValueError, match="m/layers/2/b has shape .* in layer 1 it has"):
        fp.stack_layers(looped(3, lambda i: i == 2), ("layers",), segments=[(0, 1, 1), (1, 1, 2)])


def test_unstacking_what_holds_a_layer_twice():
    with pytest.raises(ValueError, match="two leaves stacked at 'h' hold h/1/b"):
        fp.unstack_layers(
            {"h": {"0+1": {"b": np.ones((2, 3))}, "1+2": {"b": np.ones((2, 3))}}}, "h"
        )
    with pytest.raises(ValueError, match="no stacked layers at 'h'"):
        fp.unstack_layers({"h": {"0": {"b": np.ones((2, 3))}}}, "h")


def test_draws_do_not_depend_on_stacking():
    """A layer gets the same numbers alone, among all, in a segment, and beside other numbers."""

    def value(key, path, shape, *axes, naming=MOE):
        tree = fp.unflatten({path: leaf(shape, *axes, draw=jax.random.bits)})
        ((_, value),) = fp.flatten(fp.initialize(tree, key, naming=naming)).items()
        return value

    @jax.jit  # one program, which is compiled sooner than each of these
    def values(key):
        draw = functools.partial(value, key)
        return {
            "stacked": draw("block/layer/1/b", (5, 3), "layers"),
            "segment": draw("block/1+3/layer/1/b", (2, 3), "layers"),
            "unnamed": draw("block/1+3/layer/1/b", (2, 3), "layers", naming=fp.Naming()),
            "alone": [draw(f"block/{i}/layer/1/b", (3,)) for i in range(5)],
            "both": draw("layers/1+2/experts/w", (2, 4, 3), "layers", "experts"),
            "of a layer": [draw(f"layers/{i}/experts/w", (4, 3), "experts") for i in (1, 3)],
            "an expert": [draw(f"layers/{i}/experts/2/w", (3,)) for i in (1, 3)],
        }

    got = jax.device_get(values(jax.random.key(1)))
    stacked, both = got["stacked"], got["both"]
    assert (np.array(got["alone"]) == stacked).all() and len(np.unique(stacked)) == stacked.size
    assert (got["segment"] == stacked[1::3][:2]).all()
    assert (got["unnamed"] == got["segment"]).all()
    assert (np.array(got["of a layer"]) == both).all()
    assert (np.array(got["an expert"]) == both[:, 2]).all()

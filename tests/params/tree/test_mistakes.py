"""What callers get wrong in a tree or beside it: refused by path, never by JAX or NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flaxmodels as fm
from flaxmodels import params as fp

TREE = {"a": {"kernel": np.ones((2, 3), np.float32), "bias": np.zeros(3, np.float32)}}
LISTS = {"layers": {"0": TREE, "1": TREE}}


def deleted():
    array = jnp.ones(3)
    array.delete()
    return {"w": array}


def same(array, **options):
    return fp.scale({"a": array, "b": array}, 2.0, donate=True, **options)


def rows_twice(array):
    return fp.scale({"a": array[:2], "b": array[1:]}, 2.0, donate=True)


def with_itself(array):
    return fp.add({"w": array}, {"w": array}, donate=True)


SEED = {"w": fm.sharding.AbstractParam((2,), jnp.float32, axes=(None,), draw=jax.random.normal)}
MISTAKES = {
    "text for a number": (lambda: fp.interpolate(TREE, TREE, "0.5"), TypeError, "t is '0.5'; exp"),
    "masked": (
        lambda: fp.scale({"w": np.ma.array([1.0], mask=[True])}, 2.0),
        ValueError,
        r"w is a masked array; give leaf.filled\(",
    ),
    "dtypes in a tree": (
        lambda: fp.cast(TREE, {"a": {"kernel": "bf16"}}),
        ValueError,
        "unknown dtype {'kernel': 'bf16'}",
    ),
    "no number": (lambda: fp.scale(TREE, None), TypeError, "factor is None; expected one number"),
    "text for a decay": (lambda: fp.ema(TREE, TREE, "x"), TypeError, "decay is 'x'"),
    "several decays": (lambda: fp.ema(TREE, TREE, [0.5]), ValueError, r"decay has shape \(1,\)"),
    "complex": (lambda: fp.scale(TREE, 2j), ValueError, "a/bias is float32, .* complex"),
    "a model": (lambda: fp.add(object(), TREE), ValueError, "the tree is <object.*expected an arr"),
    "given away": (lambda: fp.scale(deleted(), 2.0), ValueError, "w was deleted: its memory"),
    "given away, cast": (lambda: fp.to_bf16(deleted()), ValueError, "w was deleted"),
    "given away, diff": (lambda: fp.diff(deleted(), deleted()), ValueError, "w was deleted"),
    "given away, stack": (
        lambda: fp.stack_layers({"0": deleted(), "1": deleted()}),
        ValueError,
        "0/w was deleted",
    ),
    "donated twice": (lambda: same(jnp.ones(3)), ValueError, "a and b are one array, whose mem"),
    "donated twice, NumPy": (lambda: same(np.ones(3)), ValueError, "a and b are one array"),
    "donated rows": (lambda: rows_twice(np.ones(3)), ValueError, "a and b are one array"),
    "donated to itself": (lambda: with_itself(jnp.ones(3)), ValueError, "w of both trees is one"),
    "an array decides": (
        lambda: fp.scale(TREE, 2.0, lambda path, leaf: leaf > 0),
        ValueError,
        r"predicate gave an array of shape \(3,\) for a/bias",
    ),
    "a traced value decides": (
        lambda: jax.jit(lambda x: fp.scale(x, 2.0, lambda _, leaf: jnp.any(leaf)))(TREE),
        ValueError,
        "predicate gave a traced value for a/bias",
    ),
    "a number for a pattern": (
        lambda: fp.cast(TREE, {1: "bf16"}),
        ValueError,
        "pattern 1 is no re",
    ),
    "bytes for a pattern": (lambda: fp.mask_except(TREE, [b"a"]), ValueError, "pattern b'a' is no"),
    "keys of two types": (lambda: fp.flatten({0: 1, "a": 2}), ValueError, "keys of several types"),
    "no mapping": (
        lambda: fp.unflatten([("a", 1)]),
        TypeError,
        "unflatten takes {path: leaf}, got",
    ),
    "no path": (
        lambda: fp.unflatten({("a", "b"): 1}),
        TypeError,
        r"the path \('a', 'b'\) is no te",
    ),
    "a number for a path": (lambda: fp.get_leaf(TREE, 3), KeyError, "the params have no leaf '3'"),
    "no such list": (
        lambda: fp.stack_layers(LISTS, ["layer"]),
        ValueError,
        "no list of layers 'layer' .nearest: layers",
    ),
    "segments of nothing": (
        lambda: fp.stack_layers(TREE, segments=[(0, 1, 2)]),
        ValueError,
        "segments: the params have no list of layers",
    ),
    "segments of two": (
        lambda: fp.stack_layers(LISTS, segments=[(0, 1)]),
        ValueError,
        r"segments \(\(0, 1\),\) are not the 2 layers of layers/",
    ),
    "lists that are none": (
        lambda: fp.stack_layers(LISTS, 5),
        TypeError,
        "stacks is 5; expected a list",
    ),
    "a number for a list": (
        lambda: fp.stack_layers(LISTS, [5]),
        TypeError,
        "stacks is 5; expected names of lists",
    ),
    "segments that are none": (
        lambda: fp.stack_layers(LISTS, segments=5),
        TypeError,
        "segments is 5; expected a list",
    ),
    "half a layer": (
        lambda: fp.stack_layers(LISTS, segments=[(0, 2.0, 1)]),
        ValueError,
        r"segments \(\(0, 2.0, 1\),\) are not the 2 layers",
    ),
    "patterns that are none": (
        lambda: fp.mask_except(TREE, None),
        TypeError,
        "patterns is None; expected a regular expression, or several",
    ),
    "text for a flag": (
        lambda: fp.scale(TREE, 2.0, donate="no"),
        TypeError,
        "donate is 'no'; expected True or False",
    ),
    "text for a question": (
        lambda: fp.memory_footprint(TREE, per_device="no"),
        TypeError,
        "per_device is 'no'; expected True or False",
    ),
    "arrays for a template": (
        lambda: fp.initialize(TREE, jax.random.key(0)),
        ValueError,
        "a/bias: the template's leaf array.* does not say how it is drawn",
    ),
    "numbers in layers": (
        lambda: fp.stack_layers({"h": {"0": {"a": 1.0}, "1": {"a": 2.0}}}),
        ValueError,
        "h/0/a is 1.0, a float; expected an array",
    ),
    "to count a number": (lambda: fp.num_parameters({"a": 1.0}), ValueError, "a is 1.0, a float"),
    "to weigh a text": (lambda: fp.memory_footprint({"a": "x"}), ValueError, "a is 'x', a str"),
    "to show a number": (lambda: fp.summary({"a": 1.0}), ValueError, "a is 1.0, a float"),
    "to compare texts": (
        lambda: fp.diff({"a": "x"}, {"a": "y"}),
        ValueError,
        "a is no array of num",
    ),
    "a seed for a key": (lambda: fp.initialize(SEED, 0), TypeError, "key is 0; pass key=jax.rando"),
    "several keys": (
        lambda: fp.initialize(SEED, jax.random.split(jax.random.key(0))),
        ValueError,
        r"key holds \(2,\) keys",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named(name):
    call, error, said = MISTAKES[name]
    with pytest.raises(error, match=said):
        call()


def test_what_looks_like_a_mistake_and_is_none():
    one = np.ones(3, np.float32)
    assert fp.add({"w": one}, {"w": one}, donate=True)["w"] is one and one.tolist() == [2, 2, 2]
    apart = np.ones((3, 4), np.float32)
    columns = fp.scale({"a": apart[:, :2], "b": apart[:, 2:]}, 2.0, donate=True)
    assert (apart == 2).all() and np.shares_memory(columns["a"], apart)
    assert fp.scale({"w": np.complex64([1j])}, 2j)["w"].tolist() == [-2]
    assert fp.stack_layers({"h": {0: TREE, 1: TREE}})["h"]["a"]["bias"].shape == (2, 3)
    stacked = fp.stack_layers(LISTS, "layers")
    assert stacked["layers"]["a"]["bias"].shape == (2, 3)
    again = fp.stack_layers(stacked, ["layers"])  # to no effect
    assert again["layers"]["a"]["bias"] is stacked["layers"]["a"]["bias"]
    mixed = {"0": {"w": one}, "1": {"w": jnp.ones(3)}}
    assert isinstance(fp.stack_layers(mixed)["w"], jax.Array)
    assert fp.num_parameters(deleted()) == 3


class TorchDtype:
    def __str__(self):
        return "torch.bfloat16"


def test_a_dtype_of_torch():
    assert fp.parse_dtype(TorchDtype()) == jnp.bfloat16

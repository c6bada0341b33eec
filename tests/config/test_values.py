"""The one normaliser: what stands for a JSON value, from a file or from a caller, becomes it."""

import enum
import math
import pathlib

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax.core import FrozenDict

import flaxmodels as fm
from flaxmodels.documents.field_types import checked
from flaxmodels.documents.json_values import ConfigError, freeze, shown, thaw

IDS = int | tuple[int, ...] | None


class Three(enum.IntEnum):
    IT = 3


class Name(enum.StrEnum):
    IT = "gelu"


TOKEN_IDS = {
    "int": (3, 3),
    "none": (None, None),
    "list": ([3, np.int64(4)], (3, 4)),
    "tuple-kept-in-order": ((4, 3), (4, 3)),
    "empty": ([], ()),
    "set-sorted": ({4, 3}, (3, 4)),
    "frozenset-of-numpy": (frozenset({np.int32(4), np.int64(3)}), (3, 4)),
    "range": (range(3, 6), (3, 4, 5)),
    "numpy-scalar": (np.uint8(3), 3),
    "numpy-0d": (np.array(3), 3),
    "numpy-1d": (np.array([3, 4], np.int16), (3, 4)),
    "numpy-empty": (np.array([], np.int64), ()),
    "jax-scalar": (jnp.int32(3), 3),
    "jax-1d": (jnp.array([3, 4]), (3, 4)),
    "enum": (Three.IT, 3),
    "json-1e4": (1e4, 10_000),
    "json-20.0": ([20.0, 3], (20, 3)),
}


@pytest.mark.parametrize("case", TOKEN_IDS)
def test_token_ids(case):
    given, expected = TOKEN_IDS[case]
    got = checked(fm.GenerationConfig, "eos_token_id", given, IDS)
    assert got == expected and type(got) is type(expected)
    assert all(type(item) is int for item in (got if isinstance(got, tuple) else ()))


NO_TOKEN_IDS = {
    "bool": (True, "got True"),
    "numpy-bool": (np.bool_(True), "got True"),
    "bools": (np.array([True, False]), r"got \(True, False\)"),
    "text": ("3", "got '3'"),
    "texts": (["3"], r"got \('3',\)"),
    "half": (2.5, "got 2.5"),
    "halves": (np.array([2.5]), r"got \(2.5,\)"),
    "beyond-exact": (2.0**53, r"got 9007199254740992.0"),
    "nan": (math.nan, "got nan"),
    "2d": (np.array([[3]]), r"got \(\(3,\),\)"),
    "mapping": ({3: 4}, "got {'3': 4}"),
    "bytes": (b"3", "is a bytes, which JSON has no form for"),
    "object": (object(), "is a object, which JSON has no form for"),
    "class": (Three, "JSON has no form for"),
    "shape": (jax.ShapeDtypeStruct((), jnp.int32), "is a ShapeDtypeStruct"),
    "set-without-order": ({"a", 1}, "is a set without an order"),
    "long-range": (range(10**12), "at most 250000 values"),
    "long-array": (np.zeros(10**6, np.int8), r"shape \(1000000,\); at most 250000 values"),
    "long-int": (1 << 20_000, "is an integer of 20001 bits"),
}


@pytest.mark.parametrize("case", NO_TOKEN_IDS)
def test_what_is_no_token_id(case):
    given, said = NO_TOKEN_IDS[case]
    with pytest.raises(ConfigError, match=rf"GenerationConfig: eos_token_id .*{said}") as caught:
        checked(fm.GenerationConfig, "eos_token_id", given, IDS)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("under", [jax.jit, jax.vmap, jax.grad], ids=["jit", "vmap", "grad"])
def test_values_under_a_transformation_are_named(under):
    def build(x):
        fm.LlamaConfig(vocab_size=x)
        return x

    with pytest.raises(ConfigError, match="vocab_size is an array under a JAX transformation"):
        under(build)(jnp.ones(3) if under is jax.vmap else 1.0)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({0: "a", np.int64(1): "b"}, FrozenDict({"0": "a", "1": "b"})),
        ([jnp.bfloat16, np.float16, np.dtype("float32")], ("bfloat16", "float16", "float32")),
        (ml_dtypes.bfloat16(1.5), 1.5),
        (np.array([0.5, 1.0], ml_dtypes.bfloat16), (0.5, 1.0)),
        (np.str_("gelu"), "gelu"),
        (Name.IT, "gelu"),
        (pathlib.PurePosixPath("a/b"), "a/b"),
        ({"a": [{"b": np.bool_(False)}]}, FrozenDict({"a": (FrozenDict({"b": False}),)})),
    ],
)
def test_freeze(given, expected):
    got = freeze(given)
    assert got == expected and type(got) is type(expected) and freeze(thaw(got)) == got
    hash(got)


def test_a_key_as_number_and_as_text():
    with pytest.raises(ConfigError, match="has one key twice"):
        freeze({"1": "a", 1: "b"})


@pytest.mark.parametrize("text", ["\ud800", ["\udfff"], {"a": {"\ud800": 1}}])
def test_half_of_a_surrogate_pair_is_no_text(text):
    with pytest.raises(ConfigError, match=r"half of a surrogate pair.*'\\ud"):
        freeze(text)


def test_values_of_callers_in_constructors():
    config = fm.LlamaConfig(
        hidden_size=np.int64(32),
        num_attention_heads=jnp.int32(4),
        vocab_size=1e4,
        rms_norm_eps=np.float32(0.5),
        attention_bias=np.bool_(True),
        hidden_act=np.str_("silu"),
        eos_token_id={5, 3},
    )
    same = fm.LlamaConfig(
        hidden_size=32,
        num_attention_heads=4,
        vocab_size=10_000,
        rms_norm_eps=0.5,
        attention_bias=True,
        eos_token_id=(3, 5),
    )
    assert config == same and hash(config) == hash(same) and config.to_json() == same.to_json()
    assert type(config.hidden_size) is type(config.vocab_size) is int


def test_shown_is_short_and_escaped():
    assert shown("a\x1b[2J\u202e") == r"'a\x1b[2J\u202e'"
    assert shown(FrozenDict({"\x1b": 1})) == r"{'\x1b': 1}"
    assert len(shown("x" * 10**6)) <= 200 and "1000002 characters" in shown("x" * 10**6)
    assert shown(10**5000) == "a number of thousands of digits"

"""Outputs answer as Transformers' ModelOutput, and stay pytrees."""

import dataclasses
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxmodels.blocks import CacheSpec, init_cache
from flaxmodels.core import outputs

CACHE = init_cache(
    {"full_attention": CacheSpec((1,), 2, 2)},
    batch_size=2,
    max_length=3,
    dtype=jnp.float32,
    stacked=False,
)
COMMON = ("cache", "hidden_states", "attentions", "cross_attentions")
# the order of the fields in Transformers 5.23, whose `past_key_values` is our `cache`
ORDER = {
    outputs.BaseOutput: ("last_hidden_state", "pooler_output", *COMMON),
    outputs.PooledOutput: (
        "last_hidden_state",
        "pooler_output",
        "hidden_states",
        "cache",
        "attentions",
        "cross_attentions",
    ),
    outputs.LogitsOutput: ("logits", *COMMON),
    outputs.QuestionAnsweringOutput: ("start_logits", "end_logits", *COMMON),
    outputs.PreTrainingOutput: ("prediction_logits", "seq_relationship_logits", *COMMON),
    outputs.DoubleHeadsOutput: ("logits", "mc_logits", *COMMON),
}
each = pytest.mark.parametrize("cls", ORDER, ids=lambda cls: cls.__name__)


def full(cls):
    states = (jnp.zeros(1), jnp.ones(1))
    fields = {"cache": CACHE, "hidden_states": states, "attentions": states[:1]}
    fields["cross_attentions"] = states
    own = [name for name in ORDER[cls] if name not in fields]
    return cls(**fields, **{name: jnp.full(3, i) for i, name in enumerate(own)})


@each
def test_fields_are_in_the_order_of_the_reference(cls):
    out = full(cls)
    assert out.keys() == tuple(out) == ORDER[cls]
    assert {field.name for field in dataclasses.fields(cls)} == set(ORDER[cls])
    assert len(out) == len(ORDER[cls]) == len(out.to_tuple())
    for i, (name, value) in enumerate(out.items()):
        assert out[i] is out[name] is getattr(out, name) is value is out.values()[i]
        assert out[i - len(out)] is value and name in out
    assert [x is y for x, y in zip(out[1:3], out.to_tuple()[1:3], strict=True)] == [True, True]
    assert dict(out) == {**out} == dict(out.items())


@each
def test_what_is_none_is_left_out(cls):
    out = full(cls).replace(cache=None, hidden_states=None)
    names = tuple(name for name in ORDER[cls] if name not in ("cache", "hidden_states"))
    assert out.keys() == names and len(out) == len(names) and out[-1] is out.cross_attentions
    assert "cache" not in out and out.get("cache") is None and out.get("cache", 3) == 3
    with pytest.raises(KeyError, match=f"'cache': this {cls.__name__} has {names[0]}"):
        out["cache"]
    with pytest.raises(KeyError, match="'past_key_values'"):
        out["past_key_values"]
    with pytest.raises(IndexError):
        out[len(names)]


def test_keys_of_other_kinds():
    out = outputs.LogitsOutput(logits=jnp.ones(2))
    assert out[np.int64(0)] is out[-1] is out.logits and out[1:] == () and bool(out)
    for bad in (0.0, None, ("logits",)):
        with pytest.raises(TypeError):
            out[bad]
    with pytest.raises(TypeError):
        out["logits"] = 3
    (logits,) = out.to_tuple()
    assert logits is out.logits


@each
def test_outputs_are_pytrees(cls):
    out = full(cls)
    leaves = jax.tree.leaves(out)
    assert all(isinstance(leaf, jax.Array) for leaf in leaves)
    doubled = jax.jit(lambda out: jax.tree.map(lambda x: x * 2, out))(out)
    assert type(doubled) is cls and doubled.keys() == out.keys()
    np.testing.assert_array_equal(doubled[0], out[0] * 2)
    again = pickle.loads(pickle.dumps(out))
    assert type(again) is cls and again.keys() == out.keys()
    np.testing.assert_array_equal(again[0], out[0])


def test_outputs_in_transforms():
    def run(x):
        return outputs.LogitsOutput(logits=x + 1, hidden_states=(x, x * 2))

    x = jnp.arange(6.0).reshape(2, 3)
    mapped = jax.vmap(run)(x)
    _, scanned = jax.lax.scan(lambda carry, row: (carry, run(row)), (), x)
    for out in (mapped, scanned, jax.jit(run)(x), jax.device_get(run(x))):
        assert out.keys() == ("logits", "hidden_states")
        np.testing.assert_array_equal(out[0], x + 1)
        np.testing.assert_array_equal(out["hidden_states"][1], x * 2)
    axes = outputs.LogitsOutput(logits=0, hidden_states=None)
    assert jax.vmap(run, out_axes=axes.replace(hidden_states=(0, 0)))(x)[0].shape == (2, 3)
    gradient = jax.grad(lambda x: run(x)[0].sum())(x)
    np.testing.assert_array_equal(gradient, np.ones((2, 3)))

"""`generate` under JAX's own modes and transforms: the tokens are those of a plain call."""

import functools
import re

import _modes
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _drawn import params_of, tiny_llama
from _turns import some_of
from flax import linen as nn
from jax import P

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels import sharding as fs
from flaxmodels.generation.passes import ready

MODEL = fm.LlamaForCausalLM(
    tiny_llama(
        vocab_size=19,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=1,
        num_key_value_heads=1,
        max_position_embeddings=32,
        initializer_range=0.5,
        eos_token_id=3,
    )
)
IDS = np.array([[5, 7, 11, 13], [0, 9, 8, 4]])
MASK = np.array([[1, 1, 1, 1], [0, 1, 1, 1]])
ROWS = np.array([[5, 7, 11, 13], [0, 9, 8, 4], [1, 18, 2, 6], [12, 12, 3, 10]])
KEY, TEMPERATURE, NEW = jax.random.key(3), np.float32(0.8), 4


def draw(params, ids=IDS, mask=MASK, temperature=TEMPERATURE, key=KEY):
    options = {"do_sample": True, "top_k": 7, "top_p": 0.9, "temperature": temperature, "key": key}
    return MODEL.generate(params, ids, mask, max_new_tokens=NEW, **options).sequences


def continued(params, ids, model=MODEL):
    return model.generate(params, ids, max_new_tokens=2)


@pytest.fixture(scope="module")
def params():
    return params_of(MODEL)


@pytest.fixture(scope="module")
def drawn(params):
    return np.asarray(draw(params))


@pytest.fixture(scope="module")
def expected(params):
    return continued(params, ROWS)


RUN = ("x64", "debug_nans", "explicit mesh")  # the others differ by the trace
ALL = [*RUN, *_modes.TRACED, *_modes.TRANSFORMS]
HELD = ("jit", *(f"traced, {mode}" for mode in RUN))  # by `test_ahead_of_time`, and by the run
BY_DEFAULT = [mode for mode in ALL if mode not in HELD]


BY_TRACE = ("remat", "scan")  # programs that hold the one of `jit` as it is
STACKED = ("x64", "traced, strict promotion", "shard_map")


@some_of("mode", ALL, *(mode for mode in BY_DEFAULT if mode not in BY_TRACE))
def test_D6_D13_D37_modes(params, expected, mode):
    _modes.check(mode, continued, params, ROWS, expected, 0)


@pytest.mark.parametrize("mode", BY_TRACE)
def test_D6_D13_D37_modes_that_can_fail_while_they_are_traced(params, expected, mode):
    def run(params, ids):
        return _modes.MODES[mode](lambda *given: continued(*given), params, ids)

    assert jax.tree.map(jnp.shape, expected) == jax.tree.map(
        jnp.shape, jax.eval_shape(run, params, ROWS)
    )


class Bigrams(fm.LlamaForCausalLM):
    """A table of logits in the place of passes."""

    @nn.nowrap
    def first_pass(self, params, prompt, slots):
        rows = ready(prompt, self.config)
        cache = self.init_cache(prompt.ids.shape[0], slots)
        return params["table"][rows.ids[:, -1]], cache, rows

    @nn.nowrap
    def next_pass(self, params, token, cache, before):
        return params["table"][token[:, 0]], cache


def test_D6_D37_disable_jit():
    """Of what generation adds; passes of models, and with a cache: tests/models/test_modes.py."""
    table = np.random.default_rng(0).normal(size=(19, 19)).astype(np.float32)
    params, call = {"table": table}, functools.partial(continued, model=Bigrams(MODEL.config))
    _modes.check("disable_jit", call, params, ROWS, call(params, ROWS), 0)


@some_of("mode", STACKED, STACKED[1])
def test_D6_D13_D37_modes_with_stacked_layers(params, expected, mode):
    stacked = MODEL.clone(scan_layers=True)
    call = functools.partial(continued, model=stacked)
    _modes.check(mode, call, fp.stack_layers(params), ROWS, expected, 0)


@pytest.mark.parametrize("mode", STACKED[::2])
def test_D6_D13_D37_stacked_layers_are_traced(params, expected, mode):
    """The numbers are those of layers apart, above, and of `jit` in tests/models."""

    def run(params, ids):
        call = functools.partial(continued, model=MODEL.clone(scan_layers=True))
        return _modes.MODES[mode](call, params, ids)

    stacked = jax.eval_shape(fp.stack_layers, params)
    found = jax.eval_shape(run, stacked, jax.ShapeDtypeStruct(ROWS.shape, ROWS.dtype))
    assert jax.tree.map(jnp.shape, expected) == jax.tree.map(jnp.shape, found)


@some_of("mode", ["x64", "debug_infs"], "debug_infs")
def test_D6_D37_modes_of_a_draw(params, drawn, mode):
    with _modes.CONTEXTS[mode]():
        np.testing.assert_array_equal(draw(params), drawn)


def test_D6_D37_a_draw_in_x64_computes_nothing_in_float64(params):
    with _modes.CONTEXTS["x64"]():
        program = str(jax.make_jaxpr(lambda params: draw(params))(params))
    assert "f32[2,19]" in program and not re.search(r"f64\[\d", program)


def test_D6_D37_a_draw_under_strict_promotion(params, drawn):
    with _modes.CONTEXTS["strict promotion"]():
        assert jax.eval_shape(draw, params).shape == drawn.shape


def test_no_transfer_is_implicit(params, drawn):
    with jax.transfer_guard_device_to_host("disallow"):
        np.testing.assert_array_equal(draw(params), drawn)


def test_ahead_of_time(params, expected):
    out = jax.jit(continued).lower(params, ROWS).compile()(params, ROWS)
    np.testing.assert_array_equal(out.sequences, expected.sequences)


def test_D12_jit_with_a_traced_temperature_and_key(params, drawn):
    np.testing.assert_array_equal(jax.jit(draw)(params, IDS, MASK, TEMPERATURE, KEY), drawn)
    key = jax.random.key_data(KEY)
    np.testing.assert_array_equal(draw(params, key=key), drawn)


def test_vmap_over_params_keys_and_temperatures_is_a_loop_of_calls(params):
    keys, temperatures = jax.random.split(KEY, 2), np.float32([0.5, 2])
    each = jax.vmap(lambda p, t, key: draw(p, temperature=t, key=key))
    for i, tokens in enumerate(each(two := doubled(params), temperatures, keys)):
        alone = jax.tree.map(lambda x, i=i: x[i], two)
        np.testing.assert_array_equal(tokens, draw(alone, temperature=temperatures[i], key=keys[i]))


def doubled(params):
    return jax.tree.map(lambda x: np.stack([x, 2 * np.asarray(x)]), params)


def test_D13_shard_map_over_params_and_keys(params):
    """Every device with params and a key of its own, one prompt for all."""
    mesh = fs.make_mesh(data=2, fsdp=4)
    keys = jax.random.split(KEY, 2)
    two = doubled(params)
    call = jax.shard_map(
        lambda p, key: draw(jax.tree.map(lambda x: x[0], p), key=key[0])[None],
        mesh=mesh,
        in_specs=P("data"),
        out_specs=P("data"),
    )
    for i, tokens in enumerate(jax.jit(call)(two, keys)):
        np.testing.assert_array_equal(
            tokens, draw(jax.tree.map(lambda x, i=i: x[i], two), key=keys[i])
        )


def test_keys_of_another_generator(params):
    key = jax.random.key(3, impl="rbg")
    options = {"do_sample": True, "max_new_tokens": 1}
    one, other = (
        MODEL.generate(params, IDS, MASK, key=key, **options).sequences
        for key in (key, jax.random.key_data(key))
    )
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        (lambda: jax.random.split(KEY, 2), ValueError, r"key holds \(2,\) keys.*jax.vmap"),
        (np.zeros((3, 2), np.uint32), ValueError, r"key holds \(3,\) keys"),
        (7, TypeError, r"key is 7; pass key=jax.random.key\(seed\)"),
        (np.zeros(2, np.int32), TypeError, r"key is int32\[2\]"),
    ],
)
def test_D38_what_is_no_single_key(params, key, error, message):
    with pytest.raises(error, match=message):
        draw(params, key=key() if callable(key) else key)


@pytest.mark.parametrize("name", ["top_k", "max_new_tokens", "eos_token_id", "do_sample"])
def test_D12_what_the_program_is_compiled_for_is_not_traced(params, name):
    with pytest.raises(ValueError, match=f"{name} is an array under a JAX transformation"):
        jax.eval_shape(lambda x: MODEL.generate(params, IDS, **{name: x}), 3)


@some_of("options", {"temperature": {"temperature": -1.0}, "top_p": {"top_p": 1.5}}, "temperature")
def test_D12_a_traced_value_out_of_range_fails_each_row(params, options):
    def lengths(value):
        (name,) = options
        draws = {"do_sample": True, "key": KEY, "max_new_tokens": 1, name: value}
        return MODEL.generate(params, IDS, **draws).lengths

    assert jax.jit(lengths)(*options.values()).tolist() == [-1, -1]

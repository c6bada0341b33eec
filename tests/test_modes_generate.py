"""`generate` under JAX's own modes and transforms: the tokens are those of a plain call."""

from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import P

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels import sharding as fs

MODEL = fm.LlamaForCausalLM(
    fm.LlamaConfig(
        vocab_size=19,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=32,
        initializer_range=0.5,
        eos_token_id=3,
    )
)
IDS = np.array([[5, 7, 11, 13], [0, 9, 8, 4]])
MASK = np.array([[1, 1, 1, 1], [0, 1, 1, 1]])
KEY, TEMPERATURE, NEW = jax.random.key(3), np.float32(0.8), 4


def draw(params, ids=IDS, mask=MASK, temperature=TEMPERATURE, key=KEY):
    options = {"do_sample": True, "top_k": 7, "top_p": 0.9, "temperature": temperature, "key": key}
    return MODEL.generate(params, ids, mask, max_new_tokens=NEW, **options).sequences


def greedy(params, ids=IDS, mask=MASK, model=MODEL):
    return model.generate(params, ids, mask, max_new_tokens=NEW).sequences


@pytest.fixture(scope="module")
def params():
    return MODEL.init_params(jax.random.key(0))


@pytest.fixture(scope="module")
def drawn(params):
    return np.asarray(draw(params))


@pytest.fixture(scope="module")
def most_probable(params, drawn):
    tokens = np.asarray(greedy(params))
    assert not np.array_equal(tokens, drawn)
    return tokens


MODES = {
    "x64": lambda: jax.enable_x64(True),
    "strict promotion": lambda: jax.numpy_dtype_promotion("strict"),
    "debug_nans": lambda: jax.debug_nans(True),
    "checking_leaks": jax.checking_leaks,
    "no implicit transfers": lambda: jax.transfer_guard_device_to_host("disallow"),
    "a mesh of Explicit axes": lambda: jax.set_mesh(jax.make_mesh((2, 4), ("data", "fsdp"))),
}


@pytest.mark.parametrize("mode", MODES)
def test_D6_D37_modes(params, drawn, mode):
    with MODES[mode]():
        np.testing.assert_array_equal(draw(params), drawn)


def test_disable_jit(params, most_probable):
    with jax.disable_jit():
        out = MODEL.generate(params, IDS, MASK, max_new_tokens=2)
    np.testing.assert_array_equal(out.sequences, most_probable[:, :-2])


@pytest.mark.parametrize("mode", ["x64", "strict promotion", "checking_leaks"])
def test_D6_D37_modes_with_stacked_layers(params, most_probable, mode):
    stacked = fp.stack_layers(params)
    with MODES[mode]():
        tokens = greedy(stacked, model=MODEL.clone(scan_layers=True))
    np.testing.assert_array_equal(tokens, most_probable)


def of_scan(params):
    return jax.lax.scan(lambda c, x: (c, greedy(params, *x)), 0, (IDS[None], MASK[None]))[1][0]


def of_grad(params):
    def loss(params):
        tokens = greedy(params)
        logits = MODEL.apply({"params": params}, tokens).logits
        return -jax.nn.log_softmax(logits)[..., 0].mean(), tokens

    gradient, tokens = jax.grad(loss, has_aux=True)(params)
    assert any(jnp.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient))
    return tokens


def of_threads(params):
    with ThreadPoolExecutor(4) as pool:
        one, *others = pool.map(lambda _: np.asarray(greedy(params)), range(8))
    assert all(np.array_equal(one, other) for other in others)
    return one


TRANSFORMS = {
    "ahead of time": lambda p: jax.jit(greedy).lower(p, IDS, MASK).compile()(p, IDS, MASK),
    "scan": of_scan,
    "grad": of_grad,
    "vmap over params": lambda p: jax.vmap(greedy)(jax.tree.map(lambda x: x[None], p))[0],
    "vmap over prompts": lambda p: jax.vmap(lambda i, m: greedy(p, i, m))(IDS[None], MASK[None])[0],
    "threads": of_threads,
}


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transforms(params, most_probable, transform):
    np.testing.assert_array_equal(TRANSFORMS[transform](params), most_probable)


def test_D12_jit_with_a_traced_temperature_and_key(params, drawn):
    np.testing.assert_array_equal(jax.jit(draw)(params, IDS, MASK, TEMPERATURE, KEY), drawn)
    key = jax.random.key_data(KEY)
    np.testing.assert_array_equal(draw(params, key=key), drawn)


def test_vmap_over_keys_and_temperatures_is_a_loop_of_calls(params):
    keys, temperatures = jax.random.split(KEY, 3), np.float32([0.5, 1, 2])
    each = jax.vmap(lambda t, key: draw(params, temperature=t, key=key))(temperatures, keys)
    for i, tokens in enumerate(each):
        np.testing.assert_array_equal(
            tokens, draw(params, temperature=temperatures[i], key=keys[i])
        )


def test_D13_shard_map(params, most_probable):
    mesh, rows = fs.make_mesh(data=2, fsdp=4), P("data")
    call = jax.shard_map(greedy, mesh=mesh, in_specs=(P(), rows, rows), out_specs=rows)
    np.testing.assert_array_equal(call(params, IDS, MASK), most_probable)


def test_D13_shard_map_over_params_and_keys(params):
    """Every device with params and a key of its own, one prompt for all."""
    mesh = fs.make_mesh(data=2, fsdp=4)
    keys = jax.random.split(KEY, 2)
    two = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), params)
    call = jax.shard_map(
        lambda p, key: draw(jax.tree.map(lambda x: x[0], p), key=key[0])[None],
        mesh=mesh,
        in_specs=P("data"),
        out_specs=P("data"),
    )
    for i, tokens in enumerate(call(two, keys)):
        np.testing.assert_array_equal(
            tokens, draw(jax.tree.map(lambda x, i=i: x[i], two), key=keys[i])
        )


def test_eval_shape(params):
    shapes = jax.eval_shape(lambda p, i: MODEL.generate(p, i, max_new_tokens=NEW), params, IDS)
    assert shapes.sequences.shape == (2, 8) and shapes.lengths.shape == (2,)


def test_keys_of_another_generator(params):
    key = jax.random.key(3, impl="rbg")
    tokens = draw(params, key=key)
    np.testing.assert_array_equal(draw(params, key=jax.random.key_data(key)), tokens)


@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        (jax.random.split(KEY, 2), ValueError, r"key holds \(2,\) keys.*jax.vmap"),
        (np.zeros((3, 2), np.uint32), ValueError, r"key holds \(3,\) keys"),
        (7, TypeError, "key is a int; pass key=jax.random.key"),
        (np.zeros(2, np.int32), TypeError, r"key is int32\[2\]"),
    ],
)
def test_D38_what_is_no_single_key(params, key, error, message):
    with pytest.raises(error, match=message):
        draw(params, key=key)


@pytest.mark.parametrize("name", ["top_k", "max_new_tokens", "eos_token_id", "do_sample"])
def test_D12_what_the_program_is_compiled_for_is_not_traced(params, name):
    with pytest.raises(ValueError, match=f"{name} is an array under a JAX transformation"):
        jax.eval_shape(lambda x: MODEL.generate(params, IDS, **{name: x}), 3)


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"temperature": -1.0}, {"top_p": 1.5}])
def test_D12_a_traced_value_out_of_range_fails_each_row(params, options):
    def lengths(value):
        (name,) = options
        draws = {"do_sample": True, "key": KEY, "max_new_tokens": NEW, name: value}
        return MODEL.generate(params, IDS, **draws).lengths

    assert jax.jit(lengths)(*options.values()).tolist() == [-1, -1]

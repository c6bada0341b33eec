"""The blocks by themselves: what goldens of whole models would not show, or not say where."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _drawn import params_of, tiny_llama

import flaxmodels as fm
from flaxmodels import blocks
from flaxmodels import sharding as fs

rng = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def same_numbers_in_any_order():
    global rng
    rng = np.random.default_rng(0)


def normal(*shape):
    return rng.standard_normal(shape, dtype=np.float32)


# --- caches ---


def cache_of(stacked):
    return blocks.init_cache(
        {"full_attention": blocks.CacheSpec((3, 3), 4, 4)},
        batch_size=2,
        max_length=6,
        dtype=jnp.bfloat16,
        stacked=stacked,
    )


@pytest.mark.parametrize("stacked", [False, True])
def test_a_cache_keeps_what_is_written(stacked):
    cache = cache_of(stacked)
    written = []
    for length, mask in [(3, np.array([[0, 1, 1], [1, 1, 1]])), (1, None)]:
        cache = cache.claim(mask, length)
        new = [jnp.asarray(normal(2, length, 3, 4), jnp.bfloat16) for _ in range(4)]
        _, cache = cache.write("full_attention", 0, *new[:2])
        read, cache = cache.write("full_attention", 1, *new[2:])
        keys, values = read()
        cache = cache.advance(length)
        written.append(new)
    for got, index in [(keys, 2), (values, 3)]:
        expected = jnp.concatenate([new[index] for new in written], axis=1)
        assert got.shape == (2, 6, 3, 4)
        np.testing.assert_array_equal(got[:, :4], expected)
        np.testing.assert_array_equal(got[:, 4:], 0)
    assert int(cache.index) == 4
    np.testing.assert_array_equal(cache.mask.astype(int), [[0, 1, 1, 1, 0, 0], [1, 1, 1, 1, 0, 0]])
    assert isinstance(cache.entries["full_attention"].keys, tuple) != stacked


@pytest.mark.parametrize("stacked", [False, True])
def test_a_donated_cache_is_written_in_place(stacked):
    def step(cache, new):
        for layer in range(2):
            _, cache = cache.write("full_attention", layer, new, new)
        return cache.advance(1)

    new = jnp.ones((2, 1, 3, 4), jnp.bfloat16)
    compiled = jax.jit(step, donate_argnums=0).lower(cache_of(stacked), new).compile()
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(cache_of(stacked)))
    assert compiled.memory_analysis().alias_size_in_bytes == size


def test_with_a_cache_the_mask_is_of_the_new_tokens():
    with pytest.raises(ValueError, match=r"new tokens alone, \[2, 1\]"):
        cache_of(False).claim(np.ones((2, 4)), 1)


# --- rotary ---

PLAIN = {"rope_type": "default", "rope_theta": 10_000.0}
LONG = {
    "rope_type": "longrope",
    "short_factor": (1.0,) * 4,
    "long_factor": (2.0,) * 4,
    "original_max_position_embeddings": 8,
    "attention_factor": 1.0,
}


def angles(rope, length, max_positions=16):
    """The angles of the last of `length` positions, [H / 2], for H = 8."""
    positions = jnp.arange(length)[None]
    rotation = jax.jit(
        lambda p: blocks.rotary(PLAIN | rope, p, head_dim=8, max_positions=max_positions)
    )(positions)
    return rotation.cos[0, -1], rotation.sin[0, -1]


def turned(frequencies, length):
    return np.cos(frequencies * (length - 1)), np.sin(frequencies * (length - 1))


FREQUENCIES = 10_000.0 ** (-np.arange(0, 8, 2) / 8)


@pytest.mark.parametrize(
    ("rope", "length", "frequencies"),
    [
        ({}, 12, FREQUENCIES),
        ({"rope_type": "linear", "factor": 4.0}, 12, FREQUENCIES / 4),
        ({"rope_type": "dynamic", "factor": 4.0}, 16, FREQUENCIES),
        (
            {"rope_type": "dynamic", "factor": 4.0},
            32,
            (10_000.0 * (4 * 32 / 16 - 3) ** (8 / 6)) ** (-np.arange(0, 8, 2) / 8),
        ),
        (LONG, 8, FREQUENCIES),
        (LONG, 9, FREQUENCIES / 2),
        (
            {"rope_type": "proportional", "partial_rotary_factor": 0.5, "factor": 2.0},
            12,
            np.array([1, 0.1, 0, 0]) / 2,
        ),
    ],
)
def test_frequencies(rope, length, frequencies):
    for got, want in zip(angles(rope, length), turned(frequencies, length), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)


def test_llama3_keeps_the_fast_and_slows_the_slow():
    rope = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0}
    rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 32}
    # wavelengths 6.3, 63, ...: below 8 all is kept, above 32 it is divided by the factor
    kept = FREQUENCIES / [1, 8, 8, 8]
    for got, want in zip(angles(rope, 12), turned(kept, 12), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize(
    ("rope", "scale"),
    [
        ({}, 0.1 * math.log(4) + 1),
        ({"attention_factor": 1.5}, 1.5),
        (
            {"mscale": 0.5, "mscale_all_dim": 2.0},
            (0.05 * math.log(4) + 1) / (0.2 * math.log(4) + 1),
        ),
    ],
)
def test_yarn_scales_attention(rope, scale):
    rope = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16} | rope
    cos, sin = angles(rope, 12)
    np.testing.assert_allclose(jnp.hypot(cos, sin), scale, rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_rotation_keeps_lengths_and_depends_on_distance_alone(dtype):
    q, k = (jnp.asarray(normal(1, 1, 2, 8), dtype) for _ in range(2))

    def product(here, there):
        turned = [
            blocks.apply_rotary(
                x, blocks.rotary(PLAIN, jnp.array([[place]]), head_dim=8, max_positions=99)
            )
            for x, place in ((q, here), (k, there))
        ]
        assert {x.dtype for x in turned} == {jnp.dtype(dtype)}
        lengths = jnp.linalg.norm(turned[0].astype(jnp.float32), axis=-1)
        expected = jnp.linalg.norm(q.astype(jnp.float32), axis=-1)
        np.testing.assert_allclose(lengths, expected, rtol=1e-2)
        return np.asarray(jnp.sum(turned[0] * turned[1], -1), np.float32)

    atol = 1e-5 if dtype == jnp.float32 else 0.1
    np.testing.assert_allclose(product(3, 1), product(53, 51), atol=atol)


def test_a_rope_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="'spiral'.*yarn"):
        blocks.rotary(
            {**PLAIN, "rope_type": "spiral"}, jnp.zeros((1, 1)), head_dim=8, max_positions=9
        )


# --- layers with weights ---


def test_linear():
    layer = blocks.Linear(5, ("embed", "mlp"), 0.5)
    x = jnp.asarray(normal(2, 3, 4), jnp.bfloat16)
    declared = fs.declared_axes(layer.init, jax.random.key(0), x)["params"]
    assert {name: param.axes for name, param in declared.items()} == {
        "kernel": ("embed", "mlp"),
        "bias": ("mlp",),
    }
    params = {"kernel": normal(4, 5), "bias": normal(5)}
    y = jnp.asarray(layer.apply({"params": params}, x))
    assert y.dtype == jnp.bfloat16 and y.shape == (2, 3, 5)
    y = layer.apply({"params": params}, x.astype(jnp.float32))
    expected = np.asarray(x, np.float32) @ params["kernel"] + params["bias"]
    np.testing.assert_allclose(y, expected, atol=1e-5)


@pytest.mark.parametrize("on_mesh", [False, True])
def test_rows_and_tokens_are_joined_for_a_product_unless_they_are_on_a_mesh(on_mesh):
    x, kernel = normal(8, 3, 4), normal(4, 5)
    if on_mesh:
        mesh = fs.make_mesh(data=-1)
        spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
        x = jax.device_put(x, spread)

    def loss(kernel):
        return jnp.square(blocks.contract(x, kernel, 0)).sum()

    program = str(jax.make_jaxpr(jax.grad(loss))(kernel))
    assert ("f32[24,5]" in program) != on_mesh
    expected = 2 * np.einsum("btd,btf->df", x, np.einsum("btd,df->btf", x, kernel))
    np.testing.assert_allclose(jax.grad(loss)(kernel), expected, rtol=1e-4)


def test_embed():
    table = blocks.Embed(6, 400, 0.5, padding_id=2)
    drawn = table.init(jax.random.key(0), jnp.zeros((1,), int), jnp.float32)["params"]["embedding"]
    drawn = jnp.asarray(drawn)
    np.testing.assert_array_equal(drawn[2], 0)
    assert 0.45 < drawn[3].std() < 0.55
    variables = {"params": {"embedding": drawn}}
    rows = jnp.asarray(table.apply(variables, np.array([[3, 5]]), jnp.bfloat16))
    assert rows.dtype == jnp.bfloat16
    np.testing.assert_array_equal(rows[0], drawn[jnp.array([3, 5])].astype(jnp.bfloat16))
    assert np.isnan(table.apply(variables, np.array([6]), jnp.float32)).all()
    x = normal(2, 400)
    scores = table.apply(variables, x, method="attend")
    np.testing.assert_allclose(scores, x @ np.asarray(drawn).T, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm", [blocks.LayerNorm, blocks.RMSNorm])
def test_norms_are_computed_in_float32(norm):
    x = 300 + 100 * normal(2, 3, 64)
    layer = norm(1e-6)
    params = layer.init(jax.random.key(0), x)["params"]
    params = jax.tree.map(lambda leaf: np.asarray(leaf) + normal(*leaf.shape), params)
    centred = x - x.mean(-1, keepdims=True) if norm is blocks.LayerNorm else x
    expected = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    expected = expected * params["scale"] + params.get("bias", 0)
    np.testing.assert_allclose(layer.apply({"params": params}, x), expected, atol=1e-4)
    half = layer.apply({"params": params}, x.astype(jnp.float16))  # x**2 is infinite in float16
    assert half.dtype == jnp.float16
    np.testing.assert_allclose(half, expected, atol=3e-2)


def test_what_a_norm_multiplies_and_adds_is_chosen():
    x = normal(2, 3, 4, 8)
    root = np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
    centred = x - x.mean(-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    scale, bias, of_heads = normal(8), normal(8), normal(4, 8)
    axes = ("heads", "norm")
    for norm, params, expected in [
        (blocks.RMSNorm(1e-6, offset=1.0), {"scale": scale}, x / root * (1 + scale)),
        (blocks.RMSNorm(1e-6, use_scale=False), {}, x / root),
        (blocks.RMSNorm(1e-6, axes=axes), {"scale": of_heads}, x / root * of_heads),
        (blocks.LayerNorm(1e-6, use_bias=False), {"scale": scale}, centred / deviation * scale),
        (blocks.LayerNorm(1e-6, use_scale=False), {"bias": bias}, centred / deviation + bias),
        (
            blocks.LayerNorm(1e-6, use_bias=False, axes=axes),
            {"scale": of_heads},
            centred / deviation * of_heads,
        ),
    ]:
        made = norm.init(jax.random.key(0), x).get("params", {})
        assert jax.tree.map(jnp.shape, made) == jax.tree.map(jnp.shape, params)
        np.testing.assert_allclose(norm.apply({"params": params}, x), expected, atol=1e-5)
    made = blocks.RMSNorm(1e-6, offset=1.0).init(jax.random.key(0), x)["params"]["scale"]
    np.testing.assert_array_equal(made, 0)  # so that a new norm multiplies with 1


def test_a_norm_of_float64_is_computed_in_it():
    with jax.enable_x64(True):
        x = np.asarray(normal(2, 64), np.float64)
        y = blocks.RMSNorm(1e-6, use_scale=False).apply({}, jnp.asarray(x))
        assert jnp.asarray(y).dtype == jnp.float64
        expected = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
        np.testing.assert_allclose(y, expected, rtol=1e-13)


def test_mlps():
    x = normal(2, 3, 4)
    std = 0.5
    plain = blocks.MLP(4, 300, "relu", std, out_std=2.0)
    params = jax.tree.map(np.asarray, plain.init(jax.random.key(0), x)["params"])
    assert set(params) == {"fc1", "fc2"} and set(params["fc1"]) == {"kernel", "bias"}
    assert 0.4 < params["fc1"]["kernel"].std() < 0.6 and 1.8 < params["fc2"]["kernel"].std() < 2.2
    up, down = (params[name]["kernel"] for name in ("fc1", "fc2"))
    y = plain.apply({"params": params}, x)
    np.testing.assert_allclose(y, np.maximum(x @ up, 0) @ down, rtol=1e-4, atol=1e-3)
    gated = blocks.GatedMLP(4, 300, "relu", std, names=("w1", "w3", "w2"))
    params = jax.tree.map(np.asarray, gated.init(jax.random.key(0), x)["params"])
    assert set(params) == {"w1", "w2", "w3"} and set(params["w1"]) == {"kernel"}
    gate, up, down = (params[name]["kernel"] for name in ("w1", "w3", "w2"))
    y = gated.apply({"params": params}, x)
    np.testing.assert_allclose(y, (np.maximum(x @ gate, 0) * (x @ up)) @ down, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    "mlp",
    [
        blocks.MLP(400, 30, "silu", 0.5, dropout=0.5),
        blocks.GatedMLP(400, 30, "silu", 0.5, dropout=0.5),
    ],
    ids=["plain", "gated"],
)
def test_an_mlp_drops_results(mlp):
    x = normal(2, 4)
    variables = mlp.init(jax.random.key(0), x)
    y = mlp.apply(variables, x)
    dropped = mlp.apply(variables, x, deterministic=False, rngs={"dropout": jax.random.key(1)})
    kept = np.asarray(dropped) != 0
    assert 0.4 < kept.mean() < 0.6
    np.testing.assert_allclose(dropped[kept], 2 * y[kept], rtol=1e-5)


def test_an_mlp_drops_activations():
    mlp = blocks.MLP(5, 30, "silu", 0.5, inner_dropout=1.0)
    x = normal(2, 4)
    variables = mlp.init(jax.random.key(0), x)
    np.testing.assert_array_equal(
        mlp.apply(variables, x, deterministic=False, rngs={"dropout": jax.random.key(1)}), 0
    )
    assert np.asarray(mlp.apply(variables, x)).all()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gelu", 0.8411920),  # jax.nn.gelu's own default is the approximation
        ("gelu_new", 0.8411919),
        ("quick_gelu", 0.8457958),
        ("silu", 0.7310586),
        ("relu2", 1.0),
        ("gelu_10", 0.8411920),
        ("laplace", 0.8504297),
        ("sqrtsoftplus", 1.1459766),
        ("linear", 1.0),
    ],
)
def test_activations_at_one(name, value):
    np.testing.assert_allclose(blocks.ACTIVATIONS[name](jnp.ones(1)), value, rtol=2e-4)


def test_the_exact_gelu_is_not_the_approximation():
    x = jnp.linspace(-3, 3, 50)
    exact = np.array([0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in np.asarray(x)])
    np.testing.assert_allclose(blocks.ACTIVATIONS["gelu"](x), exact, atol=1e-6)
    assert np.abs(blocks.ACTIVATIONS["gelu_new"](x) - exact).max() > 1e-4


# --- products ---


def test_a_factor_is_not_rounded_to_the_dtype_of_what_it_scales():
    x = jnp.asarray(normal(64), jnp.bfloat16)
    y = blocks.scaled(x, 0.22)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y, (x.astype(jnp.float32) * 0.22).astype(jnp.bfloat16))
    assert (y != x * jnp.bfloat16(0.22)).any()


# --- relative bias ---


@pytest.mark.parametrize(
    ("buckets", "both_ways", "starts"),
    [  # of each bucket, the shortest distance; Transformers 5.23
        (32, True, [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91]),
        (32, False, [*range(17), 19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113]),
    ],
)
def test_buckets_of_distances_begin_where_those_of_the_reference_do(buckets, both_ways, starts):
    distances = jnp.arange(-1000, 1001, dtype=jnp.int32)
    found = blocks.relative_buckets(distances, buckets, 128, both_ways=both_ways)
    behind, ahead = found[1000::-1], found[1000:]
    assert [int(jnp.argmax(behind == i)) for i in range(len(starts))] == starts
    if both_ways:
        np.testing.assert_array_equal(ahead[1:], behind[1:] + 16)
    else:
        np.testing.assert_array_equal(ahead, 0)


def test_a_parameter_of_another_shape_is_refused_by_its_path():
    small, large = fm.LlamaForCausalLM(tiny_llama()), fm.LlamaForCausalLM(tiny_llama(vocab_size=65))
    with pytest.raises(
        ValueError, match=r"^model/embed_tokens/embedding has shape \(64, 16\), expected \(65, 16\)"
    ):
        large.apply({"params": params_of(small)}, [[1]])

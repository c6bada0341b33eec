"""JAX's modes x forward pass, gradient and cached call, of every family, layers looped and scanned.

Where a mode can make tracing fail, every model is traced in it; numbers are compared in every mode
too, of one model a mode, since each is compiled again.
"""

import functools

import _modes
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _drawn import params_of
from _turns import some_of

import flaxmodels as fm

TINY = {
    "vocab_size": 32,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "max_position_embeddings": 16,
    "initializer_range": 0.3,
}
BERT = fm.BertConfig(**TINY, intermediate_size=16)
CLASSES = {
    "bert": (fm.BertForMaskedLM, BERT),
    "bert decoder": (fm.BertLMHeadModel, BERT.replace(is_decoder=True)),
    "gpt2": (fm.GPT2LMHeadModel, fm.GPT2Config.from_dict({"model_type": "gpt2", **TINY})),
    "llama": (
        fm.LlamaForCausalLM,
        fm.LlamaConfig(**TINY, intermediate_size=16, num_key_value_heads=1),
    ),
}
MODELS = {
    f"{family}, {how}": cls(config.replace(num_hidden_layers=layers), scan_layers=how == "scan")
    for family, (cls, config) in CLASSES.items()
    for how, layers in (("loop", 1), ("scan", 2))
}
DECODERS = [name for name in MODELS if not name.startswith("bert,")]
IDS = np.random.default_rng(0).integers(1, 32, (_modes.ROWS, 5))
PADDED = np.array([0, 0, 1, 1, 1], "int32")
"""A row's mask: padded on the left, so that the first queries of a causal model see nothing."""


def mask(ids):
    """Every row, so that each is itself in whatever batch it comes."""
    return jnp.broadcast_to(jnp.asarray(PADDED)[None], ids.shape)


def forward(model, params, ids):
    out = model.apply({"params": params}, ids, mask(ids), output_hidden_states=True)
    return out.logits, out.hidden_states


def gradient(model, params, ids):
    """Of the loss of each row, so that rows come first."""

    def loss(params, row):
        logits, _ = forward(model, params, row[None])
        return jnp.mean(jax.nn.logsumexp(logits[:, 2:], -1))

    return jax.vmap(jax.grad(loss), in_axes=(None, 0))(params, ids)


def cached(model, params, ids):
    """A prompt of four tokens, then one more."""
    variables, seen = {"params": params}, mask(ids)
    cache = model.init_cache(ids.shape[0], 5)
    out = model.apply(variables, ids[:, :4], seen[:, :4], cache=cache)
    last = model.apply(variables, ids[:, 4:], cache=out.cache)
    return jnp.concatenate([out.logits, last.logits], axis=1)


CALLS = {"forward": forward, "gradient": gradient, "cached": cached}


@functools.cache
def case(call, name):
    """(f, params, what f gives)."""
    model = MODELS[name]
    f = functools.partial(CALLS[call], model)
    params = params_of(model)
    return f, params, jax.jit(f)(params, IDS)


@functools.cache
def shapes(call, name):
    model = MODELS[name]
    f = functools.partial(CALLS[call], model)
    return f, model.abstract_params(), jax.eval_shape(f, model.abstract_params(), IDS)


IN_TURN = ("llama, scan", "bert, scan", "gpt2, loop", "bert decoder, loop")
"""Two modes share one and its shapes; to look for leaks takes long, and BERT has two calls."""


def traced():
    """Each mode with one of four models, in turn; all with `--all`."""
    for i, mode in enumerate(_modes.TRACED):
        for name in MODELS:
            marks = () if name == IN_TURN[i % len(IN_TURN)] else pytest.mark.soak
            yield pytest.param(mode, name, id=f"{mode}-{name}", marks=marks)


@pytest.mark.parametrize(("mode", "name"), list(traced()))
def test_traced(mode, name):
    for call in ("gradient", "cached") if name in DECODERS else ("forward", "gradient"):
        f, params, expected = shapes(call, name)
        _modes.check(mode, f, params, IDS, expected, 0)


VALUES = ["eager", "x64", "debug_nans", "disable_jit", "explicit mesh"]
VALUES += ["jit, x64", "jit, debug_nans", "jit, auto mesh", *_modes.TRANSFORMS]


ONCE = ("x64", "debug_nans", "disable_jit", "explicit mesh")
"""Slow where each operation is compiled or run alone; the cached call is compiled in them."""


def left_out(mode, call):
    """What is compiled in a mode in which it runs anyway, the slowest, and of transforms one of the
    two calls, in turn."""
    transforms = [*_modes.TRANSFORMS]
    if mode not in transforms:
        return (mode, call) == ("eager", "cached") or mode in ("jit, x64", "jit, debug_nans")
    return ("forward", "cached")[transforms.index(mode) % 2] != call


VALUES_OF = ("bert decoder, scan", "gpt2, loop", "llama, scan")


@pytest.mark.parametrize(
    ("mode", "call"),
    [
        pytest.param(mode, call, marks=pytest.mark.soak if left_out(mode, call) else ())
        for mode in VALUES
        for call in (("forward",) if mode in ONCE else ("forward", "cached"))
    ],
)
def test_values(mode, call):
    """The forward pass operation by operation where the mode allows it, the cached call compiled
    within the mode, but for "eager"."""
    name = VALUES_OF[VALUES.index(mode) % len(VALUES_OF)]
    f, params, expected = case(call, name)
    if call == "cached" and mode != "eager":
        f = jax.jit(f)
    _modes.check(mode, f, params, IDS, expected, 1e-4)


@some_of(
    "mode", ["jit, debug_nans", "jit, x64", "vmap", "scan", "shard_map"], "jit, x64", "shard_map"
)
def test_values_of_gradients(mode):
    f, params, expected = case("gradient", DECODERS[-1])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(expected))
    if mode == "shard_map":  # of params that every device has: JAX sums it over the devices
        expected = jax.tree.map(
            lambda x: np.tile(x.sum(0), (len(x), *[1] * (x.ndim - 1))), expected
        )
    _modes.check(mode, jax.jit(f), params, IDS, expected, 1e-4)


@pytest.mark.parametrize("name", ["bert, loop", pytest.param("gpt2, scan", marks=pytest.mark.soak)])
def test_D37_a_model_is_run_with_numpy_arguments_of_any_width_under_strict_promotion(name):
    model = MODELS[name]
    params = params_of(model)
    expected = model.apply({"params": params}, IDS, np.tile(PADDED, (_modes.ROWS, 1))).logits
    with jax.numpy_dtype_promotion("strict"):
        for dtype in ("int64", "uint8", "bool", "float32", "float64"):
            ids = IDS.astype("uint8" if dtype == "uint8" else "int64")
            given = np.tile(PADDED, (_modes.ROWS, 1)).astype(dtype)
            got = model.apply({"params": params}, ids, given).logits
            np.testing.assert_array_equal(got, expected)


T5 = fm.T5ForConditionalGeneration(
    fm.T5Config(vocab_size=32, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
)


@pytest.mark.parametrize("name", ["bert, loop", "llama, scan", "t5"])
def test_D37_a_model_of_16_bits_is_trained_and_generates_under_strict_promotion(name):
    """Norms, scores and sums are of float32 there, and T5's distances choose among integers."""
    model = (MODELS | {"t5": T5})[name].clone(dtype=jnp.bfloat16)
    decoder = {"decoder_input_ids": IDS} if model.is_encoder_decoder else {}
    start = {"decoder_start_token_id": 0} if model.is_encoder_decoder else {}

    def total(params):
        return model.apply({"params": params}, IDS, **decoder).logits.astype(jnp.float32).sum()

    def continued(params):
        return model.generate(params, IDS, np.ones_like(IDS), max_new_tokens=2, **start)

    params = model.abstract_params()
    with jax.numpy_dtype_promotion("strict"):
        jax.eval_shape(jax.grad(total), params)
        if model.can_generate():
            jax.eval_shape(continued, params)

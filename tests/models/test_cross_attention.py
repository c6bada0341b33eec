"""Decoders that attend to an encoder's states; numbers are in `test_reference.py`."""

import jax
import numpy as np
import pytest
from _drawn import applied, params_of
from _turns import in_turn

import flaxmodels as fm

RNG = np.random.default_rng(0)
IDS = RNG.integers(0, 50, (2, 6))
STATES = RNG.normal(size=(2, 5, 16)).astype(np.float32)
MASK = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
MODELS = {
    "gpt2": fm.GPT2LMHeadModel(
        fm.GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2, add_cross_attention=True)
    ),
    "bert": fm.BertLMHeadModel(
        fm.BertConfig(
            vocab_size=50,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=24,
            is_decoder=True,
            add_cross_attention=True,
        )
    ),
}
models = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


def run(model, params, ids, **inputs):
    return jax.jit(lambda p, x: model.apply({"params": p}, ids, **x))(params, inputs)


@in_turn("name", [*MODELS], "scan", [False, True])
def test_a_cache_keeps_the_encoder_for_the_calls_that_follow(name, scan):
    model = MODELS[name].clone(scan_layers=scan)
    params = params_of(model)
    encoder = {"encoder_hidden_states": STATES, "encoder_attention_mask": MASK}
    full = run(model, params, IDS, **encoder)
    first = run(model, params, IDS[:, :4], cache=model.init_cache(2, 8), **encoder)
    rest = run(model, params, IDS[:, 4:], cache=first.cache)
    logits = np.concatenate([first.logits, rest.logits], axis=1)
    np.testing.assert_allclose(logits, full.logits, atol=1e-5)


@models
def test_padding_of_the_encoder_is_not_seen(model):
    params = params_of(model)
    encoder = {"encoder_hidden_states": STATES, "encoder_attention_mask": MASK}
    out = applied(model, params, IDS, **encoder, output_attentions=True)
    assert len(out.cross_attentions) == len(out.attentions) == 1
    assert out.cross_attentions[0].shape == (2, 2, 6, 5)
    np.testing.assert_array_equal(out.cross_attentions[0][0, ..., 3:], 0)
    short = applied(model, params, IDS[:1], encoder_hidden_states=STATES[:1, :3])
    np.testing.assert_allclose(out.logits[:1], short.logits, atol=1e-5)


@models
def test_without_an_encoder_its_layers_are_left_out(model):
    params = params_of(model)
    plain = model.clone(config=model.config.replace(add_cross_attention=False))
    assert jax.tree.structure(plain.abstract_params()) != jax.tree.structure(params)
    a, b = (applied(m, params, IDS).logits for m in (model, plain))
    np.testing.assert_array_equal(a, b)


@models
@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"encoder_hidden_states": STATES[0]}, r"expected \[2, S, "),
        ({"encoder_hidden_states": STATES[:1]}, r"expected \[2, S, "),
        ({"encoder_hidden_states": STATES[..., 1:]}, r"expected \[2, S, "),
        ({"encoder_attention_mask": MASK}, "without encoder_hidden_states"),
        (
            {"encoder_hidden_states": STATES, "encoder_attention_mask": MASK[:, :3]},
            r"encoder_attention_mask has shape \(2, 3\)",
        ),
        (
            {"encoder_hidden_states": STATES, "encoder_attention_mask": MASK * -1e9},
            "encoder_attention_mask holds",
        ),
    ],
)
def test_what_is_no_encoder_is_refused(model, inputs, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: model.init(jax.random.key(0), IDS, **inputs))


@models
def test_an_encoder_needs_layers_that_attend_to_it(model):
    plain = model.clone(config=model.config.replace(add_cross_attention=False))
    with pytest.raises(ValueError, match="add_cross_attention is False"):
        jax.eval_shape(lambda: plain.init(jax.random.key(0), IDS, encoder_hidden_states=STATES))

"""Tokens one by one are those that `generate` returns at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _drawn import params_of, tiny_llama
from _paths import GOLDENS
from safetensors.numpy import load_file

import flaxmodels as fm
from flaxmodels.generation import stream as streaming
from flaxmodels.generation.stream import rounded

PROMPT = np.frombuffer(b"The for statement is used to", np.uint8).astype(np.int32)[None]
TWO = np.stack([PROMPT[0], np.r_[np.zeros(8, np.int32), PROMPT[0, :-8]]])
HOW = {
    "greedy": {"do_sample": False},
    "drawn": {"do_sample": True, "temperature": 0.8},
}


@pytest.fixture(scope="module")
def model():
    """Over bytes; not the bundled one, of which each program takes a second longer to make."""
    model = fm.LlamaForCausalLM(
        tiny_llama(vocab_size=256, num_hidden_layers=1, initializer_range=0.5)
    )
    return model, params_of(model)


@pytest.mark.parametrize(
    ("ids", "how"),
    [
        pytest.param(ids, how, id=f"{name}-{how}", marks=() if name == drawn else pytest.mark.soak)
        for name, ids in {"one": PROMPT, "padded": TWO}.items()
        for how, drawn in {"greedy": "", "drawn": "padded"}.items()
    ],
)
def test_tokens_are_those_of_generate(model, how, ids):
    model, params = model
    options = {**HOW[how], "max_new_tokens": 12, "eos_token_id": (53, *range(8, 256, 8))}
    options |= {"key": jax.random.key(3)} if how == "drawn" else {}
    out = model.generate(params, ids, **options)
    tokens = np.stack([*model.stream(params, ids, **options)], axis=1)
    assert tokens.dtype == np.int32 and tokens.shape[1] == out.lengths.max()
    assert out.lengths.min() < 12, "a row ends before"
    np.testing.assert_array_equal(tokens, out.sequences[:, ids.shape[1] :][:, : tokens.shape[1]])


def test_a_longer_prompt_runs_the_same_programs(model, monkeypatch):
    model, params = model
    traces = []
    choose = streaming.next_token
    monkeypatch.setattr(streaming, "next_token", lambda *a: traces.append(1) or choose(*a))
    for length in (5, 9, 28):
        assert len([*model.stream(params, PROMPT[:, :length], max_new_tokens=7 + length)]) > 1
    assert len(traces) <= 2


def test_the_cache_is_given_up(model):
    model, params = model
    tokens = model.stream(params, PROMPT, max_new_tokens=4)
    next(tokens)
    running = tokens.gi_frame.f_locals["running"]
    next(tokens)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(running.cache))


def test_what_is_wrong_is_said_before_the_first_token(model):
    model, params = model
    with pytest.raises(ValueError, match="needs a key"):
        model.stream(params, PROMPT, do_sample=True)
    with pytest.raises(TypeError, match="tree of params"):
        model.stream({"params": params}, PROMPT)
    with pytest.raises(ValueError, match="one row"):
        model.stream(params, PROMPT[0])
    with pytest.raises(TypeError, match="use generate"):
        jax.eval_shape(lambda p: next(model.stream(p, PROMPT)), params)


def test_logits_that_are_not_finite_are_an_error(model):
    model, params = model
    bad = jax.tree.map(lambda leaf: leaf * jnp.nan, params)
    with pytest.raises(ValueError, match="not finite at step 0"):
        next(model.stream(bad, PROMPT))


def test_a_table_of_positions_bounds_the_lengths():
    """Of 32, with the tokens of the reference."""
    model, params = fm.GPT2LMHeadModel.from_pretrained(GOLDENS / "gpt2-lm-head" / "checkpoint")
    expected = load_file(GOLDENS / "gpt2-lm-head" / "expected.safetensors")
    given = expected["gen.input_ids"], expected["gen.attention_mask"]
    tokens = [*model.stream(params, *given, max_new_tokens=12)]
    np.testing.assert_array_equal(np.stack(tokens, 1), expected["gen.greedy"][:, 9:])


def test_lengths_are_rounded_up():
    assert [rounded(n, None) for n in (1, 64, 65, 500, 513, 2000)] == [64, 64, 128, 512, 1024, 2048]
    assert [rounded(70, most) for most in (100, 70, 10)] == [100, 70, 70]

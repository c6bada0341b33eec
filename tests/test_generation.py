"""Generation against Transformers' `generate` and logits processors, and its own promises."""

import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

import flaxmodels as fm
from flaxmodels import generation
from flaxmodels.sampling import Sampling, choose, warp

GOLDENS = Path(__file__).parent / "goldens"
DECODERS = ("gpt2-lm-head", "llama-causal-lm")


@pytest.fixture(scope="module", params=DECODERS)
def golden(request):
    folder = GOLDENS / request.param
    return folder / "checkpoint", load_file(folder / "expected.safetensors")


@pytest.fixture(scope="module")
def tiny():
    return fm.LlamaForCausalLM.from_pretrained(GOLDENS / "llama-causal-lm" / "checkpoint")


@pytest.mark.parametrize("scan_layers", [False, True])
def test_greedy_equals_the_reference_with_left_padding(golden, scan_layers):
    folder, expected = golden
    model, params = fm.AutoModelForCausalLM.from_pretrained(folder, scan_layers=scan_layers)
    out = model.generate(
        params, expected["gen.input_ids"], expected["gen.attention_mask"], max_new_tokens=12
    )
    free = model.generate(
        params,
        expected["gen.input_ids"],
        expected["gen.attention_mask"],
        max_new_tokens=12,
        eos_token_id=tuple(expected["gen.eos_token_id"].tolist()),
    )
    np.testing.assert_array_equal(out.sequences, expected["gen.greedy"])
    np.testing.assert_array_equal(free.sequences, expected["gen.greedy_eos"])
    new = np.asarray(free.sequences)[:, expected["gen.input_ids"].shape[1] :]
    eos = expected["gen.eos_token_id"][0]
    first = [row.tolist().index(eos) + 1 if eos in row else len(row) for row in new]
    np.testing.assert_array_equal(free.lengths, first)


def test_a_row_is_continued_alike_alone_and_padded_in_a_batch(golden):
    folder, expected = golden
    model, params = fm.AutoModelForCausalLM.from_pretrained(folder)
    ids, mask = expected["gen.input_ids"], expected["gen.attention_mask"]
    batch = model.generate(params, ids, mask, max_new_tokens=6).sequences
    for row in range(len(ids)):
        tokens = ids[row][mask[row].astype(bool)][None]
        alone = model.generate(params, tokens, max_new_tokens=6).sequences
        np.testing.assert_array_equal(alone[0, tokens.shape[1] :], batch[row, ids.shape[1] :])


@pytest.mark.parametrize(
    ("name", "sampling"),
    [
        ("temperature", Sampling(True, temperature=jnp.float32(0.7))),
        ("top_k", Sampling(True, top_k=5)),
        ("top_p", Sampling(True, top_p=jnp.float32(0.8))),
        ("all", Sampling(True, 5, jnp.float32(0.7), jnp.float32(0.8))),
    ],
)
def test_warped_logits_equal_the_reference(golden, name, sampling):
    expected = golden[1][f"warp.{name}"]
    got = np.asarray(warp(jnp.asarray(golden[1]["gen.logits"]), sampling))
    np.testing.assert_array_equal(np.isinf(got), np.isinf(expected))
    kept = ~np.isinf(expected)
    np.testing.assert_allclose(got[kept], expected[kept], rtol=1e-5, atol=1e-5)


def test_draws_follow_the_warped_distribution():
    logits = jnp.asarray([[2.0, 1.0, 0.0, -1.0, -9.0]])
    sampling = Sampling(True, 4, jnp.float32(1.5), jnp.float32(0.95))
    draws = 20_000
    plain = Sampling(True, None, sampling.temperature)
    tokens = choose(jnp.broadcast_to(logits, (draws, 5)), plain, KEY)
    expected = np.asarray(jax.nn.softmax(logits / 1.5))[0]
    found = np.bincount(np.asarray(tokens), minlength=5) / draws
    np.testing.assert_allclose(found, expected, atol=4 * 0.5 / np.sqrt(draws))
    kept = np.asarray(jax.nn.softmax(warp(logits, sampling)))[0]
    assert kept[4] == 0 and kept[0] > expected[0]


KEY = jax.random.key(7)


def test_the_most_probable_token_survives_any_top_p():
    logits = jnp.asarray([[0.0, 3.0, 1.0]])
    kept = np.asarray(warp(logits, Sampling(True, top_p=jnp.float32(1e-6))))
    assert np.isfinite(kept).tolist() == [[False, True, False]]


def test_second_call_does_not_trace_again(tiny, monkeypatch):
    model, params = tiny
    traces = []
    monkeypatch.setattr(generation, "choose", lambda *a: traces.append(1) or choose(*a))
    prompt = np.arange(3, 10)[None]
    generate = {"max_new_tokens": 5, "do_sample": True, "key": KEY}
    one = model.generate(params, prompt, temperature=0.5, top_p=0.9, **generate)
    after_first = len(traces)
    same_value = fm.LlamaForCausalLM(model.config, generation_config=model.generation_config)
    two = same_value.generate(params, prompt + 1, temperature=1.5, top_p=0.5, **generate)
    assert after_first == len(traces) > 0, "new tokens, temperature and top_p are no new program"
    assert one.sequences.shape == two.sequences.shape
    model.generate(params, prompt, temperature=0.5, top_p=0.9, top_k=3, **generate)
    assert len(traces) > after_first, "the counter counts"


def test_same_key_same_tokens(tiny):
    model, params = tiny
    prompt = np.arange(3, 10)[None]

    def draw(key):
        out = model.generate(params, prompt, max_new_tokens=12, do_sample=True, key=key)
        return out.sequences.tolist()

    assert draw(KEY) == draw(KEY) != draw(jax.random.key(8))


def test_works_under_jit_and_in_bfloat16(tiny):
    model, params = tiny
    prompt = jnp.arange(3, 10)[None]
    eager = model.generate(params, prompt, max_new_tokens=4)
    jitted = jax.jit(lambda p, x: model.generate(p, x, max_new_tokens=4))(params, prompt)
    np.testing.assert_array_equal(eager.sequences, jitted.sequences)
    half = model.clone(dtype=jnp.bfloat16)
    assert half.init_cache(1, 4).keys[0].dtype == jnp.bfloat16
    out = half.generate(params, prompt, max_new_tokens=4).sequences
    assert out.shape == (1, 11) and bool((out < model.config.vocab_size).all())


def test_on_a_mesh_the_tokens_are_the_same(tiny):
    from flaxmodels import sharding as fs

    model, params = tiny
    mesh = fs.make_mesh(fsdp=4, tensor=2)
    rules = (("vocab", None), *fs.DEFAULT_RULES)
    folder = GOLDENS / "llama-causal-lm" / "checkpoint"
    spread_model, spread = fm.LlamaForCausalLM.from_pretrained(folder, mesh=mesh, rules=rules)
    prompt = np.arange(3, 27).reshape(4, 6)
    one = model.generate(params, prompt, max_new_tokens=5).sequences
    np.testing.assert_array_equal(
        spread_model.generate(spread, prompt, max_new_tokens=5).sequences, one
    )


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"do_sample": True}, "needs a key"),
        ({"do_sample": True, "key": KEY, "temperature": 0.0}, "temperature is 0.0"),
        ({"do_sample": True, "key": KEY, "top_p": 1.5}, "top_p is 1.5"),
        ({"do_sample": True, "key": KEY, "top_k": -1}, "top_k is -1"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"attention_mask": [[1, 1, 0]]}, "padded on the left"),
        ({"attention_mask": [[1, 1]]}, "attention_mask has shape"),
    ],
)
def test_bad_arguments(tiny, kwargs, message):
    model, params = tiny
    with pytest.raises(ValueError, match=message):
        model.generate(params, [[3, 4, 5]], **kwargs)


def test_prompt_longer_than_the_positions_is_refused():
    model, params = fm.GPT2LMHeadModel.from_pretrained(GOLDENS / "gpt2-lm-head" / "checkpoint")
    with pytest.raises(ValueError, match="has 32 positions"):
        model.generate(params, np.full((1, 30), 5), max_new_tokens=3)


def test_P9_can_generate(tiny):
    model, params = tiny
    assert model.can_generate() and fm.GPT2LMHeadModel.can_generate()
    assert not fm.LlamaModel.can_generate() and not fm.BertForMaskedLM.can_generate()
    assert model.generation_config.eos_token_id == model.config.eos_token_id
    bare = fm.LlamaModel(model.config)
    with pytest.raises(TypeError, match="cannot generate"):
        bare.generate(params["model"], [[3]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "generation defaults are not read"),
        ('{"temperature": "hot", "top_k": 5}', "temperature must be.*left out"),
        ('{"max_new_tokens": 2.5}', "max_new_tokens must be.*left out"),
    ],
)
def test_C20_a_bad_generation_config_is_said_and_weights_load(tmp_path, text, message):
    folder = tmp_path / "x"
    shutil.copytree(GOLDENS / "llama-causal-lm" / "checkpoint", folder)
    (folder / "generation_config.json").write_text(text)
    with pytest.warns(UserWarning, match=message):
        model, _ = fm.LlamaForCausalLM.from_pretrained(folder)
    assert model.generation_config.temperature is None
    assert model.generation_config.eos_token_id == model.config.eos_token_id
    assert model.generation_config.top_k == (5 if "top_k" in text else None)

"""Generation against Transformers' `generate` and logits processors, and its own promises."""

import functools
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _paths import GOLDENS
from safetensors.numpy import load_file

import flaxmodels as fm
from flaxmodels.generation import arguments, decoding
from flaxmodels.generation import generate as generation
from flaxmodels.generation.sampling import Choice, Draw, choose, warp

LLAMA = GOLDENS / "llama-causal-lm"
DECODERS = ("gpt2-lm-head", "llama-causal-lm", "bert-lm-head")


@pytest.fixture(  # tokens of the others: tests/models/test_reference.py
    scope="module",
    params=[
        pytest.param(name, marks=() if "gpt2" in name else pytest.mark.soak) for name in DECODERS
    ],
)
def golden(request):
    folder = GOLDENS / request.param
    load = functools.cache(
        lambda **how: fm.AutoModelForCausalLM.from_pretrained(folder / "checkpoint", **how)
    )
    return load, load_file(folder / "expected.safetensors")


@pytest.fixture(scope="module")
def tiny():
    """One layer of a checkpoint: a program of two takes half as long again to compile."""
    model, params = fm.LlamaForCausalLM.from_pretrained(LLAMA / "checkpoint")
    inner = {**params["model"], "layers": {"0": params["model"]["layers"]["0"]}}
    config = model.config.replace(num_hidden_layers=1)
    return model.clone(config=config), {**params, "model": inner}


@pytest.mark.parametrize(
    "scan_layers", [False, pytest.param(True, marks=pytest.mark.soak)]
)  # scanned: tests/models/test_reference.py
def test_greedy_equals_the_reference_with_left_padding(golden, scan_layers):
    load, expected = golden
    model, params = load(scan_layers=scan_layers)
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


def test_a_row_is_continued_alike_alone_and_padded_on_either_side(golden, thorough):
    """Alone the row that has most padding; all with `--all`, each of a length that is compiled
    anew. On the right by the program of the test above, which pads on the left."""
    load, expected = golden
    model, params = load(scan_layers=False)
    ids, mask = expected["gen.input_ids"], expected["gen.attention_mask"]
    for row in range(len(ids)) if thorough else [mask.sum(1).argmin()]:
        tokens = ids[row][mask[row].astype(bool)][None]
        alone = model.generate(params, tokens, max_new_tokens=12).sequences
        wanted = expected["gen.greedy"][row, ids.shape[1] :]
        np.testing.assert_array_equal(alone[0, tokens.shape[1] :], wanted)
    right = np.stack(
        [np.r_[row[used], row[~used]] for row, used in zip(ids, mask > 0, strict=True)]
    )
    for more in ({"attention_mask": right != 0}, {}):  # pad_token_id is 0
        out = model.generate(params, right, max_new_tokens=12, **more).sequences
        np.testing.assert_array_equal(out[:, : ids.shape[1]], right)
        np.testing.assert_array_equal(out[:, ids.shape[1] :], expected["gen.greedy"][:, 9:])


@pytest.mark.parametrize(
    ("name", "top_k", "draw"),
    [
        ("temperature", None, Draw(np.float32(0.7))),
        ("top_k", 5, Draw()),
        ("top_p", None, Draw(top_p=np.float32(0.8))),
        ("all", 5, Draw(np.float32(0.7), np.float32(0.8))),
    ],
)
def test_warped_logits_equal_the_reference(golden, name, top_k, draw):
    expected = golden[1][f"warp.{name}"]
    got = np.asarray(jax.jit(warp, static_argnums=1)(golden[1]["gen.logits"], top_k, draw))
    np.testing.assert_array_equal(np.isinf(got), np.isinf(expected))
    kept = ~np.isinf(expected)
    np.testing.assert_allclose(got[kept], expected[kept], rtol=1e-5, atol=1e-5)


def test_draws_follow_the_warped_distribution():
    logits = jnp.asarray([[2.0, 1.0, 0.0, -1.0, -9.0]])
    draw = Draw(jnp.float32(1.5), jnp.float32(0.95), KEY)
    draws = 20_000
    plain = draw._replace(top_p=None)
    of_each = jax.jit(choose, static_argnums=1)
    tokens, _ = of_each(jnp.broadcast_to(logits, (draws, 5)), Choice(True), plain)
    expected = np.asarray(jax.nn.softmax(logits / 1.5))[0]
    found = np.bincount(np.asarray(tokens), minlength=5) / draws
    np.testing.assert_allclose(found, expected, atol=4 * 0.5 / np.sqrt(draws))
    kept = np.asarray(jax.jit(lambda x, draw: jax.nn.softmax(warp(x, 4, draw)))(logits, draw))[0]
    assert kept[4] == 0 and kept[0] > expected[0]


KEY = jax.random.key(7)


def test_the_most_probable_token_survives_any_top_p():
    logits = jnp.asarray([[0.0, 3.0, 1.0]])
    draw = Draw(top_p=jnp.float32(1e-6))
    kept = np.asarray(jax.jit(warp, static_argnums=1)(logits, None, draw))
    assert np.isfinite(kept).tolist() == [[False, True, False]]


def test_second_call_does_not_trace_again(tiny, monkeypatch):
    model, params = tiny
    traces = []
    choose = decoding.next_token
    monkeypatch.setattr(decoding, "next_token", lambda *a: traces.append(1) or choose(*a))
    prompt = np.arange(3, 10)[None]
    generate = {"max_new_tokens": 5, "do_sample": True, "key": KEY}
    one = model.generate(params, prompt, temperature=0.5, top_p=0.9, **generate)
    after_first = len(traces)
    same_value = fm.LlamaForCausalLM(model.config, generation_config=model.generation_config)
    two = same_value.generate(params, prompt + 1, temperature=1.5, top_p=0.5, **generate)
    assert after_first == len(traces) > 0, "new tokens, temperature and top_p are no new program"
    assert one.sequences.shape == two.sequences.shape


def test_a_program_of_one_token_has_no_loop(tiny):
    model, params = tiny

    def program(tokens):
        ids = np.arange(3, 10)[None]
        return str(jax.make_jaxpr(lambda p: model.generate(p, ids, max_new_tokens=tokens))(params))

    assert "while[" not in program(1) and "while[" in program(2)


def test_same_key_same_tokens(tiny):
    model, params = tiny
    prompt = np.arange(3, 10)[None]

    def draw(key):  # by the program of the test above
        told = {"max_new_tokens": 5, "do_sample": True, "temperature": 0.5, "top_p": 0.9}
        return model.generate(params, prompt, key=key, **told).sequences.tolist()

    assert draw(KEY) == draw(KEY) != draw(jax.random.key(8))


def test_works_in_bfloat16(tiny):
    model, params = tiny
    half = model.clone(dtype=jnp.bfloat16)
    cache = jax.eval_shape(lambda: half.init_cache(1, 4))
    assert cache.entries["full_attention"].keys[0].dtype == jnp.bfloat16
    out = np.asarray(half.generate(params, [[3, 4, 5]], max_new_tokens=1).sequences)
    assert out.shape == (1, 4) and (out < model.config.vocab_size).all()


def test_on_a_mesh_the_tokens_are_those_of_the_reference():
    from flaxmodels import sharding as fs

    mesh = fs.make_mesh(fsdp=2, tensor=2, devices=jax.devices()[:4])
    rules = (("vocab", None), *fs.DEFAULT_RULES)
    model, params = fm.LlamaForCausalLM.from_pretrained(
        LLAMA / "checkpoint", mesh=mesh, rules=rules
    )
    expected = load_file(LLAMA / "expected.safetensors")
    given = expected["gen.input_ids"], expected["gen.attention_mask"]
    out = model.generate(params, *given, max_new_tokens=12)
    np.testing.assert_array_equal(out.sequences, expected["gen.greedy"])


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"do_sample": True}, "needs a key"),
        ({"do_sample": True, "key": KEY, "temperature": 0.0}, "temperature is 0.0"),
        ({"do_sample": True, "key": KEY, "temperature": 1e39}, "a number of float32"),
        ({"do_sample": True, "key": KEY, "top_p": 1.5}, "top_p is 1.5"),
        ({"do_sample": True, "key": KEY, "top_k": -1}, "top_k is -1"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"top_p": jnp.float32(1.5), "do_sample": True, "key": KEY}, "top_p is 1.5"),
        ({"eos_token_id": 61}, "eos_token_id is 61, and the model has the tokens 0 to 60"),
        ({"pad_token_id": 10**6}, "pad_token_id is 1000000"),
        ({"max_length": 3}, "max_length is 3, the prompt counted in"),
    ],
)
def test_bad_arguments(tiny, kwargs, message):
    model, params = tiny
    with pytest.raises(ValueError, match=message):
        model.generate(params, [[3, 4, 5]], **kwargs)


def test_D8_keywords_act_or_are_refused(tiny):
    model, params = tiny
    prompt = [[3, 4, 5]]
    for name, value in {"num_beams": 4, "output_scores": True, "stop_strings": ["."]}.items():
        with pytest.raises(NotImplementedError, match=f"generate: {name} = .* not implemented"):
            model.generate(params, prompt, **{name: value})
    for name in ("streamer", "logits_processor", "past_key_values", "inputs_embeds"):
        with pytest.raises(NotImplementedError, match=f"{name} = a object"):
            model.generate(params, prompt, **{name: object()})
    for name, hint in {"max_tokens": "'max_new_tokens'", "seed": "give key=jax.random.key"}.items():
        with pytest.raises(TypeError, match=f"generate has no '{name}'.*{hint}"):
            model.generate(params, prompt, **{name: 3})
    with pytest.raises(TypeError, match="generation_config is a dict"):
        model.generate(params, prompt, generation_config={"top_k": 3})
    for wrong in (prompt, {"params": params}):
        with pytest.raises(TypeError, match="generate takes the tree of params before the prompt"):
            model.generate(wrong, prompt)
    with pytest.raises(TypeError, match=r"key is 'seed'; pass key=jax.random.key"):
        model.generate(params, prompt, key="seed")  # though nothing is drawn
    gone = jax.tree.map(jnp.array, params)
    gone["lm_head"]["kernel"].delete()
    with pytest.raises(ValueError, match=r"of shape \(24, 61\) that was deleted, or donated"):
        model.generate(gone, prompt)
    with pytest.raises(TypeError, match="params with numbers, and has a AbstractParam among them"):
        model.generate(model.abstract_params(), prompt)
    plain = model.generate(params, prompt, max_new_tokens=2).sequences
    neutral = {
        "stopping_criteria": [],
        "logits_processor": [],
        "num_beams": 1,
        "use_cache": True,
        "streamer": None,
        "synced_gpus": False,
    }
    same = model.generate(params, prompt, max_length=5, eos_token_id=[2], **neutral).sequences
    np.testing.assert_array_equal(same, plain)


def test_settings_of_a_call_go_before_its_config_and_that_before_the_models(tiny, monkeypatch):
    model, params = tiny
    asked = []
    monkeypatch.setattr(
        generation, "decode", lambda *a: asked.append((a[1], *a[4])) or (0, jnp.zeros(3))
    )
    model = model.clone(generation_config=fm.GenerationConfig(max_new_tokens=9, top_k=4, top_p=0.7))
    config = fm.GenerationConfig(do_sample=True, max_length=8, temperature=0.5, top_k=5)
    prompt = np.arange(3, 8)[None]
    model.generate(params, prompt, generation_config=config, top_k=np.int32(6), key=KEY)
    request, temperature, top_p, key = asked.pop()
    assert (request.steps, *request.choice[:2]) == (3, True, 6)
    assert (float(temperature), float(top_p), key) == (0.5, np.float32(0.7), KEY)
    model.generate(params, prompt, generation_config=config, max_new_tokens=2, do_sample=False)
    request, *draw = asked.pop()
    assert (request.steps, request.choice.do_sample, draw) == (2, False, [None] * 3)
    model.generate(params, prompt)
    assert asked.pop()[0].steps == 9
    short = fm.GPT2Config(vocab_size=9, n_positions=8, eos_token_id=2, extra={"max_length": 50})
    fm.GPT2LMHeadModel(short).generate(params, prompt)
    assert asked.pop()[0].steps == 3, "a file's length ends where the positions do"
    with pytest.raises(ValueError, match="the model has 8 positions"):
        fm.GPT2LMHeadModel(short).generate(params, prompt, max_length=9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.7}, "temperature of a draw have no effect: give do_sample=True"),
        ({"do_sample": False, "top_k": 3, "top_p": 0.5}, "top_k, top_p of a draw have no effect"),
        ({"generation_config": fm.GenerationConfig(top_p=0.5)}, "top_p of a draw"),
        ({"max_length": 9, "max_new_tokens": 2}, "max_new_tokens goes before max_length"),
        ({"forced_bos_token_id": 5}, "is the token after a single one, and 3 are there already"),
    ],
)
def test_what_has_no_effect_is_said(tiny, options, message):
    model, params = tiny
    with pytest.warns(UserWarning, match=message) as said:
        model.generate(params, [[3, 4, 5]], **{"max_new_tokens": 2} | options)
    assert len(said) == 1 and said[0].filename == __file__


def test_what_has_no_effect_on_purpose_is_not_said(tiny, monkeypatch):
    model, params = tiny
    monkeypatch.setattr(generation, "decode", lambda *_: (0, jnp.zeros(3)))
    sampling = fm.GenerationConfig(do_sample=True, temperature=0.6, top_p=0.9)
    model = model.clone(generation_config=sampling)
    for options in ({}, {"temperature": 0, "top_k": 0}, {"generation_config": sampling}):
        model.generate(params, [[3, 4, 5]], max_new_tokens=2, do_sample=False, **options)


@pytest.mark.parametrize("bad", [np.nan, pytest.param(np.inf, marks=pytest.mark.soak)])
def test_logits_that_are_not_finite_stop_generation_by_row_and_step(tiny, bad):
    """Row 1 meets a token whose embedding is not finite, after some that are."""
    model, params = tiny
    prompt = np.array([[3, 4, 5], [6, 7, 8]])
    free = np.asarray(model.generate(params, prompt, max_new_tokens=8, eos_token_id=()).sequences)
    step, token = next(
        (i, token)
        for i, token in enumerate(free[1, 3:])
        if i and token not in free[0] and token not in free[1, : 3 + i]
    )
    table = params["model"]["embed_tokens"]["embedding"].at[token].set(bad)
    inner = {**params["model"], "embed_tokens": {"embedding": table}}
    broken = {**params, "model": inner}
    options = {"max_new_tokens": 8, "eos_token_id": ()}
    message = f"logits of row 1 are not finite at step {step + 1}, after {step + 1} new tokens"
    with pytest.raises(ValueError, match=message):
        model.generate(broken, prompt, **options)
    traced = jax.jit(lambda p: model.generate(p, prompt, **options))(broken)
    assert traced.lengths.tolist() == [8, -2 - step]
    np.testing.assert_array_equal(traced.sequences[0], free[0])
    np.testing.assert_array_equal(traced.sequences[1, : 4 + step], free[1, : 4 + step])
    assert (np.asarray(traced.sequences[1, 4 + step :]) == model.generation_config.pad).all()
    stop = model.generate(broken, prompt, max_new_tokens=8, eos_token_id=[int(token)])
    assert stop.lengths[1] == step + 1, "a finished row cannot fail"


def test_more_tokens_than_memory_holds_are_refused(tiny, monkeypatch):
    model, params = tiny
    for lie in (False, True):
        with pytest.raises(ValueError, match="need a cache that does not fit the memory"):
            model.generate(params, [[3, 4]], max_new_tokens=2**31 - 10)
        assert not lie or arguments._memory() > 2**60, "then by the runtime"
        monkeypatch.setattr(arguments, "_memory", lambda: 2**61)


def test_ids_that_only_the_program_knows_fail_their_rows(tiny):
    model, params = tiny
    rows = np.array([[3, -1], [3, 4], [61, 3]])
    lengths = jax.jit(lambda ids: model.generate(params, ids, max_new_tokens=1).lengths)(rows)
    assert lengths.tolist() == [-1, 1, -1]
    with pytest.raises(ValueError, match=r"input_ids\[0, 1\] is -1"):
        model.generate(params, rows)


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
        (None, "cannot be opened.*a link to .*generation defaults are not read"),
        ('{"temperature": "hot", "top_k": 5}', "temperature must be.*left out"),
        ('{"max_new_tokens": 2.5}', "max_new_tokens must be.*left out"),
    ],
)
def test_C20_a_bad_generation_config_is_said_and_weights_load(tmp_path, text, message):
    folder = tmp_path / "x"
    shutil.copytree(GOLDENS / "llama-causal-lm" / "checkpoint", folder)
    (folder / "generation_config.json").unlink()
    if text is None:  # of a cache that lost the file
        (folder / "generation_config.json").symlink_to("../blobs/gone")
    else:
        (folder / "generation_config.json").write_text(text)
    with pytest.warns(UserWarning, match=message):
        model, _ = fm.LlamaForCausalLM.from_pretrained(folder)
    assert model.generation_config.temperature is None
    assert model.generation_config.eos_token_id == model.config.eos_token_id
    assert model.generation_config.top_k == (5 if "top_k" in (text or "") else None)


def test_arrays_that_were_given_away_are_named(tiny):
    model, params = tiny
    table = jnp.array(params["model"]["embed_tokens"]["embedding"], copy=True)
    given = {**params, "model": {**params["model"], "embed_tokens": {"embedding": table}}}
    ids = jnp.array([[3, 4]])
    table.delete()
    with pytest.raises(ValueError, match="embed_tokens/embedding was deleted, or donated"):
        model.apply({"params": given}, ids)
    ids.delete()
    for call in (model.generate, lambda params, ids: model.apply({"params": params}, ids)):
        with pytest.raises(ValueError, match="input_ids was deleted, or donated"):
            call(params, ids)
    with pytest.raises(TypeError, match="apply takes .*got {'params': NoneType}"):
        model.apply({"params": None}, [[3, 4]])

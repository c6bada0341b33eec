"""BigBird where it attends by blocks: outputs, gradients and draws of the reference, what is filled
up with padding, and what is said. Short texts are tried as those of any family."""

import functools
import json
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from _drawn import params_of
from _families import TOKENS, arrays_of
from _paths import GOLDENS
from _turns import some_of
from _weights import uniform, weight, weights
from safetensors.numpy import load_file

import flaxmodels as fm
from flaxmodels import blocks
from flaxmodels.params import errors

FOLDER = GOLDENS / "big_bird"
GOLDEN = json.loads((FOLDER / "long.json").read_text())
SAME = reference.load("big_bird").table.same


@pytest.fixture(autouse=True)
def _told(monkeypatch):
    """What is said once in a process is said in each test."""
    monkeypatch.setattr(errors, "_warned", set())


@functools.cache
def loaded(name, **fields):
    entry = GOLDEN["cases"][name]
    return fm.BigBirdForMaskedLM.from_pretrained(
        None,
        config=fm.BigBirdConfig.from_dict(entry["config"]),
        state_dict=weights(entry["tensors"], SAME),
        **fields,
    )


def called(model, params, case, **options):
    rngs = {"dropout": jax.random.key(0)} if case["training"] else None
    options = options | {"rngs": rngs, "deterministic": not case["training"]}
    return model.apply({"params": params}, **arrays_of(case["inputs"]), **options)


RUNS = {f"{name}-{scan}": (name, scan) for name in GOLDEN["cases"] for scan in (False, True)}


@some_of("run", RUNS, "padded-False", "padded-training-True")
@pytest.mark.filterwarnings("ignore:.*fill up the last block")
def test_long_texts_are_those_of_the_reference(run):
    """Outputs at padding too, which the reference makes 0 before the product that follows."""
    name, scan_layers = run
    case, expected = GOLDEN["cases"][name], load_file(FOLDER / "long.safetensors")
    model, params = loaded(name, scan_layers=scan_layers)
    mask = arrays_of(case["inputs"])["attention_mask"].astype(bool)

    @jax.jit
    def gradient(params):
        def loss(params):
            logits = called(model, params, case).logits
            cotangent = uniform("cotangent", logits.shape)
            return jnp.sum(logits * cotangent * mask[..., None]), logits

        return jax.grad(loss, has_aux=True)(params)

    tree, logits = gradient(params)
    np.testing.assert_allclose(logits, expected[f"{name}.logits"], atol=1e-4)
    found = reference.tensors(model, tree)
    for key, (norm, product) in case["gradients"].items():
        array = found[key].astype(np.float64)
        along = weight(f"projection.{key}", array.shape)
        got = [np.linalg.norm(array), (array * along).sum()]
        np.testing.assert_allclose(got, [norm, product], atol=1e-3 * max(1, norm), err_msg=key)
    out = jax.jit(lambda params: called(model, params, case, output_attentions=True))(params)
    np.testing.assert_allclose(out.logits, logits, atol=1e-5)
    want = expected[f"{name}.attentions"]
    np.testing.assert_allclose(out.attentions[-1][-1][:, mask[-1]], want[:, mask[-1]], atol=1e-4)


@pytest.mark.parametrize("i", range(len(GOLDEN["drawn"])))
def test_blocks_are_drawn_as_the_reference_draws_them(i):
    golden = GOLDEN["drawn"][i]
    length, size, count, positions = golden["sizes"]
    drawn = blocks.drawn_blocks(2, 2, length // size, size, count, positions)
    np.testing.assert_array_equal(drawn[1], golden["blocks"])


def test_a_text_of_the_paper_with_too_few_blocks_to_draw_from_is_refused():
    with pytest.raises(ValueError, match="draws 3 blocks .* there are 0 to draw from"):
        blocks.drawn_blocks(1, 1, 16, 256, 3, 4096)


TINY = TOKENS | reference.load("big_bird").table.config | {"attention_type": "block_sparse"}


def states(length, **changes):
    """Hidden states of so many tokens, by a model of these keys; nothing is compiled."""
    config = fm.BigBirdConfig.from_dict(TINY | changes)
    model = fm.BigBirdModel(config, scan_layers=True)
    ids = np.full((1, length), 5)
    out = jax.eval_shape(
        lambda params: model.apply({"params": params}, ids), model.abstract_params()
    )
    return out.last_hidden_state.shape


def test_where_attention_is_full_and_what_is_filled_up_is_said_once():
    few = {"block_size": 2, "num_random_blocks": 1}
    with pytest.warns(UserWarning, match="up to 14 tokens attend in full"):
        assert states(14, **few) == (1, 14, 24)
    with pytest.warns(UserWarning, match="15 tokens are no multiple of block_size = 2; 1 of"):
        assert states(15, **few) == (1, 15, 24)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for length in (13, 15, 16):
            states(length, **few)
        states(8, attention_type="original_full")
        fm.BigBirdForCausalLM(fm.BigBirdConfig(is_decoder=True)).abstract_params()


def test_a_decoder_attends_in_full_and_not_to_what_comes_after():
    config = fm.BigBirdConfig.from_dict(
        TINY | {"is_decoder": True, "block_size": 1, "num_random_blocks": 1}
    )
    model = fm.BigBirdForCausalLM(config, scan_layers=True)
    params = params_of(model)
    run = jax.jit(lambda ids: model.apply({"params": params}, ids).logits)
    ids = np.arange(3, 15)[None]
    other = ids.copy()
    other[0, -1] = 50
    np.testing.assert_array_equal(run(ids)[:, :-1], run(other)[:, :-1])


def test_a_mask_over_pairs_is_refused_where_attention_is_by_blocks():
    config = fm.BigBirdConfig.from_dict(TINY | {"block_size": 1, "num_random_blocks": 1})
    model = fm.BigBirdModel(config)
    params, ids = model.abstract_params(), np.full((1, 8), 5)
    with pytest.raises(ValueError, match=r"over pairs of 8 tokens.*over tokens, \[B, 8\]"):
        jax.eval_shape(
            lambda params: model.apply({"params": params}, ids, np.ones((1, 8, 8), int)), params
        )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"block_size": 0}, "block_size is 0; it must be positive"),
        ({"num_random_blocks": -1}, "num_random_blocks is -1; it must be positive"),
        ({"attention_type": "sparse"}, "attention_type = 'sparse' .*: block_sparse, original_full"),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads is not implemented"),
    ],
)
def test_what_is_not_possible_is_refused(values, message):
    with pytest.raises(fm.ConfigError, match=message):
        fm.BigBirdConfig.from_dict(values)


def test_a_question_is_of_the_first_type_and_holds_no_answer_but_the_first_token():
    it = reference.load("big_bird")
    model, params = it.load("BigBirdForQuestionAnswering")
    run = jax.jit(lambda inputs: model.apply({"params": params}, **inputs))
    ids = it.inputs("BigBirdForQuestionAnswering")["input_ids"]
    question = np.arange(13)[None] < np.array([[7], [2]])  # up to token 49
    types = np.where(question, 0, 1)
    out = run({"input_ids": ids})
    told = {"token_type_ids": types, "question_lengths": np.array([[7], [2]])}
    np.testing.assert_array_equal(out.start_logits, run({"input_ids": ids} | told).start_logits)
    for logits in (out.start_logits, out.end_logits):
        np.testing.assert_array_equal(logits < -1e5, question & (np.arange(13) > 0))
    table = params["bert"]["embeddings"]["word_embeddings"]["embedding"]
    vectors = run({"inputs_embeds": table[ids], "token_type_ids": types})
    assert (vectors.start_logits > -1e5).all()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"input_ids": [[3, 4], [5, 6]], "question_lengths": [1, 2]}, r"expected \[2, 1\]"),
        ({"input_ids": [[3, 4]], "question_lengths": [[3]]}, "there are 3 lengths, 0 to 2"),
        ({"input_ids": [[3, 4]], "question_lengths": [[1.0]]}, "must be integers, got float"),
        ({"input_ids": [3, 4]}, r"input_ids has shape \(2,\): expected \[B, T\]"),
        ({"inputs_embeds": "text", "question_lengths": [[1]]}, r"inputs_embeds has shape \(\)"),
        ({"input_ids": [[3, 4], [5]]}, "input_ids has rows of different lengths"),
    ],
)
def test_lengths_of_questions_that_are_none_are_refused(inputs, message):
    model = fm.BigBirdForQuestionAnswering(fm.BigBirdConfig.from_dict(TINY))
    with pytest.raises((TypeError, ValueError), match=message):
        jax.eval_shape(lambda: model.init(jax.random.key(0), **inputs))


@pytest.mark.soak
def test_a_decoder_that_attends_to_an_encoder_is_berts():
    """The reference's attends to the encoder in the place of itself, and old Flax's does not."""
    it = reference.load("bert")
    inputs = it.inputs("cross")
    entry = it.entry("cross")
    config = fm.BigBirdConfig.from_dict(entry["config"] | {"model_type": "big_bird"})
    params = it.load("cross")[1]
    model = fm.BigBirdForCausalLM(config)
    pooler = model.init_params(jax.random.key(0))["bert"]["pooler"]
    params = params | {"bert": params["bert"] | {"pooler": pooler}}
    out = jax.jit(lambda params: model.apply({"params": params}, **inputs))(params)
    it.check("cross", out)

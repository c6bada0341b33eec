"""Vocabularies: got, set, tied, untied and resized, as the reference does it."""

import functools
import re

import golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _paths import GOLDENS
from _turns import some_of
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from safetensors.numpy import load_file

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels import registry
from flaxmodels import sharding as fs
from flaxmodels.editing.token_leaves import token_leaves
from flaxmodels.models.encoders.heads import PredictionHead
from flaxmodels.params.tree import naming as names

FOLDER = GOLDENS / "vocabulary"
GOLDENS = sorted(path.name for path in FOLDER.iterdir())
EDITS = {name: load_file(FOLDER / name / "expected.safetensors") for name in GOLDENS}
CASES = [  # every third edit of a golden, in turn, and all with `--all`
    pytest.param(name, edit, marks=() if (i + j) % 3 == 2 else pytest.mark.soak)
    for i, (name, arrays) in enumerate(EDITS.items())
    for j, edit in enumerate(sorted({key.split(".")[0] for key in arrays} - {"moments"}))
]


def every_class():
    """All model classes. Of the heads that families share only the first is tried by default, and
    of those that are over labels the first alone."""
    seen = {"ForMultipleChoice", "ForTokenClassification", "ForQuestionAnswering"}
    seen |= {"ForNextSentencePrediction"}
    for family in registry.FAMILIES.values():
        if family.prefix == "EncoderDecoder":  # of two models: tests/models/test_encoder_decoder.py
            continue
        for name in family.models:
            end = registry.ending_of(name)
            yield pytest.param(name, marks=[pytest.mark.soak] if end in seen else [])
            seen.add(end)


MODELS = list(every_class())
TIES = {param.values[0]: i % 2 == 0 for i, param in enumerate(MODELS)}


def ties(name, thorough):
    """Tied or untied, in turn of the classes; both with `--all`."""
    return (True, False) if thorough else (TIES[name],)


KEY = jax.random.key(7)
TINY = {"vocab_size": 12, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
TINY |= {"intermediate_size": 8, "n_inner": 8, "num_key_value_heads": 1, "pad_token_id": 0}
TINY |= {"rotary_dim": 4, "embedding_size": 8, "decoder_attention_heads": 2, "decoder_layers": 2}
TINY |= {"encoder_ffn_dim": 8, "decoder_ffn_dim": 8}


@functools.cache
def loaded(name, scan_layers=False):
    return golden.load(name).load(scan_layers=scan_layers)


def tiny(name, scan_layers=True, **changes):
    cls = getattr(fm, name)
    taken = {key: value for key, value in TINY.items() if cls.config_class.knows(key)}
    if cls.can_generate() and "is_decoder" in cls.config_class.names():
        taken["is_decoder"] = True
    return cls(cls.config_class.from_dict(taken | changes), scan_layers=scan_layers)


def numbered(model, dtype=np.float32):
    """NumPy params, each leaf with numbers of its own."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(dtype), model.abstract_params())


def known(*shape):
    """As in scripts/goldens/files/_goldens_vocabulary.py."""
    return 0.3 * np.sin(np.arange(np.prod(shape)) ** 1.3).astype(np.float32).reshape(shape)


def assert_untouched(before, after, *but):
    """The leaves are the same objects, those at the paths `but` excepted."""
    before, after = fp.flatten(before), fp.flatten(after)
    assert before.keys() - {*but} == after.keys() - {*but}
    for path in after.keys() - {*but}:
        assert after[path] is before[path], path


# --- the reference ---


def edited(model, params, edit):
    if edit == "shrunk":
        return model.resize_token_embeddings(params, 50)
    if edit == "grown":
        return model.resize_token_embeddings(params, 66, KEY, pad_to_multiple_of=10)
    if edit == "tied":
        return model.tie_weights(params)
    if edit == "set":
        size = 64 if model.config.tie_word_embeddings else 61
        return model.set_input_embeddings(params, {"embedding": known(size, 24)})
    head = {"kernel": known(24, 61)}
    if model.get_bias(params):
        head["bias"] = known(61)
    return model.set_output_embeddings(params, head)


@pytest.mark.parametrize(("name", "edit"), CASES)
def test_P26_P29_P30_T26_edits_answer_as_the_reference(name, edit):
    before, params = loaded(name, edit not in ("tied", "headed"))
    model, params = edited(before, params, edit)
    prefix = f"{edit}."
    arrays = {k.removeprefix(prefix): v for k, v in EDITS[name].items() if k.startswith(prefix)}
    leaves, own = fp.flatten(params), token_leaves(model)
    assert {p: x.shape for p, x in leaves.items()} == {
        p: x.shape for p, x in fp.flatten(model.abstract_params()).items()
    }
    for path, axis in own.axes.items() if edit == "grown" else ():
        kind = {own.table: "table", own.kernel: "kernel", own.bias: "bias"}[path]
        old, ours = np.split(np.asarray(leaves[path]), [61], axis)
        np.testing.assert_array_equal(old, fp.flatten(loaded(name, True)[1])[path])
        theirs = arrays[f"new.{kind}"]
        np.testing.assert_allclose(ours, theirs, atol=1e-4)  # in which what is random is 1e-5
        leaves[path] = np.concatenate([old, theirs], axis)
    ids = arrays["input_ids"]
    out = jax.jit(model.apply)({"params": fp.unflatten(leaves)}, ids)
    expected = {k: v for k, v in arrays.items() if k != "input_ids" and "new." not in k}
    golden.assert_close(golden.flat(out), expected, None, 1e-4)


@pytest.mark.parametrize("kind", ["rows", "columns"])
def test_P26_3_new_tokens_have_the_moments_of_the_reference(kind):
    model, params = loaded("llama-causal-lm")
    _, grown = model.resize_token_embeddings(params, 61 + 4000, KEY)
    table, kernel = grown["model"]["embed_tokens"]["embedding"], grown["lm_head"]["kernel"]
    new = np.float64(table[61:] if kind == "rows" else kernel[:, 61:].T)
    arrays = EDITS["llama-causal-lm"]
    np.testing.assert_allclose(new.mean(0), arrays[f"moments.{kind}.mean"], atol=1e-6)
    covariance = arrays[f"moments.{kind}.covariance"]
    np.testing.assert_allclose(
        np.cov(new.T) / 1e-9, covariance, atol=0.15 * np.diag(covariance).mean()
    )
    drawn = (np.float64(table[61:]), np.float64(kernel[:, 61:].T))
    spreads = [(x - x.mean(0)).ravel() for x in drawn]
    assert abs(np.corrcoef(*spreads)[0, 1]) < 0.03  # drawn apart


# --- where things are ---


@pytest.mark.parametrize("name", MODELS)
def test_T13_every_class_says_where_its_tokens_are(name, thorough):
    """All leaves with the axis "vocab", and no other."""
    for tied in ties(name, thorough):
        model = tiny(name, tie_word_embeddings=tied)
        leaves = fp.flatten(model.abstract_params())
        expected = {p: x.axes.index("vocab") for p, x in leaves.items() if "vocab" in x.axes}
        assert token_leaves(model).axes == expected
        if model.output_embeddings_path is None:
            assert model.lm_head_path is None and len(expected) >= 1
        else:
            assert model.output_embeddings_path.startswith(model.lm_head_path)
            assert (token_leaves(model).kernel is None) == tied


@pytest.mark.parametrize("name", MODELS)
def test_P15_P17_T12_T14_getters_give_subtrees(name, thorough):
    for tied in ties(name, thorough):
        model = tiny(name, tie_word_embeddings=tied)
        params = model.abstract_params()
        table = model.get_input_embeddings(params)
        assert list(table) == ["embedding"] and table["embedding"].shape == (12, 8)
        head = model.get_output_embeddings(params)
        if model.output_embeddings_path is None:
            assert head is model.get_lm_head(params) is model.get_bias(params) is None
            assert model.get_output_layer_with_bias(params) is model.get_prefix_bias_name() is None
        elif tied:
            assert head is table
        else:
            assert head["kernel"].shape == (8, 12)
            encodes = isinstance(model, PredictionHead)  # ESM's bias stands beside the projection
            has_bias = (
                encodes and name != "EsmForMaskedLM" or not encodes and model.logit_style.use_bias
            )
            assert ("bias" in head) == has_bias


@pytest.mark.parametrize("tied", [True, False])
def test_T10_T13_T15_T16_the_head_of_bert(tied):
    model = tiny("BertForMaskedLM", tie_word_embeddings=tied)
    params = numbered(model)
    predictions = params["cls"]["predictions"]
    layer = predictions if tied else predictions["decoder"]
    assert model.get_lm_head(params) is predictions
    assert model.get_output_layer_with_bias(params) is layer
    assert model.get_bias(params) == {"bias": layer["bias"]}
    path = "cls/predictions" if tied else "cls/predictions/decoder"
    assert model.get_prefix_bias_name() == path
    if tied:  # the name that TFBertForMaskedLM.get_prefix_bias_name gives, as checkpoints have it
        tf = names.tf_name("tf_bert_for_masked_lm/mlm___cls/predictions/bias:0")
        assert tf == f"{path}/bias".replace("/", ".")


@pytest.mark.parametrize("name", ["GPT2LMHeadModel", "LlamaForCausalLM"])
def test_T10_T13_T15_T16_a_head_without_a_bias(name):
    for tied in (True, False):
        model = tiny(name, tie_word_embeddings=tied)
        params = numbered(model)
        head = model.get_input_embeddings(params) if tied else params["lm_head"]
        assert model.get_lm_head(params) is head is model.get_output_embeddings(params)
        assert model.get_bias(params) is model.get_prefix_bias_name() is None
        assert model.get_output_layer_with_bias(params) is None
        with pytest.raises(ValueError, match=f"{name} has no LM head with a bias"):
            model.set_bias(params, {"bias": np.zeros(12, np.float32)})


def test_P15_a_tree_of_another_model_is_refused():
    model = tiny("LlamaForCausalLM")
    params = tiny("LlamaModel").abstract_params()
    said = "the params have no model/embed_tokens (nearest: embed_tokens/embedding"
    with pytest.raises(ValueError, match=re.escape(said)):
        model.get_input_embeddings(params)
    with pytest.raises(ValueError, match="no leaf model/embed_tokens/embedding"):
        model.resize_token_embeddings(params, 20, KEY)
    other = tiny("LlamaForCausalLM", vocab_size=13).abstract_params()
    with pytest.raises(ValueError, match=r"the params have shape \(13, 8\), the model \(12, 8\)"):
        model.resize_token_embeddings(other, 20, KEY)


# --- setting ---


@pytest.mark.parametrize("name", ["BertForMaskedLM", "GPT2LMHeadModel", "LlamaForCausalLM"])
def test_P29_T25_D16_a_table_set_is_the_table_got(name):
    model = tiny(name, tie_word_embeddings=True)
    params = numbered(model, jnp.bfloat16)
    new, after = model.set_input_embeddings(params, {"embedding": known(15, 8)})
    assert new == model.clone(config=model.config.replace(vocab_size=15))
    table = new.get_input_embeddings(after)["embedding"]
    assert isinstance(table, np.ndarray) and table.dtype == jnp.bfloat16
    np.testing.assert_array_equal(table, known(15, 8).astype(jnp.bfloat16))
    assert_untouched(params, after, *token_leaves(model).axes)
    if new.get_bias(after):
        bias = new.get_bias(after)["bias"]
        np.testing.assert_array_equal(bias[:12], model.get_bias(params)["bias"])
        np.testing.assert_array_equal(bias[12:], 0)
    same, back = new.set_input_embeddings(after, model.get_input_embeddings(params))
    assert same == model
    jax.tree.map(np.testing.assert_array_equal, back, params)


def test_P29_an_untied_head_keeps_the_size():
    model = tiny("BertForMaskedLM", tie_word_embeddings=False)
    params, table = numbered(model), "bert/embeddings/word_embeddings/embedding"
    _, after = model.set_input_embeddings(params, {"embedding": known(12, 8)})
    assert_untouched(params, after, table)
    model = tiny("LlamaForCausalLM", tie_word_embeddings=False)
    params = numbered(model)
    new, after = model.set_input_embeddings(params, {"embedding": known(12, 8)})
    assert new == model
    assert_untouched(params, after, "model/embed_tokens/embedding")
    said = "model/embed_tokens/embedding: the value has 13 tokens, the untied head lm_head/kernel"
    with pytest.raises(ValueError, match=f"{said} has 12; resize_token_embeddings to 13 first"):
        model.set_input_embeddings(params, {"embedding": known(13, 8)})


@pytest.mark.parametrize(
    ("value", "got"),
    [
        ({"embedding": known(12, 9)}, "float32 (12, 9)"),
        ({"embedding": known(12)}, "float32 (12,)"),
        ({"embedding": np.zeros((12, 8), int)}, "int64 (12, 8)"),
        ({"embedding": [[1.0]]}, "list"),
        ({"weight": known(12, 8)}, "'weight'"),
        ({"embedding": known(12, 8), "bias": known(12)}, "'bias'"),
        ({}, "{}"),
        (known(12, 8), "float32 (12, 8)"),
        (None, "NoneType"),
    ],
)
def test_P29_what_is_no_table_is_refused(value, got):
    model = tiny("GPT2Model")
    said = r"wte/embedding: expected {name: shape} of floats {'embedding': \(None, 8\)}, got .*"
    with pytest.raises(ValueError, match=said + re.escape(got)):
        model.set_input_embeddings(numbered(model), value)


def test_T26_a_tied_head_that_is_set_is_untied():
    model = tiny("BertForPreTraining")
    params = numbered(model)
    new, after = model.set_output_embeddings(params, {"kernel": known(8, 12)})
    assert not new.config.tie_word_embeddings and model.config.tie_word_embeddings
    head = new.get_output_embeddings(after)
    np.testing.assert_array_equal(head["kernel"], known(8, 12))
    assert head["bias"] is params["cls"]["predictions"]["bias"]  # not given, so it stays
    assert new.get_input_embeddings(after) == model.get_input_embeddings(params)
    new, after = new.set_output_embeddings(after, {"kernel": known(8, 12), "bias": known(12)})
    np.testing.assert_array_equal(new.get_bias(after)["bias"], known(12))
    assert jax.tree.structure(after) == jax.tree.structure(new.abstract_params())


def test_T26_what_is_no_head_is_refused():
    model = tiny("LlamaForCausalLM")
    params = numbered(model)
    for value in ({"kernel": known(12, 8)}, {"embedding": known(12, 8)}, {"bias": known(12)}):
        with pytest.raises(ValueError, match=r"LlamaForCausalLM's LM head: .*'kernel': \(8, 12\)"):
            model.set_output_embeddings(params, value)
    with pytest.raises(ValueError, match="got .*'bias'"):
        model.set_output_embeddings(params, {"kernel": known(8, 12), "bias": known(12)})
    model = tiny("LlamaForTokenClassification")
    with pytest.raises(ValueError, match="LlamaForTokenClassification has no LM head"):
        model.set_output_embeddings(numbered(model), {"kernel": known(8, 12)})


@pytest.mark.parametrize("tied", [True, False])
def test_T24_set_bias(tied):
    model = tiny("BertForMaskedLM", tie_word_embeddings=tied)
    params = numbered(model)
    after = model.set_bias(params, {"bias": jnp.ones(12)})
    bias = model.get_bias(after)["bias"]
    assert isinstance(bias, np.ndarray) and (bias == 1).all()
    assert_untouched(params, after, model.get_prefix_bias_name() + "/bias")
    with pytest.raises(ValueError, match=r"/bias: expected .*\(12,\)}, got .*float32 \(13,\)"):
        model.set_bias(params, {"bias": np.ones(13, np.float32)})


# --- tying ---


@pytest.mark.parametrize(
    ("name", "scan_layers"),
    [("BertForMaskedLM", True), ("GPT2LMHeadModel", False), ("LlamaForCausalLM", True)],
)
def test_P30_untied_is_the_same_function_and_tied_again_the_same_tree(name, scan_layers):
    model = tiny(name, scan_layers, tie_word_embeddings=True)
    params = numbered(model)
    new, apart = model.untie_weights(params)
    assert not new.config.tie_word_embeddings
    table = model.get_input_embeddings(params)["embedding"]
    kernel = new.get_output_embeddings(apart)["kernel"]
    np.testing.assert_array_equal(kernel, table.T)
    assert kernel.flags.c_contiguous and not np.shares_memory(kernel, table)
    ids = np.int32([[3, 11, 5]])
    before, after = (
        jax.jit(m.apply)({"params": p}, ids).logits for m, p in ((model, params), (new, apart))
    )
    np.testing.assert_allclose(before, after, atol=1e-5)
    again, together = new.tie_weights(apart)
    assert again == model
    assert jax.tree.structure(together) == jax.tree.structure(params)
    assert_untouched(params, together)
    assert new.untie_weights(apart)[0] == new
    assert_untouched(apart, new.untie_weights(apart)[1])


def test_P30_tying_drops_a_head_that_should_not_be_there():
    model = tiny("GPT2LMHeadModel")
    params = numbered(model)
    extra = params | {"lm_head": {"kernel": known(8, 12)}}
    same, after = model.tie_weights(extra)
    assert same == model
    assert_untouched(params, after)
    assert "lm_head" in extra


@pytest.mark.parametrize("edit", ["tie_weights", "untie_weights"])
def test_P30_what_cannot_be_tied_is_refused(edit):
    model = tiny("BertForSequenceClassification")
    with pytest.raises(ValueError, match="BertForSequenceClassification has no LM head"):
        getattr(model, edit)(numbered(model))


def test_P30_a_table_that_is_not_there_cannot_be_untied():
    model = tiny("GPT2LMHeadModel")
    params = {"transformer": {"wte": {"kernel": known(12, 8)}}}
    said = "no leaf transformer/wte/embedding (nearest: transformer/wte/kernel)"
    with pytest.raises(ValueError, match=re.escape(said)):
        model.untie_weights(params)


@some_of("name", ["bert-masked-lm", "gpt2-lm-head", "llama-tied"], "bert-masked-lm", "llama-tied")
def test_P30_what_was_untied_loads_as_either(name, tmp_path):
    model, params = loaded(name)
    new, apart = model.untie_weights(params)
    new.save_pretrained(apart, tmp_path)
    again, back = type(model).from_pretrained(tmp_path)
    assert not again.config.tie_word_embeddings
    jax.tree.map(np.testing.assert_array_equal, back, apart)
    again, back = type(model).from_pretrained(tmp_path, tie_word_embeddings=True)
    jax.tree.map(np.testing.assert_array_equal, back, params)


# --- resizing ---


@pytest.mark.parametrize("name", MODELS)
def test_P26_1_D29_every_class_grows_and_shrinks(name, thorough):
    for tied in ties(name, thorough):
        model = tiny(name, tie_word_embeddings=tied)
        params = numbered(model)
        bigger, grown = model.resize_token_embeddings(params, 15, KEY)
        assert bigger.config == model.config.replace(vocab_size=15)
        shapes = jax.tree.map(lambda x: x.shape, bigger.abstract_params())
        assert jax.tree.map(jnp.shape, grown) == shapes
        assert_untouched(params, grown, *token_leaves(model).axes)
        smaller, cut = bigger.resize_token_embeddings(grown, 12)
        assert smaller == model
        jax.tree.map(np.testing.assert_array_equal, cut, params)


@pytest.mark.parametrize("name", ["BertForMaskedLM", "LlamaForCausalLM"])
def test_P26_1_D27_nothing_to_do_returns_both_as_they_are(name):
    model = tiny(name)
    params = numbered(model)
    for options in ({}, {"new_num_tokens": 12}, {"pad_to_multiple_of": 4}):
        same, after = model.resize_token_embeddings(params, **options)
        assert same is model and after is params


@pytest.mark.parametrize(
    ("asked", "multiple", "size"),
    [(None, 8, 16), (13, 8, 16), (17, 8, 24), (9, 8, 16), (5, 8, 8), (13, 1, 13), (24, 12, 24)],
)
def test_P26_2_D29_padding_comes_after_the_number_and_rounds_up(asked, multiple, size):
    model = tiny("GPT2LMHeadModel")
    new, after = model.resize_token_embeddings(
        model.abstract_params(), asked, pad_to_multiple_of=multiple
    )
    assert new.config.vocab_size == size == new.get_input_embeddings(after)["embedding"].shape[0]


def test_P26_3_T20_without_the_mean():
    model = tiny("BertForMaskedLM", tie_word_embeddings=False, initializer_range=0.5)
    params = numbered(model)
    new, after = model.resize_token_embeddings(params, 3012, KEY, mean_resizing=False)
    table = new.get_input_embeddings(after)["embedding"]
    head = new.get_output_embeddings(after)
    for drawn in (table[12:], head["kernel"][:, 12:]):
        assert abs(drawn.mean()) < 0.02 and abs(drawn.std() - 0.5) < 0.02
    assert abs(np.corrcoef(table[12:].ravel(), head["kernel"][:, 12:].T.ravel())[0, 1]) < 0.05
    np.testing.assert_array_equal(head["bias"][12:], 0)


@pytest.mark.parametrize("tied", [True, False])
def test_P26_3_D29_the_bias_is_that_of_the_reference(tied):
    model = tiny("BertForPreTraining", tie_word_embeddings=tied)
    params = numbered(model)
    new, after = model.resize_token_embeddings(params, 20, KEY)
    bias = model.get_bias(params)["bias"]
    grown = new.get_bias(after)["bias"]
    np.testing.assert_array_equal(grown[:12], bias)
    np.testing.assert_allclose(grown[12:], 0 if tied else bias.mean(), atol=0 if tied else 1e-6)


def test_P26_3_fewer_tokens_than_dimensions_and_equal_rows():
    """Covariances without an inverse, or zero."""
    model = tiny("LlamaModel", hidden_size=64)
    params = numbered(model)
    _, after = model.resize_token_embeddings(params, 400, KEY)
    table = after["embed_tokens"]["embedding"]
    old, new = table[:12], np.float64(table[12:])
    np.testing.assert_allclose(new.mean(0), old.mean(0), atol=1e-5)
    spread = np.cov(new.T) / 1e-9
    covariance = np.cov(old.T, ddof=0)
    assert np.linalg.matrix_rank(spread, tol=0.5) <= 12
    assert (
        np.abs(spread - covariance).max() < 0.6
        and np.corrcoef(spread.ravel(), covariance.ravel())[0, 1] > 0.95
    )
    params["embed_tokens"]["embedding"] = np.full((12, 64), 0.25, np.float32)
    _, after = model.resize_token_embeddings(params, 400, KEY)
    np.testing.assert_allclose(after["embed_tokens"]["embedding"], 0.25, rtol=1e-4)


def test_P26_3_draws_depend_on_the_key_alone():
    model = tiny("LlamaModel")
    params = numbered(model)
    one, two, other = (
        model.resize_token_embeddings(params, 300, jax.random.key(seed))[1]["embed_tokens"]
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one["embedding"], two["embedding"])
    assert (one["embedding"][12:] != other["embedding"][12:]).any()
    assert len(np.unique(one["embedding"][12:], axis=0)) == 288


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"new_num_tokens": 20}, "8 new tokens are drawn at random: pass key=jax.random.key(seed)"),
        ({"new_num_tokens": 0}, "new_num_tokens is 0; expected at least 1"),
        ({"new_num_tokens": -5}, "new_num_tokens is -5"),
        ({"new_num_tokens": 20.0}, "new_num_tokens is 20.0"),
        ({"new_num_tokens": True}, "new_num_tokens is True"),
        ({"pad_to_multiple_of": 0}, "pad_to_multiple_of is 0"),
        ({"pad_to_multiple_of": "8"}, "pad_to_multiple_of is '8'"),
        ({"new_num_tokens": 1 << 31}, "vocab_size is 2147483648"),
    ],
)
def test_P26_bad_arguments(options, said):
    model = tiny("LlamaForCausalLM")
    with pytest.raises(ValueError, match=re.escape(said)):
        model.resize_token_embeddings(numbered(model), **options)


def test_P26_P29_P30_what_is_no_tree_of_arrays():
    model = tiny("LlamaForCausalLM")
    params = jax.device_put(numbered(model))
    for wrong in (15, None, [params]):
        for edit in (
            *(model.resize_token_embeddings, model.tie_weights, model.untie_weights),
            *(model.get_input_embeddings, lambda tree: model.prune_heads(tree, {0: [0]})),
        ):
            with pytest.raises(TypeError, match="expected the tree of params first"):
                edit(wrong)
    numbers = jax.tree.map(lambda _: 1.0, params)
    with pytest.raises(ValueError, match=r"the params have 1\.0, the model \("):
        model.prune_heads(numbers, {})
    with pytest.raises(ValueError, match=r"the params have 1\.0, the model \("):
        model.resize_token_embeddings(numbers, 15, KEY)
    with pytest.raises(ValueError, match="no leaf model/embed_tokens/embedding"):
        model.tie_weights({"lm_head": params["lm_head"]})
    with pytest.raises(TypeError, match="mean_resizing is 'no'; expected True or False"):
        model.resize_token_embeddings(params, 15, KEY, mean_resizing="no")
    with pytest.raises(ValueError, match="expected a whole number"):
        jax.eval_shape(lambda n: model.resize_token_embeddings(params, n, KEY)[1], 15)
    with pytest.raises(ValueError, match="embedding: the value is abstract"):
        table = jax.ShapeDtypeStruct((12, 8), np.float32)
        model.set_input_embeddings(params, {"embedding": table})
    params["lm_head"]["kernel"].delete()
    with pytest.raises(ValueError, match="lm_head/kernel was deleted, or donated to a function"):
        model.resize_token_embeddings(params, 15, KEY)


def test_P26_P24_leaves_on_the_disk_are_read(tmp_path):
    model = tiny("LlamaForCausalLM", False, num_attention_heads=4, num_key_value_heads=4)
    params = numbered(model)
    model.save_pretrained(params, tmp_path)
    placed = type(model).from_pretrained(tmp_path, device_map={"": "disk"}, scan_layers=False)[1]
    edits = (
        lambda params: model.resize_token_embeddings(params, 15, KEY)[1],
        lambda params: model.prune_heads(params, {0: [1]})[1],
        lambda params: model.tie_weights(model.untie_weights(params)[1])[1],
    )
    for edit in edits:
        got, wanted = edit(placed), edit(params)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), got, wanted)


def test_P26_P24_leaves_in_host_memory_stay_there():
    """Where `device_map` puts what is to be on the CPU: nothing is computed of them there."""
    model = tiny("LlamaForCausalLM", False, num_attention_heads=4, num_key_value_heads=4)
    params = jax.device_put(numbered(model))
    kept = jax.sharding.SingleDeviceSharding(jax.devices()[0], memory_kind="pinned_host")
    for edit in (
        lambda params: model.resize_token_embeddings(params, 15, KEY)[1],
        lambda params: model.prune_heads(params, {0: [1]})[1],
        lambda params: model.untie_weights(params)[1],
    ):
        got, wanted = edit(jax.device_put(params, kept)), edit(params)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), got, wanted)
        assert all(leaf.sharding.memory_kind == "pinned_host" for leaf in jax.tree.leaves(got))
        assert not any(leaf.committed for leaf in jax.tree.leaves(wanted))


@pytest.mark.parametrize(
    ("name", "size"), [("bert-untied", 64), ("gpt2-lm-head", 50), ("llama-causal-lm", 64)]
)
def test_P26_what_was_resized_saves_and_loads(name, size, tmp_path):
    model, params = loaded(name, True)
    model, params = model.resize_token_embeddings(params, size, KEY)
    model.save_pretrained(params, tmp_path)
    again, back = type(model).from_pretrained(tmp_path, scan_layers=True)
    assert again.config.vocab_size == size
    jax.tree.map(np.testing.assert_array_equal, back, params)


@pytest.mark.parametrize("name", ["BertForMaskedLM", "LlamaForCausalLM"])
def test_P26_a_token_id_of_the_config_may_lose_its_row(name):
    model = tiny(name, pad_token_id=11)
    new, cut = model.resize_token_embeddings(numbered(model), 9)
    assert new.config.pad_token_id == 11
    template = new.abstract_params()
    assert jax.tree.map(jnp.shape, cut) == jax.tree.map(lambda x: x.shape, template)


def test_P26_a_row_of_padding_that_is_not_there_is_not_drawn():
    table = fm.blocks.Embed(9, 8, 0.5, padding_id=11)
    init = jax.jit(lambda key: table.init(key, np.zeros(1, np.int32), jnp.float32))
    drawn = np.asarray(init(KEY)["params"]["embedding"])
    assert drawn.shape == (9, 8) and (drawn != 0).any(axis=1).all()


# --- kinds of leaves ---


def test_P26_P29_P30_dtype_and_kind_of_array_stay():
    model = tiny("BertForMaskedLM", tie_word_embeddings=False)
    for array in (np.asarray, jax.device_put):
        params = jax.tree.map(array, numbered(model, jnp.bfloat16))
        for edit in ("grown", "shrunk", "tied"):
            if edit == "tied":
                new, after = model.tie_weights(params)
                new, after = new.untie_weights(after)
            else:
                size = 14 if edit == "grown" else 7
                new, after = model.resize_token_embeddings(params, size, KEY)
            for path, leaf in fp.flatten(after).items():
                assert leaf.dtype == jnp.bfloat16, path
                assert type(leaf) is type(fp.flatten(params)[path]), path
                if array is jax.device_put:
                    assert not leaf.committed, path
        if array is np.asarray:
            table = model.resize_token_embeddings(params, 7)[1]
            assert not any(
                np.shares_memory(leaf, fp.flatten(params)[path])
                for path, leaf in fp.flatten(table).items()
                if path in token_leaves(model).axes
            )


@pytest.mark.parametrize("name", MODELS)
def test_P26_P29_P30_abstract_trees_are_edited_like_real_ones(name, thorough):
    for tied in ties(name, thorough):
        model = tiny(name, tie_word_embeddings=tied)
        template = model.abstract_params(jnp.bfloat16)
        new, after = model.resize_token_embeddings(template, 15)
        assert after == new.abstract_params(jnp.bfloat16)
        wanted = fp.flatten(new.abstract_params())
        assert {p: x.axes for p, x in fp.flatten(after).items()} == {
            p: x.axes for p, x in wanted.items()
        }
        if model.output_embeddings_path:
            other, after = (model.untie_weights if tied else model.tie_weights)(template)
            assert after == other.abstract_params(jnp.bfloat16)
            wanted = fp.flatten(other.abstract_params())
            assert all(x.axes == wanted[p].axes for p, x in fp.flatten(after).items())
        plain = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), template)
        traced = jax.eval_shape(lambda p, m=model: m.resize_token_embeddings(p, 15, KEY)[1], plain)
        assert traced == new.abstract_params(jnp.bfloat16)


@some_of("name", ["BertForMaskedLM", "GPT2LMHeadModel"], "BertForMaskedLM")
def test_P26_P29_P30_under_jit(name):
    model = tiny(name)
    params = jax.device_put(numbered(model))

    @jax.jit
    def edits(params, key, table):
        apart = model.untie_weights(params)
        grown, after = apart[0].resize_token_embeddings(apart[1], 14, key)
        return apart[1], after, grown.set_input_embeddings(after, {"embedding": table})[1]

    apart, after, last = edits(params, KEY, known(14, 8))
    new, expected = model.untie_weights(params)
    jax.tree.map(np.testing.assert_array_equal, apart, expected)
    new, expected = new.resize_token_embeddings(expected, 14, KEY)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), after, expected)
    np.testing.assert_array_equal(new.get_input_embeddings(last)["embedding"], known(14, 8))


# --- shards ---


@pytest.fixture(scope="module")
def mesh():
    return fs.make_mesh(fsdp=2, tensor=4)


@pytest.mark.parametrize(
    ("name", "scan_layers"),
    [
        ("BertForMaskedLM", True),
        pytest.param("GPT2LMHeadModel", False, marks=pytest.mark.soak),
        ("LlamaForCausalLM", False),
    ],
)
def test_P26_P29_P30_shards_stay_where_the_rules_put_them(mesh, name, scan_layers):
    rules = (("heads", None), ("kv_heads", None), *fs.DEFAULT_RULES)
    model = tiny(name, scan_layers, tie_word_embeddings=True).clone(rules=rules)
    alone = numbered(model)
    params = jax.device_put(alone, fs.shardings(model.abstract_params(), mesh, rules))
    assert model.get_input_embeddings(params)["embedding"].sharding.spec == P("tensor", "fsdp")

    def check(new, after, expected):
        wanted = fp.flatten(fs.shardings(new.abstract_params(), mesh, rules))
        for path, leaf in fp.flatten(after).items():
            assert leaf.sharding == wanted[path], path
            np.testing.assert_allclose(leaf, fp.flatten(expected)[path], atol=1e-6, err_msg=path)
        assert fp.flatten(after).keys() == wanted.keys()

    apart = model.untie_weights(params)
    check(*apart, model.untie_weights(alone)[1])
    for (start, spread), plain, size in (
        ((model, params), alone, 16),
        (apart, model.untie_weights(alone)[1], 8),
    ):
        resized = start.resize_token_embeddings(spread, size, KEY)
        check(*resized, start.resize_token_embeddings(plain, size, KEY)[1])
    value = {"embedding": known(20, 8)}
    check(*model.set_input_embeddings(params, value), model.set_input_embeddings(alone, value)[1])


def test_P26_2_a_number_that_does_not_divide_says_which_would(mesh):
    model = tiny("LlamaForCausalLM", tie_word_embeddings=False)
    leaves = fp.flatten(jax.device_put(numbered(model)))
    place = {"model/embed_tokens/embedding": P("fsdp"), "lm_head/kernel": P(None, "tensor")}
    for path, spec in place.items():
        leaves[path] = jax.device_put(leaves[path], NamedSharding(mesh, spec))
    params = fp.unflatten(leaves)
    said = (
        "lm_head/kernel: 14 tokens do not divide over its 4 shards; pass pad_to_multiple_of=4 to "
        "resize_token_embeddings for 16"
    )
    with pytest.raises(ValueError, match=said):
        model.resize_token_embeddings(params, 14, KEY)
    with pytest.raises(ValueError, match="18 tokens .* pass pad_to_multiple_of=12 .* for 24"):
        model.resize_token_embeddings(params, 14, KEY, pad_to_multiple_of=6)
    new, after = model.resize_token_embeddings(params, 14, KEY, pad_to_multiple_of=4)
    assert new.config.vocab_size == 16
    assert fp.flatten(after)["lm_head/kernel"].sharding == NamedSharding(mesh, P(None, "tensor"))
    one = tiny("LlamaModel")
    table = {"embed_tokens": {"embedding": params["model"]["embed_tokens"]["embedding"]}}
    with pytest.raises(ValueError, match="embed_tokens/embedding: 13 tokens do not divide"):
        one.set_input_embeddings(table, {"embedding": known(13, 8)})


def test_P26_an_edit_donates_nothing():
    model = tiny("LlamaForCausalLM")
    params = jax.device_put(numbered(model))
    for edit in (model.untie_weights, model.tie_weights):
        edit(params)
    model.resize_token_embeddings(params, 15, KEY)
    model.resize_token_embeddings(params, 7)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(params))

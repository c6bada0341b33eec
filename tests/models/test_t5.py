"""T5 and its kin: whose head it is and whether it is scaled, as files say it; and what blocks of
LongT5's encoder are equal to. Numbers are in `test_reference.py`."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _drawn import applied, params_of
from safetensors.numpy import load_file, save_file

import flaxmodels as fm
from flaxmodels import params as fp

TINY = {
    "vocab_size": 31,
    "d_model": 8,
    "d_kv": 4,
    "d_ff": 12,
    "num_layers": 1,
    "num_heads": 2,
    "decoder_start_token_id": 0,
}
IDS = np.array([[5, 7, 3, 9, 11, 8, 1], [9, 4, 1, 0, 0, 0, 0]])
MASK = np.array([[1] * 7, [1, 1, 1, 0, 0, 0, 0]])
GIVEN = {"input_ids": IDS, "attention_mask": MASK, "decoder_input_ids": IDS[:, :3]}


@functools.cache
def bare(cls):
    """The bare model, its params, and the states that it gives, whoever's head comes after it."""
    model = cls(cls.config_class.from_dict(TINY | {"model_type": cls.config_class.model_type}))
    params = params_of(model)
    return model, params, applied(model, params, **GIVEN).last_hidden_state


def saved(folder, config, head=None, cls=fm.T5Model):
    """A folder with the params of the bare model, and a head if one is given; returns the table."""
    model, params, _ = bare(cls)
    model.save_pretrained(params, folder, progress=False)
    tensors = load_file(folder / "model.safetensors")
    if head is not None:
        tensors["lm_head.weight"] = head
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    written = {"model_type": cls.config_class.model_type} | TINY | config
    (folder / "config.json").write_text(json.dumps(written))
    return tensors["shared.weight"]


def logits_and_states(model, params, cls=fm.T5Model):
    """The logits, and the states of the bare model, whose params these are but for the head."""
    _, own, states = bare(cls)
    read = {name: leaf for name, leaf in params.items() if name != "lm_head"}
    jax.tree.map(np.testing.assert_array_equal, read, own)
    return applied(model, params, **GIVEN).logits, states


HEAD = np.random.default_rng(0).standard_normal((31, 8), dtype=np.float32)


@pytest.mark.parametrize(
    ("config", "has_head", "scaled"),
    [
        ({}, False, True),  # 1.0
        ({"tie_word_embeddings": False}, True, False),  # 1.1
        ({"tie_word_embeddings": False}, False, False),  # LongT5's files
        ({"scale_decoder_outputs": False}, False, False),  # of Transformers 5
        ({"tie_word_embeddings": False, "scale_decoder_outputs": True}, True, True),
    ],
)
def test_the_head_is_the_files_and_the_config_says_whether_states_are_scaled(
    config, has_head, scaled, tmp_path
):
    table = saved(tmp_path, config, HEAD if has_head else None)
    model, params = fm.T5ForConditionalGeneration.from_pretrained(tmp_path)
    assert ("lm_head" in params) == has_head
    assert model.config.tie_word_embeddings == (not has_head)
    logits, states = logits_and_states(model, params)
    head = (HEAD if has_head else table) * (8**-0.5 if scaled else 1)
    np.testing.assert_allclose(logits, states @ head.T, rtol=1e-4, atol=1e-5)
    model.save_pretrained(params, tmp_path / "again", progress=False)
    again, same = fm.T5ForConditionalGeneration.from_pretrained(tmp_path / "again")
    assert again.config.replace(extra={}) == model.config.replace(extra={})
    assert jax.tree.all(jax.tree.map(np.array_equal, params, same))


def test_a_head_that_differs_from_the_table_unties_whatever_the_config_says(tmp_path):
    saved(tmp_path, {"scale_decoder_outputs": False}, HEAD)
    with pytest.warns(UserWarning, match="the model is untied"):
        model, params = fm.T5ForConditionalGeneration.from_pretrained(tmp_path)
    logits, states = logits_and_states(model, params)
    np.testing.assert_allclose(logits, states @ HEAD.T, rtol=1e-4, atol=1e-5)


def test_mt5_is_not_scaled_and_its_head_is_the_files(tmp_path):
    table = saved(tmp_path, {"tie_word_embeddings": False}, cls=fm.MT5Model)
    model, params = fm.MT5ForConditionalGeneration.from_pretrained(tmp_path)
    logits, states = logits_and_states(model, params, fm.MT5Model)
    np.testing.assert_allclose(logits, states @ table.T, rtol=1e-4, atol=1e-5)


def test_old_files_hold_the_table_three_times(tmp_path):
    table = saved(tmp_path, {})
    tensors = load_file(tmp_path / "model.safetensors")
    bias = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    more = {f"{half}.embed_tokens.weight": table for half in ("encoder", "decoder")}
    more |= {"lm_head.weight": table, bias: np.ones((32, 2), np.float32)}
    save_file(tensors | more, tmp_path / "model.safetensors", {"format": "pt"})
    model, params, info = fm.T5ForConditionalGeneration.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not info.missing_keys and not info.unexpected_keys
    assert model.config.tie_word_embeddings
    with pytest.warns(UserWarning, match="not used in T5EncoderModel"):
        _, encoder = fm.T5EncoderModel.from_pretrained(tmp_path)
    assert {*encoder} == {"shared", "encoder"}
    np.testing.assert_array_equal(encoder["shared"]["embedding"], params["shared"]["embedding"])


def test_classes_over_a_prefix_read_files_without_it(tmp_path):
    saved(tmp_path, {})
    with pytest.warns(UserWarning, match="classification_head"):
        _, params = fm.T5ForSequenceClassification.from_pretrained(tmp_path)
    assert {*params} == {"transformer", "classification_head"}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"feed_forward_proj": "gated-frelu"}, "feed_forward_proj is 'gated-frelu'"),
        ({"feed_forward_proj": "relu", "is_gated_act": True}, "is_gated_act is True"),
        ({"feed_forward_proj": "gated-gelu", "dense_act_fn": "gelu"}, "another MLP"),
        ({"relative_attention_num_buckets": 3}, "at least 4"),
        ({"relative_attention_max_distance": 16}, "more than half of the 32"),
        ({"relative_attention_max_distance": 1 << 30}, "at most"),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads is not implemented"),
    ],
)
def test_configurations_that_cannot_be_honoured_are_refused(config, message):
    with pytest.raises(fm.ConfigError, match=message):
        fm.T5Config.from_dict(TINY | config)


def test_arguments_that_mean_nothing_are_refused():
    model = fm.T5EncoderModel(fm.T5Config.from_dict(TINY))
    with pytest.raises(TypeError, match="position_ids"):
        jax.eval_shape(lambda: model.init(jax.random.key(0), IDS, position_ids=IDS))
    model = fm.LongT5EncoderModel(fm.LongT5Config.from_dict(TINY))
    with pytest.raises(ValueError, match="attends by blocks"):
        pairs = np.ones((2, 7, 7), np.int32)
        jax.eval_shape(lambda: model.init(jax.random.key(0), IDS, pairs))
    with pytest.raises(fm.ConfigError, match="implemented: local, transient-global"):
        fm.LongT5Config.from_dict(TINY | {"encoder_attention_type": "global"})


def test_local_attention_within_its_radius_is_that_of_t5():
    """In blocks of more tokens than there are, everything is near."""
    short = fm.LongT5EncoderModel(fm.LongT5Config.from_dict(TINY | {"local_radius": 9}))
    params = params_of(short)
    out = applied(short, params, IDS, MASK).last_hidden_state
    leaves = {
        path.replace("LocalSelfAttention", "SelfAttention"): leaf
        for path, leaf in fp.flatten(params).items()
    }
    whole = fm.T5EncoderModel(fm.T5Config.from_dict(TINY))
    full = applied(whole, fp.unflatten(leaves), IDS, MASK).last_hidden_state
    tokens = MASK.astype(bool)
    np.testing.assert_allclose(out[tokens], full[tokens], atol=1e-5)


def test_padding_on_either_side_changes_nothing():
    model = fm.T5EncoderModel(fm.T5Config.from_dict(TINY))
    params = params_of(model)
    run = jax.jit(lambda ids, mask: model.apply({"params": params}, ids, mask).last_hidden_state)
    right = run(IDS, MASK)[1, :3]
    left = run(jnp.roll(IDS, 4, axis=1), jnp.roll(MASK, 4, axis=1))[1, 4:]
    np.testing.assert_allclose(left, right, atol=1e-5)

"""Encoders: positions that are counted from ids, limits, layers that are shared, names of files."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from _drawn import applied, initial, params_of
from _weights import weights

import flaxmodels as fm
from flaxmodels import params as fp

PAD = 1
IDS = np.array([[5, 7, 3, 9, 11]])
LEFT = np.array([[PAD, PAD, 5, 7, 3, 9, 11]])
RIGHT = np.array([[5, 7, 3, 9, 11, PAD, PAD]])


@functools.cache
def loaded(family, name, scan_layers=True):
    return reference.load(family).load(name, scan_layers=scan_layers)


def states(family, name, **inputs):
    model, params = loaded(family, name)
    run = jax.jit(lambda params, inputs: model.apply({"params": params}, **inputs))
    return np.asarray(run(params, inputs).last_hidden_state)


@pytest.mark.parametrize(("family", "name"), [("roberta", "RobertaModel"), ("mpnet", "MPNetModel")])
def test_padding_on_either_side_changes_nothing(family, name):
    """Positions follow from the ids, so that no side needs `position_ids`."""
    whole = states(family, name, input_ids=IDS)
    for ids, there in ((LEFT, slice(2, None)), (RIGHT, slice(0, -2))):
        mask = (ids != PAD).astype(np.int32)
        padded = states(family, name, input_ids=ids, attention_mask=mask)
        np.testing.assert_allclose(padded[:, there], whole, atol=1e-5)


def test_vectors_in_the_place_of_ids_stand_where_tokens_without_padding_would():
    _, params = loaded("roberta", "RobertaModel")
    vectors = params["embeddings"]["word_embeddings"]["embedding"][IDS]
    given = states("roberta", "RobertaModel", inputs_embeds=vectors)
    np.testing.assert_allclose(given, states("roberta", "RobertaModel", input_ids=IDS), atol=1e-5)


def test_a_cache_goes_on_counting_what_is_not_padding():
    model, params = loaded("roberta", "RobertaForCausalLM")
    mask = (LEFT != PAD).astype(np.int32)

    @jax.jit
    def step(params, cache, ids, mask):
        out = model.apply({"params": params}, ids, mask, cache=cache)
        return out.logits, out.cache

    cache, found = model.init_cache(1, 9), []
    for part in (slice(0, 3), slice(3, 4), slice(4, 7)):
        logits, cache = step(params, cache, LEFT[:, part], mask[:, part])
        found.append(logits)
    whole = jax.jit(lambda params: model.apply({"params": params}, IDS).logits)(params)
    np.testing.assert_allclose(jnp.concatenate(found, 1)[:, 2:], whole, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "name", "limit"),
    [
        ("roberta", "RobertaModel", 62),
        ("mpnet", "MPNetModel", 62),
        ("roformer", "RoFormerModel", 64),
        ("distilbert", "DistilBertModel", 64),
    ],
)
def test_more_tokens_than_positions_are_refused_by_the_number_that_there_are(family, name, limit):
    model, params = loaded(family, name)
    shape = functools.partial(jax.eval_shape, lambda ids: model.apply({"params": params}, ids))
    shape(np.full((1, limit), 5))
    with pytest.raises(ValueError, match=f"{limit + 1} tokens, and the model has {limit} pos"):
        shape(np.full((1, limit + 1), 5))


def test_positions_may_be_any_row_of_the_table():
    model, params = loaded("roberta", "RobertaModel")
    jax.eval_shape(lambda: model.apply({"params": params}, IDS, position_ids=IDS + 52))
    with pytest.raises(ValueError, match="there are 64 positions, 0 to 63"):
        model.apply({"params": params}, IDS, position_ids=IDS + 53)


def test_files_may_hold_the_head_twice_and_buffers():
    """As files of RoBERTa on the Hub do."""
    it = reference.load("roberta")
    entry = it.entry("RobertaForMaskedLM")
    state = weights(entry["tensors"], it.table.same)
    state["lm_head.decoder.weight"] = state["roberta.embeddings.word_embeddings.weight"]
    state["lm_head.decoder.bias"] = state["lm_head.bias"]
    state["roberta.embeddings.position_ids"] = np.arange(64)[None]
    config = fm.RobertaConfig.from_dict(entry["config"])
    model, _, info = fm.RobertaForMaskedLM.from_pretrained(
        None, config=config, state_dict=state, output_loading_info=True
    )
    assert model.config.tie_word_embeddings
    assert not info.missing_keys and not info.unexpected_keys


def test_files_of_esm_may_have_the_names_of_a_fresh_checkpoint_of_the_reference():
    """And one place for the frequencies, as its modules have; what else the Hub has is left."""
    it = reference.load("esm")
    entry, expected = it.entry("EsmModel"), it.load("EsmModel")[1]
    state = weights(entry["tensors"], it.table.same)
    place = "encoder.layer.{}.attention.self.rotary_embeddings.inv_freq"
    state.pop(place.format(1))
    fresh = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): x
        for name, x in state.items()
    }
    fresh[place.format("*")] = fresh.pop(place.format(0))
    modules = state | {"embeddings.position_embeddings.weight": np.zeros((64, 24), np.float32)}
    modules["rotary_embeddings.inv_freq"] = modules.pop(place.format(0))
    for found in (fresh, modules):
        _, params, info = fm.EsmModel.from_pretrained(
            None,
            config=fm.EsmConfig.from_dict(entry["config"]),
            state_dict=found,
            output_loading_info=True,
        )
        assert not info.missing_keys and not info.unexpected_keys
        jax.tree.map(np.testing.assert_array_equal, params, expected)


def test_contacts_of_esm_are_those_of_the_reference():
    """Numbers that `EsmModel.predict_contacts` of 5.23 gave, with the weights of the golden."""
    inputs = dict(reference.load("esm").inputs("EsmModel"))
    inputs["input_ids"] = inputs["input_ids"].copy()
    inputs["input_ids"][0, -1] = 2  # ends the sequence
    model, params = loaded("esm", "EsmModel")
    run = jax.jit(functools.partial(model.apply, method="predict_contacts"))
    found = run({"params": params}, *inputs.values())
    assert found.shape == (2, 11, 11)
    first, second = (
        [0.612213, 0.557103, 0.563101, 0.546624],
        [0.591158, 0.58281, 0.623148, 0.504838],
    )
    np.testing.assert_allclose(found[0, 0, :4], first, atol=1e-5)
    np.testing.assert_allclose(found[1, 2, :4], second, atol=1e-5)


def test_frequencies_of_esm_begin_as_those_of_its_base():
    config = fm.EsmConfig.from_dict(reference.load("esm").table.config_of("EsmModel"))
    frequencies = initial(fm.EsmModel(config), "inv_freq")["rotary_embeddings"]["inv_freq"]
    np.testing.assert_allclose(frequencies, 10_000.0 ** -(np.arange(3) / 3), rtol=1e-6)


def test_layers_of_albert_are_applied_in_turn_and_stored_once():
    config = reference.load("albert").table.config_of("AlbertModel")
    config |= {"num_hidden_layers": 3, "num_hidden_groups": 2, "inner_group_num": 2}
    model = fm.AlbertModel(fm.AlbertConfig.from_dict(config), scan_layers=True)
    paths = {path.split("attention")[0] for path in fp.flatten(model.abstract_params())}
    groups = "encoder/albert_layer_groups"
    assert {path for path in paths if path.endswith(("/0/", "/1/"))} == {
        f"{groups}/{group}/albert_layers/{layer}/" for group in (0, 1) for layer in (0, 1)
    }
    params = params_of(model)
    found = []
    for scan_layers in (True, False):
        run = model.clone(scan_layers=scan_layers)
        out = applied(run, params, IDS, output_hidden_states=True)
        found.append(np.stack(out.hidden_states))
    assert found[0].shape == (7, 1, 5, 24)
    np.testing.assert_allclose(*found, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "values", "message"),
    [
        (fm.AlbertConfig, {"num_hidden_groups": 13}, "13 groups of 1 layers"),
        (fm.AlbertConfig, {"pruned_heads": {"0": [1]}}, "layers are shared"),
        (fm.MPNetConfig, {"relative_attention_num_buckets": 64}, "relative_attention_num_buckets"),
        (fm.MPNetConfig, {"pruned_heads": {"0": [1]}}, "share a bias"),
        (fm.RobertaConfig, {"pad_token_id": None}, "positions begin after it"),
        (fm.EsmConfig, {"is_folding_model": True}, "ESMFold"),
        (
            fm.EsmConfig,
            {"position_embedding_type": "relative_key", "pad_token_id": 1},
            "implemented: absolute, rotary",
        ),
        (fm.EsmConfig, {}, "pad_token_id is None, and positions begin after it"),
        (
            fm.EsmConfig,
            {"position_embedding_type": "rotary", "token_dropout": True},
            "token_dropout needs mask_token_id",
        ),
        (fm.ElectraConfig, {"summary_type": "attn"}, "summary_type = 'attn'.*first"),
        (fm.DistilBertConfig, {"activation": "snake"}, "activation = 'snake'"),
        (fm.DistilBertConfig, {"is_decoder": True}, "is_decoder"),
    ],
)
def test_what_is_not_implemented_is_refused(config, values, message):
    with pytest.raises(fm.ConfigError, match=message):
        config.from_dict(values)


def test_sinusoids_of_distilbert_are_where_positions_start():
    table = reference.load("distilbert").table
    config = table.config_of("DistilBertModel") | {"sinusoidal_pos_embds": True}
    model = fm.DistilBertModel(fm.DistilBertConfig.from_dict(config))
    params = initial(model, "position_embeddings/embedding")
    rows = np.asarray(params["embeddings"]["position_embeddings"]["embedding"])
    step = 10_000 ** (-2 / config["dim"])
    expected = [np.sin(7), np.cos(7), np.sin(7 * step), np.cos(7 * step)]
    np.testing.assert_allclose(rows[7, :4], expected, atol=1e-6)

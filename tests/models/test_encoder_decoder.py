"""An encoder beside a decoder, of any families: joined out of two checkpoints, and refused where
they do not fit. Numbers are in `test_reference.py`."""

import functools

import jax
import numpy as np
import pytest
from _drawn import applied, params_of

import flaxmodels as fm
from flaxmodels import params as fp

BERT = fm.BertConfig(
    vocab_size=31,
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=12,
    max_position_embeddings=16,
)
IDS = np.array([[5, 7, 3]])


def test_a_projection_is_there_where_widths_differ():
    given = {"input_ids": IDS, "decoder_input_ids": IDS[:, :2]}
    for width, there in ((8, False), (12, True)):
        decoder = BERT.replace(hidden_size=width)
        config = fm.EncoderDecoderConfig.from_encoder_decoder_configs(BERT, decoder)
        model = fm.EncoderDecoderModel(config)
        assert config.decoder.is_decoder and config.decoder.add_cross_attention
        assert ("enc_to_dec_proj" in model.abstract_params()) == there
        out = jax.eval_shape(lambda model=model: model.init_with_output(jax.random.key(0), **given))
        assert out[0].logits.shape == (1, 2, 31)


@pytest.mark.parametrize(
    ("halves", "message"),
    [
        ({"decoder": BERT}, "decoder.is_decoder is False"),
        ({"decoder": BERT.replace(is_decoder=True)}, "decoder.add_cross_attention is False"),
        ({"decoder": fm.LlamaConfig()}, "decoder is a llama, whose layers cannot attend"),
        ({"decoder": fm.T5Config()}, "decoder is a t5, which is no AutoModelForCausalLM"),
        ({"encoder": fm.BartConfig()}, "encoder is a bart, which has a decoder of its own"),
        ({"encoder": fm.T5Config()}, "encoder is a t5, which has a decoder of its own"),
        ({"encoder": BERT.replace(is_decoder=True, add_cross_attention=True)}, "no other encoder"),
    ],
)
def test_halves_that_do_not_fit_are_refused(halves, message):
    decoder = BERT.replace(is_decoder=True, add_cross_attention=True)
    with pytest.raises(fm.ConfigError, match=message):
        fm.EncoderDecoderConfig(**{"encoder": BERT, "decoder": decoder, **halves})


def test_the_configuration_of_both_asks_each_half_for_outputs():
    said = {"output_hidden_states": True, "output_attentions": True}
    model = PAIR.clone(config=PAIR.config.replace(**said))

    def names(model, **given):
        run = functools.partial(model.apply, input_ids=IDS, decoder_input_ids=IDS, **given)
        return {*jax.eval_shape(run, {"params": model.abstract_params()}).keys()}

    asked = names(PAIR, **said)
    assert {"decoder_hidden_states", "encoder_attentions", "cross_attentions"} <= asked
    assert names(model) == names(model, **dict.fromkeys(said)) == asked
    assert names(model, **dict.fromkeys(said, False)) == names(PAIR) < asked


# --- vocabularies ---

PAIR = fm.EncoderDecoderModel(
    fm.EncoderDecoderConfig.from_encoder_decoder_configs(BERT, BERT.replace(vocab_size=29))
)


def test_tokens_go_in_by_the_encoder_and_come_out_of_the_decoder():
    params = PAIR.abstract_params()
    encoder, decoder = (PAIR.half(half, parent=None) for half in ("encoder", "decoder"))
    assert PAIR.get_input_embeddings(params) == encoder.get_input_embeddings(params["encoder"])
    assert PAIR.prompt_vocab_size == 31
    for name in ("output_embeddings", "lm_head", "output_layer_with_bias", "bias"):
        mine, its = (getattr(model, f"get_{name}") for model in (PAIR, decoder))
        assert mine(params) == its(params["decoder"]) is not None
    assert PAIR.get_prefix_bias_name() == f"decoder/{decoder.get_prefix_bias_name()}"


def test_the_decoders_head_is_set_tied_and_untied():
    params = params_of(PAIR)
    value = {"kernel": np.ones((8, 29), np.float32), "bias": np.ones(29, np.float32)}
    model, edited = PAIR.set_output_embeddings(params, value)
    assert not model.config.tie_word_embeddings and not model.config.decoder.tie_word_embeddings
    np.testing.assert_array_equal(model.get_output_embeddings(edited)["kernel"], value["kernel"])
    again, same = model.tie_weights(model.set_bias(edited, PAIR.get_bias(params)))
    assert again == PAIR and again.untie_weights(same)[0] == model
    jax.tree.map(np.testing.assert_array_equal, same, params)


def test_a_half_is_resized_and_the_whole_says_how():
    params = params_of(PAIR)
    with pytest.raises(TypeError, match="two vocabularies") as refused:
        PAIR.resize_token_embeddings(params, 40)
    with pytest.raises(TypeError, match=r"half.set_input_embeddings\(tree, value\)"):
        PAIR.set_input_embeddings(params, {})
    line = str(refused.value).partition(": ")[2].removesuffix(", or of the 'encoder'")
    names = {"model": PAIR, "params": params, "size": 40, "key": jax.random.key(1)}
    model, resized = eval(line, names)
    assert (model.config.decoder.vocab_size, model.config.encoder.vocab_size) == (40, 31)
    out = applied(model, resized, IDS, decoder_input_ids=np.array([[39]]))
    assert out.logits.shape == (1, 1, 40) and resized["encoder"] is params["encoder"]


# --- two checkpoints ---

GPT2 = fm.GPT2Config(vocab_size=29, n_embd=12, n_layer=2, n_head=2, n_positions=16)
BART = fm.BartConfig(
    vocab_size=31,
    d_model=8,
    **{f"{half}_{name}": 2 for half in ("encoder", "decoder") for name in ("layers", "ffn_dim")},
    encoder_attention_heads=2,
    decoder_attention_heads=2,
)
join = fm.EncoderDecoderModel.from_encoder_decoder_pretrained


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of each of three models, by the names of their types."""
    found = {}
    models = fm.BertModel(BERT), fm.GPT2LMHeadModel(GPT2), fm.BartForCausalLM(BART)
    for seed, model in enumerate(models):
        folder = tmp_path_factory.mktemp(model.config.model_type)
        model.save_pretrained(params_of(model, seed), folder)
        found[model.config.model_type] = str(folder)
    return found


def joined(folders, decoder, **options):
    with pytest.warns(UserWarning) as caught:
        found = join(folders["bert"], folders[decoder], output_loading_info=True, **options)
    return *found, [str(warning.message) for warning in caught]


@pytest.mark.parametrize("scan_layers", [False, True])
def test_two_checkpoints_are_joined(folders, scan_layers, tmp_path):
    options = {"encoder_hidden_dropout_prob": 0.3, "decoder_attn_pdrop": 0.4, "pad_token_id": 0}
    options |= {"decoder_start_token_id": 4, "scan_layers": scan_layers}
    model, params, infos, said = joined(folders, "gpt2", **options)
    config = model.config
    assert config.encoder.hidden_dropout_prob == 0.3 and config.decoder.attn_pdrop == 0.4
    assert (config.decoder_start_token_id, config.pad_token_id) == (4, 0)
    assert config.decoder.add_cross_attention and model.scan_layers == scan_layers
    leaves = fp.flatten(params)
    template = fp.flatten(model.abstract_params())
    assert {p: x.shape for p, x in leaves.items()} == {p: x.shape for p, x in template.items()}
    for half, cls in (("encoder", fm.BertModel), ("decoder", fm.GPT2LMHeadModel)):
        folder = folders[getattr(config, half).model_type]
        for path, leaf in fp.flatten(
            cls.from_pretrained(folder, scan_layers=scan_layers)[1]
        ).items():
            np.testing.assert_array_equal(leaves[f"{half}/{path}"], leaf, path)
    assert infos["encoder"].missing_keys == []
    assert all("cross" in path for path in infos["decoder"].missing_keys)
    assert "GPT2LMHeadModel not initialized" in said[0] and "enc_to_dec_proj/kernel" in said[1]
    model.save_pretrained(params, tmp_path)
    again, same = fm.AutoModelForSeq2SeqLM.from_pretrained(tmp_path, scan_layers=scan_layers)
    assert again.config.replace(extra={}) == config.replace(extra={})
    jax.tree.map(np.testing.assert_array_equal, params, same)


def test_a_decoder_that_was_half_of_a_model_attends_already(folders):
    model, params = join(folders["bert"], folders["bart"])  # with no warning: nothing is new
    leaves = fp.flatten(fm.BartForCausalLM.from_pretrained(folders["bart"])[1])
    assert leaves.keys() == fp.flatten(params["decoder"]).keys()
    assert model.config.decoder.is_decoder and "enc_to_dec_proj" not in params


def test_what_is_new_is_drawn_by_the_key_and_placed_and_cast_like_the_rest(folders):
    keys, mesh = jax.random.split(jax.random.key(0)), fm.sharding.make_mesh(data=2, fsdp=4)
    options = {"decoder_param_dtype": None, "param_dtype": "bfloat16", "mesh": mesh}
    one, two = (joined(folders, "gpt2", key=key, **options)[1] for key in keys)
    projections = [tree["enc_to_dec_proj"]["kernel"] for tree in (one, two)]
    assert np.any(np.asarray(projections[0]) != np.asarray(projections[1]))
    assert projections[0].dtype == "bfloat16" and projections[0].sharding.mesh == mesh
    assert one["encoder"]["embeddings"]["LayerNorm"]["scale"].dtype == "bfloat16"
    assert one["decoder"]["transformer"]["ln_f"]["scale"].dtype == "float32"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"encoder_scan_layers": True}, TypeError, "give scan_layers, not encoder_scan_layers"),
        ({"state_dict": {}}, TypeError, "give encoder_state_dict or decoder_state_dict"),
        ({"encoder_model": None}, TypeError, "from_encoder_decoder_configs"),
        ({"encoder_colour": 1}, TypeError, "colour"),
        ({"shade": 1}, TypeError, "shade"),
        ({"decoder": ...}, TypeError, "needs name_or_path"),
        ({"decoder": "bert", "decoder_is_decoder": False}, fm.ConfigError, "is for a decoder"),
    ],
)
def test_what_cannot_be_joined_is_refused(folders, options, error, message):
    options = {"decoder": "bart", **options}
    decoder = folders.get(options["decoder"], options.pop("decoder"))
    with pytest.raises(error, match=message):
        join(folders["bert"], decoder, **options)

"""Settings of generation from files and from callers: they act, raise, or are named."""

import json
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flaxmodels as fm
from flaxmodels.config.generation_config import GenerationConfig
from flaxmodels.generation.task import settings as settings

LLAMA = fm.LlamaConfig(vocab_size=50, eos_token_id=2, pad_token_id=None)
TINY_GPT2 = fm.GPT2Config(vocab_size=50, n_positions=32)


def read(folder, values, config=LLAMA):
    (folder / "generation_config.json").write_text(json.dumps(values))
    return GenerationConfig.from_pretrained(folder, config)


CHANGING = {
    "repetition_penalty": 1.3,
    "no_repeat_ngram_size": 2,
    "bad_words_ids": [[4]],
    "suppress_tokens": [4, 5],
    "begin_suppress_tokens": [4],
    "min_length": 5,
    "min_new_tokens": 5,
    "num_beams": 4,
    "num_beam_groups": 2,
    "diversity_penalty": 0.5,
    "length_penalty": 2.0,
    "early_stopping": "never",
    "min_p": 0.1,
    "typical_p": 0.9,
    "epsilon_cutoff": 3e-4,
    "eta_cutoff": 3e-4,
    "top_h": 0.4,
    "penalty_alpha": 0.6,
    "encoder_repetition_penalty": 1.2,
    "num_return_sequences": 3,
    "guidance_scale": 1.5,
    "sequence_bias": {"4": 1.0},
    "stop_strings": ["\n\n"],
    "max_time": 1.5,
    "watermarking_config": {"bias": 2.0},
    "exponential_decay_length_penalty": [3, 1.1],
    "remove_invalid_values": True,
    "output_scores": True,
    "cache_implementation": "quantized",
    "dola_layers": "high",
    "force_words_ids": [[7]],
    "token_healing": True,
}


@pytest.mark.parametrize("name", CHANGING)
def test_D8_a_setting_that_is_not_done_is_named_by_a_load_and_refused_to_a_caller(tmp_path, name):
    value = CHANGING[name]
    with pytest.warns(UserWarning, match=f"not implemented.*{name} = ") as said:
        loaded = read(tmp_path, {name: value, "do_sample": True})
    assert len(said) == 1 and loaded.do_sample
    loaded.save_pretrained(tmp_path / "again")
    again = json.loads((tmp_path / "again" / "generation_config.json").read_text())
    assert again[name] == value, "kept and written back"
    for give in (GenerationConfig, GenerationConfig().given):
        with pytest.raises(NotImplementedError, match=f"{name} = .*not implemented yet"):
            give(**{name: value})


def test_D8_all_that_a_file_asks_for_in_vain_is_one_warning(tmp_path):
    values = CHANGING | {"top_k": "many", "max_window_size": 24000, "eos_token_id": [2, 77]}
    with pytest.warns(UserWarning) as said:
        config = read(tmp_path, values)
    text = str(said[0].message)
    assert len(said) == 1 and len(text) < 4000
    assert "generation_config.json: " in text and "repetition_penalty = 1.3" in text
    assert "top_k must be" in text and "not known, and kept: 'max_window_size'" in text
    assert "eos_token_id is 77" in text and config.eos == (2,) and config.top_k is None


NEUTRAL = {  # Transformers 5.23: GenerationConfig._get_default_generation_params()
    **{"min_length": 0, "early_stopping": False, "num_beams": 1, "typical_p": 1.0},
    **{"repetition_penalty": 1.0, "length_penalty": 1.0, "no_repeat_ngram_size": 0},
    **{"encoder_no_repeat_ngram_size": 0, "bad_words_ids": None, "num_return_sequences": 1},
    **{"output_scores": False, "return_dict_in_generate": False, "forced_bos_token_id": None},
    **{"forced_eos_token_id": None, "remove_invalid_values": False, "use_cache": True},
    **{"exponential_decay_length_penalty": None, "suppress_tokens": None, "epsilon_cutoff": 0.0},
    **{"begin_suppress_tokens": None, "eta_cutoff": 0.0, "encoder_repetition_penalty": 1.0},
    **{"num_assistant_tokens": 20, "num_assistant_tokens_schedule": "constant"},
    **{"assistant_confidence_threshold": 0.4, "assistant_lookbehind": 10, "target_lookbehind": 10},
    **{"num_beam_groups": 1, "diversity_penalty": 0.0},
}
SAME = {"max_length": 20, "do_sample": False, "temperature": 1.0, "top_k": 50, "top_p": 1.0}


def test_defaults_of_transformers_are_taken_without_a_word(tmp_path):
    given = GenerationConfig(**NEUTRAL, **SAME, transformers_version="5.23.0")
    assert given.max_length == 20 and given.top_k == 50
    assert read(tmp_path, NEUTRAL | SAME | {"_from_model_config": True}).max_length == 20
    speed = {"use_cache": False, "low_memory": True, "prompt_lookup_num_tokens": 3}
    assert read(tmp_path, speed).extra == speed, "the tokens are the same"
    with pytest.raises(NotImplementedError, match="use_cache = False"):
        GenerationConfig(use_cache=False)


def test_no_setting_is_in_two_tables():
    names = [*settings.CHANGE, *settings.KEEP, *GenerationConfig.__dataclass_fields__]
    assert len(names) == len({*names})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("temprature", "did you mean 'temperature'"),
        ("repetition_penality", "did you mean 'repetition_penalty'"),
        ("xyz", "there are max_new_tokens, max_length"),
        ("prng_key", "give key="),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(name, message):
    with pytest.raises(TypeError, match=f"GenerationConfig has no {name!r}; {message}"):
        GenerationConfig(**{name: 1})
    with pytest.raises(TypeError, match=message):
        GenerationConfig().given(**{name: 1})


@pytest.mark.parametrize(
    "values",
    [
        {"eos_token_id": [2, 3]},
        {"eos_token_id": np.array([2, 3])},
        {"eos_token_id": {3, 2}},
        {"eos_token_id": (np.int64(2), jnp.int32(3))},
        {"eos_token_id": [2.0, 3]},
    ],
)
def test_D11_token_ids_of_any_form(values):
    assert GenerationConfig(**values) == GenerationConfig(eos_token_id=(2, 3))


def test_D11_numbers_of_any_form():
    some = GenerationConfig(max_new_tokens=jnp.int32(3), top_k=5.0, temperature=np.float32(0.5))
    assert some == GenerationConfig(max_new_tokens=3, top_k=5, temperature=0.5)
    assert type(some.max_new_tokens) is type(some.top_k) is int
    assert hash(some) == hash(some.given(do_sample=None))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"eos_token_id": -1}, r"eos_token_id is -1.*for none give \(\)"),
        ({"eos_token_id": [2, 2**31]}, "eos_token_id is .*2147483648"),
        ({"pad_token_id": 2**40}, "pad_token_id is 1099511627776"),
        ({"pad_token_id": "0"}, "pad_token_id must be"),
        ({"max_new_tokens": 2.5}, "max_new_tokens must be"),
        ({"max_new_tokens": True}, "max_new_tokens must be"),
        ({"max_new_tokens": 10**30}, "max_new_tokens is 1000"),
        ({"max_length": 0}, "max_length is 0"),
        ({"top_p": -0.1}, "top_p is -0.1"),
        ({"temperature": [0.5]}, "temperature must be"),
        ({"do_sample": 1}, "do_sample must be"),
    ],
)
def test_values_that_are_none(tmp_path, values, message):
    with pytest.raises(fm.ConfigError, match=f"GenerationConfig: {message}"):
        GenerationConfig(**values)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        loaded = read(tmp_path, {"max_new_tokens": 7, "pad_token_id": 4} | values)
    left_out = dict.fromkeys(values, None)
    expected = {"max_new_tokens": 7, "pad_token_id": 4, "eos_token_id": 2, "bos_token_id": 1}
    assert loaded == GenerationConfig(**expected | left_out).over(GenerationConfig(eos_token_id=2))
    assert len(said) == 1 and "generation_config.json: " in str(said[0].message)


def test_a_traced_setting_says_why_it_cannot_be():
    with pytest.raises(fm.ConfigError, match="top_k is an array under a JAX transformation"):
        jax.eval_shape(lambda k: GenerationConfig(top_k=k) and k, 3)


@pytest.mark.parametrize("id", [50, 2**31 - 1])
@pytest.mark.parametrize("name", ["eos_token_id", "pad_token_id"])
def test_tokens_beyond_the_vocabulary(tmp_path, name, id):
    with pytest.warns(UserWarning, match=f"{name} is {id}, and the model has the tokens 0 to 49"):
        loaded = read(tmp_path, {name: id})
    assert getattr(loaded, name) == getattr(LLAMA, name), "as the model's config says"
    with pytest.raises(ValueError, match=f"{name} is {id}"):
        GenerationConfig(**{name: id}).check(50)
    (tmp_path / "generation_config.json").unlink()
    with pytest.warns(UserWarning, match=f"LlamaConfig: {name} is {id}, and no token has {id}"):
        config = LLAMA.replace(**{name: id})
    with pytest.warns(UserWarning, match=f"config.json: {name} is {id}"):
        loaded = GenerationConfig.from_pretrained(tmp_path, config)
    assert getattr(loaded, name) is None


def test_the_tokens_of_a_family_are_no_word_of_a_file(tmp_path):
    assert TINY_GPT2.eos_token_id > TINY_GPT2.vocab_size
    assert GenerationConfig.from_pretrained(tmp_path, TINY_GPT2).eos == ()
    ids = {"bos_token_id": 50256, "eos_token_id": 50256}
    assert read(tmp_path, ids, TINY_GPT2).eos == (), "Transformers writes them there, too"


def test_D8_an_old_config_json_counts_where_there_is_no_generation_config(tmp_path):
    old = {"do_sample": True, "max_length": 20, "top_k": 0, "temperature": 0.6, "num_beams": 5}
    config = fm.LlamaConfig.from_dict(LLAMA.to_dict() | old)
    with pytest.warns(UserWarning, match="config.json: not implemented.*num_beams = 5"):
        loaded = GenerationConfig.from_pretrained(tmp_path, config)
    assert (loaded.do_sample, loaded.max_length, loaded.temperature) == (True, 20, 0.6)
    assert read(tmp_path, {}, config).max_length is None


def test_lengths():
    assert GenerationConfig().count(7) == 20
    assert GenerationConfig().count(7, limit=10) == 3
    assert GenerationConfig(max_length=10).count(7) == 3
    assert GenerationConfig(max_length=10, max_new_tokens=9).count(7) == 9
    with pytest.raises(ValueError, match="has 10 tokens, and max_length is 10"):
        GenerationConfig(max_length=10).count(10)
    model = GenerationConfig(max_new_tokens=9, top_k=3)
    assert GenerationConfig(max_length=10).over(model).count(7) == 3, "the nearer one goes first"
    assert GenerationConfig(max_length=10).over(model).top_k == 3


def test_remote_code_is_not_written_back(tmp_path):
    with pytest.warns(UserWarning, match="remote code ignored: custom_generate"):
        loaded = read(tmp_path, {"custom_generate": "x/y", "top_k": 4})
    loaded.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "generation_config.json").read_text())
    assert saved == {"bos_token_id": 1, "eos_token_id": 2, "top_k": 4}


def test_a_folder_without_a_model(tmp_path):
    GenerationConfig(top_k=3).save_pretrained(tmp_path / "new")
    assert GenerationConfig.from_pretrained(tmp_path / "new") == GenerationConfig(top_k=3)
    file = tmp_path / "new" / "generation_config.json"
    assert GenerationConfig.from_pretrained(file) == GenerationConfig(top_k=3)
    with pytest.raises(fm.ConfigError, match="generation_config.json"):
        GenerationConfig.from_pretrained(tmp_path)

"""What a stranger's `config.json` may say: read past aloud, or refused by name."""

import json
import math
import warnings

import pytest
from _files import put

import flaxmodels as fm
from flaxmodels.documents.json_files import text_of
from flaxmodels.documents.json_values import ConfigError
from flaxmodels.documents.remote_code import without_code

LLAMA = {
    "model_type": "llama", "vocab_size": 16, "hidden_size": 8, "intermediate_size": 16,
    "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
BERT = LLAMA | {"model_type": "bert"}
GPT2 = {"model_type": "gpt2", "vocab_size": 16, "n_embd": 8, "n_layer": 1, "n_head": 2}
NASTY = [
    None, True, -1, 0, 1, 2**31 - 1, 2**31, 10**400, -0.0, 0.5, 1e-45, 1e308, math.inf, math.nan,
    "", "x", "\x1b[2J", "9" * 5000, [], [1], [[]], {}, {"0": 1}, {"a": {"b": [1]}}, {"x": math.nan},
]  # fmt: skip
KEYS = ["id2label", "label2id", "rope_scaling", "rope_theta", "layer_types", "architectures"]
KEYS += [
    "quantization_config",
    "auto_map",
    "torch_dtype",
    "model_type",
    "text_config",
    "is_decoder",
]


@pytest.mark.parametrize("base", [LLAMA, BERT, GPT2], ids=["llama", "bert", "gpt2"])
@pytest.mark.filterwarnings("ignore")
def test_any_value_anywhere_is_read_or_refused_by_name(base):
    cls = {"llama": fm.LlamaConfig, "bert": fm.BertConfig, "gpt2": fm.GPT2Config}
    cls = cls[base["model_type"]]
    for key in {*cls.names(), *cls.unsupported, *KEYS}:
        for value in NASTY:
            try:
                config = cls.from_dict(base | {key: value}, path="here/config.json")
            except ConfigError as error:
                assert len(str(error)) < 4100 and str(error).isprintable()
                continue
            text = config.to_json()
            assert "Infinity" not in text and "NaN" not in text, key
            assert cls.from_dict(json.loads(text)) == config and hash(config) is not None, key


TWO = [1.0, 1.0]
ROPES = {
    "theta-1-yarn": {"rope_type": "yarn", "factor": 2.0, "rope_theta": 1.0},
    "theta-tiny": {"rope_type": "default", "rope_theta": 1e-45},
    "theta-huge": {"rope_type": "default", "rope_theta": 1e39},
    "theta-long-int": {"rope_type": "default", "rope_theta": 10**400},
    "linear-tiny": {"rope_type": "linear", "factor": 1e-38},
    "linear-beyond": {"rope_type": "linear", "factor": 1e39},
    "dynamic-cancels": {"rope_type": "dynamic", "factor": 1e30},
    "yarn-beta": {"rope_type": "yarn", "factor": 2.0, "beta_fast": 1e308},
    "yarn-attention": {"rope_type": "yarn", "factor": 2.0, "attention_factor": 1e30},
    "yarn-mscale": {"rope_type": "yarn", "factor": 2.0, "mscale": 1e38, "mscale_all_dim": 1e-38},
    "yarn-truncate": {"rope_type": "yarn", "factor": 2.0, "truncate": "no"},
    "llama3-same": {"rope_type": "llama3", "factor": 2.0, "low_freq_factor": 1.0}
    | {"high_freq_factor": 1.0},
    "longrope-original": {"rope_type": "longrope", "short_factor": TWO, "long_factor": TWO}
    | {"original_max_position_embeddings": 1},
    "longrope-zero": {"rope_type": "longrope", "short_factor": TWO, "long_factor": [0.0, 1.0]},
    "longrope-nan": {"rope_type": "longrope", "short_factor": TWO, "long_factor": [math.nan, 1.0]},
    "original-beyond": {"rope_type": "yarn", "original_max_position_embeddings": 2**31},
    "proportional-tiny": {"rope_type": "proportional", "factor": 1e-45},
    "type-list": {"rope_type": ["yarn"]},
    "long-key": {"rope_type": "default", "k" * 10**6: 1},
}


@pytest.mark.parametrize("case", ROPES)
def test_rope_numbers_that_no_forward_pass_can_take(case):
    with pytest.raises(ConfigError, match="rope_parameters") as caught:
        fm.LlamaConfig.from_dict(LLAMA | {"rope_scaling": ROPES[case]})
    assert len(str(caught.value)) < 1000


def test_tables_are_not_made_of_a_claimed_size():
    with pytest.raises(ConfigError, match="head_dim of at most 65536, got 2147483646"):
        fm.LlamaConfig.from_dict(LLAMA | {"head_dim": 2**31 - 2})
    many = fm.LlamaConfig.from_dict(LLAMA | {"num_labels": 2**31 - 1})
    assert len(many.to_json()) < 1000 and fm.LlamaConfig.from_dict(many.to_dict()) == many


def test_very_long_labels_are_written_so_that_they_can_be_read(tmp_path):
    config = fm.LlamaConfig.from_dict(
        LLAMA | {"id2label": {str(i): f"{i}" + "é" * 3000 for i in range(1500)}}
    )
    config.save_pretrained(tmp_path)
    assert fm.AutoConfig.from_pretrained(tmp_path) == config
    with pytest.raises(ConfigError, match="could not be read again.*longest value is that of 'a'"):
        text_of({"a": "x" * (17 << 20), "b": 1})


@pytest.mark.parametrize("value", ["NaN", "[0.0, Infinity]", '{"a": -Infinity}', "1e999"])
def test_what_is_no_JSON_is_left_out_aloud(value, tmp_path):
    text = json.dumps(LLAMA | {"best": 0}).replace('"best": 0', f'"best": {value}')
    path = put(tmp_path, "config.json", text)
    with pytest.warns(UserWarning, match="'best' of config.json: Infinity or NaN") as caught:
        config = fm.AutoConfig.from_pretrained(tmp_path)
    assert str(path) in str(caught[0].message) and "best" not in config.to_dict()
    used = put(tmp_path, "used.json", text.replace("best", "rms_norm_eps"))
    with pytest.raises(ConfigError, match="used.json: LlamaConfig: rms_norm_eps"):
        fm.LlamaConfig.from_pretrained(used)


@pytest.mark.parametrize("key", ["attention_dropout", "output_attentions", "initializer_range"])
def test_null_is_not_said(key):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fm.LlamaConfig.from_dict(LLAMA | {key: None}) == fm.LlamaConfig.from_dict(LLAMA)


def test_code_is_never_written_back():
    code = {
        "auto_map": {"AutoModel": "evil/repo--x.Evil"},
        "_attn_implementation_internal": "evil/kernel",
        "attn_implementation": "evil/kernel:f",
        "text_config": {"auto_map": {"A": "evil.B"}, "sub": [{"trust_remote_code": True, "n": 1}]},
    }
    with pytest.warns(UserWarning, match="remote code ignored, and not written back|does not know"):
        written = fm.LlamaConfig.from_dict(LLAMA | code).to_json()
    assert "evil" not in written and "trust_remote_code" not in written and '"n": 1' in written
    kept, names = without_code({"a": [{"custom_pipelines": {"x": 1}}], "b": 2})
    assert kept == {"a": [{}], "b": 2} and names == ["a.custom_pipelines"]


@pytest.mark.parametrize(
    ("labels", "count"),
    [
        ({"id2label": {"0": 0, "1": 1}}, 2),
        ({"id2label": {"0": 1.5, "1": None, "2": True}}, 3),
        ({"id2label": {}, "label2id": {}}, 2),
        ({"id2label": {}, "num_labels": 5}, 5),
        ({"label2id": {"a": 0, "b": 1, "c": 2}}, 3),
    ],
)
def test_labels_of_files(labels, count):
    config = fm.LlamaConfig.from_dict(LLAMA | labels)
    assert config.num_labels == count and fm.LlamaConfig.from_dict(config.to_dict()) == config


def test_labels_that_contradict_are_said():
    with pytest.warns(UserWarning, match="label2id says otherwise than id2label"):
        fm.LlamaConfig.from_dict(LLAMA | {"id2label": {"0": "a"}, "label2id": {"a": 3}})
    with pytest.warns(UserWarning, match="num_labels is 5 and id2label names 1 labels"):
        fm.LlamaConfig.from_dict(LLAMA | {"id2label": {"0": "a"}, "num_labels": 5})

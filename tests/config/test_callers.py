"""What a caller says of a configuration takes effect or raises, whichever way it is said."""

import copy
import dataclasses
import inspect
import pickle
import re
import warnings

import numpy as np
import pytest
from _files import put
from _paths import GOLDENS

import flaxmodels as fm
from flaxmodels import hub
from flaxmodels.documents.json_values import ConfigError

TINY = {
    "vocab_size": 16, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1,
    "num_attention_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
LINEAR = {"rope_type": "linear", "factor": 2.0}
BASE = fm.LlamaConfig(**TINY, rope_theta=5e5)
SAID = {  # what is said: what rope_parameters become of BASE
    "theta": ({"rope_theta": 7.0}, {"rope_type": "default", "rope_theta": 7.0}),
    "numpy-theta": ({"rope_theta": np.float32(7)}, {"rope_type": "default", "rope_theta": 7.0}),
    "scaling-keeps-theta": ({"rope_scaling": LINEAR}, LINEAR | {"rope_theta": 5e5}),
    "old-type": (
        {"rope_scaling": {"type": "linear", "factor": 2.0}},
        LINEAR | {"rope_theta": 5e5},
    ),
    "both": ({"rope_scaling": LINEAR, "rope_theta": 7.0}, LINEAR | {"rope_theta": 7.0}),
    "parameters": ({"rope_parameters": LINEAR}, LINEAR | {"rope_theta": 5e5}),
    "twice-the-same": (
        {"rope_parameters": LINEAR, "rope_scaling": dict(LINEAR)},
        LINEAR | {"rope_theta": 5e5},
    ),
    "no-scaling": ({"rope_scaling": None}, {"rope_type": "default", "rope_theta": 5e5}),
    "original": (
        {
            "rope_scaling": {"rope_type": "yarn", "factor": 2.0},
            "original_max_position_embeddings": 32,
        },
        {"rope_type": "yarn", "factor": 2.0, "rope_theta": 5e5}
        | {"original_max_position_embeddings": 32},
    ),
}


@pytest.fixture
def saved(tmp_path):
    BASE.save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("case", SAID)
def test_D2_old_spellings_of_rope_act(case, saved):
    given, expected = SAID[case]
    config = BASE.replace(**given)
    assert dict(config.rope_parameters) == expected
    assert config.rope_theta == expected["rope_theta"]
    scaling = {key: value for key, value in expected.items() if key != "rope_theta"}
    assert config.rope_scaling == (None if expected["rope_type"] == "default" else scaling)
    assert fm.LlamaConfig(**TINY, **({"rope_theta": 5e5} | given)) == config
    assert fm.AutoConfig.from_pretrained(saved, **given) == config
    assert fm.LlamaConfig.from_pretrained(saved, **given) == config
    config.save_pretrained(saved / "again")
    assert fm.AutoConfig.from_pretrained(saved / "again") == config


def test_D2_a_new_theta_keeps_the_scaling():
    config = BASE.replace(rope_scaling=LINEAR).replace(rope_theta=7.0, hidden_size=16)
    assert dict(config.rope_parameters) == LINEAR | {"rope_theta": 7.0}


REFUSED = {  # class, what is said, error, text
    "typo": ("Llama", {"num_hiden_layers": 5}, TypeError, "mean num_hidden_layers"),
    "other-family": ("Llama", {"n_embd": 8}, TypeError, "LlamaConfig has no field 'n_embd'"),
    "rope-of-no-rope": ("Bert", {"rope_theta": 1e6}, TypeError, "no field 'rope_theta'"),
    "unimplemented": ("Llama", {"sliding_window": 4}, TypeError, "no field 'sliding_window'"),
    "C6-decoder": (
        "Bert",
        {"add_cross_attention": True},
        ConfigError,
        "add_cross_attention is for a decoder; set is_decoder",
    ),
    "position": (
        "Bert",
        {"position_embedding_type": "relative_key"},
        ConfigError,
        "position_embedding_type = 'relative_key' changes the model",
    ),
    "cross": ("Llama", {"add_cross_attention": True}, ConfigError, "add_cross_attention = True"),
    "quantised": ("Llama", {"quantization_config": {"bits": 4}}, ConfigError, "with quant_method"),
    "unsupported-in-extra": ("Bert", {"extra": {"is_decoder": True}}, ConfigError, "is_decoder"),
    "field-in-extra": ("Llama", {"extra": {"hidden_size": 4}}, ConfigError, "field of its own"),
    "old-name-in-extra": ("GPT2", {"extra": {"hidden_size": 4}}, ConfigError, "field of its own"),
    "spelling-in-extra": ("Llama", {"extra": {"rope_theta": 4}}, ConfigError, "field of its own"),
    "code-in-extra": ("Llama", {"extra": {"auto_map": {"A": "b.C"}}}, ConfigError, "names code"),
    "nan-in-extra": ("Llama", {"extra": {"x": [float("nan")]}}, ConfigError, "is no JSON"),
    "object-in-extra": ("Llama", {"extra": {"x": object()}}, ConfigError, "JSON has no form for"),
    "code": ("Llama", {"trust_remote_code": True}, TypeError, "no code of a repository is ever"),
    "storage-dtype": ("Llama", {"torch_dtype": "float16"}, TypeError, "param_dtype="),
    "dtype": ("Llama", {"dtype": np.float16}, TypeError, "param_dtype="),
    "generation": ("Llama", {"num_beams": 4}, TypeError, r"generate\(params, ids, num_beams=...\)"),
    "cache": ("Llama", {"use_cache": False}, TypeError, "use_cache"),
    "remat": ("Llama", {"gradient_checkpointing": True}, TypeError, "remat="),
    "model-type": ("Llama", {"model_type": "bert"}, TypeError, "model_type"),
    "two-names": ("GPT2", {"n_embd": 8, "hidden_size": 16}, ConfigError, "given under two names"),
    "two-ropes": (
        "Llama",
        {"rope_scaling": LINEAR, "rope_parameters": {"rope_type": "default"}},
        ConfigError,
        "rope_scaling is rope_parameters' old name",
    ),
    "two-thetas": (
        "Llama",
        {"rope_parameters": {"rope_theta": 5.0}, "rope_theta": 6.0},
        ConfigError,
        "rope_theta is given twice",
    ),
    "rope-key": (
        "Llama",
        {"rope_scaling": LINEAR | {"finetuned": True}},
        ConfigError,
        "of type 'linear' has the unknown key 'finetuned'",
    ),
    "rope-text": ("Llama", {"rope_scaling": "linear"}, ConfigError, "must be a mapping"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_D2_what_has_no_effect_raises(case, tmp_path):
    family, given, error, said = REFUSED[case]
    cls = getattr(fm, f"{family}Config")
    there = cls(**TINY) if family != "GPT2" else cls(n_embd=8, n_head=2)
    there.save_pretrained(tmp_path)
    for call in (
        cls,
        there.replace,
        lambda **given: cls.from_pretrained(tmp_path, **given),
        lambda **given: fm.AutoConfig.from_pretrained(tmp_path, **given),
    ):
        with pytest.raises(error, match=said) as caught:
            call(**given)
        assert cls.__name__ in str(caught.value) and len(str(caught.value)) < 1500


def test_C6_a_decoder_is_one_whoever_says_so(tmp_path):
    fm.BertConfig(**TINY).save_pretrained(tmp_path)
    for config in (
        fm.BertConfig(**TINY, is_decoder=True),
        fm.BertConfig(**TINY).replace(is_decoder=True),
        fm.BertConfig.from_pretrained(tmp_path, is_decoder=True),
        fm.AutoConfig.from_pretrained(tmp_path, is_decoder=True),
    ):
        assert config.is_decoder and fm.BertLMHeadModel(config).is_causal


@pytest.mark.parametrize("name", ["mesh", "shardings", "strict", "scan_layers", "param_dtype"])
def test_what_a_model_is_told_is_no_configuration_s(name, tmp_path):
    fm.BertConfig(**TINY).save_pretrained(tmp_path)
    with pytest.raises(TypeError, match=rf"does not take {name}: .*from_pretrained of a model"):
        fm.AutoConfig.from_pretrained(tmp_path, **{name: "x"})


@pytest.mark.parametrize(
    "fine",
    [
        {"is_decoder": False},
        {"torch_dtype": None},
        {"return_dict": True},
        {"pretraining_tp": 1},
        {"quantization_config": None},
        {"architectures": ["Mine"], "prefix": "x"},
        {"layer_types": ["full_attention"]},
        {"extra": {"mine": {"a": [1, None]}}},
    ],
)
def test_D2_what_is_so_anyway_and_notes_are_taken(fine):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for config in (BASE.replace(**fine), fm.LlamaConfig(**TINY, **fine)):
            written = config.to_dict()
            assert written | fine.get("extra", fine) == written
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "LlamaConfig does not know 'mine'")
                assert fm.LlamaConfig.from_dict(written) == config


def test_D16_aliases_in_constructors():
    config = fm.GPT2Config(hidden_size=8, num_attention_heads=2, num_hidden_layers=1)
    assert config == fm.GPT2Config(n_embd=8, n_head=2, n_layer=1)
    assert (config.n_embd, config.hidden_size) == (8, 8)
    with pytest.raises(TypeError, match="takes its fields by name"):
        fm.GPT2Config(8)


def test_a_constructor_shows_its_fields():
    names = inspect.signature(fm.LlamaConfig).parameters
    assert {"hidden_size", "rope_parameters", "id2label"} <= names.keys() and "self" not in names


THREE = {0: "a", 1: "b", 2: "c"}
BACK = {"a": 0, "b": 1, "c": 2}
LABELS = {
    "id2label": {"id2label": THREE},
    "texts": {"id2label": {str(i): label for i, label in THREE.items()}},
    "numpy": {"id2label": {np.int64(i): np.str_(label) for i, label in THREE.items()}},
    "label2id": {"label2id": BACK},
    "label2id-numpy": {"label2id": {label: np.int32(i) for label, i in BACK.items()}},
    "both": {"id2label": THREE, "label2id": BACK},
    "all-three": {"id2label": THREE, "label2id": BACK, "num_labels": 3},
    "num_labels-and-label2id": {"label2id": BACK, "num_labels": np.int64(3)},
}


@pytest.mark.parametrize("case", LABELS)
def test_D15_D16_labels_either_way(case, saved):
    given = LABELS[case]
    for config in (
        fm.LlamaConfig(**TINY, **given),
        BASE.replace(**given),
        fm.AutoConfig.from_pretrained(saved, **given),
    ):
        assert config.num_labels == 3 and config.label2id == BACK
        assert config.id2label[1] == config.id2label["1"] == config.id2label.get(np.int64(1)) == "b"
        assert 1 in config.id2label and 3 not in config.id2label
        again = fm.LlamaConfig.from_dict(config.to_dict())
        assert again == config and hash(again) == hash(config)
        for copied in (copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
            assert copied == config and copied.id2label[2] == "c"
        assert dataclasses.replace(config, hidden_size=16).id2label[2] == "c"


def test_D15_the_documented_classifier():
    folder = GOLDENS / "bert-masked-lm" / "checkpoint"
    with pytest.warns(UserWarning, match="not initialized|not used"):
        model, params = fm.AutoModelForSequenceClassification.from_pretrained(
            folder, num_labels=3, id2label=THREE, label2id=BACK, progress=False
        )
    assert model.config.label2id == BACK and params["classifier"]["kernel"].shape[1] == 3


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"id2label": THREE, "num_labels": 5}, "id2label names 3 labels, num_labels is 5"),
        ({"label2id": BACK, "num_labels": 5}, "names 3 labels, num_labels is 5"),
        ({"id2label": THREE, "label2id": {"a": 0, "b": 2, "c": 1}}, "the other way round"),
        ({"id2label": THREE, "label2id": {"a": 0}}, "the other way round"),
        ({"label2id": {"a": 0, "b": 0}}, "label2id gives 'a' the number of another label"),
        ({"label2id": {"a": "x"}}, "label2id must map labels to numbers, got 'x' for 'a'"),
        ({"label2id": {"a": True}}, "label2id must map labels to numbers, got True"),
        ({"label2id": ["a"]}, "label2id must map labels to numbers"),
        ({"id2label": ["a", "b"]}, "id2label must map numbers to labels"),
        ({"id2label": {"one": "a"}}, "id2label must map numbers to labels, got the key 'one'"),
        ({"id2label": {-1: "a"}}, "id2label must map numbers to labels, got the key '-1'"),
        ({"id2label": {"9" * 5000: "a"}}, "id2label must map numbers to labels, got the key"),
        ({"num_labels": 0}, "num_labels is 0; it must be positive"),
    ],
)
def test_D16_labels_that_do_not_agree(given, said):
    for call in (BASE.replace, lambda **given: fm.LlamaConfig(**TINY, **given)):
        with pytest.raises(ConfigError, match=f"LlamaConfig: .*{said}") as caught:
            call(**given)
        assert len(str(caught.value)) < 1000


def test_labels_go_and_come_with_their_number():
    config = BASE.replace(id2label=THREE)
    assert config.replace(num_labels=5).id2label is None
    assert config.replace(num_labels=5).label2id is None
    assert config.replace(num_labels=3) == config == config.replace(id2label=THREE)
    assert config.replace(id2label=None).num_labels == 3
    assert config.replace(id2label={4: "x"}).label2id == {"x": 4}


@pytest.mark.parametrize("nothing", ["attention_dropout", "output_attentions", "attention_bias"])
def test_None_is_the_default_where_the_reference_takes_it(nothing):
    assert fm.LlamaConfig(**TINY, **{nothing: None}) == fm.LlamaConfig(**TINY)
    changed = fm.LlamaConfig(**TINY, **{nothing: 0.5 if nothing.endswith("dropout") else True})
    assert changed.replace(**{nothing: None}) == fm.LlamaConfig(**TINY)


@pytest.mark.parametrize("needed", ["hidden_size", "rms_norm_eps", "hidden_act"])
def test_None_is_no_size(needed):
    with pytest.raises(ConfigError, match=f"{needed} must be .*got None"):
        fm.LlamaConfig(**TINY | {needed: None})


def test_token_ids_outside_of_the_vocabulary_are_said():
    with pytest.warns(UserWarning, match="pad_token_id is 16, and no token has 16: vocab_size is"):
        fm.LlamaConfig(**TINY, pad_token_id=16)
    with pytest.warns(UserWarning, match=r"eos_token_id is \(3, -7\), and no token has -7"):
        BASE.replace(eos_token_id=[3, -7])
    with pytest.raises(ConfigError, match="eos_token_id is 2147483648; a token id is an int32"):
        BASE.replace(eos_token_id=2**31)
    with pytest.raises(ConfigError, match="pad_token_id is -2147483649; a token id is an int32"):
        fm.LlamaConfig(pad_token_id=-(2**31) - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        BASE.replace(pad_token_id=-1)  # as files say none
        fm.GPT2Config(vocab_size=16, n_embd=8, n_head=2)  # whose default nobody chose
        small = fm.LlamaConfig(**TINY, pad_token_id=15).replace(vocab_size=8)
    assert small.pad_token_id == 15


def test_D28_a_class_of_configuration_takes_what_resolve_takes(saved):
    found = hub.resolve(saved)
    for name in (saved, str(saved), saved / "config.json"):
        assert fm.LlamaConfig.from_pretrained(name) == fm.AutoConfig.from_pretrained(name) == BASE
    assert fm.LlamaConfig.from_pretrained(found) == BASE
    (saved / "deep").mkdir()
    BASE.replace(rope_theta=3.0).save_pretrained(saved / "deep")
    assert fm.LlamaConfig.from_pretrained(saved, subfolder="deep").rope_theta == 3.0
    with pytest.warns(FutureWarning, match="use_auth_token is now token"):
        fm.LlamaConfig.from_pretrained(saved, use_auth_token="hf_x")
    other = put(saved, "other.json", BASE.to_json())
    assert fm.LlamaConfig.from_pretrained(other) == fm.AutoConfig.from_pretrained(other) == BASE


@pytest.mark.parametrize("name", ["nowhere/config.json", "./nowhere", "a/b/c", "/nowhere/x", "~/x"])
def test_D33_what_cannot_be_a_repository_is_not_asked_for(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("socket.socket.connect", None)
    for cls in (fm.LlamaConfig, fm.AutoConfig):
        with pytest.raises((ConfigError, fm.CheckpointError), match="[Nn]o such f|nor a reposit"):
            cls.from_pretrained(name)


MISTAKES = {
    "a list": (lambda: fm.LlamaConfig.from_dict([1]), "config.json is .1.; expected an object"),
    "no values": (
        lambda: fm.LlamaConfig.from_dict(None),
        "config.json is None; expected an object",
    ),
    "a tuple for a key": (lambda: fm.LlamaConfig.from_dict({("a",): 1}), r"the key \('a',\)"),
    "a setting as a note": (
        lambda: fm.GenerationConfig(extra={"top_k": 4}),
        "extra is {'top_k': 4}",
    ),
    "a list of notes": (lambda: fm.GenerationConfig(extra=[1]), "extra is .1.; expected a mapping"),
}


def test_what_is_no_mapping_of_keys_is_named():
    for what, (call, said) in MISTAKES.items():
        with pytest.raises(ConfigError) as caught:
            call()
        assert re.search(said, str(caught.value)), what
    assert fm.GenerationConfig(extra=None) == fm.GenerationConfig()


@pytest.mark.parametrize("name", [None, 5, b"/tmp", ["a"]], ids=str)
def test_what_is_no_name_is_said_before_anything_is_looked_up(name):
    for call in (fm.LlamaConfig.from_pretrained, fm.AutoConfig.from_pretrained, fm.download):
        with pytest.raises(TypeError, match="name_or_path"):
            call(name)

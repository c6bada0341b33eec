"""Auto classes, the registry, and the package's names."""

import json
import pickle
import shutil

import _families as tables
import pytest
from _paths import GOLDENS

import flaxmodels as fm
from flaxmodels import hub, registry
from flaxmodels.auto import architecture
from flaxmodels.checkpoints import request
from flaxmodels.documents.json_values import ConfigError
from flaxmodels.registry import AUTO_CLASSES, FAMILIES, HEADS, Family


@pytest.mark.parametrize(
    ("auto", "golden", "expected"),
    [
        ("AutoModel", "bert-masked-lm", "BertModel"),
        ("AutoModel", "gpt2-model", "GPT2Model"),
        ("AutoModelForMaskedLM", "bert-masked-lm", "BertForMaskedLM"),
        ("AutoModelForPreTraining", "bert-pre-training", "BertForPreTraining"),
        ("AutoModelForPreTraining", "gpt2-lm-head", "GPT2LMHeadModel"),
        ("AutoModelForPreTraining", "llama-causal-lm", "LlamaForCausalLM"),
        ("AutoModelForCausalLM", "gpt2-lm-head", "GPT2LMHeadModel"),
        ("AutoModelForCausalLM", "llama-causal-lm", "LlamaForCausalLM"),
        ("FlaxAutoModelForCausalLM", "flax-gpt2-lm-head", "GPT2LMHeadModel"),
        ("AutoModelForSequenceClassification", "llama-sequence-classification", None),
        ("AutoModelForTokenClassification", "bert-token-classification", None),
        ("AutoModelForQuestionAnswering", "gpt2-question-answering", None),
        ("AutoModelForMultipleChoice", "bert-multiple-choice", None),
        ("AutoModelForNextSentencePrediction", "bert-next-sentence-prediction", None),
    ],
)
@pytest.mark.filterwarnings("ignore:Weights from")
def test_auto_class_finds_the_class(auto, golden, expected):
    folder = GOLDENS / golden / "checkpoint"
    expected = expected or json.loads((folder / "config.json").read_text())["architectures"][0]
    model, params = getattr(fm, auto).from_pretrained(folder)
    assert type(model).__name__ == expected
    assert type(getattr(fm, auto).from_config(model.config)).__name__ == expected


@pytest.mark.parametrize("load", ["auto", "class", "plan"])
def test_a_load_resolves_once_and_parses_the_config_once(load, monkeypatch):
    folder = GOLDENS / "llama-causal-lm" / "checkpoint"
    content = (folder / "config.json").read_text()
    resolved, parsed = [], []

    def resolve(*args, **options):
        resolved.append(args)
        return hub.resolve(*args, **options)

    def loads(text, *args, _loads=json.loads, **options):
        parsed.append(text)
        return _loads(text, *args, **options)

    monkeypatch.setattr(request, "resolve", resolve)
    monkeypatch.setattr(json, "loads", loads)
    {
        "auto": fm.AutoModelForCausalLM.from_pretrained,
        "class": fm.LlamaForCausalLM.from_pretrained,
        "plan": fm.load_plan,
    }[load](folder)
    assert len(resolved) == 1 and parsed.count(content) == 1


def test_P13_3_config_may_be_a_file():
    folder = GOLDENS / "llama-causal-lm" / "checkpoint"
    model, _ = fm.AutoModelForCausalLM.from_pretrained(folder, config=folder / "config.json")
    assert isinstance(model, fm.LlamaForCausalLM)


def test_every_auto_class_and_its_flax_alias_exist():
    for name in AUTO_CLASSES:
        assert getattr(fm, name) is getattr(fm, f"Flax{name}")
        assert getattr(fm, name).__name__ == name and getattr(fm, name).__doc__


def test_every_family_class_is_named_by_the_package():
    assert [*FAMILIES] == sorted(FAMILIES)
    known = [name for f in FAMILIES.values() for name in (f.config, *f.models, *f.other_names)]
    assert len(known) == len({*known})
    for model_type, family in FAMILIES.items():
        assert {*family.heads} <= HEADS.keys()
        assert getattr(fm, family.config).model_type == model_type
        for name in (family.config, *family.models):
            assert getattr(fm, name).__name__ == name and name in dir(fm)
        for name in family.models:
            assert getattr(fm, name).config_class.model_type == model_type
            assert getattr(fm, f"Flax{name}") is getattr(fm, name)
        for other, name in family.other_names.items():
            assert getattr(fm, other) is getattr(fm, f"Flax{other}") is getattr(fm, name)
    with pytest.raises(AttributeError, match="BertForNothing") as error:
        _ = fm.BertForNothing  # pyright: ignore[reportAttributeAccessIssue]
    assert (error.value.name, error.value.obj) == ("BertForNothing", fm)


def test_classes_that_no_file_writes_out_are_classes_of_their_module():
    from flaxmodels.families import granite, qwen3

    model = fm.Qwen3ForCausalLM(fm.Qwen3Config(num_hidden_layers=1))
    cls = type(model)
    assert (cls.__module__, cls.__qualname__) == (qwen3.__name__, "Qwen3ForCausalLM")
    assert cls is qwen3.Qwen3ForCausalLM and pickle.loads(pickle.dumps(model)) == model
    assert isinstance(model, qwen3.Qwen3Pretrained) and cls.backbone is fm.Qwen3Model
    assert (cls.__doc__ or "").startswith("tokens [B, T] -> logits")
    prefixes = (fm.Qwen3ForQuestionAnswering.base_model_prefix, cls.base_model_prefix)
    assert prefixes == ("transformer", "model")
    for name in ("GraniteForTokenClassification", "GraniteForNothing", "Qwen3Model", "__path__"):
        with pytest.raises(AttributeError, match=f"families.granite' has no attribute '{name}'"):
            getattr(granite, name)


def test_names_of_a_module_with_several_model_types(monkeypatch):
    monkeypatch.setattr(registry, "FAMILIES", {"blenderbot-small": SMALL, "gemma3_text": GEMMA})
    names = registry.names_of_families.__wrapped__()
    assert names["FlaxBlenderbotSmallModel"] == ("blenderbot_small", "BlenderbotSmallModel")
    assert names["Gemma3TextConfig"] == ("gemma3_text", "Gemma3TextConfig")
    assert names["Gemma3ForCausalLM"] == names["FlaxGemma3ForCausalLM"]
    assert "FlaxGemma3TextConfig" not in names
    assert registry.model_type_of("small_blenderbot") == "blenderbot-small"
    assert registry.model_type_of(["gemma3_text"]) == ["gemma3_text"]


GEMMA = Family(
    "Gemma3Text",
    ("Model", "ForSequenceClassification"),
    "",
    classes=("Gemma3ForCausalLM",),
)
SMALL = Family("BlenderbotSmall", ("Model",), "", model_types=("small_blenderbot",))
WHISPER = Family(
    "Whisper",
    ("Model", "ForConditionalGeneration", "ForAudioClassification"),
    "",
    serves={"AutoModelForSpeechSeq2Seq": "WhisperForConditionalGeneration"},
)
BART = Family("Bart", ("Model", "ForConditionalGeneration", "ForCausalLM"), "")
ROBERTA = Family("Roberta", ("Model", "ForCausalLM", "ForMaskedLM"), "")
COMPOSITE = Family(
    "EncoderDecoder", ("Model",), "", serves={"AutoModelForSeq2SeqLM": "EncoderDecoderModel"}
)


@pytest.mark.parametrize(
    ("family", "auto", "expected"),
    [
        (GEMMA, "AutoModel", "Gemma3TextModel"),
        (GEMMA, "AutoModelForCausalLM", "Gemma3ForCausalLM"),
        (WHISPER, "AutoModelForSpeechSeq2Seq", "WhisperForConditionalGeneration"),
        (WHISPER, "AutoModelForAudioClassification", "WhisperForAudioClassification"),
        (WHISPER, "AutoModelForSeq2SeqLM", None),
        (BART, "AutoModelForSeq2SeqLM", "BartForConditionalGeneration"),
        (BART, "AutoModelForPreTraining", "BartForConditionalGeneration"),
        (ROBERTA, "AutoModelForPreTraining", "RobertaForMaskedLM"),
        (Family("Marian", ("Model", "MTModel"), ""), "AutoModelForSeq2SeqLM", "MarianMTModel"),
        (COMPOSITE, "AutoModelForSeq2SeqLM", "EncoderDecoderModel"),
        (COMPOSITE, "AutoModel", None),
        (Family("T5", ("Model",), "", classes=("T5EncoderModel",)), "AutoModel", "T5Model"),
    ],
)
def test_which_class_of_a_family_serves_an_auto_class(family, auto, expected):
    assert family.serving(auto) == expected
    assert expected is None or expected in family.models


@pytest.mark.parametrize("model_type", FAMILIES)
def test_every_family_has_a_table_for_the_reference_with_all_its_classes(model_type):
    assert model_type in tables.names()
    assert {*tables.load(model_type).classes} == {*FAMILIES[model_type].models}


def test_an_old_model_type_opens_as_the_family_that_it_is(tmp_path):
    folder = GOLDENS / "gpt2-lm-head" / "checkpoint"
    values = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | {"model_type": "gpt-sw3"}))
    config = fm.AutoConfig.from_pretrained(tmp_path)
    assert config == fm.AutoConfig.from_pretrained(folder)
    assert config == fm.GPT2Config.from_pretrained(tmp_path)
    assert fm.AutoModelForCausalLM.class_for("gpt-sw3") is fm.GPT2LMHeadModel
    assert config.to_dict()["model_type"] == "gpt2"


def test_unknown_family_and_missing_head(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mamba9"}))
    with pytest.raises(fm.ConfigError, match="'mamba9'; there are .*bert, "):
        fm.AutoModel.from_pretrained(tmp_path)
    with pytest.raises(fm.ConfigError, match="'mamba9'"):
        fm.AutoConfig.from_pretrained(tmp_path)
    for odd in ("lama", "LLaMA"):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": odd}))
        with pytest.raises(
            fm.ConfigError, match=rf"'{odd}' \(did you mean llama\?\); there are .*bert, "
        ):
            fm.AutoModel.from_pretrained(tmp_path)
    with pytest.raises(fm.ConfigError, match="llama has no class for AutoModelForMaskedLM"):
        fm.AutoModelForMaskedLM.from_pretrained(GOLDENS / "llama-causal-lm" / "checkpoint")


def test_auto_config_overrides():
    folder = GOLDENS / "gpt2-lm-head" / "checkpoint"
    config = fm.AutoConfig.from_pretrained(folder, output_attentions=True, tokenizer_class="Mine")
    assert isinstance(config, fm.GPT2Config) and config.output_attentions
    assert config.tokenizer_class == "Mine" and config.hidden_size == config.n_embd
    with pytest.raises(TypeError, match="'output_atentions'.*did you mean"):
        fm.AutoConfig.from_pretrained(folder, output_atentions=True)


def test_R7_code_in_a_repository_is_never_imported(tmp_path):
    values = json.loads((GOLDENS / "llama-causal-lm/checkpoint/config.json").read_text())
    values["auto_map"] = {"AutoModelForCausalLM": "modeling_evil.Evil"}
    values["architectures"] = ["os.system", "Evil"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    (tmp_path / "modeling_evil.py").write_text("raise SystemExit('imported')")
    with pytest.warns(UserWarning, match="no class here is called 'os.system', 'Evil'; LlamaModel"):
        assert architecture(str(tmp_path)) is fm.LlamaModel
    (tmp_path / "config.json").write_text(
        json.dumps(values | {"architectures": ["LlamaForCausalLm"]})
    )
    near = r"is called 'LlamaForCausalLm' \(did you mean LlamaForCausalLM\?\); LlamaModel is taken"
    with pytest.warns(UserWarning, match=near):
        assert architecture(str(tmp_path)) is fm.LlamaModel
    with pytest.warns(UserWarning, match="auto_map of config.json: remote code ignored"):
        assert "auto_map" not in fm.AutoConfig.from_pretrained(tmp_path).extra


BAD_NAMES = {
    "C5-text": ({"architectures": "LlamaModel"}, "architectures must be a list, got 'LlamaModel'"),
    "C5-int": ({"architectures": 3}, "architectures must be a list, got 3"),
    "C5-map": ({"architectures": {"a": 1}}, "architectures must be a list"),
    "C5-type-list": ({"model_type": ["llama"]}, "model_type of config.json must be a name, got"),
    "C5-type-null": ({"model_type": None}, "model_type of config.json must be a name, got None"),
    "C5-type-unknown": ({"model_type": "x"}, "no family for model_type 'x'"),
}


@pytest.mark.parametrize("case", BAD_NAMES)
def test_C5_names_that_are_none(case, tmp_path):
    values, said = BAD_NAMES[case]
    values = {"architectures": None, "model_type": "llama"} | values
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=said):
        architecture(str(tmp_path))
    if "type" in case:
        with pytest.raises(ConfigError, match=said):
            fm.AutoConfig.from_pretrained(tmp_path)
        with pytest.raises(ConfigError, match=said):
            fm.AutoModelForCausalLM.from_pretrained(tmp_path)


@pytest.mark.parametrize("names", [None, [], ["LlamaForCausalLM"], [3, None, "LlamaForCausalLM"]])
def test_C5_architectures(names, tmp_path):
    values = {"architectures": names, "model_type": "llama"}
    (tmp_path / "config.json").write_text(json.dumps(values))
    expected = fm.LlamaForCausalLM if names else fm.LlamaModel
    assert architecture(str(tmp_path)) is expected


def test_C19_broken_files_of_a_tokenizer(tmp_path):
    shutil.copytree(GOLDENS / "llama-causal-lm" / "checkpoint", tmp_path, dirs_exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json"):
        (tmp_path / name).write_bytes(b"\xff{")
    assert isinstance(fm.AutoModelForCausalLM.from_pretrained(tmp_path)[0], fm.LlamaForCausalLM)

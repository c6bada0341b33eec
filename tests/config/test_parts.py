"""Configurations inside of a configuration, by families that no release has."""

import dataclasses
import json
from typing import ClassVar

import pytest

import flaxmodels as fm
from flaxmodels import registration
from flaxmodels.config.config import Config


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordsConfig(Config):
    model_type: ClassVar[str] = "words_text"

    vocab_size: int = 16
    hidden_size: int = 8
    max_positions: int = 32
    eos_token_id: int | tuple[int, ...] | None = 3

    @property
    def position_limit(self) -> int:
        return self.max_positions


@dataclasses.dataclass(frozen=True, kw_only=True)
class EyesConfig(Config):
    model_type: ClassVar[str] = "words_vision"

    hidden_size: int = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class BothConfig(Config):
    """A model of text and images, whose images may be left out."""

    model_type: ClassVar[str] = "words"
    sub_configs: ClassVar = {"text_config": WordsConfig, "vision_config": EyesConfig}

    text_config: WordsConfig = dataclasses.field(default_factory=WordsConfig)
    vision_config: EyesConfig | None = None
    image_token_id: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairConfig(Config):
    """An encoder and a decoder of any families."""

    model_type: ClassVar[str] = "pair"
    sub_configs: ClassVar = {"encoder": Config, "decoder": Config}

    encoder: Config
    decoder: Config


FILE = {
    "model_type": "words",
    "image_token_id": 7,
    "text_config": {"model_type": "words_text", "vocab_size": 24, "use_cache": True},
    "vision_config": {"hidden_size": 12, "num_labels": 3},
}


def test_parts_go_to_json_and_back():
    config = BothConfig.from_dict(FILE)
    assert config.text_config == WordsConfig(vocab_size=24, extra={"use_cache": True})
    assert config.vision_config is not None and config.vision_config.hidden_size == 12
    written = config.to_dict()
    assert written["text_config"]["model_type"] == "words_text"
    assert written["text_config"]["use_cache"] is True and "use_cache" not in written
    again = BothConfig.from_dict(json.loads(config.to_json()))
    assert again == config and hash(again) == hash(config) and again.to_json() == config.to_json()


def test_a_part_that_a_file_leaves_out_is_its_default_or_none():
    config = BothConfig.from_dict({"model_type": "words", "text_config": None})
    assert config == BothConfig() == BothConfig(text_config=WordsConfig())
    assert config.vision_config is None and config.to_dict()["vision_config"] is None
    assert BothConfig(vision_config={}) == BothConfig(vision_config=EyesConfig())


def test_unknown_keys_are_kept_at_their_level():
    values = FILE | {"text_config": {"thing": [1, {"a": None}]}}
    with pytest.warns(UserWarning, match="f.json: WordsConfig does not know 'thing'"):
        config = BothConfig.from_dict(values, path="f.json")
    assert config.extra == {} and config.text_config.extra["thing"] == (1, {"a": None})
    assert config.to_dict()["text_config"]["thing"] == [1, {"a": None}]


def test_a_caller_gives_a_part_or_its_fields():
    config = BothConfig(text_config={"vocab_size": 24, "hidden_size": 16})
    assert config.text_config == WordsConfig(vocab_size=24, hidden_size=16)
    changed = config.replace(text_config={"hidden_size": 4}, vision_config={"hidden_size": 2})
    assert changed.text_config == WordsConfig(vocab_size=24, hidden_size=4)
    assert changed.vision_config == EyesConfig(hidden_size=2) and config.vision_config is None
    assert config.replace(text_config=WordsConfig()) == BothConfig()
    assert config.replace(image_token_id=2).text_config is config.text_config


def test_text_is_itself_or_the_part_with_the_vocabulary():
    config = BothConfig.from_dict(FILE)
    assert config.text is config.text_config and config.text.text is config.text
    assert config.replace_text(vocab_size=99).text.vocab_size == 99
    assert config.text.replace_text(vocab_size=99).vocab_size == 99


def test_generation_reads_the_text():
    config = BothConfig.from_dict(FILE)
    assert fm.GenerationConfig.of(config).eos_token_id == 3
    assert fm.GenerationConfig.of(config.replace(eos_token_id=5)).eos_token_id == 5
    with pytest.warns(UserWarning, match="WordsConfig: eos_token_id is 40, and no token has 40"):
        small = config.replace_text(eos_token_id=40)
    with pytest.warns(
        UserWarning, match="eos_token_id is 40, and the model has the tokens 0 to 23"
    ):
        assert fm.GenerationConfig.of(small).eos_token_id is None


def test_a_part_of_any_family_is_the_one_that_it_names():
    values = {
        "encoder": {"model_type": "bert", "hidden_size": 24},
        "decoder": {"model_type": "gpt2"},
    }
    config = PairConfig.from_dict(values)
    assert type(config.encoder) is fm.BertConfig and config.encoder.hidden_size == 24
    assert config.text is config.decoder and type(config.decoder) is fm.GPT2Config
    assert PairConfig(**values) == config == PairConfig.from_dict(config.to_dict())
    changed = config.replace(encoder={"hidden_size": 48}, decoder={"model_type": "llama"})
    assert changed.encoder == fm.BertConfig(hidden_size=48) and changed.text == fm.LlamaConfig()


WRONG = {
    "value": (
        {"text_config": {"hidden_size": -1}},
        "BothConfig: text_config: WordsConfig: hidden_",
    ),
    "kind": ({"text_config": 3}, "text_config must be a WordsConfig, or a mapping of its fields"),
    "other": (
        {"text_config": {"model_type": "llama"}},
        "text_config: WordsConfig reads model_type",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_a_part_is_said_with_its_name(case):
    values, said = WRONG[case]
    with pytest.raises(fm.ConfigError, match=said):
        BothConfig.from_dict(values)


def test_what_a_caller_may_not_give_to_a_part():
    with pytest.raises(
        TypeError, match="WordsConfig has no field 'hiden_size': did you mean hidden"
    ):
        BothConfig(text_config={"hiden_size": 3})
    with pytest.raises(fm.ConfigError, match="text_config must be a WordsConfig"):
        BothConfig(text_config=EyesConfig())
    with pytest.raises(
        fm.ConfigError, match="encoder: no family for model_type 'brt' .did you mean"
    ):
        PairConfig(encoder={"model_type": "brt"}, decoder=fm.GPT2Config())
    with pytest.raises(fm.ConfigError, match="decoder: it needs a model_type: one of .*bert, "):
        PairConfig(encoder=fm.BertConfig(), decoder={})


def test_auto_config_reads_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(registration, "_configs", {})
    fm.AutoConfig.register("words", BothConfig)
    (tmp_path / "config.json").write_text(json.dumps(FILE))
    config = fm.AutoConfig.from_pretrained(tmp_path, text_config={"hidden_size": 2})
    assert config.text.hidden_size == 2 and config.text.vocab_size == 24

"""Classes of users: registered with the auto classes, saved, found again (P25, F9, T19, D19)."""

import dataclasses
import json

import pytest
from _drawn import params_of

import flaxmodels as fm
from flaxmodels import registration
from flaxmodels.commands.cli import main
from flaxmodels.commands.convert import convert

SMALL = {
    "vocab_size": 8,
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MineConfig(fm.LlamaConfig):
    model_type = "mine"


class MineForCausalLM(fm.LlamaForCausalLM):
    config_class = MineConfig


class OwnLlama(fm.LlamaForCausalLM):
    """A class of the user's for the family's own configuration."""


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    monkeypatch.setattr(registration, "_models", {})
    monkeypatch.setattr(registration, "_configs", {})
    monkeypatch.setattr(registration, "_instead", set())


def saved(cls, folder):
    model = cls(cls.config_class(**SMALL))
    model.save_pretrained(params_of(model), folder)
    return folder


FORMS = {
    "P25-name": lambda: fm.register_for_auto_class("AutoModelForCausalLM")(MineForCausalLM),
    "P25-class": lambda: fm.register_for_auto_class(fm.AutoModelForCausalLM)(MineForCausalLM),
    "P25-keyword": lambda: fm.register_for_auto_class(auto_class="AutoModelForCausalLM")(
        MineForCausalLM
    ),
    "P25-method": lambda: MineForCausalLM.register_for_auto_class("AutoModelForCausalLM"),
    "P25-method-class": lambda: MineForCausalLM.register_for_auto_class(fm.AutoModelForCausalLM),
    "F9": lambda: fm.register_for_auto_class("FlaxAutoModelForCausalLM")(MineForCausalLM),
    "F9-method": lambda: MineForCausalLM.register_for_auto_class("FlaxAutoModelForCausalLM"),
    "T19": lambda: fm.register_for_auto_class("TFAutoModelForCausalLM")(MineForCausalLM),
    "auto-register": lambda: (
        fm.AutoConfig.register("mine", MineConfig),
        fm.AutoModelForCausalLM.register(MineConfig, MineForCausalLM),
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_P25_T19_F9_D19_every_form_registers(form, tmp_path, capsys):
    assert FORMS[form]() in (MineForCausalLM, (None, None))
    folder = saved(MineForCausalLM, tmp_path / "saved")
    written = json.loads((folder / "config.json").read_text())
    assert written["auto_map"] == {"AutoModelForCausalLM": "MineForCausalLM"}
    loaded, _ = fm.AutoModelForCausalLM.from_pretrained(folder)
    assert type(loaded) is MineForCausalLM and loaded.config.hidden_size == 8
    assert type(fm.AutoModelForCausalLM.from_config(loaded.config)) is MineForCausalLM
    assert isinstance(fm.AutoConfig.from_pretrained(folder), MineConfig)
    assert fm.load_plan(folder).leaves and main(["plan", str(folder)]) == 0
    assert "load plan of" in capsys.readouterr().out
    assert convert(folder, tmp_path / "converted", progress=False)
    assert type(fm.AutoModelForCausalLM.from_pretrained(tmp_path / "converted")[0]) is type(loaded)


@pytest.mark.parametrize("default", ["AutoModel", "FlaxAutoModel", "TFAutoModel", None])
def test_P25_T19_F9_D19_the_default_is_auto_model(default):
    class Mine(fm.LlamaModel):
        config_class = MineConfig

    decorate = fm.register_for_auto_class
    assert (decorate(Mine) if default is None else decorate(default)(Mine)) is Mine
    assert fm.AutoModel.class_for("mine") is Mine
    assert decorate()(Mine) is Mine and Mine.register_for_auto_class() is Mine


def test_D19_a_class_for_a_familys_configuration_serves_what_names_it(tmp_path):
    fm.register_for_auto_class("AutoModelForCausalLM")(OwnLlama)
    own = saved(OwnLlama, tmp_path / "own")
    theirs = saved(fm.LlamaForCausalLM, tmp_path / "theirs")
    load = fm.AutoModelForCausalLM.from_pretrained
    assert type(load(own)[0]) is OwnLlama and type(load(theirs)[0]) is fm.LlamaForCausalLM
    assert "auto_map" not in json.loads((theirs / "config.json").read_text())
    with pytest.raises(ValueError, match="LlamaForCausalLM serves LlamaConfig; give exist_ok"):
        fm.AutoModelForCausalLM.register(fm.LlamaConfig, OwnLlama)
    fm.AutoModelForCausalLM.register(fm.LlamaConfig, OwnLlama, exist_ok=True)
    assert type(load(theirs)[0]) is OwnLlama


def test_D19_what_cannot_be_registered():
    with pytest.raises(ValueError, match="no auto class 'AutoModelForTea'; there are AutoModel, "):
        fm.register_for_auto_class("AutoModelForTea")
    with pytest.raises(ValueError, match="no auto class 'LlamaConfig'"):
        fm.register_for_auto_class(fm.LlamaConfig)
    with pytest.raises(ValueError, match="no auto class 3"):
        fm.register_for_auto_class(3)

    class Nameless(fm.PretrainedModel):
        pass

    with pytest.raises(ValueError, match="no model_type to be found by"):
        fm.register_for_auto_class(Nameless)
    with pytest.raises(ValueError, match="MineConfig.model_type is 'mine', not 'other'"):
        fm.AutoConfig.register("other", MineConfig)
    with pytest.raises(ValueError, match="model_type 'llama' is LlamaConfig's"):
        fm.AutoConfig.register("llama", fm.LlamaConfig)
    with pytest.raises(ValueError, match="OwnLlama reads a LlamaConfig, not a MineConfig"):
        fm.AutoModelForCausalLM.register(MineConfig, OwnLlama)
    for given in (3, MineConfig, fm.LlamaForCausalLM(fm.LlamaConfig())):
        with pytest.raises(TypeError, match="is no model class: one has a config_class"):
            fm.register_for_auto_class("AutoModel")(given)
    with pytest.raises(
        TypeError, match="'mine' is no class of configurations, as fm.LlamaConfig is"
    ):
        fm.AutoModelForCausalLM.register("mine", OwnLlama)


def test_an_auto_class_is_no_model_and_takes_a_configuration():
    with pytest.raises(TypeError, match=r"no model: AutoModel.from_pretrained\(name\)"):
        fm.AutoModel()
    for given in ({"model_type": "llama"}, fm.LlamaConfig, "llama"):
        with pytest.raises(TypeError, match="from_config takes a configuration, got "):
            fm.AutoModel.from_config(given)


def test_R7_a_map_to_code_finds_nothing(tmp_path):
    """A dotted name is code of a repository: it is never the class of that name."""
    fm.register_for_auto_class("AutoModelForCausalLM")(OwnLlama)
    folder = saved(fm.LlamaForCausalLM, tmp_path)
    values = json.loads((folder / "config.json").read_text())
    values["auto_map"] = {"AutoModelForCausalLM": "modeling_own.OwnLlama"}
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.warns(UserWarning, match="remote code ignored"):
        assert type(fm.AutoModelForCausalLM.from_pretrained(folder)[0]) is fm.LlamaForCausalLM

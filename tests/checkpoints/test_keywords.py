"""Keywords of a load: each acts, or raises with what to write instead (P13, F1, F7, D1, D14)."""

import dataclasses
import inspect
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _drawn import params_of, tiny_llama

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels.calls.keyword_table import KEYWORDS, NOTES
from flaxmodels.calls.signature import names_of
from flaxmodels.checkpoints import options
from flaxmodels.checkpoints.config_fields import ConfigFields
from flaxmodels.checkpoints.model_plan import PlanOptions
from flaxmodels.checkpoints.publishing.model_card import CardInfo
from flaxmodels.checkpoints.publishing.push import PUSH_DEFAULTS, PushOptions
from flaxmodels.checkpoints.request import DEFAULTS, Request, WeightChoice
from flaxmodels.checkpoints.save_options import SaveOptions
from flaxmodels.core.fields import config_names, field_names
from flaxmodels.hub import HubKeywords, HubOptions
from flaxmodels.registry import FAMILIES

ASKS = {
    "gradient_checkpointing": True,
    "use_flash_attention_2": True,
    "torch_dtype": "bfloat16",
    "use_auth_token": "hf_x",
}
"""Values for the keywords that act; for others an object that no table lists will do."""
VALUE = "something"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    config = tiny_llama(vocab_size=16, hidden_size=8, intermediate_size=8, num_hidden_layers=1)
    model = fm.LlamaForCausalLM(config)
    path = tmp_path_factory.mktemp("keywords")
    model.save_pretrained(fp.cast(params_of(model), "bfloat16"), path)
    return path


def calls(folder, **given):
    """Every call that takes the keywords of a load."""
    return (
        lambda: fm.LlamaForCausalLM.from_pretrained(folder, **given),
        lambda: fm.AutoModelForCausalLM.from_pretrained(folder, **given),
        lambda: fm.load_plan(folder, **given),
    )


@pytest.mark.parametrize("name", [n for n, keyword in KEYWORDS.items() if not keyword.becomes])
def test_D14_a_keyword_that_does_not_act_raises_with_what_to_write(folder, name):
    for call in calls(folder, **{name: VALUE}):
        with pytest.raises(TypeError, match=f"does not take {name}='something': ") as error:
            call()
        assert "{" not in str(error.value).replace("{'params': params}", "").replace(
            "{'dropout': key}", ""
        ).replace("{pattern: dtype}", "").replace("{PyTorch name: array}", "")


@pytest.mark.parametrize("name", [n for n, keyword in KEYWORDS.items() if keyword.fine])
@pytest.mark.filterwarnings("ignore:.*leave it out:FutureWarning")
def test_D14_a_value_that_asks_for_what_happens_anyway_is_fine(folder, name):
    for value in KEYWORDS[name].fine:
        plan = fm.load_plan(folder, **{name: value})
        assert {str(leaf.dtype) for leaf in plan.leaves} == {"bfloat16"}


def test_P13_17_D1_torch_dtype_is_param_dtype(folder):
    for dtype in ("float16", jnp.float16, jnp.dtype("float16")):
        with pytest.warns(FutureWarning, match="torch_dtype is now param_dtype") as said:
            _, params = fm.AutoModelForCausalLM.from_pretrained(folder, torch_dtype=dtype)
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float16")}
        assert {warning.filename for warning in said} == {__file__}
    for call in calls(folder, torch_dtype="float16", param_dtype="float32"):
        with (
            pytest.warns(FutureWarning, match="torch_dtype"),
            pytest.raises(TypeError, match="torch_dtype and param_dtype are one"),
        ):
            call()


def test_P13_17_param_dtype_none_is_float32_and_dtype_auto_says_which_is_which(folder):
    plan = fm.load_plan(folder, param_dtype=None)
    assert {str(leaf.dtype) for leaf in plan.leaves} == {"float32"}
    unused = pytest.warns(UserWarning, match="not used in .*: lm_head.weight")
    with unused, pytest.warns(UserWarning, match="score/kernel"):
        _, params = fm.LlamaForSequenceClassification.from_pretrained(folder, param_dtype=None)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    for call in calls(folder, dtype="auto"):
        with pytest.raises(TypeError, match="param_dtype, which is 'auto' already"):
            call()


def test_D14_a_value_of_another_kind_is_refused(folder):
    values = (Request, PlanOptions, WeightChoice, HubOptions)
    fields = [field for cls in values for field in dataclasses.fields(cls)]
    flags = [field.name for field in fields if field.type in (bool, bool | None)]
    assert "strict" in flags and "use_safetensors" in flags
    wrong = [({name: "no"}, TypeError, f"{name} is 'no'; expected True or False") for name in flags]
    wrong += [({"key": 0}, TypeError, r"key is 0; pass key=jax.random.key\(seed\)")]
    wrong += [
        ({"max_host_memory": value}, ValueError, f"max_host_memory is {value!r}; give bytes")
        for value in (0, -1, "much", 1.5, None)
    ]
    for given, error, message in wrong:
        with pytest.raises(error, match=message):
            fm.LlamaForCausalLM.from_pretrained(folder, **given)


def test_P13_a_flag_that_is_none_is_its_default_and_a_budget_may_be_a_text(folder):
    plan = fm.load_plan(folder, strict=None, progress=None, max_host_memory="2MB")
    assert plan.max_host_memory == 2_000_000


@pytest.mark.parametrize("key", [0, None, "0", np.uint32(0)])
def test_P21_what_is_no_key_is_refused(folder, key):
    model, _ = fm.AutoModelForCausalLM.from_pretrained(folder)
    with pytest.raises(TypeError, match=r"pass key=jax.random.key\(seed\)"):
        model.init_params(key)


def test_P21_an_old_key_draws_what_the_new_one_does(folder):
    model, _ = fm.AutoModelForCausalLM.from_pretrained(folder)
    old, new = (model.init_params(key) for key in (jax.random.PRNGKey(3), jax.random.key(3)))
    assert fp.diff(old, new).equal


def test_P13_16_P19_P20_old_names_act(folder):
    load = fm.AutoModelForCausalLM.from_pretrained
    model, _ = load(folder, gradient_checkpointing=True, attn_implementation=None, dtype=None)
    assert model.remat == "full" and model.attn_implementation == "sdpa"
    assert model.dtype == jnp.float32
    for name in ("flash_attention_2", "flash_attention_3"):
        with pytest.raises(ValueError, match="needs an NVIDIA GPU"):
            load(folder, attn_implementation=name)
    for name in ("flex_attention", "paged|sdpa"):
        with pytest.raises(ValueError, match="expected one of eager, sdpa, flash"):
            load(folder, attn_implementation=name)
    with pytest.raises(TypeError, match="gradient_checkpointing and remat are one"):
        load(folder, gradient_checkpointing=True, remat="full")


def test_D14_an_unknown_keyword_lists_what_may_be_given_and_nothing_private(folder):
    for call in calls(folder, dtpye="bfloat16", hiden_size=3):
        with pytest.raises(TypeError) as error:
            call()
        said = str(error.value)
        assert "'dtpye' (did you mean dtype" in said and "'hiden_size' (did you mean hid" in said
        assert "dtype or dtype" not in said
        assert (
            "of a load: adapter_kwargs, adapter_name, cache_dir, config" in said
            and "scan_layers" in said
        )
        for private in ("_shared", "naming", "backbone", "config_class", "parent", " extra"):
            assert private not in said
    for name in ("naming", "backbone", "config_class", "_shared", "parent", "extra"):
        with pytest.raises(TypeError, match=f"does not know '{name}'"):
            fm.LlamaForCausalLM.from_pretrained(folder, **{name: 3})


def test_P13_32_with_a_config_its_fields_are_not_keywords(folder):
    config = fm.AutoConfig.from_pretrained(folder)
    with pytest.raises(TypeError, match=r"config=config.replace\(num_labels=...\)"):
        fm.LlamaForCausalLM.from_pretrained(folder, config=config, num_labels=3)
    model, _ = fm.LlamaForCausalLM.from_pretrained(folder, tokenizer_class="Mine", num_labels=3)
    assert model.config.num_labels == 3 and model.config.tokenizer_class == "Mine"


def test_P13_1_the_name_has_transformers_name_too(folder):
    for cls in (fm.AutoModelForCausalLM, fm.LlamaForCausalLM):
        model, _ = cls.from_pretrained(pretrained_model_name_or_path=folder)
        assert isinstance(model, fm.LlamaForCausalLM)
        with pytest.raises(TypeError, match="twice"):
            cls.from_pretrained(folder, pretrained_model_name_or_path=folder)
        with pytest.raises(TypeError, match="needs name_or_path"):
            cls.from_pretrained(dtype=jnp.float32)
    assert fm.load_plan(pretrained_model_name_or_path=os.fspath(folder)).leaves


@pytest.mark.filterwarnings("ignore:Weights from .* not used in BertModel. pooler")
def test_P13_2_D27_every_field_can_be_given_by_position(tmp_path):
    config = fm.BertConfig(
        vocab_size=16,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    model = fm.BertModel(config)
    model.save_pretrained(params_of(model), tmp_path)
    fields = {name: getattr(model, name) for name in field_names(fm.BertModel)}
    fields |= {"dtype": jnp.bfloat16, "remat": "full", "add_pooling_layer": False}
    loaded, params = fm.BertModel.from_pretrained(tmp_path, *fields.values())
    assert loaded.dtype == jnp.bfloat16 and loaded.remat == "full" and "pooler" not in params
    with pytest.raises(TypeError, match="by position"):
        fm.BertModel.from_pretrained(tmp_path, *fields.values(), None)
    with pytest.raises(TypeError, match="dtype by position and by keyword"):
        fm.AutoModel.from_pretrained(tmp_path, jnp.float32, dtype=jnp.float32)


def test_D24_load_plan_takes_what_a_load_takes(folder, tmp_path):
    plan = fm.load_plan(
        folder, revision="main", token=None, subfolder="", dtype=jnp.bfloat16, scan_layers=True
    )
    assert any(leaf.path == "model/layers/mlp/up_proj/kernel" for leaf in plan.leaves)
    (tmp_path / "deep").symlink_to(folder)
    assert len(fm.load_plan(tmp_path, subfolder="deep").leaves) > len(plan.leaves) - 2
    config = fm.AutoConfig.from_pretrained(folder)
    assert fm.load_plan(folder, config=config).leaves
    with pytest.raises(TypeError, match="load_plan reads no weights"):
        fm.load_plan(folder, verify=True)


def test_D10_the_types_name_what_there_is():
    assert DEFAULTS.keys() == options.LOAD
    classes = [getattr(fm, name) for family in FAMILIES.values() for name in family.models]
    models = {name for cls in classes for name in field_names(cls)}
    assert {*options.ModelFields.__annotations__} == models
    configs = [getattr(fm, family.config) for family in FAMILIES.values()]
    names = {name for config in configs for name in config_names(config)}
    unsupported = {name for config in configs for name in config.unsupported}
    assert {*ConfigFields.__annotations__} >= names - NOTES - unsupported
    assert {*ConfigFields.__annotations__} <= names
    for types, value in (
        (HubKeywords, HubOptions),
        (options.WeightKeywords, WeightChoice),
        (options.PlanKeywords, PlanOptions),
        (options.SaveKeywords, SaveOptions),
        (options.CardKeywords, CardInfo),
    ):
        assert {*types.__annotations__} == {*names_of(value)}
    pushed = {*names_of(PushOptions)} - {"card"} | {"use_auth_token"}
    cards = {*options.CardKeywords.__annotations__}
    assert {*options.PushFolderKeywords.__annotations__} == pushed | cards
    saved = {*names_of(SaveOptions)} - {"select", "save_function", "is_main_process"}
    assert {*options.PushKeywords.__annotations__} == pushed | cards | saved | {"use_temp_dir"}


def test_D10_help_shows_the_keywords():
    for call in (fm.LlamaForCausalLM.from_pretrained, fm.AutoModel.from_pretrained):
        shown = inspect.signature(call).parameters
        assert {*shown} >= options.LOAD and shown["revision"].default == "main"
        assert "param_dtype: what the params are stored in" in (call.__doc__ or "")
    assert {*inspect.signature(fm.load_plan).parameters} >= options.LOAD
    cls = fm.LlamaForCausalLM
    assert {*inspect.signature(cls.save_pretrained).parameters} >= {*names_of(SaveOptions)}
    assert {*inspect.signature(cls.push_to_hub).parameters} >= PUSH_DEFAULTS.keys()
    assert {*inspect.signature(cls.create_model_card).parameters} >= {*names_of(CardInfo)}


def test_a_misspelt_keyword_of_a_save_or_a_card_is_an_error(folder, tmp_path):
    model, params = fm.AutoModelForCausalLM.from_pretrained(folder)
    with pytest.raises(TypeError, match="'max_shard_sise'.*did you mean max_shard_size"):
        model.save_pretrained(params, tmp_path / "a", max_shard_sise="1GB")
    with pytest.raises(TypeError, match="'max_shard_sise'.*did you mean max_shard_size"):
        model.save_pretrained(params, tmp_path / "a", push_to_hub=True, max_shard_sise="1GB")
    with pytest.raises(TypeError, match="'licence'.*did you mean license"):
        model.create_model_card(tmp_path / "a", "name", licence="mit")
    with pytest.raises(TypeError, match="'stric'.*did you mean strict"):
        fm.BertModel.load_tf_weights(fm.BertConfig(), tmp_path, stric=True)
    assert not (tmp_path / "a").exists()


def test_load_plan_without_a_checkpoint_takes_what_a_load_takes(folder):
    model, params = fm.AutoModelForCausalLM.from_pretrained(folder)
    given = {"config": model.config, "state_dict": params}
    plan = fm.load_plan(None, model_class=type(model), **given)
    assert len(plan.leaves) == len(jax.tree.leaves(params))
    assert len(fm.load_plan(None, **given).leaves) == len(plan.leaves)
    for call in (fm.load_plan, fm.AutoModel.from_pretrained, type(model).from_pretrained):
        with pytest.raises(TypeError, match="needs a name or path, or config and state_dict"):
            call(None)

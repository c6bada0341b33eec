"""Models of users' own: plain linen layers (P33, D18), the hook (P23); models as values (D38)."""

import copy
import dataclasses
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _drawn import tiny_llama
from flax import linen as nn

import flaxmodels as fm
from flaxmodels import sharding as fs
from flaxmodels.core.missing_attributes import INSTEAD


class Compact(fm.PretrainedModel):
    width: int = 16

    @nn.compact
    def __call__(self, input_ids):
        x = nn.Embed(24, self.width, name="embed")(input_ids).astype(self.dtype)
        x = nn.LayerNorm(name="norm")(x)
        return nn.Dense(8, kernel_init=nn.initializers.constant(0.25), name="out")(x)


class Setup(fm.PretrainedModel):
    def setup(self):
        self.embed = nn.Embed(24, 16)
        self.out = nn.Dense(
            8,
            kernel_init=nn.with_logical_partitioning(
                nn.initializers.lecun_normal(), ("embed", "mlp")
            ),
        )

    def __call__(self, input_ids):
        return self.out(self.embed(input_ids))


class Concrete(Setup):
    """Its init looks at a value, which cannot be traced."""

    supports_abstract_init = False

    def __call__(self, input_ids):
        x = self.embed(input_ids)
        if self.is_initializing() and float(x.sum()) > 1e9:
            raise AssertionError
        return self.out(x)


IDS = np.arange(6).reshape(2, 3)
CLASSES = [Compact, Setup, Concrete]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_P33_D18_plain_layers_init_save_load_count_cast(cls, tmp_path):
    model = cls(fm.Config())
    key = jax.random.key(3)
    params = model.init_params(key)
    expected = nn.meta.unbox(model.init(key, IDS)["params"])
    assert jax.tree.structure(params) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    shapes = model.abstract_params()
    assert jax.tree.map(lambda x: x.shape, shapes) == jax.tree.map(lambda x: x.shape, params)
    assert model.num_parameters(params) == model.num_parameters(shapes)
    model.save_pretrained(params, tmp_path, max_shard_size="600B")
    loaded, read = cls.from_pretrained(tmp_path)
    assert type(loaded) is cls
    jax.tree.map(np.testing.assert_array_equal, read, params)
    half = model.to_bf16(params, mask=lambda path, leaf: "embed" not in path)
    assert half["out"]["kernel"].dtype == jnp.bfloat16 != half["embed"]["embedding"].dtype
    cast = model.init_params(key, param_dtype="bfloat16")
    assert {leaf.dtype for leaf in jax.tree.leaves(cast)} == {jnp.dtype("bfloat16")}
    out = jax.jit(model.apply)({"params": read}, IDS)
    np.testing.assert_array_equal(out, jax.jit(model.apply)({"params": params}, IDS))


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_P33_unknown_axes_are_replicated_and_named_ones_sharded(cls, tmp_path):
    mesh = fs.make_mesh(fsdp=2, tensor=4)
    model = cls(fm.Config())
    params = model.init_params(jax.random.key(0), mesh)
    assert params["embed"]["embedding"].sharding.is_fully_replicated
    if cls is Setup:
        assert params["out"]["kernel"].sharding.spec == jax.P("fsdp", "tensor")
    model.save_pretrained(params, tmp_path)
    _, read = cls.from_pretrained(tmp_path, mesh=mesh)
    jax.tree.map(np.testing.assert_array_equal, read, params)
    assert read["out"]["kernel"].sharding.spec == params["out"]["kernel"].sharding.spec


def test_P33_a_missing_leaf_is_what_init_makes(tmp_path):
    model = Compact(fm.Config())
    params = model.init_params(jax.random.key(0))
    model.save_pretrained(params, tmp_path, select=lambda path, leaf: "norm" not in path)
    with pytest.warns(UserWarning, match="norm/bias, norm/scale"):
        _, read = Compact.from_pretrained(tmp_path, strict=False)
    jax.tree.map(np.testing.assert_array_equal, read, params)


def test_P23_post_init_is_called_once_after_init_and_load(tmp_path):
    calls = []

    class Hooked(Setup):
        def post_init(self, params):
            calls.append(self)
            return params | {"out": params["out"] | {"bias": params["out"]["bias"] + 1}}

    model = Hooked(fm.Config())
    params = model.init_params(jax.random.key(0))
    assert len(calls) == 1 and (params["out"]["bias"] == 1).all()
    model.save_pretrained(params, tmp_path)
    _, params = Hooked.from_pretrained(tmp_path)
    assert len(calls) == 2 and (params["out"]["bias"] == 2).all()


CONFIG = tiny_llama(vocab_size=16, hidden_size=8, intermediate_size=8, num_hidden_layers=1)


@pytest.mark.parametrize(
    "fields",
    [
        {"scan_layers": True},
        {"config": CONFIG},
        {"dtype": jnp.bfloat16},
        {"rules": ()},
        {"params": {}},
        {"note": 1},
    ],
    ids=lambda fields: "D38-" + "".join(fields),
)
def test_D38_a_model_is_a_value(fields):
    model = fm.LlamaForCausalLM(CONFIG)
    ((name, value),) = fields.items()
    with pytest.raises(dataclasses.FrozenInstanceError, match=f"{name} cannot be assigned: "):
        setattr(model, name, value)
    with pytest.raises(dataclasses.FrozenInstanceError, match=f"{name} cannot be assigned: "):
        delattr(model, name)
    for other in (copy.deepcopy(model), copy.copy(model), pickle.loads(pickle.dumps(model))):
        assert other == model and hash(other) == hash(model)
    bound = model.bind({"params": {}})
    with pytest.raises(Exception, match="(?i)cannot be assigned|frozen"):
        setattr(bound, name, value)


def test_P1_D38_a_configuration_of_another_family_is_refused():
    with pytest.raises(TypeError, match="LlamaForCausalLM takes a LlamaConfig, got BertConfig"):
        fm.LlamaForCausalLM(fm.BertConfig())
    with pytest.raises(TypeError, match="LlamaForCausalLM takes a LlamaConfig, got str"):
        fm.LlamaForCausalLM("org/name")
    with pytest.raises(TypeError, match="takes a LlamaConfig, got GPT2Config"):
        fm.LlamaForCausalLM(CONFIG).clone(config=fm.GPT2Config())


FIELDS = [
    ("scan_layers", "no", TypeError, "scan_layers is 'no'; expected True or False"),
    ("scan_layers", None, TypeError, "scan_layers is None; expected True or False"),
    ("embed_tap", 2, TypeError, "embed_tap is 2; expected True or False"),
    ("attn_implementation", "flesh", ValueError, "attn_implementation is 'flesh'; expected one of"),
    ("generation_config", {}, TypeError, "generation_config is a dict; expected a fm.Generation"),
    ("model_tags", [3], ValueError, "tags must be words, got 3"),
    ("model_tags", None, ValueError, "tags must be words, got None"),
]


def test_D38_fields_of_another_type_are_refused():
    for name, value, kind, said in FIELDS:
        with pytest.raises(kind, match=said):
            fm.LlamaForCausalLM(CONFIG, **{name: value})
    assert fm.LlamaForCausalLM(CONFIG, model_tags="one").model_tags == ("one",)
    assert fm.LlamaForCausalLM(CONFIG, scan_layers=1).scan_layers is True


@pytest.mark.parametrize("name", ["_do_init", "seed", "input_shape", "prng_key", "device_map"])
def test_F1_old_arguments_of_constructors_show_the_new_line(name):
    for make in (fm.FlaxLlamaForCausalLM, fm.FlaxAutoModelForCausalLM.from_config):
        with pytest.raises(TypeError, match=f"does not take {name}=") as error:
            make(CONFIG, **{name: "x"})
        assert name == "device_map" or "key" in str(error.value)


def test_F1_constructors_know_their_fields():
    assert fm.LlamaForCausalLM(CONFIG, gradient_checkpointing=True).remat == "full"
    assert fm.LlamaForCausalLM(CONFIG, attn_implementation=None).attn_implementation == "sdpa"
    with pytest.raises(TypeError, match=r"LlamaForCausalLM\(fm.LlamaConfig\(hidden_size=...\)\)"):
        fm.LlamaForCausalLM(CONFIG, hidden_size=8)
    with pytest.raises(TypeError, match="init_params.key, param_dtype=...."):
        fm.LlamaForCausalLM(CONFIG, param_dtype="bfloat16")
    with pytest.raises(TypeError, match="'scan_layer' .did you mean scan_layers"):
        fm.LlamaForCausalLM(CONFIG, scan_layer=True)


@pytest.mark.parametrize("name", INSTEAD)
def test_D22_attributes_of_transformers_say_what_to_write(name):
    model = fm.LlamaForCausalLM(CONFIG)
    with pytest.raises(AttributeError, match=f"LlamaForCausalLM has no '{name}': "):
        getattr(model, name)
    assert not hasattr(model, name)


def test_D22_other_attributes_name_the_nearest():
    with pytest.raises(AttributeError, match="did you mean .*save_pretrained"):
        _ = fm.LlamaForCausalLM(CONFIG).save_pretraned


def test_every_old_class_is_ours():
    for name in dir(fm):
        if name.startswith("Flax"):
            ours = {"FlaxPreTrainedModel": "PretrainedModel"}.get(name, name.removeprefix("Flax"))
            assert getattr(fm, name) is getattr(fm, ours)
    space: dict = {}
    exec("from flaxmodels import *", space)
    assert space["FlaxBertForMaskedLM"] is fm.BertForMaskedLM and "params" not in space

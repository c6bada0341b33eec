"""`from_pretrained`: arguments, strictness, placement, errors."""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _drawn import applied, params_of, tiny_llama
from _paths import GOLDENS, LLAMA
from jax.sharding import NamedSharding, PartitionSpec
from safetensors.numpy import load_file, save_file

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels import sharding as fs

BERT = GOLDENS / "bert-masked-lm" / "checkpoint"


@pytest.fixture(scope="module")
def mesh():
    return fs.make_mesh(fsdp=4, tensor=2)


@pytest.fixture(scope="module")
def divisible(tmp_path_factory):
    """A checkpoint whose every dimension divides over fsdp 4 x tensor 2."""
    config = tiny_llama(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    model = fm.LlamaForCausalLM(config)
    folder = tmp_path_factory.mktemp("divisible")
    model.save_pretrained(params_of(model), folder / "saved")
    return folder / "saved"


@pytest.fixture(scope="module")
def of_one_device(divisible):
    """(ids, mask, logits) of that checkpoint."""
    ids = np.random.default_rng(0).integers(0, 64, (4, 10))
    mask = np.ones_like(ids)
    mask[1, :3] = 0
    model, params = fm.LlamaForCausalLM.from_pretrained(divisible)
    return ids, mask, applied(model, params, ids, attention_mask=mask).logits


def altered(source: Path, target: Path, change) -> Path:
    """A copy of a single-file checkpoint with `change(tensors)` made to it."""
    shutil.copytree(source, target)
    tensors = load_file(source / "model.safetensors")
    change(tensors)
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


@pytest.mark.parametrize("scan_layers", [False, True])
def test_mesh_places_every_leaf_as_intended(divisible, mesh, scan_layers):
    model, params = fm.LlamaForCausalLM.from_pretrained(
        divisible, mesh=mesh, scan_layers=scan_layers
    )
    stack = (None,) if scan_layers else ()
    layer = "layers" if scan_layers else "layers/1"
    intended = {
        "model/embed_tokens/embedding": ("tensor", "fsdp"),
        f"model/{layer}/self_attn/q_proj/kernel": (*stack, "fsdp", "tensor"),
        f"model/{layer}/self_attn/k_proj/kernel": (*stack, "fsdp", "tensor"),
        f"model/{layer}/self_attn/o_proj/kernel": (*stack, "tensor", "fsdp"),
        f"model/{layer}/mlp/up_proj/kernel": (*stack, "fsdp", "tensor"),
        f"model/{layer}/mlp/down_proj/kernel": (*stack, "tensor", "fsdp"),
        f"model/{layer}/input_layernorm/scale": (*stack, None),
        "model/norm/scale": (None,),
        "lm_head/kernel": ("fsdp", "tensor"),
    }
    leaves = fp.flatten(params)
    for path, spec in intended.items():
        wanted = NamedSharding(mesh, PartitionSpec(*spec))
        assert leaves[path].sharding.is_equivalent_to(wanted, leaves[path].ndim), path
    everywhere = fp.flatten(fs.shardings(model.abstract_params(), mesh))
    for path, leaf in leaves.items():
        assert isinstance(leaf.sharding, NamedSharding)
        assert leaf.sharding.is_equivalent_to(everywhere[path], leaf.ndim), path


@pytest.mark.parametrize("scan_layers", [False, True])
def test_logits_on_a_mesh_equal_those_of_one_device(divisible, of_one_device, mesh, scan_layers):
    ids, mask, expected = of_one_device
    model, spread = fm.LlamaForCausalLM.from_pretrained(
        divisible, mesh=mesh, scan_layers=scan_layers
    )
    logits = jax.jit(model.apply)({"params": spread}, ids, attention_mask=mask).logits
    np.testing.assert_allclose(logits[mask == 1], expected[mask == 1], atol=1e-4)
    assert len(logits.sharding.device_set) == 8


@pytest.mark.soak  # by default: test_P22_sharded_equals_the_whole
def test_init_params_on_a_mesh_equals_init_on_one_device(mesh):
    config = tiny_llama(
        hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2
    )
    model = fm.LlamaForCausalLM(config)
    alone = fp.flatten(model.init_params(jax.random.key(3)))
    spread = fp.flatten(model.init_params(jax.random.key(3), mesh, param_dtype=jnp.float32))
    for path, leaf in spread.items():
        np.testing.assert_allclose(leaf, alone[path], atol=1e-6, err_msg=path)
    assert not spread["lm_head/kernel"].sharding.is_fully_replicated


def test_vocabulary_that_does_not_divide_is_refused_with_the_way_out(mesh):
    with pytest.raises(ValueError, match=r"kernel: dimension 'vocab' of size 61.*'vocab', None"):
        fm.LlamaForCausalLM.from_pretrained(LLAMA, mesh=mesh)
    rules = (("vocab", None), *fs.DEFAULT_RULES)
    model, params = fm.LlamaForCausalLM.from_pretrained(LLAMA, mesh=mesh, rules=rules)
    assert model.rules == rules
    assert len(params["lm_head"]["kernel"].sharding.device_set) == 8


def test_F7_dtype_is_what_is_computed_in_and_leaves_params_alone():
    model, params = fm.LlamaForCausalLM.from_pretrained(LLAMA, dtype=jnp.bfloat16)
    assert model.dtype == jnp.bfloat16
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(params)} == {"float32"}
    out = jax.eval_shape(lambda params: model.apply({"params": params}, [[3, 4]]), params)
    assert out.logits.dtype == jnp.bfloat16
    assert hash(model) == hash(model.clone(dtype="bfloat16"))


@pytest.mark.parametrize(
    ("param_dtype", "norm", "kernel"),
    [
        ("auto", "bfloat16", "bfloat16"),
        ("float32", "float32", "float32"),
        (jnp.float16, "float16", "float16"),
        ({"norm": "float32"}, "float32", "bfloat16"),
        ({"norm": "auto", ".": "float32"}, "bfloat16", "float32"),
    ],
)
def test_P13_17_D24_param_dtype(param_dtype, norm, kernel):
    folder = GOLDENS / "llama-bf16" / "checkpoint"
    _, params = fm.LlamaForCausalLM.from_pretrained(folder, param_dtype=param_dtype)
    stored = load_bf16(folder / "model.safetensors")
    assert str(params["model"]["norm"]["scale"].dtype) == norm
    leaf = params["lm_head"]["kernel"]
    assert str(leaf.dtype) == kernel
    np.testing.assert_array_equal(leaf, stored["lm_head.weight"].T.astype(leaf.dtype))


def load_bf16(path):
    source = fp.open_checkpoint(path)
    return {name: tensor.read() for name, tensor in source.tensors.items()}


def test_P13_17_unknown_dtype_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown dtype 'float99'; known: float64, float32"):
        fm.LlamaForCausalLM.from_pretrained(LLAMA, param_dtype="float99")


def test_P13_3_config_as_instance_path_and_automatic(tmp_path):
    config = fm.LlamaConfig.from_pretrained(LLAMA).replace(rms_norm_eps=1e-3)
    assert fm.LlamaForCausalLM.from_pretrained(LLAMA, config=config)[0].config == config
    config.save_pretrained(tmp_path)
    for where in (tmp_path, tmp_path / "config.json"):
        assert fm.LlamaForCausalLM.from_pretrained(LLAMA, config=where)[0].config == config
    with pytest.raises(TypeError, match="takes a LlamaConfig, got GPT2Config"):
        fm.LlamaForCausalLM.from_pretrained(LLAMA, config=fm.GPT2Config())


def test_P13_32_kwargs_override_the_config_or_are_fields_of_the_model():
    model, _ = fm.LlamaForCausalLM.from_pretrained(LLAMA, output_attentions=True, remat="full")
    assert model.config.output_attentions is True and model.remat == "full"
    with pytest.raises(TypeError, match="not_a_thing"):
        fm.LlamaForCausalLM.from_pretrained(LLAMA, not_a_thing=1)
    config = fm.LlamaConfig.from_pretrained(LLAMA)
    with pytest.raises(TypeError, match="output_attentions"):
        fm.LlamaForCausalLM.from_pretrained(LLAMA, config=config, output_attentions=True)


def test_P13_16_attention_is_checked_at_load():
    for name in ("eager", "sdpa"):
        model, _ = fm.LlamaForCausalLM.from_pretrained(LLAMA, attn_implementation=name)
        assert model.attn_implementation == name
    with pytest.raises(ValueError, match="'flash_attention_9'"):
        fm.LlamaForCausalLM.from_pretrained(LLAMA, attn_implementation="flash_attention_9")
    with pytest.raises(ValueError, match="needs an NVIDIA GPU"):
        fm.LlamaForCausalLM.from_pretrained(LLAMA, attn_implementation="flash")


def test_P13_12_loading_info_of_a_clean_load():
    _, _, info = fm.LlamaForCausalLM.from_pretrained(LLAMA, output_loading_info=True)
    assert (info.missing_keys, info.unexpected_keys, info.mismatched_keys) == ([], [], [])
    assert info.error_msgs == [] and len(info.plan.leaves) == 21


def test_P13_34_a_missing_head_is_initialised_and_said():
    source = GOLDENS / "bert-model" / "checkpoint"
    key = jax.random.key(5)
    with pytest.warns(UserWarning, match="not initialized from pretrained.*classifier/bias"):
        model, params, info = fm.BertForSequenceClassification.from_pretrained(
            source, key=key, output_loading_info=True
        )
    assert info.missing_keys == ["classifier/bias", "classifier/kernel"]
    fresh = jax.jit(lambda key: model.init_params(key)["classifier"]["kernel"])(key)
    np.testing.assert_allclose(params["classifier"]["kernel"], fresh, rtol=1e-6)
    assert float(jnp.abs(fresh).max()) > 0
    loaded = load_file(source / "model.safetensors")["pooler.dense.weight"]
    np.testing.assert_array_equal(params["bert"]["pooler"]["dense"]["kernel"], loaded.T)


def test_P13_35_an_unused_head_is_left_out_and_said():
    with pytest.warns(UserWarning, match="not used in BertModel.*cls.predictions.bias"):
        fm.BertModel.from_pretrained(GOLDENS / "bert-pre-training" / "checkpoint")


def test_P4_base_model_prefix_is_added_and_taken_off():
    base = GOLDENS / "gpt2-model" / "checkpoint"
    _, inside = fm.GPT2LMHeadModel.from_pretrained(base)
    _, bare = fm.GPT2Model.from_pretrained(GOLDENS / "gpt2-lm-head" / "checkpoint")
    assert set(fp.flatten(inside["transformer"])) == set(fp.flatten(bare))


def test_P13_8_D1_mismatched_sizes(tmp_path):
    config = fm.LlamaConfig.from_pretrained(GOLDENS / "llama-sequence-classification/checkpoint")
    ten = config.replace(num_labels=10)
    folder = GOLDENS / "llama-sequence-classification" / "checkpoint"
    with pytest.raises(fm.CheckpointError, match=r"score/kernel.*\(3, 24\), expected \(10, 24\)"):
        fm.LlamaForSequenceClassification.from_pretrained(folder, config=ten)
    with pytest.warns(UserWarning, match="score/kernel"):
        _, params, info = fm.LlamaForSequenceClassification.from_pretrained(
            folder, config=ten, ignore_mismatched_sizes=True, output_loading_info=True
        )
    assert params["score"]["kernel"].shape == (24, 10)
    assert info.mismatched_keys == [("score/kernel", (3, 24), (10, 24))]


def test_a_backbone_with_a_hole_is_refused(tmp_path):
    folder = altered(LLAMA, tmp_path / "x", lambda t: t.pop("model.layers.1.mlp.up_proj.weight"))
    with pytest.raises(fm.CheckpointError, match="model/layers/1/mlp/up_proj/kernel.*strict=False"):
        fm.LlamaForCausalLM.from_pretrained(folder)
    with pytest.warns(UserWarning, match="up_proj"):
        _, params = fm.LlamaForCausalLM.from_pretrained(folder, strict=False)
    assert params["model"]["layers"]["1"]["mlp"]["up_proj"]["kernel"].shape == (24, 40)


def test_a_backbone_with_more_than_the_model_is_refused(tmp_path):
    def add_bias(tensors):
        tensors["model.layers.0.self_attn.q_proj.bias"] = np.zeros(24, np.float32)

    folder = altered(LLAMA, tmp_path / "x", add_bias)
    with pytest.raises(fm.CheckpointError, match="no place for 1 tensors.*q_proj.bias"):
        fm.LlamaForCausalLM.from_pretrained(folder)
    shutil.copy(LLAMA / "config.json", tmp_path / "config.json")
    with pytest.raises(fm.CheckpointError, match="layers/2.*are not in the checkpoint|not in the"):
        fm.LlamaForCausalLM.from_pretrained(LLAMA, num_hidden_layers=3)


def test_another_architecture_is_refused(tmp_path):
    shutil.copytree(BERT, tmp_path / "x")
    shutil.copy(LLAMA / "config.json", tmp_path / "x" / "config.json")
    with pytest.raises(fm.CheckpointError, match="another architecture's checkpoint"):
        fm.LlamaForCausalLM.from_pretrained(tmp_path / "x")
    with pytest.raises(fm.ConfigError, match="model_type 'llama', config.json says 'bert'"):
        fm.LlamaForCausalLM.from_pretrained(BERT)


def test_no_checkpoint_there(tmp_path):
    with pytest.raises(fm.CheckpointError, match="no such folder"):
        fm.LlamaForCausalLM.from_pretrained(tmp_path / "nothing" / "here")
    shutil.copy(LLAMA / "config.json", tmp_path / "config.json")
    with pytest.raises(fm.CheckpointError, match="looked for model.safetensors.*config.json"):
        fm.LlamaForCausalLM.from_pretrained(tmp_path)


def test_P13_29_use_safetensors(tmp_path):
    flax = GOLDENS / "flax-llama-causal-lm" / "checkpoint"
    with pytest.raises(fm.CheckpointError, match="looked for model.safetensors, model"):
        fm.LlamaForCausalLM.from_pretrained(flax, use_safetensors=True)
    both = tmp_path / "both"
    shutil.copytree(flax, both)
    shutil.copy(LLAMA / "model.safetensors", both)
    of = {
        use: fm.LlamaForCausalLM.from_pretrained(both, use_safetensors=use)[1]["lm_head"]["kernel"]
        for use in (None, True, False)
    }
    np.testing.assert_array_equal(of[None], of[True])
    expected = fm.LlamaForCausalLM.from_pretrained(flax)[1]["lm_head"]["kernel"]
    np.testing.assert_array_equal(of[False], expected)


def test_subfolder(tmp_path):
    shutil.copytree(LLAMA, tmp_path / "inner" / "model")
    model, _ = fm.LlamaForCausalLM.from_pretrained(tmp_path / "inner", subfolder="model")
    assert model.config.hidden_size == 24


def test_tied_checkpoint_may_hold_either_name_or_both(tmp_path):
    tied = GOLDENS / "llama-tied" / "checkpoint"
    reference = fm.LlamaForCausalLM.from_pretrained(tied)[1]
    embed = "model.embed_tokens.weight"

    def both(tensors):
        tensors["lm_head.weight"] = tensors[embed].copy()

    def head_alone(tensors):
        tensors["lm_head.weight"] = tensors.pop(embed)

    for name, change in (("both", both), ("head", head_alone)):
        _, params, info = fm.LlamaForCausalLM.from_pretrained(
            altered(tied, tmp_path / name, change), output_loading_info=True
        )
        assert info.unexpected_keys == [] and "lm_head" not in params
        np.testing.assert_array_equal(
            params["model"]["embed_tokens"]["embedding"],
            reference["model"]["embed_tokens"]["embedding"],
        )


def test_load_plan_reads_no_weights(divisible, mesh):
    plan = fm.load_plan(divisible, mesh=mesh, param_dtype="bfloat16")
    header = (divisible / "model.safetensors").stat().st_size - plan.stored_bytes
    assert plan.match.source.bytes_read <= header + 256
    assert len(plan.leaves) == 30 and plan.match.missing == ()
    held = plan.bytes_per_device
    assert len(held) == 8 and max(held.values()) < plan.stored_bytes / 2 / 4
    text = str(plan)
    assert "30 leaves from 1 files" in text and "float32 -> bfloat16" in text


@pytest.mark.parametrize(
    ("size", "error", "message"),
    [
        (10**9, fm.CheckpointError, r"\(61, 24\), expected \(1000000000, 24\)"),
        (10**12, fm.ConfigError, "vocab_size is 1000000000000"),
        (-1, fm.ConfigError, "vocab_size is -1"),
    ],
)
def test_config_that_lies_about_shapes_is_refused_before_reading(tmp_path, size, error, message):
    folder = tmp_path / "x"
    shutil.copytree(LLAMA, folder)
    values = json.loads((folder / "config.json").read_text()) | {"vocab_size": size}
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(error, match=message):
        fm.LlamaForCausalLM.from_pretrained(folder)


def test_P2_P6_F1_the_model_is_a_value():
    model, _ = fm.LlamaForCausalLM.from_pretrained(LLAMA)
    again = fm.LlamaForCausalLM(model.config, generation_config=model.generation_config)
    assert model == again and hash(model) == hash(again)
    assert model != again.clone(scan_layers=True)
    assert model.config_class is fm.LlamaConfig and model.main_input_name == "input_ids"
    template = model.abstract_params(jnp.bfloat16)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(template)} == {"bfloat16"}

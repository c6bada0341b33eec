"""Attributes and arguments of behaviour.md's rows, family by family (P, M, T, F, U, G)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _drawn import params_of

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels import sharding as fs
from flaxmodels.analysis import memory
from flaxmodels.registry import FAMILIES

SMALL = {"vocab_size": 24, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 4}
CONFIGS = {
    "bert": fm.BertConfig(**SMALL, intermediate_size=24),
    "gpt2": fm.GPT2Config(vocab_size=24, n_embd=16, n_layer=1, n_head=4, n_positions=32),
    "llama": fm.LlamaConfig(**SMALL, intermediate_size=24, num_key_value_heads=2),
}
HEADS = {"bert": fm.BertForMaskedLM, "gpt2": fm.GPT2LMHeadModel, "llama": fm.LlamaForCausalLM}
IDS = np.arange(8).reshape(2, 4)
CLASSES = [
    pytest.param(
        getattr(fm, name),
        CONFIGS[family].replace(is_decoder=True) if name == "BertLMHeadModel" else CONFIGS[family],
        id=name,
    )
    for family in CONFIGS
    for name in FAMILIES[family].models
]
each_class = pytest.mark.parametrize(("cls", "config"), CLASSES)
each = pytest.mark.parametrize("family", CONFIGS)


@pytest.fixture(scope="module")
def params():
    return {f: params_of(HEADS[f](c)) for f, c in CONFIGS.items()}


@each_class
def test_P1_T1_F1_P2_T2_F2_P4_T3_F3_P5_P6_T4_F4_attributes(cls, config):
    model = cls(config)
    assert model.config is config and isinstance(config, cls.config_class)
    assert hash(model) == hash(cls(config)) and model == cls(config)
    assert cls.base_model_prefix and cls.main_input_name == "input_ids"
    assert cls.is_parallelizable is True
    axes = {axis for leaf in jax.tree.leaves(model.abstract_params()) for axis in leaf.axes}
    assert axes & {name for name, _ in fs.DEFAULT_RULES}
    assert cls.__doc__ and cls.__doc__ not in (fm.PretrainedModel.__doc__, None)


@each_class
def test_P9_T6_F6_G3_can_generate(cls, config):
    assert cls.can_generate() is cls.__name__.endswith(("ForCausalLM", "LMHeadModel"))
    if not cls.can_generate():
        with pytest.raises(TypeError, match="cannot generate"):
            cls(config).generate({}, IDS)


@each
def test_G1_G2_every_family_loads_saves_and_edits(family, params, tmp_path):
    model = HEADS[family](CONFIGS[family])
    model.save_pretrained(params[family], tmp_path)
    loaded, read = type(model).from_pretrained(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, read, params[family])
    larger, more = loaded.resize_token_embeddings(read, 32, key=jax.random.key(1))
    assert jax.eval_shape(larger.apply, {"params": more}, IDS).logits.shape[-1] == 32


@each
def test_P10_nothing_is_quantised(family, params):
    with pytest.raises(ValueError, match="none of the [0-9]+ params is quantised"):
        HEADS[family](CONFIGS[family]).dequantize(params[family])


def test_P10_weights_below_adapters_are_dequantised(params):
    model = HEADS["bert"](CONFIGS["bert"])
    packed = fp.quantize(params["bert"], "int8", lambda path, leaf: path.endswith("query/kernel"))
    adapted = model.add_adapter(packed, fp.PeftConfig(target_modules=("query",)))
    _, dense = model.dequantize(adapted)
    assert fp.adapter_names(dense) == ("default",)
    assert all(isinstance(x, jax.Array) for x in fp.flatten(fp.without_adapters(dense)).values())


def test_M1_U1_F11_F12_F13_M6_methods_are_the_functions(params):
    model = HEADS["bert"](CONFIGS["bert"])
    for name, dtype in (("to_bf16", "bfloat16"), ("to_fp16", "float16"), ("to_fp32", "float32")):
        cast = getattr(model, name)(params["bert"], mask=lambda path, leaf: "kernel" in path)
        expected = getattr(fp, name)(params["bert"], mask=lambda path, leaf: "kernel" in path)
        jax.tree.map(np.testing.assert_array_equal, cast, expected)
        kernels = [leaf for path, leaf in fp.flatten(cast).items() if "kernel" in path]
        assert {leaf.dtype for leaf in kernels} == {jnp.dtype(dtype)}
    mask = np.array([1.0, 0.0, 1.0, 1.0])
    np.testing.assert_array_equal(model.get_head_mask(mask, 2), fm.get_head_mask(mask, 2))
    assert model.get_head_mask(None, 2) is None
    assert model.get_head_mask(mask, 2, True).ndim == 6


def test_P16_D22_memory_footprint(params):
    model, tree = HEADS["llama"](CONFIGS["llama"]), params["llama"]
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
    for buffers in (True, False):
        assert model.get_memory_footprint(tree, return_buffers=buffers) == size
        assert model.get_memory_footprint(tree, buffers) == size
    variables = {"params": tree, "batch_stats": {"mean": np.zeros(3, np.float32)}}
    assert model.get_memory_footprint(variables) == size + 12
    assert model.get_memory_footprint(variables, return_buffers=False) == size
    device = jax.devices()[0]
    per_device = fp.memory_footprint
    assert per_device(tree, per_device=True) == {device: size}
    assert per_device(jax.tree.map(np.asarray, tree), per_device=True) == {"host": size}
    assert per_device(model.abstract_params(), per_device=True) == {device: size}
    mesh = fs.make_mesh(fsdp=-1)
    template = model.abstract_params()
    shardings = fs.shardings(template, mesh, model.rules)
    placed = jax.tree.map(lambda x, s: x.update(sharding=s), template, shardings)
    real = jax.device_put(tree, shardings)
    assert per_device(placed, per_device=True) == per_device(real, per_device=True)


def test_M3_M4_lists_count_as_arrays():
    model = HEADS["llama"](CONFIGS["llama"])
    assert model.estimate_tokens({"input_ids": IDS.tolist()}) == 8
    lists, arrays = {"input_ids": IDS.tolist()}, {"input_ids": IDS}
    assert model.floating_point_ops(lists) == model.floating_point_ops(arrays)


def test_M5_D22_the_mask_goes_where_it_is_told():
    model, mask = HEADS["bert"](CONFIGS["bert"]), np.ones((2, 4))
    last = jax.devices()[-1]
    for device in (last, jax.sharding.SingleDeviceSharding(last)):
        assert model.get_extended_attention_mask(mask, (2, 4), device).devices() == {last}
    made = model.get_extended_attention_mask(mask, (2, 4), device="cpu", dtype=jnp.bfloat16)
    assert made.devices() == {jax.devices()[0]} and made.dtype == jnp.bfloat16


def test_P14_D22_compile_config(params):
    model = HEADS["llama"](CONFIGS["llama"])
    assert model.get_compiled_call(None).donate_cache is False
    call = model.get_compiled_call({"donate_cache": True})
    assert call.donate_cache is True
    with pytest.raises(TypeError, match="compile_config has fullgraph, mode; there are donate"):
        model.get_compiled_call({"fullgraph": True, "mode": "x"})
    with pytest.raises(TypeError, match="compile_config is a str"):
        model.get_compiled_call("reduce-overhead")
    within = jax.jit(lambda p, i: call(p, i).logits)(params["llama"], IDS)
    np.testing.assert_allclose(within, call(params["llama"], IDS).logits, rtol=1e-5, atol=1e-5)


def test_M2_memory_trace_and_report_are_of_the_package():
    """What they say is in test_measures.py."""
    assert fm.memory_report is memory.memory_report and fm.memory_trace is memory.memory_trace


@pytest.mark.parametrize("tags", [[1, None], "", ["a", " "], [b"a"], None, 3])
def test_P8_D38_tags_are_words(tags):
    with pytest.raises((ValueError, TypeError)):
        HEADS["llama"](CONFIGS["llama"]).add_model_tags(tags)


def test_P32_D38_no_tokens_no_warning():
    model = HEADS["bert"](CONFIGS["bert"])
    for shape in ((2, 0), (0, 3), (0, 0)):
        model.warn_if_padding_and_no_attention_mask(np.zeros(shape, int))


def test_P13_12_D31_info_is_short_and_answers_as_the_old_dict(params, tmp_path):
    model = HEADS["llama"](CONFIGS["llama"])
    model.save_pretrained(params["llama"], tmp_path)
    load = fm.LlamaForTokenClassification.from_pretrained
    with pytest.warns(UserWarning, match="Weights from") as said:
        _, _, info = load(tmp_path, output_loading_info=True)
    assert {warning.filename for warning in said} == {__file__}  # P13.34
    with pytest.warns(UserWarning, match="Weights from") as said:
        fm.AutoModelForTokenClassification.from_pretrained(tmp_path)
    assert {warning.filename for warning in said} == {__file__}
    assert info["missing_keys"] == info.missing_keys == ["score/bias", "score/kernel"]
    assert [*info] == ["missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"]
    assert dict(info)["unexpected_keys"] == info.unexpected_keys and len(info) == 4
    assert info.get("nothing") is None and info["revision"] is None
    with pytest.raises(KeyError, match="there are missing_keys"):
        _ = info["nothing"]
    for shown in (repr(info), str(info), repr(info.plan), repr(fm.load_plan(tmp_path))):
        assert len(shown) < 1500 and len(shown.splitlines()) < 25
    assert "missing_keys: 2 (score/bias, score/kernel)" in repr(info)

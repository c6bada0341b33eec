"""Counts and masks against what Transformers 4.53.3 says of the same checkpoints."""

import json
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _drawn import params_of
from _paths import GOLDENS
from _turns import in_turn, some_of

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels import sharding as fs
from flaxmodels.analysis import memory
from flaxmodels.blocks import extended_attention_mask, invert_attention_mask
from flaxmodels.params import errors

GOLDEN = json.loads((GOLDENS / "measures.json").read_text())
IDS = np.arange(10, dtype=np.int32).reshape(2, 5)
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
PAIRS = np.array([[[1, 0], [1, 1]], [[0, 1], [1, 0]]])
SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "max_position_embeddings": 16,
}
BERT = fm.BertForMaskedLM(fm.BertConfig(**SMALL, intermediate_size=48))
GPT2 = fm.GPT2LMHeadModel(fm.GPT2Config.from_dict({"model_type": "gpt2", **SMALL}))
LLAMA = fm.LlamaForCausalLM(fm.LlamaConfig(**SMALL, intermediate_size=48))
MODELS = {"bert": BERT, "gpt2": GPT2, "llama": LLAMA}
each = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


def golden_model(name, **fields):
    config = fm.AutoConfig.from_pretrained(GOLDENS / name / "checkpoint")
    return getattr(fm, config.architectures[0])(config, **fields)


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("name", GOLDEN["counts"])
def test_M3_M4_M8_P16_U2_counts(name, scan):
    expected = GOLDEN["counts"][name]
    model = golden_model(name, scan_layers=scan)
    params = model.abstract_params()
    assert model.num_parameters(params) == expected["num_parameters"]
    without = model.num_parameters(params, exclude_embeddings=True)
    assert without == expected["without_embeddings"]
    assert model.get_memory_footprint(params) == expected["memory_footprint"]
    for ids in (IDS, jnp.asarray(IDS), jax.ShapeDtypeStruct(IDS.shape, jnp.int32)):
        inputs = {"input_ids": ids}
        assert model.estimate_tokens(inputs) == expected["tokens"]
        assert model.floating_point_ops(inputs) == expected["floating_point_ops"]
        every = model.floating_point_ops(inputs, exclude_embeddings=False)
        assert every == expected["floating_point_ops_all"]


@each
def test_M8_only_trainable(model):
    params = model.abstract_params()
    total = model.num_parameters(params)
    assert model.num_parameters(params, only_trainable=True) == total
    mask = fp.mask_except(params, "/embedding$")
    trained = model.num_parameters(params, only_trainable=True, trainable=mask)
    assert trained == model.num_parameters(params, exclude_embeddings=True) < total
    assert model.num_parameters(params, trainable=mask) == total
    with pytest.raises(ValueError, match="the mask has no entry for"):
        model.num_parameters(params, only_trainable=True, trainable={"nothing": True})


@some_of("model", MODELS, "llama")
def test_P16_footprint_of_each_device(model):
    mesh = fs.make_mesh(fsdp=4, tensor=2)
    params = model.init_params(jax.random.key(0), mesh=mesh)
    held = model.get_memory_footprint(params, per_device=True)
    assert len(held) == 8 and sum(held.values()) >= model.get_memory_footprint(params)


def test_M3_no_main_input_is_said_once(monkeypatch):
    monkeypatch.setattr(errors, "_warned", set())
    with pytest.warns(UserWarning, match="LlamaForCausalLM: without 'input_ids'"):
        assert LLAMA.estimate_tokens({"labels": IDS}) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert LLAMA.floating_point_ops({"labels": IDS}) == 0


@pytest.mark.parametrize("scan", [False, True])
def test_M4_exact_agrees_with_a_hand_count_of_a_layer(scan):
    b, t, d, f, n, k, h = 2, 64, 256, 704, 8, 4, 32
    config = fm.LlamaConfig(
        vocab_size=128,
        hidden_size=d,
        intermediate_size=f,
        num_hidden_layers=2,
        num_attention_heads=n,
        num_key_value_heads=k,
    )
    model = fm.LlamaModel(config, scan_layers=scan)
    ids = jax.ShapeDtypeStruct((b, t), jnp.int32)
    projections = d * n * h + 2 * d * k * h + n * h * d + 3 * d * f
    layer = 2 * b * t * projections + 2 * 2 * b * n * t * t * h
    found = model.floating_point_ops({"input_ids": ids}, exact=True)
    assert found == pytest.approx(2 * 3 * layer, rel=0.01)


@some_of("model", MODELS, "llama")
def test_M4_exact_counts_what_the_call_does(model):
    inputs = {"input_ids": IDS, "attention_mask": np.ones_like(IDS)}
    short = model.floating_point_ops(inputs, exact=True)
    long = model.floating_point_ops(
        {name: np.concatenate([x, x]) for name, x in inputs.items()}, exact=True
    )
    assert short < long < 2.1 * short
    more = model.clone(remat="full").floating_point_ops(inputs, exact=True)
    assert more > short


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_M5_M7_masks(dtype):
    made = {
        "extended": extended_attention_mask(MASK, (2, 5), dtype=dtype),
        "pairs": extended_attention_mask(PAIRS, (2, 2), dtype=dtype),
        "causal": extended_attention_mask(MASK, (2, 5), causal=True, dtype=dtype),
        "prefix": extended_attention_mask(MASK, (2, 3), causal=True, dtype=dtype),
        "inverted": invert_attention_mask(MASK, dtype),
        "inverted_pairs": invert_attention_mask(PAIRS, dtype),
    }
    for name, expected in GOLDEN["masks"].items():
        expected = np.array(expected)
        assert made[name].shape == expected.shape and made[name].dtype == dtype
        assert ((made[name] == 0) == (expected == 0)).all(), name
        assert jnp.isin(made[name], jnp.array([0, jnp.finfo(dtype).min], dtype)).all()


@each
def test_M5_M7_methods(model):
    half = model.clone(dtype=jnp.bfloat16)
    mask = jax.jit(lambda mask: half.get_extended_attention_mask(mask, (2, 5)))(MASK)
    assert mask.shape == (2, 1, 1, 5) and mask.dtype == jnp.bfloat16
    causal = model.get_extended_attention_mask(MASK, (2, 5), causal=True)
    assert causal.shape == (2, 1, 5, 5) and causal.dtype == jnp.float32
    assert model.invert_attention_mask(MASK).shape == (2, 1, 1, 5)


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 4), (2, 4, 5), (2, 1, 1, 5)])
def test_M5_M7_bad_masks(shape):
    with pytest.raises(ValueError, match=r"expected \[2, S\] or \[2, 5, S\]"):
        extended_attention_mask(np.ones(shape), (2, 5))
    if len(shape) in (1, 4):
        with pytest.raises(ValueError, match=r"expected \[B, S\]"):
            invert_attention_mask(np.ones(shape))


@each
def test_P18_a_leaf_by_name(model):
    params = model.abstract_params()
    for path, leaf in fp.flatten(params).items():
        assert model.get_parameter_or_buffer(params, path) is leaf
        assert model.get_parameter_or_buffer(params, path.replace("/", ".")) is leaf
    path = next(iter(fp.flatten(params)))
    with pytest.raises(KeyError, match=f"no leaf '{path}x' .nearest: {path}"):
        model.get_parameter_or_buffer(params, f"{path}x")
    with pytest.raises(ValueError, match="is no leaf; it holds"):
        model.get_parameter_or_buffer(params, path.rpartition("/")[0])


def test_P32_padding_without_a_mask_is_said_once(monkeypatch):
    monkeypatch.setattr(errors, "_warned", set())
    model = LLAMA.clone(config=LLAMA.config.replace(pad_token_id=2, eos_token_id=2))
    silent = [
        (LLAMA, IDS, None),  # no padding token
        (model, IDS + 3, None),
        (model, IDS, MASK),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for which, ids, mask in silent:
            which.warn_if_padding_and_no_attention_mask(ids, mask)
        jax.jit(model.warn_if_padding_and_no_attention_mask)(IDS - 3)
    with pytest.warns(UserWarning, match="the eos token, which has its id"):
        model.warn_if_padding_and_no_attention_mask(np.array([[3, 4, 2], [3, 4, 5]]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.warn_if_padding_and_no_attention_mask(np.array([[2, 4, 4]]))


@some_of("model", MODELS, "llama")
def test_M2_M9_M10_eager_memory(model):
    params = params_of(model)
    with memory.memory_trace() as trace:
        out = model.apply({"params": params}, IDS)
    assert trace.live_diff[""] == sum(leaf.nbytes for leaf in jax.tree.leaves(out))
    layers = [path for path in trace.live_diff if path.endswith("/0")]
    assert len(layers) == 1 and trace.live_diff[layers[0]] == 2 * 5 * 32 * 4
    assert trace.mem_rss_diff.keys() == trace.live_diff.keys()
    trace.reset()
    assert not trace.mem_rss_diff and not trace.live_diff
    with memory.memory_trace() as trace:
        jax.jit(model.apply)({"params": params}, IDS)
    assert not trace.mem_rss_diff


@in_turn("model", [*MODELS.values()], "scan", [False, True], ids=([*MODELS], None))
def test_M2_memory_of_the_compiled_program(model, scan):
    model = model.clone(scan_layers=scan)
    report = memory.memory_report(model, model.abstract_params(), IDS, depth=1)
    whole = next(row for row in report if row.path == "")
    assert whole.params == model.get_memory_footprint(model.abstract_params())
    assert whole.inputs == IDS.nbytes and whole.outputs == 2 * 5 * 64 * 4 and whole.temporary > 0
    assert model.base_model_prefix in {row.path for row in report}
    assert all("/" not in row.path for row in report)
    assert str(report).splitlines()[2].startswith("(all)")


@some_of("scan", {"loop": False, "scan": True}, "scan")
def test_M2_memory_of_one_device_of_a_mesh(scan):
    model = MODELS["llama"].clone(scan_layers=scan)
    template = model.abstract_params()
    shardings = fs.shardings(template, fs.make_mesh(tensor=2, devices=jax.devices()[:2]))
    placed = jax.tree.map(lambda x, s: x.update(sharding=s), template, shardings)
    report, alone = (memory.memory_report(model, tree, IDS, depth=3) for tree in (placed, template))
    for row, whole in zip(report, alone, strict=True):
        split = "norm" not in row.path.rpartition("/")[2]  # the rest of a model is split
        assert whole.params / 2 <= row.params <= whole.params * (0.6 if split else 1)

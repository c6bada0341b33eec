"""Initialising: a leaf's values come from the key and its path alone."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _files import same
from _turns import some_of

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels import sharding as fs

SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 16,
}
MODELS = {
    "bert": fm.BertForMaskedLM(fm.BertConfig(**SMALL, intermediate_size=48, pad_token_id=5)),
    "gpt2": fm.GPT2LMHeadModel(fm.GPT2Config.from_dict({"model_type": "gpt2", **SMALL})),
    "llama": fm.LlamaForCausalLM(fm.LlamaConfig(**SMALL, intermediate_size=48)),
}
KEY = jax.random.key(3)
each = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


def leaves(model, **how):
    return fp.flatten(model.init_params(KEY, **how))


@some_of("model", MODELS, "bert")
def test_P22_a_part_equals_the_whole(model):
    whole = leaves(model)
    assert len({leaf.tobytes() for leaf in map(np.asarray, whole.values()) if leaf.std()}) == len(
        [leaf for leaf in whole.values() if leaf.std()]
    )
    template = model.abstract_params()
    part, _ = fp.partition(template, lambda path, _: "1" in path or "bias" in path)
    for path, leaf in fp.flatten(jax.jit(lambda key: fp.initialize(part, key))(KEY)).items():
        assert same(np.asarray(leaf), np.asarray(whole[path])), path


@some_of("model", MODELS, "gpt2")
def test_P22_sharded_equals_the_whole(model):
    mesh = fs.make_mesh(fsdp=4, tensor=2)
    whole = leaves(model)
    for path, leaf in leaves(model, mesh=mesh).items():
        assert same(np.asarray(leaf), np.asarray(whole[path])), path
        assert leaf.sharding == fp.flatten(fs.shardings(model.abstract_params(), mesh))[path]


@some_of("model", MODELS, "gpt2")
def test_P22_stacked_layers_equal_looped_ones(model):
    stacked = model.clone(scan_layers=True).init_params(KEY)
    looped = fp.flatten(fp.stack_layers(model.init_params(KEY)))
    for path, leaf in fp.flatten(stacked).items():
        assert same(np.asarray(leaf), np.asarray(looped[path])), path


def test_P21_every_kind_is_drawn_as_its_family_says():
    whole = leaves(MODELS["bert"])
    table = np.asarray(whole["bert/embeddings/word_embeddings/embedding"])
    assert not table[5].any() and abs(table[6:].std() - 0.02) < 0.002
    for path, leaf in whole.items():
        if path.endswith(("bias", "scale")):
            assert (leaf == path.endswith("scale")).all(), path
    deep = leaves(MODELS["gpt2"])
    assert abs(np.asarray(deep["transformer/h/1/mlp/c_fc/kernel"]).std() - 0.02) < 0.001
    shallow = np.asarray(deep["transformer/h/1/mlp/c_proj/kernel"]).std()
    assert abs(shallow - 0.02 / 4**0.5) < 0.001


@each
def test_P21_dtypes_and_shapes_without_a_value(model):
    made = jax.eval_shape(lambda key: model.init_params(key, param_dtype={"kernel": "bf16"}), KEY)
    template = fp.flatten(model.abstract_params())
    for path, leaf in fp.flatten(made).items():
        assert leaf.shape == template[path].shape
        assert leaf.dtype == (jnp.bfloat16 if "kernel" in path else jnp.float32)


def test_P33_a_template_that_says_nothing_is_an_error():
    template = MODELS["llama"].abstract_params()
    told = pickle.loads(pickle.dumps(template))  # initializers are closures
    assert fp.flatten(told) == fp.flatten(template)
    with pytest.raises(ValueError, match="lm_head/kernel: .* does not say how it is drawn"):
        fp.initialize(told, KEY)

"""Names that are not a model's own: wrappers, prefixes, other layouts, and ties that are none."""

import functools
import json
import shutil
import warnings

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from _files import write_safetensors
from _paths import GOLDENS, LLAMA
from flax.training.train_state import TrainState
from safetensors.numpy import load_file, save_file

import flaxmodels as fm
from flaxmodels import auto
from flaxmodels import params as fp
from flaxmodels.params.checkpoint.make_plan import make_plan
from flaxmodels.params.checkpoint.reconcile import reconcile
from flaxmodels.params.checkpoint.stream import stream
from flaxmodels.params.tree.naming import PATHS

GPT2 = GOLDENS / "gpt2-lm-head" / "checkpoint"
BERT = GOLDENS / "bert-masked-lm" / "checkpoint"
MODELS = {"llama": LLAMA, "gpt2": GPT2, "bert": BERT}


def assert_same(params, expected):
    params, expected = fp.flatten(params), fp.flatten(expected)
    assert params.keys() == expected.keys()
    for path, leaf in expected.items():
        np.testing.assert_array_equal(params[path], leaf, err_msg=path)


def said(call):
    """(what a call returns, what it warned of)."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = call()
    return result, " ".join(str(warning.message) for warning in caught)


@pytest.fixture(scope="module", params=MODELS)
def pair(request):
    folder = MODELS[request.param]
    return auto.architecture(str(folder)).from_pretrained(folder)


@pytest.mark.parametrize("form", ["to_bytes", "flat", "tuples"])
def test_D17_a_tree_that_flax_saved_loads_back(pair, form, tmp_path):
    model, params = pair
    if form == "to_bytes":
        (tmp_path / "x.msgpack").write_bytes(flax.serialization.to_bytes(params))
        where, state = tmp_path / "x.msgpack", None
    elif form == "flat":
        where, state = None, fp.flatten(params)
    else:
        where, state = None, flax.traverse_util.flatten_dict(params)
    _, loaded = type(model).from_pretrained(where, config=model.config, state_dict=state)
    assert_same(loaded, params)


def state_of(model, params):
    return TrainState.create(apply_fn=model.apply, params=params, tx=optax.adamw(1e-3))


STATES = {
    "train-state": lambda s: s,
    "pair": lambda s: (s.params, s.opt_state),
    "deep": lambda s: {"state": {"model": {"params": s.params}, "optimizer": s.opt_state}, "n": 3},
    "variables": lambda s: {"model": {"params": s.params}},
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("kind", ["msgpack", "orbax"])
def test_kind_6_the_params_of_a_training_are_found(state, kind, tmp_path):
    model, params = fm.LlamaForCausalLM.from_pretrained(LLAMA)
    tree = flax.serialization.to_state_dict(STATES[state](state_of(model, params)))
    if kind == "msgpack":
        where = tmp_path / "x.msgpack"
        where.write_bytes(flax.serialization.to_bytes(tree))
    else:
        where = tmp_path / "x"
        with ocp.StandardCheckpointer() as saver:
            saver.save(where, jax.tree.map(np.asarray, tree))
    load = lambda: fm.LlamaForCausalLM.from_pretrained(where, config=model.config)  # noqa: E731
    (_, loaded), warned = said(load)
    assert_same(loaded, params)
    under = {"train-state": "params", "pair": "0", "deep": "state/model/params"}.get(state)
    if under is None:
        assert not warned
    else:
        assert f"taken from under '{under}' (key_mapping=" in warned
        assert "not read:" in warned


def test_kind_6_two_trees_that_fit_are_told_apart_by_key_mapping(tmp_path):
    model, params = fm.LlamaForCausalLM.from_pretrained(LLAMA)
    ema = jax.tree.map(lambda x: x + 1, params)
    where = tmp_path / "x.msgpack"
    where.write_bytes(flax.serialization.to_bytes({"params": params, "ema_params": ema}))
    with pytest.raises(fm.CheckpointError, match="'ema_params' and those under 'params' fit alike"):
        fm.LlamaForCausalLM.from_pretrained(where, config=model.config)
    (_, loaded), _ = said(
        lambda: fm.LlamaForCausalLM.from_pretrained(
            where, config=model.config, key_mapping={"^ema_params/": ""}
        )
    )
    assert_same(loaded, ema)


PREFIXES = {
    "compiled": lambda n: f"_orig_mod.{n}",
    "nested": lambda n: f"module.base_model.model._orig_mod.{n}",
    "of-nobody": lambda n: f"my.wrapper.{n}",
    "backbone-called-otherwise": lambda n: n.replace("model.", "decoder.", 1),
    "inside": lambda n: n.replace(".self_attn.", "._fsdp_wrapped_module.self_attn."),
    "inside-and-around": lambda n: (
        "_fsdp_wrapped_module." + n.replace(".mlp.", "._checkpoint_wrapped_module.mlp.")
    ),
}


@pytest.mark.parametrize("name", PREFIXES)
def test_kind_7_one_rule_for_all_names_is_found_and_said(name, tmp_path):
    tensors = {PREFIXES[name](n): x for n, x in load_file(LLAMA / "model.safetensors").items()}
    shutil.copytree(LLAMA, tmp_path / "m")
    save_file(tensors, tmp_path / "m" / "model.safetensors", {"format": "pt"})
    (_, loaded), warned = said(lambda: fm.LlamaForCausalLM.from_pretrained(tmp_path / "m"))
    assert_same(loaded, fm.LlamaForCausalLM.from_pretrained(LLAMA)[1])
    assert "key_mapping={" in warned


def test_kind_7_names_that_no_rule_explains_are_refused_as_before(tmp_path):
    tensors = load_file(LLAMA / "model.safetensors")
    tensors = {f"_orig_mod.{n}": x for n, x in tensors.items() if ".norm." not in f".{n}"}
    del tensors["_orig_mod.model.layers.0.mlp.up_proj.weight"]
    shutil.copytree(LLAMA, tmp_path / "m")
    save_file(tensors, tmp_path / "m" / "model.safetensors", {"format": "pt"})
    with pytest.raises(fm.CheckpointError) as caught:
        fm.LlamaForCausalLM.from_pretrained(tmp_path / "m")
    want, have = len(load_file(LLAMA / "model.safetensors")), len(tensors)
    assert f"; {have} of the model's {want} names would fit if " in str(caught.value)
    assert r"from under '_orig_mod' (key_mapping={'^_orig_mod\\.': ''})" in str(caught.value)


@pytest.mark.parametrize("kind", ["orbax", "tree", "flat"])
def test_D5_backbones_and_heads_of_trees(kind, tmp_path):
    model, params = fm.LlamaForCausalLM.from_pretrained(LLAMA)
    base = fm.LlamaModel(model.config)

    def load(cls, model, tree):
        if kind == "orbax":
            model.save_pretrained(tree, tmp_path / cls.__name__, format="orbax")
            return cls.from_pretrained(tmp_path / cls.__name__)
        tree = fp.flatten(tree) if kind == "flat" else tree
        return cls.from_pretrained(None, config=model.config, state_dict=tree)

    (_, loaded), warned = said(lambda: load(fm.LlamaModel, model, params))
    assert_same(loaded, params["model"])
    assert "lm_head/kernel" in warned
    head = fm.LlamaForSequenceClassification
    (_, loaded), warned = said(lambda: load(head, base, params["model"]))
    assert_same(loaded["model"], params["model"])
    assert "score/kernel" in warned


def with_head(folder, target, change, config=None):
    """A copy of a checkpoint, tied by its config, whose head is `change` of its table."""
    shutil.copytree(folder, target)
    values = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(values | {"tie_word_embeddings": True}))
    tensors = load_file(target / "model.safetensors")
    table = next(n for n in tensors if n.endswith(("embed_tokens.weight", "wte.weight")))
    tensors["lm_head.weight"] = change(tensors[table])
    save_file(tensors, target / "model.safetensors", {"format": "pt"})
    return tensors["lm_head.weight"]


@pytest.mark.parametrize("scan_layers", [False, True])
@pytest.mark.parametrize("folder", [LLAMA, GPT2], ids=["llama", "gpt2"])
def test_D3_a_head_that_differs_from_the_table_is_one_of_its_own(folder, scan_layers, tmp_path):
    def changed(table):
        table = table.copy()
        table[-1, -1] += 1  # the last number
        return table

    head = with_head(folder, tmp_path / "m", changed)
    load = lambda **o: fm.AutoModelForCausalLM.from_pretrained(tmp_path / "m", **o)  # noqa: E731
    (model, params), warned = said(lambda: load(scan_layers=scan_layers))
    assert not model.config.tie_word_embeddings and "'lm_head.weight' is not" in warned
    np.testing.assert_array_equal(params["lm_head"]["kernel"], head.T)
    model.save_pretrained(params, tmp_path / "again")
    again, loaded = fm.AutoModelForCausalLM.from_pretrained(
        tmp_path / "again", scan_layers=scan_layers
    )
    assert not again.config.tie_word_embeddings
    assert_same(loaded, params)
    (model, params), warned = said(lambda: load(tie_word_embeddings=True))
    assert model.config.tie_word_embeddings and "lm_head" not in params
    assert "tie_word_embeddings=True was given" in warned


@pytest.mark.parametrize("change", ["same", "nan", "half"])
def test_D3_a_head_that_is_the_table_is_none(change, tmp_path):
    changes = {
        "same": lambda table: table.copy(),
        "nan": lambda table: table.copy(),
        "half": lambda table: table.astype(np.float16),
    }
    with_head(LLAMA, tmp_path / "m", changes[change])
    if change == "nan":
        tensors = load_file(tmp_path / "m" / "model.safetensors")
        for name in ("lm_head.weight", "model.embed_tokens.weight"):
            tensors[name] = tensors[name].copy()
            tensors[name][3] = np.nan
        save_file(tensors, tmp_path / "m" / "model.safetensors", {"format": "pt"})
    model, params = fm.AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    assert model.config.tie_word_embeddings and "lm_head" not in params


def test_D23_a_folder_with_both_names_of_a_tie(tmp_path):
    with_head(GPT2, tmp_path / "m", lambda table: table.copy())
    model, expected = fm.AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    for template, how in ((model.abstract_params(), {"naming": model.naming}), (model, {})):
        params, result = fp.load_sharded_checkpoint(template, tmp_path / "m", **how)
        assert_same(params, expected)
        assert not any(result)


@functools.partial(jax.jit, static_argnums=0)
def bert_logits(model, params):
    return model.apply({"params": params}, np.arange(6)[None]).logits


@pytest.mark.parametrize("there", ["both", "cls.predictions.bias", "cls.predictions.decoder.bias"])
def test_a_bias_that_stands_twice_is_the_one_that_pytorch_computes_with(there, tmp_path):
    """Transformers 5.23 adds the decoder's to its logits where both are there, and differ."""
    model, params = fm.BertForMaskedLM.from_pretrained(BERT, progress=False)
    expected = bert_logits(model, params)
    tensors = load_file(BERT / "model.safetensors")
    bias = tensors["cls.predictions.bias"]
    biases = {"cls.predictions.bias": bias + 1, "cls.predictions.decoder.bias": bias + 2}
    own = [name for name in tensors if name in biases or name.startswith("cls.predictions.decoder")]
    tensors = {name: x for name, x in tensors.items() if name not in own}
    tensors |= {name: x for name, x in biases.items() if there in ("both", name)}
    shutil.copytree(BERT, tmp_path / "m")
    save_file(tensors, tmp_path / "m" / "model.safetensors", {"format": "pt"})
    (model, params), warned = said(lambda: fm.BertForMaskedLM.from_pretrained(tmp_path / "m"))
    logits = bert_logits(model, params)
    more = 1 if there == "cls.predictions.bias" else 2
    np.testing.assert_allclose(logits, expected + more, atol=1e-5)
    assert ("is not 'cls.predictions.decoder.bias', and they are one" in warned) == (
        there == "both"
    )


HEADLESS = [fm.LlamaModel, fm.LlamaForTokenClassification, fm.LlamaForSequenceClassification]


@pytest.mark.parametrize("cls", HEADLESS, ids=lambda cls: cls.__name__)
def test_a_head_of_its_own_is_said_to_be_unused(cls):
    """An untied model's head is no second name of the table."""
    load = cls.from_pretrained
    (_, _, info), warned = said(lambda: load(LLAMA, output_loading_info=True, progress=False))
    assert info.unexpected_keys == ["lm_head.weight"]
    assert f"not used in {cls.__name__}: lm_head.weight" in warned


def test_a_head_that_is_the_table_is_not_said_to_be_unused(tmp_path):
    model, params = fm.GPT2LMHeadModel.from_pretrained(GPT2, progress=False)
    model.save_pretrained(params, tmp_path / "m", progress=False)
    tensors = load_file(tmp_path / "m" / "model.safetensors")
    tensors["lm_head.weight"] = tensors["transformer.wte.weight"]
    save_file(tensors, tmp_path / "m" / "model.safetensors", {"format": "pt"})
    _, _, info = fm.GPT2Model.from_pretrained(tmp_path / "m", output_loading_info=True)
    assert not info.unexpected_keys  # nor is there a warning, which would be an error


def altered(target, **changes):
    shutil.copytree(LLAMA, target)
    values = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(values | changes))
    return target


@pytest.mark.parametrize(
    ("name", "size", "said"),
    [
        ("head_dim", 2**30, "config.json: .*a head_dim of at most 65536, got 1073741824"),
        ("num_hidden_layers", 2**31 - 1, "the config has 2147483647 layers"),
        ("intermediate_size", 2**31 - 1, "the config has intermediate_size 2147483647"),
    ],
)
def test_sizes_that_the_headers_contradict_are_refused_at_once(name, size, said, tmp_path):
    error = fm.ConfigError if name == "head_dim" else fm.CheckpointError  # RoPE has a bound
    with pytest.raises(error, match=said):
        fm.AutoModelForCausalLM.from_pretrained(altered(tmp_path / "m", **{name: size}))


def test_params_larger_than_the_machine_are_refused_before_reading(tmp_path):
    shape = (1 << 24, 1 << 20)
    source = fp.Source("x", {"w": fp.Tensor("w", shape, np.dtype(np.float32))}, PATHS)
    template = {"w": jax.ShapeDtypeStruct(shape, jnp.float32)}
    plan = make_plan(reconcile(template, source), template)
    assert len(repr(plan)) < 2000 and len(repr(plan.match)) < 500
    with pytest.raises(fm.CheckpointError, match="the params take 70368.74 GB of host memory; "):
        stream(plan, progress=False)


def test_D34_a_new_head_has_the_dtype_of_the_checkpoint():
    folder = GOLDENS / "llama-bf16" / "checkpoint"
    (_, params), _ = said(lambda: fm.LlamaForSequenceClassification.from_pretrained(folder))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("bfloat16")}


@pytest.mark.parametrize("dtype", ["int32", "bool"])
def test_D35_weights_that_are_no_floats_are_refused_by_path(dtype):
    model, params = fm.LlamaForCausalLM.from_pretrained(LLAMA)
    bad = jax.tree.map(lambda x: np.asarray(x).astype(dtype), params)
    with pytest.raises(fm.CheckpointError, match=f"state_dict: .*/.* is stored as {dtype}"):
        fm.LlamaForCausalLM.from_pretrained(
            None, config=model.config, state_dict=bad, param_dtype="float32"
        )


@pytest.mark.parametrize("dtype", [np.int8, np.complex64])
def test_D35_a_file_of_what_are_no_floats_is_refused_by_path(dtype, tmp_path):
    """By whatever takes a model; a plan made by hand keeps what is stored."""
    model, _ = fm.GPT2LMHeadModel.from_pretrained(GPT2, progress=False)
    folder = tmp_path / "m"
    shutil.copytree(GPT2, folder)
    tensors = load_file(folder / "model.safetensors")
    (name,) = [name for name in tensors if name.endswith("h.1.mlp.c_fc.bias")]
    tensors[name] = tensors[name].astype(dtype)
    write_safetensors(folder / "model.safetensors", tensors, {"format": "pt"})
    said = f"transformer/h/.*mlp/c_fc/bias is stored as {np.dtype(dtype)}"
    for call in (
        lambda: fm.GPT2LMHeadModel.from_pretrained(folder, scan_layers=False),
        lambda: fm.load_plan(folder, scan_layers=False),
        lambda: fp.load_sharded_checkpoint(model.clone(scan_layers=False), folder),
    ):
        with pytest.raises(fm.CheckpointError, match=said):
            call()


def test_D36_one_file_or_a_generator_of_files(tmp_path):
    tree = {"a": {"kernel": np.ones((2, 3), np.float32)}}
    (tmp_path / "one.msgpack").write_bytes(flax.serialization.to_bytes(tree))
    for files in (tmp_path / "one.msgpack", str(tmp_path / "one.msgpack"), (tmp_path.glob("*"))):
        assert_same(fp.load_flax_sharded_weights(files), tree)
    with pytest.raises(fm.CheckpointError, match="torch's names, not flax's"):
        fp.load_flax_sharded_weights([LLAMA / "model.safetensors"])


@pytest.mark.parametrize(
    "call", [fm.LlamaModel.from_pretrained, fm.AutoModel.from_pretrained, fm.load_plan]
)
@pytest.mark.parametrize("variant", ["a/b", "", "../x", "a\0", 3], ids=repr)
def test_a_variant_that_is_no_part_of_a_name_is_refused_before_anything_is_read(call, variant):
    with pytest.raises(ValueError, match="variant is .*it becomes part of file names"):
        call("org/name", variant=variant)  # nobody is asked for a repository


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"param_dtype": {"zzz": "bfloat16"}}, "pattern 'zzz' matches no path"),
        ({"param_dtype": {"(": "bfloat16"}}, r"pattern '\(' is no regular expression"),
        ({"key_mapping": {"[": ""}}, r"pattern '\[' is no regular expression"),
        ({"key_mapping": {"a": r"\2"}}, "invalid group reference"),
    ],
)
def test_D38_patterns_that_match_nothing_or_are_none(options, message):
    with pytest.raises(ValueError, match=message):
        fm.LlamaForCausalLM.from_pretrained(LLAMA, **options)

"""Attention heads: pruned for good (P24, T18, D28), and masked for one call (M6, T11)."""

import functools
import json

import golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from _drawn import params_of
from _turns import in_turn, some_of

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels import sharding as fs

PRUNED = ("bert-masked-lm", "gpt2-lm-head")
NAMES = (*PRUNED, "llama-causal-lm")
ONCE = {1: [0, 2]}  # as `scripts/goldens/files/_goldens_heads.py`
TWICE = {0: [3], 1: [2, 3]}
EVEN = {0: [2, 3], 1: [0, 1]}  # whole groups of Llama's
loop_and_scan = pytest.mark.parametrize("scan_layers", [False, True], ids=["loop", "scan"])
scan_by_default = some_of("scan_layers", {"loop": False, "scan": True}, "scan")


@functools.partial(jax.jit, static_argnums=0, static_argnames="output_attentions")
def run(model, params, arguments, **options):
    return model.apply({"params": params}, **arguments, **options)


@functools.cache
def loaded(name, scan_layers=False):
    """The params are of NumPy: heads of JAX's arrays are cut by a program for each shape."""
    model, params = golden.load(name).load(scan_layers=scan_layers)
    return model, jax.tree.map(np.asarray, params)


@functools.cache
def expected(name):
    return golden.Golden(f"pruned-{name}")


def close(model, params, name, prefix, **options):
    arguments = golden.load(name).under("in")
    got = golden.flat(run(model, params, arguments | options, output_attentions=True))
    wanted = expected(name).under(prefix)
    golden.assert_close(got, wanted, arguments["attention_mask"], 1e-4)


def same(got, wanted):
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    jax.tree.map(np.testing.assert_array_equal, got, wanted)


def zeroed(params, plan):
    """Llama's looped params, with what the heads of `plan` put out multiplied by zero."""
    leaves = fp.flatten(params)
    for layer, heads in plan.items():
        path = f"model/layers/{layer}/self_attn/o_proj/kernel"
        rows = np.array(leaves[path]).reshape(4, -1, leaves[path].shape[1])
        rows[heads] = 0
        leaves[path] = rows.reshape(leaves[path].shape)
    return fp.unflatten(leaves)


# --- pruning, against the reference ---


@in_turn("name", PRUNED, "scan_layers", [False, True], ids=(None, ["loop", "scan"]))
def test_P24_T18_pruned_once_and_twice(name, scan_layers):
    model, params = loaded(name, scan_layers)
    once = model.prune_heads(params, ONCE)
    twice = once[0].prune_heads(once[1], TWICE)
    assert not once[0].scan_layers and not twice[0].scan_layers
    if not scan_layers:
        close(*once, name, "once")
        close(*twice, name, "twice")
    assert twice[0].config.to_dict()["pruned_heads"] == {"0": [3], "1": [0, 2, 3]}
    same(twice[1], expected(name).load()[1])


@pytest.mark.parametrize("name", PRUNED)
def test_P24_a_pruned_checkpoint_of_the_reference_loads_and_is_written_back(name, tmp_path):
    model, params = expected(name).load()
    close(model, params, name, "twice")
    model.save_pretrained(params, tmp_path)
    written, read = (
        json.loads((folder / "config.json").read_text())["pruned_heads"]
        for folder in (tmp_path, expected(name).checkpoint)
    )
    assert written == read
    again, read_back = type(model).from_pretrained(tmp_path)
    assert again.config.pruned_heads == model.config.pruned_heads
    same(read_back, params)


def test_P24_a_pruned_model_generates_as_the_reference():
    model, params = expected("gpt2-lm-head").load()
    arguments = golden.load("gpt2-lm-head").under("in")
    out = model.generate(params, **arguments, max_new_tokens=8, eos_token_id=())
    np.testing.assert_array_equal(out.sequences, expected("gpt2-lm-head").under("gen")["greedy"])
    assert [x.shape[1] for x in model.init_cache(1, 4).entries["full_attention"].keys] == [3, 1]


@scan_by_default
def test_heads_over_an_encoder_stay_and_norms_of_heads_go(scan_layers):
    small = {"vocab_size": 20, "hidden_size": 32, "intermediate_size": 24, "num_hidden_layers": 2}
    small |= {"num_attention_heads": 4, "num_key_value_heads": 2, "qk_layernorm": True}
    cross = {"vocab_size": 20, "d_model": 32, "num_layers": 2, "attention_heads": 4, "ffn_dim": 24}
    configs = fm.StableLmConfig(**small), fm.XGLMConfig(**cross, add_cross_attention=True)
    for cls, config in zip((fm.StableLmForCausalLM, fm.XGLMForCausalLM), configs, strict=True):
        model = cls(config, scan_layers=scan_layers)
        model, params = model.prune_heads(params_of(model), EVEN)
        shapes = [jax.tree.map(np.shape, tree) for tree in (params, model.abstract_params())]
        assert shapes[0] == shapes[1]


@some_of("how", {"loop": (False, {1: [2, 3]}), "scan": (True, EVEN)}, "loop")
def test_P24_llama_without_groups_is_llama_with_zeros(how):
    scan_layers, plan = how
    model, params = loaded("llama-biases")
    arguments = golden.load("llama-biases").under("in")
    tokens = arguments["attention_mask"].astype(bool)
    wanted = run(model, zeroed(params, plan), arguments).logits
    pruned, cut = model.clone(scan_layers=scan_layers).prune_heads(
        fp.stack_layers(params) if scan_layers else params, plan
    )
    got = run(pruned, cut, arguments).logits
    np.testing.assert_allclose(got[tokens], wanted[tokens], atol=1e-4)


@scan_by_default
def test_P24_a_pruned_llama_generates_with_a_smaller_cache(scan_layers):
    model, params = loaded("llama-causal-lm")
    prompt = golden.load("llama-causal-lm").under("in")["input_ids"][:1]
    whole, zeros = model, zeroed(params, EVEN)
    scanned = (model.clone(scan_layers=True), fp.stack_layers(params))
    model, params = scanned if scan_layers else (model, params)
    model, params = model.prune_heads(params, EVEN)
    got = model.generate(params, prompt, max_new_tokens=6, eos_token_id=())
    best = run(whole, zeros, {"input_ids": got.sequences}).logits.argmax(-1)
    length = prompt.shape[1]
    np.testing.assert_array_equal(got.sequences[:, length:], best[:, length - 1 : -1])
    keys = model.init_cache(1, 8).entries["full_attention"].keys
    assert [x.shape for x in keys] == [(1, 1, 8, 6)] * 2


# --- pruning: trees of every kind ---


@pytest.mark.parametrize("name", NAMES)
def test_P24_scanned_layers_stay_stacked_if_all_lose_as_many(name):
    model, params = loaded(name)
    looped, cut = model.prune_heads(params, EVEN)
    scanned, stacked = model.clone(scan_layers=True).prune_heads(fp.stack_layers(params), EVEN)
    assert scanned == looped.clone(scan_layers=True)
    same(stacked, fp.stack_layers(cut))


@in_turn(
    *("name", NAMES),
    *("how", [(False, {1: [0, 1]}), (True, {1: [0, 1]}), (True, EVEN)]),
    ids=(None, ["loop", "scan-uneven", "scan-even"]),
)
def test_P24_abstract_traced_and_host_trees_are_served(name, how):
    scan_layers, plan = how
    model, params = loaded(name, scan_layers)
    params = jax.tree.map(lambda x: jnp.asarray(x.astype(jnp.bfloat16)), params)
    pruned, wanted = model.prune_heads(params, plan)
    template = pruned.abstract_params(jnp.bfloat16)

    def axes(tree):
        return [leaf.axes for leaf in jax.tree.leaves(tree)]

    def cut(params):
        return model.prune_heads(params, plan)[1]

    abstract = cut(model.abstract_params(jnp.bfloat16))
    assert abstract == template and axes(abstract) == axes(template)
    assert jax.eval_shape(cut, params) == template
    assert jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), wanted) == template
    same(jax.jit(cut)(params), wanted)
    host = cut(jax.tree.map(np.asarray, params))
    assert {type(leaf) for leaf in jax.tree.leaves(host)} == {np.ndarray}
    same(host, wanted)


def test_P24_random_params_follow_the_config():
    model = loaded("llama-causal-lm")[0]
    model, template = model.prune_heads(model.abstract_params(), {1: [0, 1]})
    assert jax.eval_shape(model.init_params, jax.random.key(0)) == template


@pytest.mark.parametrize("name", NAMES)
def test_D28_heads_pruned_already_are_no_change(name):
    model, params = loaded(name)
    pruned, cut = model.prune_heads(params, {"1": np.array([1, 0])})
    for plan in ({1: [0]}, {1: (1, 0, 1)}, {0: []}, {}):
        again, leaves = pruned.prune_heads(cut, plan)
        assert again == pruned and hash(again) == hash(pruned)
        assert all(map(lambda x, y: x is y, jax.tree.leaves(leaves), jax.tree.leaves(cut)))


SIZES = {"vocab_size": 64, "num_attention_heads": 8, "num_hidden_layers": 2, "hidden_size": 32}
SHARDED = [
    ("BertForMaskedLM", SIZES | {"intermediate_size": 48, "max_position_embeddings": 32}),
    ("GPT2LMHeadModel", SIZES | {"max_position_embeddings": 32}),
    ("LlamaForCausalLM", SIZES | {"intermediate_size": 48, "num_key_value_heads": 4}),
]


def sharded(name, values, scan_layers, rules=fs.DEFAULT_RULES):
    cls = getattr(fm, name)
    model = cls(cls.config_class.from_dict(values), scan_layers=scan_layers)
    template, rng = model.abstract_params(), np.random.default_rng(0)
    host = jax.tree.map(lambda x: 0.2 * rng.standard_normal(x.shape, np.float32), template)
    shardings = fs.shardings(template, fs.make_mesh(fsdp=2, tensor=4), rules)
    return model, host, shardings


UNEVEN = {1: [0, 1, 4, 5]}
LEVEL = {0: [0, 1, 4, 5], 1: [0, 1, 2, 3]}
CASES = [(0, False, UNEVEN), (1, True, UNEVEN), (2, True, LEVEL)]
CASES += [pytest.param(2, False, LEVEL, marks=pytest.mark.soak)]


@pytest.mark.parametrize(("case", "scan_layers", "plan"), CASES)
def test_P24_sharded_leaves_stay_sharded(case, scan_layers, plan):
    rules = (("kv_heads", None), *fs.DEFAULT_RULES)  # two key-value heads, four devices
    model, host, shardings = sharded(*SHARDED[case], scan_layers, rules)
    pruned, cut = model.prune_heads(jax.device_put(host, shardings), plan)
    mesh = jax.tree.leaves(shardings)[0].mesh
    for leaf, wanted in zip(
        jax.tree.leaves(cut),
        jax.tree.leaves(fs.shardings(pruned.abstract_params(), mesh, rules)),
        strict=True,
    ):
        assert leaf.sharding.is_equivalent_to(wanted, leaf.ndim)
    alone = model.prune_heads(host, plan)[1]
    same(cut, alone)
    if case == 2:
        ids = {"input_ids": np.arange(36).reshape(4, 9) % 64}
        wanted = run(pruned, alone, ids).logits
        np.testing.assert_allclose(run(pruned, cut, ids).logits, wanted, atol=1e-5)


@loop_and_scan
def test_P24_a_new_size_that_does_not_divide_is_refused(scan_layers):
    values = SIZES | {"num_attention_heads": 32, "max_position_embeddings": 32}
    model, host, shardings = sharded("GPT2LMHeadModel", values, scan_layers)
    template = model.abstract_params()
    abstract = jax.tree.map(lambda x, s: x.update(sharding=s), template, shardings)
    for params in (abstract, jax.device_put(host, shardings)):
        with pytest.raises(ValueError, match=r"attn/c_attn/bias: axis .* size 93 .*'tensor'"):
            model.prune_heads(params, {0: [0], 1: [0]})
    leaf = model.prune_heads(abstract, {1: range(4)})[1]["transformer"]["h"]["1"]["attn"]["c_attn"]
    assert tuple(leaf["kernel"].sharding.spec) == ("fsdp", "tensor")


# --- pruning: what is refused ---

WRONG = [
    ({2: [0]}, "names layer 2; there are layers 0 to 1"),
    ({-1: [0]}, "names layer -1"),
    ({"01": [0]}, "names layer 01"),
    ({1: [4]}, "names head 4 of layer 1; there are heads 0 to 3"),
    ({0: [-1]}, "names head -1 of layer 0"),
    ({0: [0, 1, 2, 3]}, "leaves layer 0 none of its 4 heads"),
    ({0: [True]}, "pruned_heads must be"),
    ({0: ["1"]}, "pruned_heads must be"),
    ({0: [0.5]}, "pruned_heads must be"),
]


@pytest.mark.parametrize(("plan", "message"), WRONG)
@pytest.mark.parametrize("name", NAMES)
def test_D28_heads_that_are_not_there_are_refused(name, plan, message):
    model = loaded(name)[0]
    with pytest.raises(fm.ConfigError, match=message):
        model.prune_heads(model.abstract_params(), plan)
    with pytest.raises(fm.ConfigError, match=message):
        type(model.config).from_dict(model.config.to_dict() | {"pruned_heads": plan})


def test_D28_a_plan_of_another_form_is_refused():
    model = loaded("llama-causal-lm")[0]
    params = model.abstract_params()
    for plan in ([0, 1], None, {0: 1}, {0: None}, {0: {1: 2}}, {0: jnp.array(1)}):
        with pytest.raises(TypeError, match="heads_to_prune.* expected"):
            model.prune_heads(params, plan)
    with pytest.raises(TypeError, match="heads_to_prune.* expected the heads' numbers"):
        jax.eval_shape(lambda heads: model.prune_heads(params, {0: heads})[1], jnp.array([1]))


def test_D28_a_layer_cannot_be_emptied_step_by_step():
    model = loaded("bert-masked-lm")[0]
    model, params = model.prune_heads(model.abstract_params(), {0: [0, 1, 2]})
    with pytest.raises(fm.ConfigError, match="leaves layer 0 none"):
        model.prune_heads(params, {0: [3]})


def test_D28_heads_that_share_a_key_value_head_go_together():
    model = loaded("llama-causal-lm")[0]
    with pytest.raises(fm.ConfigError, match="1 of the heads 2 to 3 of layer 1.*take all 2"):
        model.prune_heads(model.abstract_params(), {1: [0, 1, 3]})


def test_P24_scales_of_norms_go_with_their_heads():
    it = reference.load("cohere")
    model, params = it.load("head-norms", scan_layers=False)
    pruned, cut = model.prune_heads(params, EVEN)
    norms = cut["model"]["layers"]["0"]["self_attn"]
    assert norms["q_norm"]["scale"].shape == (2, 6) and norms["k_norm"]["scale"].shape == (1, 6)
    inputs = it.inputs("head-norms", "whole")
    got, wanted = run(pruned, cut, inputs), run(model, zeroed(params, EVEN), inputs)
    np.testing.assert_allclose(got.logits, wanted.logits, atol=1e-5)


def test_D28_heads_that_are_normed_together_stay():
    model = reference.load("olmo2").load("Olmo2ForCausalLM")[0]
    with pytest.raises(fm.ConfigError, match="all heads are normed together"):
        model.prune_heads(model.abstract_params(), EVEN)


def test_P24_params_of_another_model_are_refused():
    model, params = loaded("bert-masked-lm")
    pruned, cut = model.prune_heads(params, ONCE)
    with pytest.raises(
        ValueError, match=r"1/attention/.*: the params have shape \(12,.*the model \(24,"
    ):
        model.prune_heads(cut, {0: [0]})
    with pytest.raises(
        ValueError, match="0/attention.* is not in the params .nearest: bert/encoder"
    ):
        model.prune_heads(fp.stack_layers(params), {0: [0]})
    with pytest.raises(ValueError, match="cls/predictions/bias is not in the params"):
        cut = fp.select(cut, lambda path, _: path != "cls/predictions/bias")
        pruned.prune_heads(cut, {0: [0]})


@pytest.mark.parametrize("name", NAMES)
def test_P24_layers_that_differ_cannot_be_scanned(name):
    model = loaded(name)[0]
    config = model.config.replace(pruned_heads={0: [0, 1]})
    with pytest.raises(fm.ConfigError, match="scan_layers needs as many heads.*scan_layers=False"):
        type(model)(config, scan_layers=True)
    even = model.config.replace(pruned_heads={0: [0, 1], 1: [2, 3]})
    assert type(model)(even, scan_layers=True).scan_layers


def test_P24_the_config_keeps_pruned_heads_in_one_form():
    config = fm.BertConfig(pruned_heads={1: [2, 0], 0: []})
    assert config == fm.BertConfig.from_dict({"pruned_heads": {"1": [0, 2, 2]}})
    assert hash(config) == hash(fm.BertConfig.from_dict(config.to_dict()))
    assert json.loads(config.to_json())["pruned_heads"] == {"1": [0, 2]}
    for nothing in ({}, None):
        plain = fm.BertConfig.from_dict({"pruned_heads": nothing})
        assert plain == fm.BertConfig() and "pruned_heads" not in plain.to_dict()


# --- masks of heads ---


@pytest.mark.parametrize("name", PRUNED)
def test_M6_T11_get_head_mask(name):
    masks, wanted = expected(name).under("mask"), expected(name).under("head_mask")
    for kind, mask in masks.items():
        got = fm.get_head_mask(mask, 2)
        np.testing.assert_array_equal(got, wanted[kind], strict=True)
        np.testing.assert_array_equal(fm.get_head_mask(got, 2), got)
    chunked = fm.get_head_mask(masks["ln"], 2, is_attention_chunked=True)
    np.testing.assert_array_equal(chunked, wanted["chunked"], strict=True)
    assert fm.get_head_mask(None, 2) is None


@pytest.mark.parametrize("shape", [(), (3, 4), (2, 1, 4), (1, 1, 4, 1, 1)])
def test_M6_a_head_mask_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"head_mask \(.*expected \[heads\], or \[2, heads\]"):
        fm.get_head_mask(np.ones(shape), 2)


@pytest.mark.parametrize(
    ("scan_layers", "kind"), [(False, "n"), (True, "ln")], ids=["loop", "scan"]
)
@pytest.mark.parametrize("name", PRUNED)
def test_M6_masked_heads_are_those_of_the_reference(name, scan_layers, kind):
    model, params = loaded(name, scan_layers)
    mask = expected(name).under("mask")[kind]
    close(model, params, name, f"masked_{kind}", head_mask=mask)
    if scan_layers:  # and without attention weights
        arguments = golden.load(name).under("in")
        got = run(model, params, arguments | {"head_mask": mask}).logits
        wanted = expected(name).under(f"masked_{kind}")["logits"]
        golden.assert_close({"logits": got}, {"logits": wanted}, arguments["attention_mask"], 1e-4)


@in_turn("name", PRUNED, "how", [(False, ONCE), (True, EVEN)], ids=(None, ["loop", "scan"]))
def test_M6_a_mask_of_a_pruned_model_numbers_heads_as_before(name, how):
    scan_layers, plan = how
    model, params = loaded(name, scan_layers)
    arguments, mask = golden.load(name).under("in"), expected(name).under("mask")["ln"]
    both = np.array(mask)
    for layer, heads in plan.items():
        both[layer, heads] = 0
    wanted = run(model, params, arguments | {"head_mask": both}).logits
    got = run(*model.prune_heads(params, plan), arguments | {"head_mask": mask}).logits
    tokens = arguments["attention_mask"].astype(bool)
    np.testing.assert_allclose(got[tokens], wanted[tokens], atol=1e-4)


def test_M6_the_importance_of_heads_is_the_gradient_of_a_mask():
    model, params = loaded("gpt2-lm-head", scan_layers=True)
    arguments = {"input_ids": golden.load("gpt2-lm-head").under("in")["input_ids"]}

    @jax.jit
    @jax.value_and_grad
    def loss(mask):
        return jnp.mean(run(model, params, arguments | {"head_mask": mask}).logits ** 2)

    ones, step = np.ones((2, 4), np.float32), np.zeros((2, 4), np.float32)
    step[1, 2] = 0.01
    slope = (float(loss(ones + step)[0]) - float(loss(ones - step)[0])) / 0.02
    got = loss(ones)[1]
    np.testing.assert_allclose(got[1, 2], slope, rtol=2e-2)
    assert np.abs(got).min() > 0


def test_M6_what_takes_no_such_mask_says_so():
    ids = {"input_ids": np.ones((1, 2), np.int32)}
    model, params = loaded("llama-causal-lm")
    with pytest.raises(TypeError, match="head_mask"):
        run(model, params, ids | {"head_mask": np.ones(4)})
    model, params = loaded("gpt2-lm-head")
    with pytest.raises(ValueError, match=r"head_mask \(3,\): expected \[4\] or \[2, 4\]"):
        run(model, params, ids | {"head_mask": np.ones(3)})

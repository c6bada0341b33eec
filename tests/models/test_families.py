"""Every family against the reference: outputs, gradients, caches, and what configs change."""

import functools

import golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _turns import in_turn, some_of

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels import sharding as fs
from flaxmodels.core import template

LOOP_EAGER = {"scan_layers": False, "attn_implementation": "eager"}
LOOP_SDPA = {"scan_layers": False, "attn_implementation": "sdpa"}
SCAN_EAGER = {"scan_layers": True, "attn_implementation": "eager"}
SCAN_SDPA = {"scan_layers": True, "attn_implementation": "sdpa"}
LANGUAGE_MODELS = ("bert-masked-lm", "gpt2-lm-head", "llama-causal-lm")
DECODERS = LANGUAGE_MODELS[1:]


def run(model, params, arguments, **options):
    def forward(params, arguments):
        return model.apply({"params": params}, **arguments, **options)

    return jax.jit(forward)(params, arguments)


# --- the reference ---


RUNS = {"loop-eager": LOOP_EAGER, "scan-sdpa": SCAN_SDPA}
IN_TEST_REFERENCE = ("-answering", "-classification", "-model", "-choice", "-prediction")
IN_TEST_REFERENCE += ("-double-heads", "-new", "-untied", "-tied", "-head-dim", "-llama3")
"""What a golden's name ends with if its head or variant is tried in `test_reference.py` too."""


def reference_runs():
    """Scanned, each golden whose kind of file, names, dtype or rotation it alone has, and one that
    is looped; all runs of all with `--all`."""
    for name in golden.names():
        for run_name in RUNS:
            looped = run_name == "loop-eager"
            runs = looped == (name == "bert-lm-head") and not name.endswith(IN_TEST_REFERENCE)
            marks = () if runs else (pytest.mark.soak,)
            yield pytest.param(name, RUNS[run_name], id=f"{name}-{run_name}", marks=marks)


@pytest.mark.parametrize(("name", "fields"), list(reference_runs()))
def test_outputs_are_those_of_the_reference(name, fields):
    it = golden.load(name)
    model, params = it.load(**fields)
    for arguments, expected in it.calls():
        states = "hidden_states.0" in expected
        weights = "attentions.0" in expected and fields is LOOP_EAGER
        expected = {k: v for k, v in expected.items() if weights or "attentions" not in k}
        options = {"output_hidden_states": states, "output_attentions": weights}
        out = golden.flat(run(model, params, arguments, **options))
        golden.assert_close(out, expected, arguments.get("attention_mask"), 1e-4)


@in_turn(
    *("name", LANGUAGE_MODELS),
    *("fields", [LOOP_SDPA, SCAN_EAGER]),
    ids=(None, ["loop-sdpa", "scan-eager"]),
)
def test_loop_and_scan_and_both_formulas_agree(name, fields):
    it = golden.load(name)
    model, params = it.load(**fields)
    arguments, expected = it.calls()[0]
    out = run(model, params, arguments, output_hidden_states=True, output_attentions=True)
    golden.assert_close(golden.flat(out), expected, arguments["attention_mask"], 1e-4)
    plain = run(model, params, arguments)
    logits = {"logits": expected["logits"]}
    golden.assert_close(golden.flat(plain), logits, arguments["attention_mask"], 1e-4)


WITH_GRADIENTS = [name for name in golden.names() if golden.load(name).under("cot")]


# One of each family. The other heads differ in the width of a layer that these have too, or in the
# token that is read; language models are in `test_reference.py`.
HEADS = ("bert-multiple-choice", "gpt2-double-heads", "llama-question-answering")
GRADIENTS = [
    *(pytest.param(f"{name}:scan", marks=pytest.mark.soak) for name in LANGUAGE_MODELS),
    *(
        pytest.param(name, marks=() if name in HEADS else pytest.mark.soak)
        for name in WITH_GRADIENTS
    ),
]


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_are_those_of_the_reference(name):
    name, _, scan = name.partition(":")
    it = golden.load(name)
    model, params = it.load(**(SCAN_EAGER if scan else LOOP_SDPA))
    cotangents = it.under("cot")

    @jax.jit
    def gradient(params, arguments):
        def loss(params):
            out = vars(model.apply({"params": params}, **arguments))
            return sum(jnp.sum(out[name] * cotangents[name]) for name in cotangents)

        return jax.grad(loss)(params)

    got = golden.torch_names(model, gradient(params, it.under("in")))
    golden.assert_close(got, it.under("grad"), None, 1e-3)
    assert all(np.isfinite(array).all() for array in got.values())


# --- caches ---


@pytest.mark.soak  # by default: that of the reference, in test_reference.py
@in_turn("name", DECODERS, "scan_layers", [False, True], ids=(None, ["loop", "scan"]))
@pytest.mark.parametrize("padded", [False, True], ids=["full", "left-padded"])
def test_cached_decoding_equals_the_full_pass(name, scan_layers, padded):
    it = golden.load(name)
    model, params = it.load(scan_layers=scan_layers)
    arguments = it.under("in2") if padded else {"input_ids": it.under("in")["input_ids"]}
    full = run(model, params, arguments).logits

    @jax.jit
    def step(cache, arguments):
        out = model.apply({"params": params}, **arguments, cache=cache)
        return out.logits, out.cache

    cache, logits, length = model.init_cache(2, 12), [], full.shape[1]
    for part in [slice(0, 5), *(slice(t, t + 1) for t in range(5, length))]:
        new, cache = step(cache, {name: value[:, part] for name, value in arguments.items()})
        logits.append(new)
    tokens = arguments.get("attention_mask", np.ones((2, length))).astype(bool)
    np.testing.assert_allclose(jnp.concatenate(logits, 1)[tokens], full[tokens], atol=1e-5)
    assert int(cache.index) == length
    np.testing.assert_array_equal(cache.mask[:, :length], tokens)


@pytest.mark.parametrize("name", DECODERS)
def test_a_mask_over_pairs_can_replace_the_causal_order_only_to_narrow_it(name):
    it = golden.load(name)
    model, params = it.load()
    ids = it.under("in")["input_ids"][:1]
    pairs = np.zeros((1, 9, 9), np.int32)
    pairs[:, :4, :4] = pairs[:, 4:, 4:] = 1
    positions = np.array([[0, 1, 2, 3, 0, 1, 2, 3, 4]])
    packed = {"input_ids": ids, "attention_mask": pairs, "position_ids": positions}
    together = run(model, params, packed).logits
    apart = [run(model, params, {"input_ids": part}).logits for part in (ids[:, :4], ids[:, 4:])]
    np.testing.assert_allclose(together, jnp.concatenate(apart, 1), atol=1e-5)


@pytest.mark.parametrize("name", DECODERS)
def test_logits_to_keep_are_the_last(name):
    it = golden.load(name)
    model, params = it.load()
    arguments = it.under("in")
    kept = run(model, params, arguments, logits_to_keep=2).logits
    tokens = arguments["attention_mask"][:, -2:].astype(bool)
    expected = it.under("out")["logits"][:, -2:]
    assert kept.shape == expected.shape
    np.testing.assert_allclose(kept[tokens], expected[tokens], atol=1e-4)


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_vectors_in_the_place_of_tokens(name):
    it = golden.load(name)
    model, params = it.load()
    path = {"bert": "bert/embeddings/word_embeddings", "gpt2": "transformer/wte"}
    path = path.get(name.split("-")[0], "model/embed_tokens")
    table = fp.flatten(params)[f"{path}/embedding"]
    arguments = it.under("in")
    arguments["inputs_embeds"] = table[arguments.pop("input_ids")]
    tokens = arguments["attention_mask"].astype(bool)
    logits, expected = run(model, params, arguments).logits, it.under("out")["logits"]
    np.testing.assert_allclose(logits[tokens], expected[tokens], atol=1e-4)
    with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
        model.apply({"params": params})


# --- how it is computed ---


REMAT = {
    f"{remat}-{'scan' if scan_layers else 'loop'}": (remat, scan_layers)
    for remat in ("full", "dots_saveable")
    for scan_layers in (False, True)
}


@some_of("how", REMAT, "dots_saveable-scan")  # "full" is in test_stack.py, a loop in test_remat.py
def test_remat_changes_the_program_and_nothing_else(how):
    remat, scan_layers = how
    it = golden.load("llama-causal-lm")
    model, params = it.load(scan_layers=scan_layers)

    def loss(model, params):
        return jnp.sum(model.apply({"params": params}, **it.under("in")).logits ** 2)

    plain = jax.jit(jax.value_and_grad(lambda p: loss(model, p)))
    again = jax.jit(jax.value_and_grad(lambda p: loss(model.clone(remat=remat), p)))
    assert "remat" not in str(plain.trace(params).jaxpr)
    assert "remat" in str(again.trace(params).jaxpr)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
    jax.tree.map(close, plain(params), again(params))


def test_an_unknown_remat_policy_is_refused():
    model, params = golden.load("llama-causal-lm").load()
    with pytest.raises(ValueError, match="remat 'some'.*dots_saveable"):
        model.clone(remat="some").apply({"params": params}, np.ones((1, 1), np.int32))


@in_turn("name", LANGUAGE_MODELS, "scan_layers", [False, True], ids=(None, ["loop", "scan"]))
def test_dropout_is_off_unless_asked_for(name, scan_layers):
    it = golden.load(name)
    model, params = it.load(scan_layers=scan_layers)
    if name.startswith("llama"):
        model = model.clone(config=model.config.replace(attention_dropout=0.5))
    arguments = it.under("in")

    @jax.jit
    def training(key):
        rngs = {"dropout": key}
        return model.apply({"params": params}, **arguments, deterministic=False, rngs=rngs).logits

    tokens = arguments["attention_mask"].astype(bool)
    plain = run(model, params, arguments).logits
    np.testing.assert_allclose(plain[tokens], it.under("out")["logits"][tokens], atol=1e-4)
    one, other = training(jax.random.key(0)), training(jax.random.key(1))
    np.testing.assert_array_equal(one, training(jax.random.key(0)))
    assert np.abs(one - other)[tokens].max() > 1e-2
    assert np.abs(one - plain)[tokens].max() > 1e-2


@in_turn("name", LANGUAGE_MODELS, "scan_layers", [False, True], ids=(None, ["loop", "scan"]))
def test_everything_is_computed_in_dtype(name, scan_layers):
    it = golden.load(name)
    dtype = "half" if name.startswith("llama") else jnp.bfloat16
    model, params = it.load(scan_layers=scan_layers, dtype=dtype)
    arguments, expected = it.calls()[0]
    out = run(model, params, arguments, output_hidden_states=True)
    assert {x.dtype for x in (out.logits, *out.hidden_states)} == {model.dtype}
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.float32)}
    tokens = arguments["attention_mask"].astype(bool)
    difference = np.abs(np.asarray(out.logits, np.float32) - expected["logits"])[tokens]
    assert difference.mean() < 0.02 * np.abs(expected["logits"][tokens]).mean()


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_scanned_params_leave_out_the_index_and_nothing_else(name):
    it = golden.load(name)
    looped = it.load()[0]
    (stack,) = looped.naming.stacks
    loop = fp.flatten(looped.abstract_params())
    scan = fp.flatten(looped.clone(scan_layers=True).abstract_params())
    expected = {}
    for path, leaf in loop.items():
        key = f"/{path}".replace(f"/{stack}/0/", f"/{stack}/")
        if f"/{stack}/1/" not in key:
            layered = key != f"/{path}"
            expected[key[1:]] = ((2,) * layered + leaf.shape, ("layers",) * layered + leaf.axes)
    assert {path: (leaf.shape, leaf.axes) for path, leaf in scan.items()} == expected


FULL = {"vocab_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "hidden_size": 32}
SHARDED = {
    "BertForPreTraining": FULL | {"intermediate_size": 48, "max_position_embeddings": 32},
    "GPT2LMHeadModel": FULL | {"max_position_embeddings": 32},
    "LlamaForCausalLM": FULL | {"intermediate_size": 48, "num_key_value_heads": 2},
}


@pytest.mark.parametrize(  # the others: tests/sharding/test_presets.py
    ("name", "scan_layers"),
    [
        ("BertForPreTraining", False),
        pytest.param("GPT2LMHeadModel", True, marks=pytest.mark.soak),
        pytest.param("LlamaForCausalLM", False, marks=pytest.mark.soak),
    ],
)
def test_a_mesh_changes_where_and_not_what(name, scan_layers):
    values = SHARDED[name]
    cls = getattr(fm, name)
    model = cls(cls.config_class.from_dict(values), scan_layers=scan_layers)
    params = random_params(model)
    mesh = fs.make_mesh(fsdp=4, tensor=2)
    placed = jax.device_put(params, fs.shardings(model.abstract_params(), mesh))
    arguments = {"input_ids": np.arange(36).reshape(4, 9) % 64}
    got = golden.flat(run(model, placed, arguments))
    golden.assert_close(got, golden.flat(run(model, params, arguments)), None, 1e-5)
    if model.is_causal:
        out = run(model, placed, arguments | {"cache": model.init_cache(4, 12)})
        golden.assert_close(golden.flat(out), got, None, 1e-5)


# --- configs ---

TINY = {"vocab_size": 23, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
TINY |= {"max_position_embeddings": 12, "initializer_range": 0.5, "pad_token_id": 0}
TINY |= {"bos_token_id": 1, "eos_token_id": 2, "num_labels": 3}


def random_params(model):
    rng = np.random.default_rng(0)
    leaves, structure = jax.tree.flatten(model.abstract_params())
    drawn = [rng.normal(0.0, 0.5, leaf.shape).astype(np.float32) for leaf in leaves]
    return jax.tree.unflatten(structure, drawn)


V5_ROPE = {"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0}
V5_ROPE |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 16}
V4_ROPE = {key: value for key, value in V5_ROPE.items() if key != "rope_theta"}


@pytest.mark.parametrize(
    "values",
    [
        {"rope_parameters": V5_ROPE},
        {"rope_theta": 500.0, "rope_scaling": V4_ROPE},
        {"rope_theta": 500.0, "rope_scaling": V4_ROPE, "rope_parameters": V5_ROPE},
        {"rope_theta": 500.0, "rope_scaling": {"type": "llama3", **V4_ROPE}},
    ],
)
def test_both_generations_of_rope_are_read_and_written(values):
    config = fm.LlamaConfig.from_dict(values)
    assert dict(config.rope_parameters) == V5_ROPE
    written = config.to_dict()
    assert written["rope_parameters"] == V5_ROPE
    assert written["rope_scaling"] == V4_ROPE and written["rope_theta"] == 500.0
    assert fm.LlamaConfig.from_dict(written) == config


def test_a_rope_that_says_nothing_is_the_plain_one():
    for values in ({}, {"rope_scaling": None}, {"rope_parameters": None}):
        config = fm.LlamaConfig.from_dict(values)
        assert dict(config.rope_parameters) == {"rope_type": "default", "rope_theta": 10_000.0}
    assert fm.LlamaConfig.from_dict({"rope_theta": 5.0}).rope_parameters["rope_theta"] == 5.0
    assert config.to_dict()["rope_scaling"] is None


REFUSED = [
    ("Bert", {"add_cross_attention": True}, "set is_decoder"),
    ("Bert", {"position_embedding_type": "relative_key"}, "position_embedding_type"),
    ("Bert", {"hidden_act": "snake"}, "hidden_act = 'snake'.*gelu"),
    ("Bert", {"hidden_size": 10, "num_attention_heads": 4}, "hidden_size = 10"),
    ("Llama", {"add_cross_attention": True}, "add_cross_attention"),
    ("GPT2", {"n_embd": 10, "n_head": 4}, "n_embd = 10"),
    ("GPT2", {"activation_function": "snake"}, "activation_function"),
    ("Llama", {"num_key_value_heads": 3}, "num_attention_heads = 32.*num_key_value_heads = 3"),
    ("Llama", {"hidden_act": "snake"}, "hidden_act"),
    ("Llama", {"head_dim": 3}, "even head_dim"),
    ("Llama", {"rope_scaling": {"type": "mrope"}}, "rope_type 'mrope'.*yarn"),
    ("Llama", {"rope_scaling": {"rope_type": "linear"}}, "lacks 'factor'"),
    ("Llama", {"rope_scaling": {"rope_type": "linear", "factor": "2"}}, "factor = '2'"),
    ("Llama", {"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
    (
        "Llama",
        {"rope_scaling": {"rope_type": "longrope", "short_factor": [1.0], "long_factor": [1.0]}},
        "short_factor.*64 numbers",
    ),
]


@pytest.mark.parametrize(("family", "values", "message"), REFUSED)
def test_what_is_not_implemented_is_refused(family, values, message):
    with pytest.raises(fm.ConfigError, match=message):
        getattr(fm, f"{family}Config").from_dict(values)


def test_what_a_rope_type_does_not_read_is_left_out_of_a_file_and_refused_of_a_caller():
    rope = {"rope_type": "default", "mrope_section": [1, 2]}
    with pytest.warns(UserWarning, match="'mrope_section' left out, which 'default' does not read"):
        config = fm.LlamaConfig.from_dict({"rope_parameters": rope})
    assert config == fm.LlamaConfig()
    with pytest.raises(fm.ConfigError, match="unknown key 'mrope_section'"):
        fm.LlamaConfig(rope_parameters=rope)


@pytest.mark.parametrize("family", ["GPT2", "Llama"])
def test_a_batch_without_a_padding_token_has_no_known_ends(family):
    cls = getattr(fm, f"{family}ForSequenceClassification")
    values = TINY | ({} if family == "GPT2" else {"intermediate_size": 20})
    model = cls(cls.config_class.from_dict(values | {"pad_token_id": None}))
    params = random_params(model)
    one = run(model, params, {"input_ids": np.array([[5, 6, 7]])}).logits
    assert one.shape == (1, 3)
    with pytest.raises(ValueError, match="pad_token_id is None"):
        jax.eval_shape(model.apply, {"params": params}, np.array([[5, 6], [7, 8]]))


def test_a_model_that_is_called_itself_names_what_runs_it():
    model = fm.LlamaModel(fm.LlamaConfig())
    for call in (lambda: model(np.ones((1, 2), int)), lambda: model(input_ids=[[1]])):
        with pytest.raises(TypeError, match="LlamaModel holds no params.*model.apply"):
            call()


def test_what_makes_a_configuration_is_named_to_who_gives_none():
    with pytest.raises(TypeError, match=r"got dict: fm.LlamaConfig.from_dict\(values\) makes one"):
        fm.LlamaModel({"hidden_size": 16})
    with pytest.raises(TypeError, match=r"got str: fm.LlamaConfig.from_pretrained\(name\)"):
        fm.LlamaModel("org/name")


def test_a_template_is_that_of_all_ways_to_run_a_model(monkeypatch):
    """It is traced once for them, and has each model's own layers."""
    traced, declared = [], template._declared
    monkeypatch.setattr(template, "_declared", lambda m: traced.append(m) or declared(m))
    model = fm.LlamaModel(fm.LlamaConfig(**TINY, intermediate_size=24))
    ways = ({"dtype": "bf16", "remat": "full"}, {"attn_implementation": "eager", "rules": "fsdp"})
    expected = model.abstract_params()
    for way in ways:
        assert model.clone(**way).abstract_params() == expected
    assert "layers/0" in str(list(fp.flatten(expected))) and len(traced) == 1


def test_the_dtype_of_computing_is_any_name_of_one():
    config = fm.LlamaConfig()
    for name in ("bf16", "torch.bfloat16", jnp.bfloat16):
        assert fm.LlamaModel(config, dtype=name).dtype == jnp.bfloat16
    assert fm.LlamaModel(config, dtype=None) == fm.LlamaModel(config)  # as in Transformers
    with pytest.raises(ValueError, match="unknown dtype 'int8'; known: float64"):
        fm.LlamaModel(config, dtype="int8")
    with pytest.raises(TypeError, match="does not take dtype='auto'.*param_dtype, which is 'auto'"):
        fm.LlamaModel(config, dtype="auto")

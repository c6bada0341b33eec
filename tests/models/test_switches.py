"""The same params, run another way: remat, fused attention, taps, compiled programs."""

import functools
import os

import _children
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _drawn import params_of
from _files import same

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels import sharding as fs
from flaxmodels.analysis.compiled import CompiledCall

SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "max_position_embeddings": 16,
}
MODELS = {
    "bert": fm.BertForMaskedLM(fm.BertConfig(**SMALL, intermediate_size=48)),
    "gpt2": fm.GPT2LMHeadModel(fm.GPT2Config.from_dict({"model_type": "gpt2", **SMALL})),
    "llama": fm.LlamaForCausalLM(fm.LlamaConfig(**SMALL, intermediate_size=48)),
}
TABLES = {
    "bert": "bert/embeddings/word_embeddings/embedding",
    "gpt2": "transformer/wte/embedding",
    "llama": "model/embed_tokens/embedding",
}
IDS = np.arange(12, dtype=np.int32).reshape(2, 6)
each = pytest.mark.parametrize("name", MODELS)
each_in_turn = pytest.mark.parametrize(
    ("name", "scan"),
    [
        ("bert", False),
        pytest.param("gpt2", True, marks=pytest.mark.soak),
        pytest.param("llama", False, marks=pytest.mark.soak),
        pytest.param("bert", True, marks=pytest.mark.soak),
        pytest.param("gpt2", False, marks=pytest.mark.soak),
        ("llama", True),
    ],
)


@functools.cache
def made(name, scan=False):
    model = MODELS[name].clone(scan_layers=scan)
    return model, params_of(model)


def loss(model, params, **variables):
    logits = model.apply({"params": params, **variables}, IDS).logits
    return (logits * jnp.cos(jnp.arange(logits.size)).reshape(logits.shape)).sum()


@each_in_turn
def test_P19_P20_remat_on_and_off(name, scan):
    model, params = made(name, scan)
    on = model.gradient_checkpointing_enable()
    dots = model.gradient_checkpointing_enable("dots_saveable")
    assert (on.remat, dots.remat) == ("full", "dots_saveable")
    assert on.gradient_checkpointing_disable() == model and model.remat is None
    traced = {m.remat: str(jax.make_jaxpr(lambda p, m=m: loss(m, p))(params)) for m in (model, on)}
    assert "remat" in traced["full"] and "remat" not in traced[None]
    with pytest.raises(ValueError, match="remat 'some': expected None or one of full"):
        model.gradient_checkpointing_enable("some")


@pytest.mark.parametrize("scan", [pytest.param(False, marks=pytest.mark.soak), True])
def test_P20_D21_policies_dicts_and_old_arguments(scan):
    model, params = made("llama", scan)
    names = jax.checkpoint_policies.save_only_these_names("nothing")
    enable = model.gradient_checkpointing_enable
    ways = [
        enable(names),
        enable({"policy": names, "prevent_cse": False}),
        enable({"use_reentrant": False}),
        enable(gradient_checkpointing_kwargs={"use_reentrant": False, "policy": "dots_saveable"}),
        model.clone(remat=True),
    ]
    expected = jax.jit(jax.grad(lambda p: loss(model, p)))(params)
    for way in ways:
        assert hash(way) and way.gradient_checkpointing_disable() == model
        assert "remat" in str(jax.make_jaxpr(lambda p, m=way: loss(m, p))(params))
    got = jax.jit(jax.grad(lambda p: loss(ways[1], p)))(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), got, expected)
    assert [way.remat for way in ways[2:]] == ["full", "dots_saveable", "full"]
    for options, said in (
        ({"use_reentrant": True}, "use_reentrant=True would change nothing"),
        ({"polcy": names}, "remat has no option 'polcy'"),
        ({"prevent_cse": 3}, "prevent_cse must be a bool"),
        ({"static_argnums": (1,)}, "static_argnums=.1,. would change nothing"),
    ):
        with pytest.raises(TypeError, match=said):
            enable(options)


@pytest.mark.parametrize(
    ("name", "scan"), [pytest.param("bert", False, marks=pytest.mark.soak), ("llama", True)]
)
def test_P11_P12_gradients_at_the_input_embeddings(name, scan):
    model, params = made(name, scan)
    tapped = model.enable_input_require_grads()
    assert tapped.disable_input_require_grads() == model
    taps = tapped.embedding_taps(IDS)
    (tap,) = jax.tree.leaves(taps)
    assert tap.shape == (2, 6, 32) and not tap.any()
    at_taps = jax.jit(jax.grad(lambda t: loss(tapped, params, perturbations=t)))(taps)
    (found,) = jax.tree.leaves(at_taps)
    # The tokens of IDS differ, so the table's gradient has a row for each.
    untied = fp.flatten(jax.jit(jax.grad(lambda p: loss(model, p)))(params))
    if not model.config.tie_word_embeddings:
        assert np.allclose(untied[TABLES[name]][:12], found.reshape(12, 32), rtol=1e-3, atol=1e-5)
    table = fp.flatten(params)[TABLES[name]]
    vectors = jnp.asarray(table)[IDS]

    def from_vectors(x):
        logits = model.apply({"params": params}, inputs_embeds=x).logits
        return (logits * jnp.cos(jnp.arange(logits.size)).reshape(logits.shape)).sum()

    assert np.allclose(jax.jit(jax.grad(from_vectors))(vectors), found, rtol=1e-3, atol=1e-5)
    assert jax.tree.structure(tapped.abstract_params()) == jax.tree.structure(params)
    with pytest.raises(ValueError, match="call enable_input_require_grads"):
        model.embedding_taps(IDS)


@each
def test_P27_P31_fused_attention_on_and_off(name):
    model, params = made(name)
    fused = model.to_bettertransformer()
    assert fused.attn_implementation in ("sdpa", "flash")
    plain = model.clone(attn_implementation="eager")
    for before in (model, plain):  # D20
        assert before.to_bettertransformer().reverse_bettertransformer() == before
        assert before.reverse_bettertransformer() == before
        twice = before.to_bettertransformer().to_bettertransformer()
        assert twice.reverse_bettertransformer() == before
    a, b = (jax.jit(m.apply)({"params": params}, IDS).logits for m in (fused, plain))
    assert np.allclose(a, b, atol=1e-5)


@each
def test_P13_33_training_mode_is_of_the_call(name):
    model, params = made(name)
    model = model.clone(config=model.config.replace(**dropout(name)))
    forward = jax.jit(model.apply, static_argnames="deterministic")
    quiet = forward({"params": params}, IDS).logits
    assert same(np.asarray(quiet), np.asarray(forward({"params": params}, IDS).logits))
    if name != "llama":
        rngs = {"dropout": jax.random.key(1)}
        noisy = forward({"params": params}, IDS, deterministic=False, rngs=rngs).logits
        assert not np.allclose(quiet, noisy, atol=1e-3)


def dropout(name):
    return {
        "bert": {"hidden_dropout_prob": 0.5},
        "gpt2": {"resid_pdrop": 0.5},
        "llama": {"attention_dropout": 0.5},
    }[name]


@pytest.mark.parametrize(
    ("name", "scan"), [pytest.param("bert", False, marks=pytest.mark.soak), ("llama", True)]
)
def test_P14_one_program_for_each_kind_of_arguments(name, scan):
    model, params = made(name, scan)
    call = model.get_compiled_call()
    expected = jax.jit(model.apply)({"params": params}, IDS).logits
    assert same(np.asarray(call(params, IDS).logits), np.asarray(expected))
    assert len(call.programs) == 1
    call(params, IDS + 1)
    assert len(call.programs) == 1
    call(params, IDS[:1])
    call(params, IDS, np.ones_like(IDS))
    states = call(params, IDS, output_hidden_states=True).hidden_states
    assert len(states) == 2
    call(fp.to_bf16(params), IDS)
    assert len(call.programs) == 5
    mesh = fs.make_mesh(fsdp=4, tensor=2)
    spread = jax.device_put(params, fs.shardings(model.abstract_params(), mesh))
    found = call(spread, IDS).logits
    assert len(call.programs) == 6 and len(found.sharding.device_set) == 8
    assert np.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"compiler_options": {"xla_cpu_enable_fast_math": [1]}},
        {"compiler_options": {"xla_cpu_enable_fast_math": None}},
        {"compiler_options": {1: True, "xla_cpu_enable_fast_math": True}},
        {"compiler_options": ["xla_cpu_enable_fast_math"]},
        {"donate_cache": "yes"},
        {"folder": 3},
    ],
    ids=str,
)
def test_options_of_a_wrong_kind_are_named(options):
    model = fm.BertModel(fm.BertConfig())
    for given in (options, {"compile_config": options}):
        with pytest.raises(TypeError, match=f"^{next(iter(options))} is .*; expected"):
            model.get_compiled_call(**given)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_P14_decoding_gives_the_cache_s_memory_on(name):
    model, params = made(name)
    call = model.get_compiled_call(donate_cache=True)
    cache = model.init_cache(2, 8)
    expected = jax.jit(model.apply)({"params": params}, IDS).logits
    for step in range(6):
        given = cache
        out = call(params, IDS[:, step : step + 1], cache=cache)
        cache = out.cache
        assert np.allclose(out.logits[:, 0], expected[:, step], atol=1e-5)
        assert any(leaf.is_deleted() for leaf in jax.tree.leaves(given))
    assert len(call.programs) == 1


NEXT = """
import sys, jax, numpy as np, flaxmodels as fm
from flaxmodels import sharding as fs
jax.config.update("jax_enable_compilation_cache", True)
jax.config.update("jax_compilation_cache_dir", sys.argv[3])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
model = fm.LlamaForCausalLM(fm.LlamaConfig(
    vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=4,
    max_position_embeddings=16, intermediate_size=48))
params = jax.tree.map(lambda x: np.cos(np.arange(x.size, dtype=np.float32)).reshape(x.shape) / 8,
                      model.abstract_params())
if sys.argv[2] == "made":  # JAX's own cache has it by now
    model.get_compiled_call()(jax.device_put(params), np.arange(12, dtype=np.int32).reshape(2, 6))
call = model.get_compiled_call(folder=sys.argv[1])
spread = fs.shardings(model.abstract_params(), fs.make_mesh(fsdp=4, tensor=2))
if sys.argv[2] == "reused":
    jax.stages.Lowered.compile = None
ids = np.arange(12, dtype=np.int32).reshape(2, 6)
print(float(call(jax.device_put(params), ids).logits.sum()))
print(float(call(jax.device_put(params, spread), ids).logits.sum()))
"""


def test_P14_the_next_process_does_not_compile(tmp_path):
    folder = tmp_path / "programs"
    said = []
    for which in ("made", "reused"):
        run = _children.run("-c", NEXT, folder, which, tmp_path / "jax")
        assert run.returncode == 0, run.stderr[-2000:]
        said.append(run.stdout)
    assert said[0] == said[1]
    assert len(list(folder.iterdir())) == 2
    for program in folder.iterdir():
        assert program.suffix == ".xla" and program.stat().st_mode & 0o077 == 0
    os.chmod(folder, 0o777)
    model, params = made("llama")
    call = CompiledCall(model, folder=folder)
    (folder / f"{call._key((params, None, [IDS]), ((None,), {}))}.xla").write_bytes(b"code")
    with pytest.raises(
        PermissionError, match="others may write it, and a compiled program is code"
    ):
        call(params, IDS)
    os.chmod(folder, 0o700)
    with pytest.warns(UserWarning, match="no program that can be read .*; it is compiled again"):
        out = call(params, IDS)
    again = CompiledCall(model, folder=folder)(params, IDS)
    np.testing.assert_array_equal(again.logits, out.logits)

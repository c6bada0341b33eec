"""D7, D26: meshes and rules that users bring, where they enter and where a model runs."""

import functools

import jax
import numpy as np
import pytest
from _drawn import applied, host_params_of, tiny_llama
from jax.sharding import NamedSharding, PartitionSpec

import flaxmodels as fm
from flaxmodels import sharding as fs

CONFIG = tiny_llama(
    vocab_size=32, intermediate_size=16, num_hidden_layers=1, max_position_embeddings=16
)
IDS = np.arange(24, dtype="int32").reshape(8, 3)
KEY = jax.random.key(0)
EXPLICIT = jax.make_mesh((8,), ("fsdp",))


@functools.cache
def made():
    model = fm.LlamaForCausalLM(CONFIG)
    params = host_params_of(model)
    return model, params, applied(model, params, IDS).logits


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    model, params, _ = made()
    folder = tmp_path_factory.mktemp("folder")
    model.save_pretrained(params, folder)
    return folder


REFUSED = {
    "Manual": (
        jax.make_mesh((8,), ("fsdp",), axis_types=(jax.sharding.AxisType.Manual,)),
        {},
        ValueError,
        r"Manual.*flaxmodels.sharding.make_mesh\(fsdp=8\)",
    ),
    "foreign": (fs.make_mesh(dp=2, tp=4), {}, ValueError, r"default_rules\(data='dp', tensor='tp'"),
    "no mesh": ((8,), {}, TypeError, "mesh is a tuple: expected a jax.sharding.Mesh"),
    "rule": (fs.make_mesh(fsdp=-1), {"rules": {"vocb": None}}, ValueError, "nearest: 'vocab'"),
}


@pytest.mark.parametrize(("mesh", "how", "error", "said"), REFUSED.values(), ids=REFUSED)
def test_D7_refused_wherever_a_mesh_enters(folder, mesh, how, error, said):
    model = made()[0]
    for call in (
        lambda: fm.AutoModelForCausalLM.from_pretrained(folder, mesh=mesh, **how),
        lambda: fm.load_plan(folder, mesh=mesh, **how),
        lambda: model.init_params(KEY, mesh, **how),
        lambda: fs.shardings(model.abstract_params(), mesh, **how),
    ):
        with pytest.raises(error, match=said):
            call()


def test_D7_a_mesh_of_explicit_axes_is_taken_as_the_one_of_auto_axes(folder):
    """Once refused: a library that leaves shardings to the compiler can take both, since the mesh
    of Auto axes on the same devices is the same but for its types. `init_params`: test_uneven."""
    auto = jax.sharding.Mesh(EXPLICIT.devices, EXPLICIT.axis_names)
    model, params, expected = made()
    _, loaded = fm.AutoModelForCausalLM.from_pretrained(folder, mesh=EXPLICIT)
    want = fs.shardings(model.abstract_params(), auto)
    assert jax.tree.all(jax.tree.map(lambda x, s: x.sharding == s, loaded, want))
    logits = jax.jit(model.apply)({"params": loaded}, IDS).logits
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert fs.shardings(model.abstract_params(), EXPLICIT) == want
    assert fm.load_plan(folder, mesh=EXPLICIT)
    abstract = fs.check_mesh(EXPLICIT.abstract_mesh, abstract=True)
    assert abstract.are_all_axes_auto and abstract.shape == EXPLICIT.shape


def test_D7_beside_arrays_on_explicit_axes():
    """JAX computes nothing of two meshes; the way over that `check_mesh` names is a copy."""
    model, params, expected = made()
    params = jax.device_put(params, fs.shardings(model.abstract_params(), EXPLICIT))
    ids = jax.device_put(IDS, NamedSharding(EXPLICIT, PartitionSpec("fsdp")))
    with pytest.raises(ValueError, match="(?i)mesh for all inputs should be equal"):
        jax.jit(model.apply)({"params": params}, ids)
    there = jax.device_put(ids, NamedSharding(fs.check_mesh(EXPLICIT), PartitionSpec("fsdp")))
    with jax.set_mesh(EXPLICIT), jax.set_mesh(fs.check_mesh(EXPLICIT)):
        got = jax.jit(model.apply)({"params": params}, there).logits
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_D7_an_abstract_mesh_has_nowhere_to_load(folder):
    mesh = jax.sharding.AbstractMesh((8,), ("fsdp",), (jax.sharding.AxisType.Auto,))
    assert fm.load_plan(folder, mesh=mesh)
    for call in (
        lambda: fm.AutoModel.from_pretrained(folder, mesh=mesh),
        lambda: made()[0].init_params(KEY, mesh),
    ):
        with pytest.raises(TypeError, match="mesh is abstract and has no devices"):
            call()


def test_D26_a_misspelt_rule_is_refused_without_a_mesh(folder):
    with pytest.raises(ValueError, match=r"'hidden_' \(nearest: 'hidden'\)"):
        fm.AutoModel.from_pretrained(folder, rules=[("hidden_", None), *fs.DEFAULT_RULES])


@pytest.mark.parametrize(
    "rules",
    [
        [("vocab", None), *fs.DEFAULT_RULES],
        [list(rule) for rule in fs.default_rules(tensor="tp")],
        dict(fs.default_rules(tensor="tp", data="dp")),
        None,
    ],
)
def test_D26_models_hash_whatever_holds_their_rules(folder, rules):
    model, _, expected = made()
    data = "dp" if "'dp'" in str(rules) else "fsdp"
    mesh = fs.make_mesh(**{data: 4, "tp" if "'tp'" in str(rules) else "tensor": 2})
    loaded, params = fm.AutoModelForCausalLM.from_pretrained(folder, mesh=mesh, rules=rules)
    assert {loaded: 1}[loaded.clone()] == 1 and hash(loaded.rules)
    logits = jax.jit(loaded.apply)({"params": params}, IDS).logits
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_D7_params_that_the_caller_put_on_explicit_axes_are_named():
    model, params, expected = made()
    table = {
        **params["model"],
        "embed_tokens": jax.device_put(
            params["model"]["embed_tokens"], NamedSharding(EXPLICIT, PartitionSpec("fsdp"))
        ),
    }
    whole = jax.device_put(params, NamedSharding(EXPLICIT, PartitionSpec()))
    for apply in (model.apply, jax.jit(model.apply)):
        with pytest.raises(ValueError, match=r"model/embed_tokens/embedding: .*are Explicit"):
            apply({"params": {**params, "model": table}}, IDS)
        with pytest.raises(ValueError, match=r"are Explicit.*make_mesh\(fsdp=8\)"):
            apply({"params": whole}, IDS)
    with jax.set_mesh(EXPLICIT):
        got = jax.jit(model.apply)({"params": whole}, IDS).logits
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_D7_under_set_mesh(thorough):
    model, params, expected = made()
    mesh = fs.make_mesh(fsdp=-1)
    placed = jax.device_put(params, fs.shardings(model.abstract_params(), mesh))
    cases = (  # params on one device, not compiled: tests/models/test_modes.py
        *([(mesh, placed, model.apply)] if thorough else []),
        *((mesh, given, jax.jit(model.apply)) for given in (placed, params)),
        (EXPLICIT, params, jax.jit(model.apply)),
    )
    for around, given, apply in cases:
        with jax.set_mesh(around):
            got = apply({"params": given}, IDS).logits
        np.testing.assert_allclose(got, expected, atol=1e-5)
    with jax.set_mesh(EXPLICIT):
        for apply in (model.apply, jax.jit(model.apply)):
            with pytest.raises(ValueError, match=r"Auto axes, and jax.set_mesh.*or leave jax.set_"):
                apply({"params": placed}, IDS)


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "int8", "complex64", "bool", "float64"])
def test_D38_dtypes_that_no_layer_computes_in_are_refused_where_the_model_is_made(dtype):
    with pytest.raises(ValueError, match="dtype"):
        fm.LlamaForCausalLM(CONFIG, dtype=dtype)


def test_float64_computes_under_x64():
    with jax.enable_x64(True):
        model = fm.LlamaForCausalLM(CONFIG, dtype="float64")
        logits = applied(model, made()[1], IDS).logits
        assert logits.dtype == np.float64
        np.testing.assert_allclose(logits, made()[2], atol=1e-5)

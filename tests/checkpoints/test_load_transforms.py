"""D4: `from_pretrained` in the middle of JAX's transformations, contexts and threads."""

import contextlib
import warnings
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import pytest
from _paths import LLAMA
from _turns import in_turn, some_of
from jax.core import Tracer
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels import sharding as fs
from flaxmodels.params.checkpoint.make_plan import make_plan
from flaxmodels.params.checkpoint.reconcile import reconcile
from flaxmodels.params.checkpoint.sources import source_of
from flaxmodels.params.checkpoint.stream import stream

IDS = np.array([[3, 4, 5, 6]] * 8)


@pytest.fixture(scope="module")
def expected():
    return logits(IDS)


def loaded(cls=fm.LlamaForCausalLM, **options):
    """A pair whose leaves are arrays, wherever this is called."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Weights from")
        model, params = cls.from_pretrained(LLAMA, **options)
    for path, leaf in fp.flatten(params).items():
        assert isinstance(leaf, jax.Array) and not isinstance(leaf, Tracer), path
    return model, params


def logits(ids):
    """Of the embeddings and the head alone, which is compiled in a tenth of a model's time."""
    _, params = loaded()
    return params["model"]["embed_tokens"]["embedding"][ids] @ params["lm_head"]["kernel"]


def on_mesh(run):
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
    ids = jax.device_put(IDS, jax.NamedSharding(mesh, P("x")))
    return run(jax.shard_map(logits, mesh=mesh, in_specs=P("x"), out_specs=P("x")))(ids)


TRANSFORMATIONS = {
    "jit": lambda: jax.jit(logits)(IDS),
    "vmap": lambda: jax.vmap(logits)(IDS[:, None])[:, 0],
    "scan": lambda: jax.lax.scan(lambda _, ids: (0, logits(ids)), 0, IDS[:, None])[1][:, 0],
    "grad": lambda: jax.jacfwd(lambda scale: scale * logits(IDS))(1.0),
    "shard_map": lambda: on_mesh(lambda f: f),
    "shard_map-jit": lambda: on_mesh(jax.jit),
    "make_jaxpr": lambda: jax.extend.core.jaxpr_as_fun(jax.make_jaxpr(logits)(IDS))(IDS)[0],
    "thread": lambda: ThreadPoolExecutor(1).submit(logits, IDS).result(),
}


@some_of("name", [*TRANSFORMATIONS], *(name for name in TRANSFORMATIONS if name != "shard_map"))
def test_D4_a_load_in_a_transformation(name, expected):
    np.testing.assert_allclose(TRANSFORMATIONS[name](), expected, atol=2e-6)


def test_D4_a_load_in_eval_shape(expected):
    assert jax.eval_shape(logits, IDS).shape == expected.shape
    # What is remembered of it is of no trace.
    assert loaded()[0].abstract_params()["lm_head"]["kernel"].sharding is None


@contextlib.contextmanager
def explicit_mesh():
    with jax.set_mesh(jax.make_mesh((8,), ("x",), axis_types=(AxisType.Explicit,))):
        yield


CONTEXTS = {
    "disable_jit": jax.disable_jit,
    "x64": lambda: jax.enable_x64(True),
    "strict-promotion": lambda: jax.numpy_dtype_promotion("strict"),
    "debug_nans": lambda: jax.debug_nans(True),
    "leaks": jax.checking_leaks,
    "transfer_guard": lambda: jax.transfer_guard("disallow_explicit"),
    "explicit-mesh": explicit_mesh,
}


@in_turn("name", [*CONTEXTS], "scan_layers", [False, True])
def test_D4_a_load_in_a_context(name, scan_layers):
    """The same arrays in the same place, those of a new head too."""
    options = {"cls": fm.LlamaForSequenceClassification, "num_labels": 3}
    options["scan_layers"] = scan_layers
    plain = fp.flatten(loaded(**options)[1])
    with CONTEXTS[name]():
        found = fp.flatten(loaded(**options)[1])
    for path, leaf in plain.items():
        assert found[path].sharding == leaf.sharding and found[path].dtype == leaf.dtype, path
        if (name, path) != ("x64", "score/kernel"):  # which is drawn with 64 bits
            np.testing.assert_array_equal(found[path], leaf, err_msg=path)


def test_D4_the_mode_of_the_caller_is_kept():
    """The default device and 64 bits are those of the caller's thread; and NaN is what a file may
    hold."""
    tree = {"w": np.array([1.5, np.nan]), "n": np.arange(3)}
    template = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
    match = reconcile(template, source_of(tree))
    for x64, device in ((False, jax.devices()[0]), (True, jax.devices()[3])):
        with jax.enable_x64(x64), jax.default_device(device), jax.debug_nans(True):
            params = stream(make_plan(match, template, dtype="float64"), progress=False)
        assert params["w"].dtype == ("float64" if x64 else "float32")
        assert params["w"].devices() == {device} and not params["w"].committed
        assert np.isnan(params["w"][1])


def test_D4_params_on_the_default_device_go_where_they_are_used():
    """As those of `init_params`: a batch that is spread over a mesh takes them along."""
    mesh = fs.make_mesh(data=8)
    ids = jax.device_put(IDS, jax.NamedSharding(mesh, P("data")))
    model, params = loaded()
    out = jax.jit(model.apply)({"params": params}, ids).logits
    assert len(out.sharding.device_set) == 8
    _, placed = loaded(shardings=jax.sharding.SingleDeviceSharding(jax.devices()[1]))
    assert all(leaf.committed for leaf in jax.tree.leaves(placed))


def test_D4_what_a_traced_key_draws_is_traced():
    def head(key):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Weights from")
            _, params = fm.LlamaForSequenceClassification.from_pretrained(LLAMA, key=key)
        return params["score"]["kernel"]

    key = jax.random.key(3)
    np.testing.assert_allclose(jax.jit(head)(key), head(key), atol=1e-6)


def test_D4_a_state_dict_of_tracers_is_refused():
    model, params = loaded()

    def load(params):
        return fm.LlamaForCausalLM.from_pretrained(None, config=model.config, state_dict=params)

    with pytest.raises(fp.CheckpointError, match="state_dict: 'lm_head/kernel' is traced"):
        jax.eval_shape(load, params)
    assert jnp.array_equal(load(params)[1]["lm_head"]["kernel"], params["lm_head"]["kernel"])

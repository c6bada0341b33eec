"""Activations by name: what the backward pass finds saved, on the device or with the host."""

import functools

import _families as families
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from _drawn import params_of, tiny_llama
from _turns import some_of

import flaxmodels as fm
from flaxmodels import sharding as fs
from flaxmodels.blocks import remat

CONFIG = tiny_llama(
    hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2, head_dim=10
)
IDS = np.arange(12, dtype=np.int32).reshape(2, 6)
SHAPES = {
    "residual": [(2, 6, 32)],
    "attention_qkv": [(2, 6, 4, 10), (2, 6, 2, 10), (2, 6, 2, 10)],
    "attention_out": [(2, 6, 40)],
    "mlp_hidden": [(2, 6, 48)] * 2,
}
SETTINGS = {
    "save:attention_out,mlp_hidden": ("attention_out", "mlp_hidden"),
    "save:attention_qkv offload:residual": ("attention_qkv", "residual"),
    "offload:residual,mlp_hidden": ("residual", "mlp_hidden"),
}
BOTH = ([False, True], ["loop", "scan"])


@functools.cache
def made(scan):
    model = fm.LlamaForCausalLM(CONFIG, scan_layers=scan)
    return model, params_of(model)


def loss(model, params):
    return jnp.sum(model.apply({"params": params}, IDS).logits ** 2)


def residuals(model, params):
    """(shape, whether in the host's memory) of what the forward pass keeps of each layer."""
    backward = jax.make_jaxpr(lambda p: jax.vjp(functools.partial(loss, model), p)[1])(params)
    kept = []
    for aval in backward.out_avals:
        shape, count = aval.shape, 1
        if model.scan_layers and len(shape) > 2 and shape[0] == CONFIG.num_hidden_layers:
            shape, count = shape[1:], CONFIG.num_hidden_layers
        kept += [(shape, "<host>" in str(aval))] * count
    return kept


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("scan", BOTH[0], ids=BOTH[1])
def test_what_is_named_is_what_is_kept(scan, setting):
    model, params = made(scan)
    kept = residuals(model.clone(remat=setting), params)
    offloaded = setting.partition("offload:")[2].split(",")
    for name, shapes in SHAPES.items():
        for shape in {*shapes}:
            places = [host for found, host in kept if found == shape]
            wanted = [name in offloaded] * shapes.count(shape) * CONFIG.num_hidden_layers
            if name == "residual":  # one of this shape is kept in any case: what enters a norm
                assert places.count(True) == wanted.count(True)
            else:
                assert places == (wanted if name in SETTINGS[setting] else []), name


@some_of("setting", [*SETTINGS], "save:attention_qkv offload:residual")
def test_gradients_are_those_without_remat(setting):
    model, params = made(False)
    grad = lambda model: jax.jit(jax.grad(functools.partial(loss, model)))(params)  # noqa: E731
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    jax.tree.map(close, grad(model.clone(remat=setting)), grad(model))


def test_gradients_of_a_scan_on_a_mesh_are_those_without_remat():
    mesh = fs.make_mesh(fsdp=4, tensor=2)
    model, params = made(True)
    on_mesh = model.clone(remat="save:mlp_hidden offload:residual")
    placed = jax.device_put(params, fs.shardings(model.abstract_params(), mesh))
    got = jax.jit(jax.grad(functools.partial(loss, on_mesh)))(placed)
    want = jax.jit(jax.grad(functools.partial(loss, model)))(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), got, want)


@some_of("scan", {"loop": False, "scan": True}, "scan")
def test_names_cost_nothing(scan, monkeypatch):
    model, params = made(scan)
    lowered = lambda: jax.jit(jax.grad(lambda p: loss(model, p))).lower(params).as_text()  # noqa: E731
    named = lowered()
    monkeypatch.setattr(remat, "checkpoint_name", lambda tree, name: tree)
    assert lowered() == named


BARE = [(t.model_type,) for t in map(families.load, families.names())]


@pytest.mark.parametrize("family", reference.params(BARE, by_default=reference.stands))
def test_every_kind_of_layer_names_its_activations(family):
    it = reference.load(family)
    name = it.table.bare
    cls = it.cls(name)
    model = cls(cls.config_class.from_dict(it.entry(name)["config"]), remat="full")
    inputs = it.inputs(name, it.given(name)[-1])
    call = functools.partial(model.apply, **inputs)
    text = str(jax.make_jaxpr(call)({"params": model.abstract_params()}))
    assert [name for name in remat.NAMES if f"name={name}" not in text] == []


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("save:attention", "no activation 'attention'; named are residual, what enters a layer"),
        ("save:", "no activation ''"),
        ("offload:residual save:residual", "'residual' is named twice"),
        ("keep:residual", "'save:NAME,NAME', 'offload:NAME' or 'save"),
        ({"policy": "offload:logits"}, "no activation 'logits'"),
        (" ", "expected None or one of full"),
    ],
)
def test_what_names_nothing_is_refused(setting, said):
    with pytest.raises(ValueError, match=said):
        fm.LlamaForCausalLM(CONFIG, remat=setting)


def test_D21_options_go_with_names():
    model, params = made(False)
    enabled = model.gradient_checkpointing_enable("save:mlp_hidden")
    assert enabled == model.clone(remat="save:mlp_hidden") and hash(enabled)
    kept = model.clone(remat={"policy": "save:mlp_hidden", "prevent_cse": False})
    assert residuals(kept, params) == residuals(enabled, params)

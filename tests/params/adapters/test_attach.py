"""Adapters of a tree: begun, put on and taken off, apart and together, told to act or not."""

import collections
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _adapted import DORA, IA3, IDS, LORA, TABLE, Model, adapted, base, drawn, run, stacked
from _turns import some_of

from flaxmodels import params as fp
from flaxmodels import sharding as fs
from flaxmodels.params.adapters.lora import LoRA

KEY = jax.random.key(0)
LOHA = {"peft_type": "LOHA", "r": 2, "alpha": 3, "target_modules": ["up", "down"]}


# DoRA is LoRA and more; LoHa's products are compared in tests/params/adapters/test_layers.py.
@some_of(
    "config",
    {"lora": LORA, "dora": DORA, "ia3": IA3, "table": TABLE, "loha": LOHA},
    *("dora", "ia3", "table"),
)
def test_it_begins_as_nothing_and_layers_are_the_same_stacked(config):
    params = fp.lora_init(KEY, base(), config)
    assert np.allclose(run(params), run(base()), atol=1e-6)
    whole = fp.lora_init(KEY, stacked(base()), config, stacks=["layers"])
    assert fp.diff(whole, stacked(params)).equal
    moved = drawn(params, 1)
    assert not np.allclose(run(moved), run(base()), atol=1e-3)
    assert np.allclose(run(stacked(moved)), run(moved), atol=1e-5)


def test_ranks_scales_and_layers_follow_the_rules_where_layers_are_stacked_too():
    rules = {**LORA, "rank_pattern": {"layers.1.up": 4}, "alpha_pattern": {"layers.2.up": 6}}
    params = drawn(fp.lora_init(KEY, base(), rules), 1)
    scales = [params["layers"][str(i)]["up"]["kernel"].adapters["default"] for i in range(3)]
    assert [x.a.shape[-1] for x in scales] == [2, 4, 2]
    assert [float(x.scale) for x in scales] == [1.5, 0.75, 3.0]
    one = fp.lora_init(
        KEY,
        stacked(base()),
        {**rules, "layers_to_transform": [1], "layers_pattern": "layers"},
        stacks=["layers"],
    )
    lora = one["layers"]["up"]["kernel"].adapters["default"]
    assert lora.a.shape == (3, 12, 4) and lora.scale.tolist() == [0, 0.75, 0]
    trained, rest = fp.split_adapters(drawn(one, 1))
    apply: Any = Model(True).apply
    loss = jax.grad(lambda t: apply({"params": fp.join_adapters(t, rest)}, IDS).sum())
    grads = jax.device_get(jax.jit(loss)(trained))
    grad = grads["layers"]["up"]["kernel"]["default"]["b"]
    assert not grad[0].any() and grad[1].all() and not grad[2].any()


def test_what_is_trained_as_a_whole():
    config = {**LORA, "modules_to_save": ["layers.2"], "bias": "lora_only"}
    config["trainable_token_indices"] = {"embed": [3, 9]}
    trained, _ = fp.split_adapters(fp.lora_init(KEY, base(), config))
    found = {path: leaf.shape for path, leaf in fp.flatten(trained).items()}
    rows = {"embed/embedding/default/rows": (2, 12)}
    whole = {
        f"layers/2/{x}/default/value" for x in ("up/kernel", "up/bias", "down/kernel", "down/bias")
    }
    lora = {
        f"layers/{i}/up/{x}"
        for i in (0, 1)
        for x in ("bias/default/value", "kernel/default/a", "kernel/default/b")
    }
    assert found.keys() == rows.keys() | whole | lora
    params = drawn(fp.lora_init(KEY, base(), config), 3)
    assert np.allclose(run(fp.merge_adapters(params)), run(params), atol=1e-5)


def test_several_act_one_after_another_and_none_when_turned_off():
    one, two = adapted(LORA, "one", 1), adapted(DORA, "two", 2)
    both = fp.attach(one, "two", fp.get_adapters(two, "two"))
    assert fp.adapter_names(both) == fp.active_adapters(both) == ("one", "two")
    assert np.allclose(run(fp.set_adapters(both, "two")), run(two), atol=1e-6)
    assert np.allclose(run(fp.delete_adapters(both, "two")), run(one), atol=1e-6)
    other = fp.set_adapters(both, ["two", "one"])
    assert not np.allclose(run(other), run(both), atol=1e-4)
    for params in (both, stacked(other)):
        assert np.allclose(run(fp.merge_adapters(params)), run(params), atol=1e-5)
        kept = fp.merge_adapters(params, keep=True)
        assert np.allclose(run(kept), run(params), atol=1e-5)
        assert np.allclose(run(fp.unmerge_adapters(kept)), run(params), atol=1e-4)
    off = fp.enable_adapters(both, False)
    assert fp.active_adapters(off) == () and np.allclose(run(off), run(base()), atol=1e-6)
    assert fp.diff(fp.enable_adapters(off), both).equal
    assert fp.diff(fp.without_adapters(both), base()).equal


def test_only_what_is_trained_is_taken_apart():
    params = fp.attach(adapted(LORA, "one"), "two", fp.get_adapters(adapted(IA3, "two"), "two"))
    trained, rest = fp.split_adapters(params, "one")
    assert all("/one/" in path for path in fp.flatten(trained))
    assert fp.diff(fp.join_adapters(trained, rest), params).equal
    with pytest.raises(ValueError, match="no place for layers/0/up/kernel/three"):
        fp.join_adapters({"layers": {"0": {"up": {"kernel": {"three": {"a": 1}}}}}}, rest)
    with pytest.raises(ValueError, match="no adapter acts"):
        fp.split_adapters(base())


def test_dropout_is_of_training_alone_and_of_each_layer_its_own():
    params = adapted({**LORA, "lora_dropout": 0.5})
    once = fp.adapter_dropout(params, jax.random.key(1))
    assert np.array_equal(run(once), run(fp.adapter_dropout(params, jax.random.key(1))))
    assert not np.allclose(run(once), run(fp.adapter_dropout(params, jax.random.key(2))))
    keys = (
        fp.adapter_dropout(stacked(params), KEY)["layers"]["up"]["kernel"].adapters["default"].key
    )
    assert len({tuple(key) for key in keys.tolist()}) == 3


def test_a_template_has_abstract_adapters_with_axes_and_a_mesh_places_them():
    template = fs.declared_axes(lambda: Model().init(KEY, IDS)["params"])
    made = fp.lora_init(KEY, template, DORA)["layers"]["0"]["up"]["kernel"]
    lora = made.adapters["default"]
    assert (lora.a.axes, lora.b.axes, lora.magnitude.axes) == (
        ("embed", None),
        (None, "mlp"),
        ("mlp",),
    )
    assert (lora.a.shape, lora.b.shape, made.shape) == ((12, 3), (3, 16), (12, 16))
    mesh = fs.make_mesh(devices=jax.devices()[:4], fsdp=2, tensor=2)
    params = jax.device_put(base(), fs.shardings(template, mesh, fs.DEFAULT_RULES))
    there = fp.lora_init(KEY, params, DORA)
    where = fs.shardings(fp.lora_init(KEY, template, DORA), mesh, fs.DEFAULT_RULES)
    for leaf, expected in zip(jax.tree.leaves(there), jax.tree.leaves(where), strict=True):
        assert leaf.sharding.is_equivalent_to(expected, leaf.ndim)
    assert np.allclose(run(there), run(base()), atol=1e-5)


def test_tensor_parallel_products_exchange_ranks_and_nothing_else_more():
    template = fs.declared_axes(lambda: Model().init(KEY, IDS)["params"])
    mesh = fs.make_mesh(devices=jax.devices()[:2], tensor=2)
    params = jax.device_put(base(), fs.shardings(template, mesh, fs.DEFAULT_RULES))
    both = fp.lora_init(KEY, params, {**LORA, "target_modules": ["up", "down"]})

    def exchanged(params):
        text = jax.jit(Model().apply).lower({"params": params}, IDS).compile().as_text()
        lines = re.findall(r"= (.+?) (?:all-|reduce-scatter|collective-)[a-z-]+\(", text)
        return collections.Counter(re.findall(r"\w+\[[\d,]*\]", " ".join(lines)))

    more = exchanged(both) - exchanged(params)
    assert more == {"f32[4,3,2]": 3}  # [B, T, r] of each layer's second product


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: fp.lora_init(KEY, p, {**LORA, "target_modules": ["q_proj"]}), "match no module"),
        (lambda p: fp.lora_init(KEY, p, LORA), "an adapter 'default' already"),
        (lambda p: fp.set_adapters(p, "other"), "no adapter 'other'; it has default"),
        (lambda p: fp.delete_adapters(p, "other"), "no adapter 'other'"),
        (lambda p: fp.attach(p, "a.b", {}), "cannot have the name 'a.b'"),
        (
            lambda p: fp.attach(p, "two", {"layers/9/up/kernel": None}),
            "layers/9/up/kernel, which the",
        ),
        (
            lambda p: fp.delete_adapters(fp.merge_adapters(p, keep=True), "default"),
            "is merged into",
        ),
        (lambda p: fp.enable_adapters(fp.merge_adapters(p, keep=True), False), "is merged into"),
        (lambda p: fp.unmerge_adapters(p), "no adapter is merged"),
        (lambda p: fp.merge_adapters(p, quantized="no"), "expected one of dequantize, requantize"),
    ],
    ids=range(10),
)
def test_what_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        change(fp.lora_init(KEY, base(), LORA))


def test_what_callers_mistake_is_named():
    params = base()
    with pytest.raises(TypeError, match="layers/0/up/kernel: 3 is no adapter"):
        fp.attach(params, "two", {"layers/0/up/kernel": 3})
    with pytest.raises(ValueError, match="no module; target_modules has 'dwon'.*nearest: down"):
        fp.lora_init(KEY, params, {"target_modules": ["dwon"]})
    with pytest.raises(ValueError, match="LOKR is not begun here, .*load_adapter"):
        fp.lora_init(KEY, params, {"peft_type": "LOKR", "target_modules": ["up"]})
    with pytest.raises(TypeError, match="extra is .1.; expected a dict"):
        fp.PeftConfig(extra=[1])
    with pytest.raises(ValueError, match="extra has r; give it as a field"):
        fp.PeftConfig(extra={"r": 9})


def test_a_quantised_template_is_saved_whole_too():
    template = fp.quantize(fs.declared_axes(lambda: Model().init(KEY, IDS)["params"]), "int8")
    made = fp.lora_init(KEY, template, {**LORA, "modules_to_save": ["down"]})
    saved: Any = fp.get_adapters(made, "default")["layers/0/down/kernel"]
    plain = template["layers"]["0"]["down"]["kernel"]
    assert (saved.value.shape, saved.value.dtype) == (plain.shape, plain.dtype)
    assert isinstance(saved.value, jax.ShapeDtypeStruct)


def test_programs_keep_configurations_apart_by_all_their_keys():
    one = fp.lora_init(KEY, base(), {**LORA, "init_lora_weights": False})
    two = fp.lora_init(KEY, base(), LORA)
    same = jax.jit(lambda x: x)
    for params in (one, two):
        made, given = (fp.get_adapters(x, "default") for x in (same(params), params))
        assert all(made[path].config.extra == given[path].config.extra for path in given)


def test_an_adapter_of_another_base_is_refused_by_shapes():
    lora = LoRA(np.ones((8, 2)), np.ones((2, 16)), np.float32(1))
    with pytest.raises(
        ValueError, match=r"a of shape \(8, 2\); beside a weight of \(12, 16\) it is \(12, 2\)"
    ):
        fp.attach(base(), "two", {"layers/0/up/kernel": lora})


def test_a_merge_that_is_not_finite_is_refused():
    params = adapted(LORA)
    trained, rest = fp.split_adapters(params)
    broken = jax.tree.map(lambda x: jnp.full_like(x, jnp.inf), trained)
    with pytest.raises(
        ValueError, match="layers/0/up/kernel with the adapters default in it is not"
    ):
        fp.merge_adapters(fp.join_adapters(broken, rest))


@pytest.mark.parametrize("scheme", ["nf4", pytest.param("int8", marks=pytest.mark.soak)])
def test_over_a_quantised_base(scheme):
    packed = fp.quantize(jax.device_get(stacked(base())), scheme)  # NumPy compiles nothing
    params = drawn(fp.lora_init(KEY, packed, DORA, stacks=["layers"]), 1)
    dense = drawn(fp.lora_init(KEY, fp.dequantize(packed), DORA, stacks=["layers"]), 1)
    assert np.allclose(run(params), run(dense), atol=2e-5)
    merged = fp.merge_adapters(params)
    assert np.allclose(run(merged), run(params), atol=2e-5)
    again = fp.merge_adapters(params, quantized="requantize")
    assert jax.tree.structure(again) == jax.tree.structure(packed)
    error = np.abs(run(again) - run(params)).max()
    assert 0 < error < np.abs(run(packed) - run(params)).max()
    trained, rest = fp.split_adapters(params)
    apply = Model(True).apply
    loss = lambda t: (apply({"params": fp.join_adapters(t, rest)}, IDS) ** 2).mean()  # noqa: E731
    assert all(x.any() for x in jax.tree.leaves(jax.jit(jax.grad(loss))(trained)))


GIVEN = {
    "a text": ("lora", TypeError, "configuration of an adapter is str; give fp.PeftConfig"),
    "a misspelt key": ({**LORA, "targetmodules": 1}, TypeError, "nearest: target_modules"),
    "another method's key": ({**IA3, "r": 2}, TypeError, "IA3 has no 'r'"),
    "a start": ({**LORA, "init_lora_weights": "gausian"}, ValueError, "one of .True, False, 'gau"),
    "dropout": ({**LOHA, "module_dropout": 0.5}, ValueError, "module_dropout of LOHA is not done"),
    "an end": ({**LORA, "target_modules": "up"}, ValueError, r"regular expression.*\['up'\] ends"),
}


@pytest.mark.parametrize("case", GIVEN)
def test_what_a_caller_gives_is_done_or_refused(case):
    config, error, message = GIVEN[case]
    with pytest.raises(error, match=message):
        fp.lora_init(KEY, base(), config)


def test_rules_that_do_nothing_are_named():
    rules = {"target_modules": ["up", "dwn"], "rank_pattern": {"upp": 3}, "modules_to_save": ["x"]}
    rules |= {"exclude_modules": ["zz"], "layers_to_transform": [0, 9], "layers_pattern": "layers"}
    with pytest.warns(UserWarning, match="'dwn'.*nearest: down.*'zz'.*'x'.*'upp'.*has 9, in which"):
        fp.lora_init(KEY, base(), LORA | rules)
    with pytest.raises(ValueError, match="unknown dtype 'int8'"):
        fp.lora_init(KEY, base(), LORA, dtype="int8")


def test_parts_that_are_lost_or_of_another_shape_are_named():
    trained, rest = fp.split_adapters(fp.lora_init(KEY, base(), LORA))
    with pytest.raises(ValueError, match="'default' has no a; fp.join_adapters"):
        run(rest)
    with pytest.raises(ValueError, match="up/kernel, adapter 'default': LoRA has no a"):
        fp.join_adapters({}, rest)
    with pytest.raises(ValueError, match=r"a of shape \(1, 2\); beside a weight of \(12, 16\)"):
        fp.join_adapters(jax.tree.map(lambda x: x[:1], trained), rest)
    with pytest.raises(ValueError, match="no place for embed/embedding"):
        fp.join_adapters(rest, trained)


def test_names_of_adapters_are_texts_that_folders_can_have():
    params = fp.lora_init(KEY, base(), LORA, "bank")
    assert np.allclose(run(fp.choose_adapters(params, "bank")), run(base()), atol=1e-6)
    for name in ("", "a/b", "a\\b", "a\nb", "x" * 101, 3):
        with pytest.raises(ValueError, match="cannot have the name"):
            fp.attach(params, name, {})
    for names in (None, 3, [3]):
        with pytest.raises(TypeError, match="named by a text or several"):
            fp.set_adapters(params, names)
    assert fp.active_adapters(fp.set_adapters(params, (x for x in ["bank"]))) == ("bank",)
    with pytest.raises(TypeError, match="keep is 'yes'; expected True or False"):
        fp.merge_adapters(params, keep="yes")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="name each of them once"):
        fp.set_adapters(params, ["bank", "bank"])
    with pytest.raises(TypeError, match="enabled is 'no'"):
        fp.enable_adapters(params, "no")  # pyright: ignore[reportArgumentType]


def test_a_merge_of_nothing_loses_no_adapter():
    params = fp.lora_init(KEY, base(), LORA)
    with pytest.raises(ValueError, match="none of the adapters default acts"):
        fp.merge_adapters(fp.enable_adapters(params, False))
    with pytest.raises(ValueError, match="up/kernel is abstract"):
        fp.merge_adapters(jax.eval_shape(lambda: params))

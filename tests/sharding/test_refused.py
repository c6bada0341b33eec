"""What callers may write wrong about meshes, rules and plans: each is said in our own words."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _drawn import tiny_llama
from jax.sharding import NamedSharding, PartitionSpec

import flaxmodels as fm
from flaxmodels import sharding as fs

MESH = fs.make_mesh(fsdp=4, tensor=2)
MODEL = fm.LlamaForCausalLM(tiny_llama())
TREE = MODEL.abstract_params()
FIRST = jax.devices()[0]


def refuses(calls):
    for call, error, said in calls:
        with pytest.raises(error, match=re.escape(said)):
            call()


def test_sizes_and_devices_of_a_mesh():
    for size in (4.0, "4", None, True):
        with pytest.raises(TypeError, match=f"size of axis 'fsdp' is {size!r}, no int"):
            fs.make_mesh(fsdp=size, tensor=2)
    for devices in ([], [0, 1], 8, "cpu", np.array(jax.devices()).reshape(2, 4)):
        with pytest.raises(TypeError, match="expected a list of devices"):
            fs.make_mesh(devices=devices, fsdp=2)
    with pytest.raises(ValueError, match="in devices twice"):
        fs.make_mesh(devices=[FIRST, FIRST], fsdp=2)
    assert fs.make_mesh(devices=iter(jax.devices()), fsdp=np.int64(8)).size == 8


def test_rules_and_choices_of_another_form():
    refuses(
        [
            (lambda: fs.as_rules({*fs.DEFAULT_RULES}), TypeError, "a set, which has no order"),
            (lambda: fs.preset(3), TypeError, "rules is 3; expected a name"),
            (lambda: fs.preset("tensor", tensor=3), TypeError, "tensor is 3; expected a name"),
            (lambda: fs.PathRule(b"x"), ValueError, "it is a bytes"),
            (lambda: fs.PathRule("x", {"a": "b"}), TypeError, "an entry for each dimension"),
            (lambda: fs.as_uneven((1, 2)), TypeError, "uneven is (1, 2)"),
            (lambda: fs.as_uneven((("vocab", "pad", "x"),)), TypeError, "expected one of refuse"),
            (lambda: fs.as_uneven({3: "pad"}), TypeError, "uneven is {3: 'pad'}"),
            (lambda: fs.check_rules(None, TREE, "mesh"), TypeError, "mesh is a str"),
            (lambda: fs.partition_spec((None,), (4,), None, None), TypeError, "mesh is a NoneT"),
            (lambda: fs.shardings(TREE, MESH, pieces=[2]), TypeError, "pieces is [2]; expected"),
            (lambda: fs.shardings(TREE, MESH, pieces={"heads": 0}), ValueError, "['heads'] is 0"),
            (
                lambda: fs.shardings(TREE, MESH, pieces={"hedas": 2}),
                ValueError,
                "pieces: no rule names a logical axis 'hedas' (nearest: 'heads')",
            ),
        ]
    )
    refuses(
        [
            (
                lambda: fs.renamed("tensor", {"tenser": "tp"}),
                ValueError,
                "no rule has the mesh axis 'tenser' (nearest: 'tensor'); there are data, tensor",
            ),
            (
                lambda: fs.renamed("fsdp", {"tensor": "tp"}),
                ValueError,
                "has the mesh axis 'tensor'",
            ),
            (lambda: fs.renamed("fsdp", "tp"), TypeError, "names is 'tp'; expected {mesh axis"),
            (lambda: fs.renamed("fsdp", {"fsdp": ("a", "b")}), TypeError, "names is {'fsdp'"),
        ]
    )
    assert fs.renamed("tensor", {"tensor": "tp"}) == fs.preset("tensor", tensor="tp")


def test_axes_that_are_not_as_many_as_dimensions():
    x = jax.device_put(jnp.ones((4, 4)), NamedSharding(MESH, PartitionSpec()))
    refuses(
        [
            (lambda: fs.constrain(x, ("batch",), None), ValueError, "name 1 dimensions"),
            (
                lambda: fs.partition_spec(("batch",), (4, 4), MESH, None),
                ValueError,
                "axes ('batch',) do not name the dimensions of shape (4, 4)",
            ),
            (
                lambda: fs.AbstractParam((2, 2), jnp.float32, axes="ab"),
                ValueError,
                "axes 'ab' do not name the dimensions of shape (2, 2)",
            ),
            (
                lambda: fs.partition_spec("v", (4,), MESH, None, name="x"),
                ValueError,
                "x: axes 'v' do not name the dimensions of shape (4,)",
            ),
            (
                lambda: fs.partition_spec(("batch",), 4, MESH, None),
                ValueError,
                "spec: shape is 4; expected the sizes of the dimensions",
            ),
            (
                lambda: fs.partition_spec(("batch",), ("4",), MESH, None),
                ValueError,
                "shape is ('4'",
            ),
            (
                lambda: fs.partition_spec(("vocab", "vocab"), (4, 4), MESH, None),
                ValueError,
                "spec: logical axes 'vocab' and 'vocab' are both on mesh axis 'tensor'",
            ),
            (lambda: fs.as_rules(b"fsdp"), TypeError, "rules is b'fsdp': expected pairs"),
            (lambda: fs.dual_chunk_order(16, 0), ValueError, "16 tokens are not 0 chunks"),
            (lambda: fs.dual_chunk_order(16, -4), ValueError, "16 tokens are not -8 chunks"),
        ]
    )


def test_chunks_pictures_and_styles_of_another_form():
    x = jax.device_put(jnp.ones((2, 12)), NamedSharding(MESH, PartitionSpec()))
    split = "expected axes of the mesh of x"
    refuses(
        [
            (lambda: fs.to_dual_chunks(x, ((), ("fsdp",))), ValueError, "12 tokens are not 8"),
            (lambda: fs.to_dual_chunks(x, ((),)), ValueError, split),
            (lambda: fs.to_dual_chunks(jnp.ones((2, 16)), ((), ("fsdp",))), ValueError, split),
            (lambda: fs.to_dual_chunks(x[0], ((), ("fsdp",))), ValueError, split),
            (lambda: fs.picture(np.ones(3)), TypeError, "got a ndarray"),
            (lambda: jax.eval_shape(fs.picture, x), TypeError, "which is on devices; got a"),
            (lambda: fs.tensor_rules(None, [], ()), TypeError, "tp_plan is None"),
            (lambda: fs.tensor_rules({"a": ["colwise"]}, [], ()), TypeError, "tp_plan is {'a'"),
            (lambda: fs.tensor_rules({3: "colwise"}, [], ()), TypeError, "tp_plan is {3"),
            (
                lambda: fs.tensor_rules({"a.*.qproj": "colwise"}, ["a/0/q_proj/kernel"], ()),
                ValueError,
                "no param is at 'a.*.qproj' (nearest: 'a.*.q_proj')",
            ),
            (
                lambda: MODEL.init_params(jax.random.key(0), rules="fsdp"),
                TypeError,
                "rules place params on a mesh: give mesh too",
            ),
        ]
    )


def test_what_is_no_model_and_no_plan():
    refuses(
        [
            (lambda: fs.shardings(MODEL, MESH), ValueError, "template: LlamaForCausalLM has no"),
            (lambda: fs.plan(fm.LlamaForCausalLM, MESH), TypeError, "is a class; give a model"),
            (lambda: fs.report(MODEL, MESH, plan=3), TypeError, "plan is a int; expected what"),
            (lambda: fs.plan(MODEL, MESH, dtype="float33"), ValueError, "dtype is 'float33'"),
            (lambda: fs.plan(MODEL, MESH, dtype=None), ValueError, "dtype is None"),
            (lambda: fs.plan(TREE, device_map="auto"), TypeError, "a device_map is of a model's"),
            (lambda: fs.plan(MODEL, MESH, rates={"disk": 1}), TypeError, "rates is a dict"),
            (lambda: MODEL.placement_plan(0, rates={"disk": 1}), TypeError, "rates is a dict"),
        ]
    )
    for name in ("batch", "length", "experts_per_token", "devices_per_host"):
        for value in (0, -1, 8.5, "8", True):
            with pytest.raises(ValueError, match=f"plan: {name} is {value!r}; expected an int"):
                fs.plan(MODEL, MESH, **{name: value})
    for value in (0, -1.0, float("nan"), float("inf"), "3TB", True):
        with pytest.raises(ValueError, match=f"Rates: memory is {value!r}"):
            fs.Rates(memory=value)
    assert fs.Rates(memory=np.int64(3)) == fs.Rates(memory=np.float32(3)) == fs.Rates(memory=3)


def test_collectives_of_what_is_not_compiled():
    line = "%a = f32[8]{0} all-reduce(%b), replica_groups={{0,9}}"
    lowered = jax.jit(lambda x: x).lower(1.0)
    refuses(
        [
            (lambda: fs.collectives(lowered), TypeError, "compiled is a Lowered"),
            (lambda: fs.collectives(None), TypeError, "compiled is a NoneType"),
            (lambda: fs.collectives("a = b"), ValueError, "no instruction of HLO is in the text"),
            (
                lambda: fs.collectives("stablehlo.add"),
                ValueError,
                "StableHLO, which has no collectives yet: compile it",
            ),
            (lambda: fs.collectives(line, MESH), ValueError, "more devices than the mesh has"),
            (lambda: fs.collectives(line, "m"), TypeError, "mesh is a str"),
        ]
    )

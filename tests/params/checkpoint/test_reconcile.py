"""Reconciling and planning: which tensor makes which leaf, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _files import template, write_safetensors
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from flaxmodels import params as fp
from flaxmodels import sharding as fs
from flaxmodels.params.checkpoint.make_plan import make_plan
from flaxmodels.params.checkpoint.match import check_backbone, check_shapes
from flaxmodels.params.checkpoint.reconcile import reconcile
from flaxmodels.params.tree.naming import FLAX, TORCH

BACKBONE = {"embed/embedding": (7, 4), "layer/kernel": (4, 6), "layer/bias": (6,)}
HEAD = {"head/kernel": (4, 3)}
HEADED = {f"base/{path}": shape for path, shape in BACKBONE.items()} | HEAD
TORCH_BACKBONE = {"embed.weight": (7, 4), "layer.weight": (6, 4), "layer.bias": (6,)}
TORCH_HEADED = {f"base.{name}": shape for name, shape in TORCH_BACKBONE.items()}
TORCH_HEADED |= {"head.weight": (3, 4)}
FLAX_HEADED = {path.replace("/", "."): shape for path, shape in HEADED.items()}


def source(folder, shapes, layout=TORCH, dtype=np.float32):
    path = folder / "model.safetensors"
    tensors = {name: np.zeros(shape, dtype) for name, shape in shapes.items()}
    write_safetensors(path, tensors, {"format": "pt" if layout == TORCH else "flax"})
    return fp.open_checkpoint(path)


def names_of(match):
    return {path: [piece.tensor.name for piece in pieces] for path, pieces in match.found.items()}


@pytest.mark.parametrize(
    ("shapes", "stored", "layout", "found", "missing", "unexpected"),
    [
        (BACKBONE, TORCH_BACKBONE, TORCH, 3, [], []),
        (HEADED, TORCH_HEADED, TORCH, 4, [], []),
        (BACKBONE, TORCH_HEADED, TORCH, 3, [], ["head.weight"]),
        (HEADED, TORCH_BACKBONE, TORCH, 3, ["head/kernel"], []),
        (HEADED, TORCH_BACKBONE | {"head.weight": (3, 4)}, TORCH, 4, [], []),
        (HEADED, FLAX_HEADED, FLAX, 4, [], []),
        (BACKBONE, FLAX_HEADED, FLAX, 3, [], ["head/kernel"]),
        (HEADED, {path: shape for path, shape in BACKBONE.items()}, FLAX, 3, ["head/kernel"], []),
        (BACKBONE, TORCH_BACKBONE | {"more": (1,)}, TORCH, 3, [], ["more"]),
        (BACKBONE | {"x/bias": (2,)}, TORCH_BACKBONE, TORCH, 3, ["x/bias"], []),
        (BACKBONE | {"": (2,)}, TORCH_BACKBONE, TORCH, 3, [""], []),
    ],
    ids=["backbone", "headed", "prefix-taken-off", "prefix-added", "prefix-added-not-to-the-head",
         "flax", "flax-taken-off", "flax-added", "unexpected", "missing", "missing-without-a-name"],
)  # fmt: skip
def test_R3_prefix(shapes, stored, layout, found, missing, unexpected, tmp_path):
    if "" in shapes:
        tree = {"": jax.ShapeDtypeStruct((2,), jnp.float32)} | template(BACKBONE)
    else:
        tree = template(shapes)
    match = reconcile(tree, source(tmp_path, stored, layout), prefix="base")
    assert len(match.found) == found
    assert (list(match.missing), list(match.unexpected)) == (missing, unexpected)
    assert not match.mismatched


def test_prefix_clash(tmp_path):
    both = TORCH_BACKBONE | TORCH_HEADED
    with pytest.raises(fp.CheckpointError, match="'embed.weight' and 'base.embed.weight' both"):
        reconcile(template(BACKBONE), source(tmp_path, both), prefix="base")
    match = reconcile(template(HEADED), source(tmp_path, both), prefix="base")
    assert len(match.found) == 4 and len(match.unexpected) == 3


@pytest.mark.parametrize("wrapper", ["params/", "model/params/"])
def test_F8_D23_wrapper_of_a_flax_file(wrapper, tmp_path):
    stored = {wrapper + path: shape for path, shape in HEADED.items()}
    match = reconcile(template(HEADED), source(tmp_path, stored, FLAX), prefix="base")
    assert len(match.found) == 4 and not match.missing and not match.unexpected
    match = reconcile(template(BACKBONE), source(tmp_path, stored, FLAX), prefix="base")
    assert len(match.found) == 3


TIED = (("lm_head/kernel", "embed/embedding"), ("decoder/bias", "bias"))


@pytest.mark.parametrize(
    ("stored", "layout", "name", "permutation"),
    [
        ({"embed.weight": (7, 4)}, TORCH, "embed.weight", (0, 1)),
        ({"lm_head.weight": (7, 4)}, TORCH, "lm_head.weight", (0, 1)),
        ({"embed.weight": (7, 4), "lm_head.weight": (7, 4)}, TORCH, "embed.weight", (0, 1)),
        ({"lm_head.kernel": (4, 7)}, FLAX, "lm_head.kernel", (1, 0)),
        ({"embed.embedding": (7, 4), "lm_head.kernel": (4, 7)}, FLAX, "embed.embedding", (0, 1)),
    ],
    ids=["own", "other", "both", "flax-other", "flax-both"],
)
def test_tied_leaves(stored, layout, name, permutation, tmp_path):
    tree = template({"embed/embedding": (7, 4)})
    match = reconcile(tree, source(tmp_path, stored, layout), tied=TIED)
    (piece,) = match.found["embed/embedding"]
    assert (piece.tensor.name, piece.permutation) == (name, permutation)
    assert not match.missing and not match.unexpected and not match.mismatched


def test_a_tied_name_that_the_template_has_is_a_leaf(tmp_path):
    tree = template({"embed/embedding": (7, 4), "lm_head/kernel": (4, 7)})
    match = reconcile(tree, source(tmp_path, {"embed.weight": (7, 4)}), tied=TIED)
    assert match.missing == ("lm_head/kernel",)


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ((6, 5), "layer/kernel: 'layer.weight' has shape (6, 5), expected (6, 4)"),
        ((4, 6), "layer/kernel: 'layer.weight' has shape (4, 6), expected (6, 4)"),
        ((24,), "layer/kernel: 'layer.weight' has shape (24,), expected (6, 4)"),
        ((6, 4, 1), "layer/kernel: 'layer.weight' has shape (6, 4, 1), expected (6, 4)"),
        ((), "layer/kernel: 'layer.weight' has shape (), expected (6, 4)"),
    ],
)
def test_mismatched(stored, said, tmp_path):
    match = reconcile(
        template(BACKBONE), source(tmp_path, TORCH_BACKBONE | {"layer.weight": stored})
    )
    assert [str(bad) for bad in match.mismatched] == [said]
    assert match.found.keys() == {"embed/embedding", "layer/bias"}
    assert not match.missing and not match.unexpected
    with pytest.raises(fp.CheckpointError) as caught:
        check_shapes(match)
    assert said in str(caught.value) and match.source.where in str(caught.value)
    check_backbone(match)


def test_C21_the_first_ten_mismatches(tmp_path):
    tree = template({f"m{i:02}/bias": (2,) for i in range(12)})
    match = reconcile(tree, source(tmp_path, {f"m{i:02}.bias": (3,) for i in range(12)}))
    with pytest.raises(
        fp.CheckpointError, match=r"12 tensors do not fit.*m09.*\(2 more\)"
    ) as caught:
        check_shapes(match)
    assert "m10/bias" not in str(caught.value)


def test_stacked_layers(tmp_path):
    axes = ("layers", None, None)
    tree = {"h": {"f": {"kernel": fs.AbstractParam((2, 4, 6), jnp.float32, axes=axes)}}}
    naming = fp.Naming(stacks=("h",))
    stored = {"h.0.f.weight": (6, 4), "h.1.f.weight": (6, 4)}
    match = reconcile(tree, source(tmp_path, stored), naming)
    pieces = match.found["h/f/kernel"]
    assert [piece.index for piece in pieces] == [(0,), (1,)]
    assert [piece.tensor.name for piece in pieces] == list(stored)
    match = reconcile(tree, source(tmp_path, {"h.0.f.weight": (6, 4)}), naming)
    assert match.missing == ("h/f/kernel",) and not match.unexpected
    stored["h.1.f.weight"] = (4, 6)
    (bad,) = reconcile(tree, source(tmp_path, stored), naming).mismatched
    assert bad.name == "h.1.f.weight" and bad.expected == (6, 4)
    with pytest.raises(fp.CheckpointError, match="h/f/kernel: a stacked leaf that is not under"):
        reconcile(tree, source(tmp_path, stored), fp.Naming(stacks=("layers",)))


CHECKS = {  # template, source, what is said, or None if it is fine
    "all": (HEADED, TORCH_HEADED, None),
    "head-missing": (HEADED, TORCH_BACKBONE, None),
    "head-unused": (BACKBONE, TORCH_HEADED, None),
    "backbone-missing": (
        HEADED | {"base/x/bias": (1,)},
        TORCH_HEADED,
        "1 leaves of the model are not in the checkpoint: base/x/bias; .*strict=False",
    ),
    "backbone-missing-headless": (
        BACKBONE | {"x/bias": (1,)},
        TORCH_HEADED,
        "not in the checkpoint: x/bias",
    ),
    "backbone-missing-in-headless": (
        HEADED | {"base/x/bias": (1,)},
        TORCH_BACKBONE,
        "not in the checkpoint: base/x/bias",
    ),
    "backbone-unexpected": (
        HEADED,
        TORCH_HEADED | {"base.x.bias": (1,)},
        "no place for 1 tensors: 'base.x.bias'; .*strict=False",
    ),
    "backbone-unexpected-headless": (
        BACKBONE,
        TORCH_HEADED | {"base.x.bias": (1,)},
        "no place for 1 tensors: 'base.x.bias'",
    ),
    "backbone-unexpected-in-headless": (
        HEADED,
        TORCH_BACKBONE | {"x.bias": (1,)},
        "no place for 1 tensors: 'x.bias'",
    ),
    "head-unexpected": (HEADED, TORCH_HEADED | {"other.bias": (1,)}, None),
    "optional-missing": (HEADED | {"base/pooler/bias": (1,)}, TORCH_HEADED, None),
    "optional-unexpected": (HEADED, TORCH_HEADED | {"base.pooler.bias": (1,)}, None),
    "other-architecture": (
        HEADED,
        {"transformer.h.0.ln_1.weight": (4,), "wte.weight": (7, 4)},
        "no tensor fits this model; .*it holds 'transformer.*the model needs base/embed",
    ),
    "empty": (HEADED, {}, "no tensor fits this model"),
}


@pytest.mark.parametrize("case", CHECKS)
def test_S1_strictness(case, tmp_path):
    shapes, stored, said = CHECKS[case]
    match = reconcile(template(shapes), source(tmp_path, stored), prefix="base")
    if said is None:
        check_backbone(match, "base", fp.Naming(optional=("pooler",)))
        return
    with pytest.raises(fp.CheckpointError, match=said) as caught:
        check_backbone(match, "base", fp.Naming(optional=("pooler",)))
    assert match.source.where in str(caught.value)


def test_S1_without_a_prefix_everything_counts(tmp_path):
    match = reconcile(template(HEADED), source(tmp_path, TORCH_HEADED | {"x.bias": (1,)}))
    with pytest.raises(fp.CheckpointError, match="no place for 1 tensors: 'x.bias'"):
        check_backbone(match)
    match = reconcile(template(HEADED | {"x/bias": (1,)}), source(tmp_path, TORCH_HEADED))
    with pytest.raises(fp.CheckpointError, match="not in the checkpoint: x/bias"):
        check_backbone(match)


def test_reads_no_weights(tmp_path):
    checkpoint = source(tmp_path, {"a.weight": (1000, 1000)})
    before = checkpoint.bytes_read
    match = reconcile(template({"a/kernel": (1000, 1000)}), checkpoint)
    plan = make_plan(match, template({"a/kernel": (1000, 1000)}))
    str(plan)
    assert checkpoint.bytes_read == before < 1000


def plan_of(folder, *, dtype="auto", stored=np.float32, **options):
    tree = template(HEADED)
    match = reconcile(tree, source(folder, TORCH_HEADED, dtype=stored), prefix="base")
    return make_plan(match, tree, dtype=dtype, **options)


def test_plan(tmp_path):
    mesh = fs.make_mesh(fsdp=4, tensor=2)
    shardings = {path: NamedSharding(mesh, P()) for path in HEADED}
    shardings["base/layer/kernel"] = NamedSharding(mesh, P("fsdp", "tensor"))
    plan = plan_of(
        tmp_path,
        dtype={"bias": "bfloat16"},
        shardings=fp.unflatten(shardings),
        max_host_memory=1 << 20,
    )
    assert [leaf.path for leaf in plan.leaves] == [  # as they lie in the file
        "base/embed/embedding", "base/layer/kernel", "base/layer/bias", "head/kernel",
    ]  # fmt: skip
    by_path = {leaf.path: leaf for leaf in plan.leaves}
    assert by_path["base/layer/bias"].dtype == jnp.bfloat16
    assert by_path["base/layer/bias"].nbytes == 12
    assert by_path["base/layer/kernel"].shard_bytes == 4 * 24 // 8
    assert set(plan.bytes_per_device.values()) == {4 * 28 + 12 + 12 + 4 * 12}
    assert plan.stored_bytes == 4 * (28 + 24 + 6 + 12)
    assert plan.predicted_host_peak == 8 * (4 * 28 + 12 + 12 + 4 * 12) + (1 << 20)
    said = str(plan)
    assert "4 leaves from 1 files, 280 B to read, missing 0, unexpected 0, mismatched 0" in said
    assert "8 devices, 184 B each" in said
    assert "float32 -> bfloat16" in said and "float32 -> float32" in said


@pytest.mark.parametrize(
    ("stored", "dtype", "loaded"),
    [
        (np.float32, "auto", "float32"),
        (np.float16, jnp.bfloat16, "bfloat16"),
        (np.float64, "auto", "float32"),
        (np.float32, "float64", "float32"),
        (np.int64, "float16", "int32"),
        (np.float32, {"layer": "fp16", ".": "bf16"}, None),
    ],
)
def test_dtypes_of_a_plan(stored, dtype, loaded, tmp_path):
    plan = plan_of(tmp_path, stored=stored, dtype=dtype)
    for leaf in plan.leaves:
        assert leaf.stored == stored
        assert leaf.dtype == (loaded or ("float16" if "layer" in leaf.path else "bfloat16"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_host_memory": 1000}, "max_host_memory is 1000 bytes; it must be at least 1 MiB"),
        ({"dtype": "float99"}, "unknown dtype 'float99'; known: float64, float32"),
        ({"dtype": {"bias": "float99"}}, "unknown dtype 'float99'"),
        ({"shardings": {}}, "shardings have no entry for base/embed/embedding"),
    ],
)
def test_bad_plans(options, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        plan_of(tmp_path, **options)


def test_layers_of_different_dtypes(tmp_path):
    tensors = {"h.0.bias": np.zeros(2, np.float32), "h.1.bias": np.zeros(2, np.float16)}
    path = write_safetensors(tmp_path / "model.safetensors", tensors)
    tree = {"h": {"bias": fs.AbstractParam((2, 2), jnp.float32, axes=("layers", None))}}
    match = reconcile(tree, fp.open_checkpoint(path), fp.Naming(stacks=("h",)))
    with pytest.raises(
        fp.CheckpointError, match="layers of h/bias .*float16, float32.*scan_layers"
    ):
        make_plan(match, tree)


def test_the_default_device(tmp_path):
    device = jax.devices()[3]
    with jax.default_device(device):
        assert set(plan_of(tmp_path).bytes_per_device) == {device}
    with jax.default_device("cpu"):
        assert set(plan_of(tmp_path).bytes_per_device) == {jax.devices()[0]}
    assert set(plan_of(tmp_path).bytes_per_device) == {jax.devices()[0]}

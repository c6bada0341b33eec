"""Joined tensors: leaves of their own in a tree, one tensor in a checkpoint, both ways."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _files import random_array, same, write_safetensors
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from safetensors.numpy import load_file

from flaxmodels import params as fp
from flaxmodels import sharding as fs
from flaxmodels.params.checkpoint.make_plan import make_plan
from flaxmodels.params.checkpoint.match import check_backbone, check_shapes
from flaxmodels.params.checkpoint.reconcile import reconcile
from flaxmodels.params.checkpoint.sources import rename_tensors, source_of
from flaxmodels.params.checkpoint.stream import stream
from flaxmodels.params.save.options import WriteOptions
from flaxmodels.params.save.write import write_checkpoint
from flaxmodels.params.tree.naming import FLAX, TORCH

QKV = ("q_proj", "k_proj", "v_proj")
D, DEPTH = 16, 4
LAYOUTS = {
    "phi3": ((32, 16, 16), 1),
    "one-head-of-keys": ((40, 8, 8), 1),  # Falcon 7B
    "neox": ((24, 24, 24), 3),
    "falcon40b": ((64, 16, 16), 2),  # each run: 4 query heads of 8, one of keys, one of values
    "alternating": ((8, 8, 8), 8),
}


def naming(groups, **more):
    joined = (
        fp.Joined("self_attn/qkv_proj", QKV, groups),
        fp.Joined(r"(mlp|ffn)/gate_up_proj", ("gate_proj", "up_proj")),
    )
    return fp.Naming(stacks=("layers",), joined=joined, **more)


def fused(parts, groups, axis):
    """What a checkpoint has of parts, by the words of `Joined`."""
    runs = [np.split(part, groups, axis) for part in parts]
    return np.concatenate([share[g] for g in range(groups) for share in runs], axis)


def leaves_of(widths, dtype=np.float32, bias=True):
    """A layer-stacked tree: {path: [DEPTH, ...]} and one leaf that is not stacked."""
    modules = {f"self_attn/{name}": width for name, width in zip(QKV, widths, strict=True)}
    modules |= {"mlp/gate_proj": 24, "mlp/up_proj": 24, "mlp/down_proj": 8}
    tree = {"norm/scale": random_array(99, (D,), dtype)}
    for i, (module, width) in enumerate(modules.items()):
        tree[f"layers/{module}/kernel"] = random_array(i, (DEPTH, D, width), dtype)
        if bias:
            tree[f"layers/{module}/bias"] = random_array(50 + i, (DEPTH, width), dtype)
    return tree


def file_of(tree, groups, layout):
    """The tensors of a checkpoint, written without our naming."""
    turn = (lambda x: x.T) if layout == TORCH else (lambda x: x)
    tensors = {"norm.weight" if layout == TORCH else "norm/scale": tree["norm/scale"]}
    axes = {"kernel": 0 if layout == TORCH else 1, "bias": 0}
    for i in range(DEPTH):
        for leaf, axis in axes.items():
            if f"layers/mlp/up_proj/{leaf}" not in tree:
                continue

            def get(module, leaf=leaf, i=i):
                return turn(tree[f"layers/{module}/{leaf}"][i])

            made = {
                "self_attn/qkv_proj": fused([get(f"self_attn/{x}") for x in QKV], groups, axis),
                "mlp/gate_up_proj": fused([get("mlp/gate_proj"), get("mlp/up_proj")], 1, axis),
                "mlp/down_proj": get("mlp/down_proj"),
            }
            for module, value in made.items():
                name = f"layers/{i}/{module}/{leaf}"
                if layout == TORCH:
                    name = name.replace("/", ".").replace("kernel", "weight")
                tensors[name] = np.ascontiguousarray(value)
    return tensors


def trees(tree):
    """The tree looped, stacked, and by segments of a period of two and a rest of two."""
    stacked = fp.unflatten(tree)
    looped = fp.unstack_layers(stacked, "layers")
    segments = fp.stack_layers(looped, ("layers",), segments=[(0, 2, 1), (2, 1, 2)])
    return {"looped": looped, "stacked": stacked, "segments": segments}


def abstract(tree):
    def leaf(path, x):
        lead = path.startswith("layers/") and not path.split("/")[1].isdecimal()
        axes = ("layers",) * lead + (None,) * (x.ndim - lead)
        return fs.AbstractParam(x.shape, jnp.float32, axes=axes)

    return fp.unflatten({path: leaf(path, x) for path, x in fp.flatten(tree).items()})


def saved(folder, tensors, layout):
    kind = {"format": "pt" if layout == TORCH else "flax"}
    return write_safetensors(folder / "model.safetensors", tensors, kind)


def loaded(path, template, how, shardings=None):
    source = fp.open_checkpoint(path)
    match = reconcile(template, source, how)
    check_backbone(match)
    check_shapes(match)
    before = source.bytes_read
    plan = make_plan(match, template, shardings=shardings, max_host_memory=1 << 20)
    return stream(plan, progress=False), source.bytes_read - before


def check(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for path, leaf in fp.flatten(expected).items():
        assert same(np.asarray(fp.flatten(found)[path]), leaf), path


@pytest.mark.parametrize("kind", ["looped", "stacked", "segments"])
@pytest.mark.parametrize("layout", [TORCH, FLAX])
@pytest.mark.parametrize("case", LAYOUTS)
def test_a_joined_checkpoint_both_ways(case, layout, kind, tmp_path):
    widths, groups = LAYOUTS[case]
    leaves, how = leaves_of(widths), naming(groups)
    tree, tensors = trees(leaves)[kind], file_of(leaves, groups, layout)
    path, template = saved(tmp_path, tensors, layout), abstract(tree)
    found, count = loaded(path, template, how)
    check(found, tree)
    if layout == TORCH:  # each part reads its own bytes, once
        assert count == sum(tensor.nbytes for tensor in tensors.values())
    (tmp_path / "again").mkdir()
    write_checkpoint(
        tmp_path / "again", found, template, how, WriteOptions(layout=layout), progress=False
    )
    again = load_file(tmp_path / "again" / "model.safetensors")
    assert again.keys() == tensors.keys()
    assert all(same(again[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("kind", ["looped", "stacked"])
@pytest.mark.parametrize("case", ["phi3", "falcon40b"])
def test_over_eight_devices(case, kind, tmp_path):
    """Columns, rows and layers cut over a mesh: each device reads its own, and saves as one."""
    widths, groups = LAYOUTS[case]
    leaves, how = leaves_of(widths), naming(groups)
    tree, tensors = trees(leaves)[kind], file_of(leaves, groups, TORCH)
    path, template = saved(tmp_path, tensors, TORCH), abstract(tree)
    mesh = fs.make_mesh(fsdp=2, tensor=4)

    def sharding(path, leaf):
        lead = (None,) * (leaf.ndim - 2)
        spec = (*lead, "fsdp", "tensor") if path.endswith("kernel") else (*(None,) * 1,)
        return NamedSharding(mesh, P(*spec))

    shardings = fp.unflatten({p: sharding(p, x) for p, x in fp.flatten(template).items()})
    found, count = loaded(path, template, how, shardings)
    check(found, tree)
    assert count <= sum(tensor.nbytes for tensor in tensors.values())
    layered = jax.tree.map(
        lambda x: jax.device_put(x, NamedSharding(mesh, P("tensor"))) if x.shape[0] == DEPTH else x,
        found,
    )
    for i, params in enumerate((found, layered)):
        (folder := tmp_path / str(i)).mkdir()
        write_checkpoint(folder, params, template, how, progress=False)
        again = load_file(folder / "model.safetensors")
        assert again.keys() == tensors.keys()
        assert all(same(again[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("case", LAYOUTS)
def test_rows_long_enough_for_rows_apart(case, tmp_path, monkeypatch):
    """The way of long rows, which leaves gaps between them, reads parts of several runs too."""
    monkeypatch.setattr("flaxmodels.params.checkpoint.leaf_loader._LONG_ROW", 32)
    monkeypatch.setattr("flaxmodels.params.checkpoint.leaf_loader._LEAST_ROWS", 5)
    monkeypatch.setattr("flaxmodels.params.checkpoint.leaf_loader._ROWS_CHUNK", 64)
    widths, groups = LAYOUTS[case]
    leaves = leaves_of(widths)
    tree = trees(leaves)["looped"]
    path = saved(tmp_path, file_of(leaves, groups, TORCH), TORCH)
    found, _ = loaded(path, abstract(tree), naming(groups))
    check(found, tree)


def test_our_own_trees_keep_parts_apart(tmp_path):
    """orbax and trees in memory have the leaves' own paths; msgpack has the checkpoint's names."""
    widths, groups = LAYOUTS["neox"]
    leaves, how = leaves_of(widths), naming(groups)
    kinds = trees(leaves)
    for format in ("orbax", "msgpack"):
        (tmp_path / format).mkdir()
        for kind, tree in kinds.items():
            folder = tmp_path / format / kind
            folder.mkdir()
            options = WriteOptions(format=format)
            (name,) = write_checkpoint(folder, tree, abstract(tree), how, options, progress=False)
            after = {"looped": "stacked", "stacked": "segments", "segments": "looped"}[kind]
            for other in (tree, kinds[after]):  # as it is stacked, and otherwise
                source = fp.open_checkpoint(folder / name)
                match = reconcile(abstract(other), source, how)
                check_backbone(match)
                assert any("qkv" in t.name for t in source.tensors.values()) == (
                    format == "msgpack"
                )
                check(stream(make_plan(match, abstract(other)), progress=False), other)


def test_sources_of_every_kind():
    """Arrays in memory, renamed tensors, and a second reading of a prefix."""
    widths, groups = LAYOUTS["falcon40b"]
    leaves, how = leaves_of(widths), naming(groups)
    tree = trees(leaves)["stacked"]
    for layout in (TORCH, FLAX):
        tensors = file_of(leaves, groups, layout)
        source = source_of(tensors)
        renamed = source_of({f"wrapped.{name}": x for name, x in tensors.items()})
        renamed = rename_tensors(renamed, {r"^wrapped\.": ""})
        for one in (source, dataclasses.replace(renamed, layout=layout)):
            match = reconcile(abstract(tree), one, how)
            check_backbone(match)
            check(stream(make_plan(match, abstract(tree)), progress=False), tree)
    match = reconcile(
        fp.unflatten({"m": abstract(tree)}), source_of(file_of(leaves, 2, TORCH)), how
    )
    assert "read as names under 'm'" in match.said and not match.missing


def test_tensors_in_the_opposite_order(tmp_path):
    """A kernel that TensorFlow has as (out, in), and one that PyTorch has as (in, out)."""
    leaves = leaves_of((24, 24, 24), bias=False)
    tree = trees(leaves)["looped"]
    how = naming(3, kernels_in_out=("qkv_proj/kernel$",), tf_kernels_out_in=("qkv_proj",))
    torch, tf = file_of(leaves, 3, TORCH), file_of(leaves, 3, TORCH)
    for name in torch:
        if "qkv_proj" in name:
            torch[name] = torch[name].T.copy()
        elif name != "norm.weight":
            tf[name] = tf[name].T.copy()
    for tensors, layout in ((torch, TORCH), (tf, "tf")):
        source = dataclasses.replace(source_of(tensors), layout=layout)
        match = reconcile(abstract(tree), source, how)
        check_backbone(match)
        check(stream(make_plan(match, abstract(tree)), progress=False), tree)


def test_experts_in_one_tensor():
    """[E, 2F, D] and [E, D, 2F], with the experts stacked over layers or not."""
    gate, up = (random_array(i, (2, 3, 5, 8), np.float32) for i in range(2))
    tree = {f"layers/mlp/experts/{n}/kernel": x for n, x in (("gate", gate), ("up", up))}
    template = fp.unflatten(
        {p: fs.AbstractParam(x.shape, x.dtype, axes=("layers", "experts", None, None))
         for p, x in tree.items()}
    )  # fmt: skip
    joined = (fp.Joined("experts/gate_up", ("gate", "up"), 1),)
    names = ((r"experts/(\w+)/kernel$", r"experts.\1"),)
    how = fp.Naming(stacks=("layers",), joined=joined, names=names)
    for turned in (True, False):
        both = np.concatenate([gate, up], -1)
        both = both.swapaxes(-1, -2) if turned else both
        one = dataclasses.replace(how, kernels_in_out=() if turned else ("experts/",))
        tensors = {f"layers.{i}.mlp.experts.gate_up": both[i] for i in range(2)}
        match = reconcile(template, source_of(tensors), one)
        check_backbone(match)
        check(stream(make_plan(match, template), progress=False), fp.unflatten(tree))


def test_experts_one_by_one(tmp_path):
    """Axes of layers and experts are two numbers in a name; a looped tree has the second axis."""
    up = random_array(0, (2, 3, 5, 8), np.float32)
    stacked = {"layers/mlp/experts/up/kernel": up}
    looped = {f"layers/{i}/mlp/experts/up/kernel": up[i] for i in range(2)}
    how = fp.Naming(stacks=("layers",), experts=("experts",))
    expected = {f"layers.{i}.mlp.experts.{j}.up.weight": up[i, j].T
                for i in range(2) for j in range(3)}  # fmt: skip
    mesh = fs.make_mesh(fsdp=2, tensor=4)
    for flat, axes in ((stacked, ("layers", "experts")), (looped, ("experts",))):
        template = fp.unflatten(
            {p: fs.AbstractParam(x.shape, x.dtype, axes=(*axes, None, None))
             for p, x in flat.items()}
        )  # fmt: skip
        (folder := tmp_path / str(len(axes))).mkdir()
        write_checkpoint(folder, fp.unflatten(flat), template, how, progress=False)
        written = load_file(folder / "model.safetensors")
        assert written.keys() == expected.keys()
        assert all(same(written[name], expected[name]) for name in expected)
        rows = NamedSharding(mesh, P(*[None] * len(axes), None, "tensor"))
        found, count = loaded(folder / "model.safetensors", template, how, rows)
        check(found, fp.unflatten(flat))
        assert count == up.nbytes
        if len(axes) == 2:
            cut = jax.device_put(up, NamedSharding(mesh, P("fsdp", None)))
            params = fp.unflatten({"layers/mlp/experts/up/kernel": cut})
            (again := tmp_path / "cut").mkdir()
            write_checkpoint(again, params, template, how, progress=False)
            cut = load_file(again / "model.safetensors")
            assert all(same(cut[name], expected[name]) for name in expected)


# What does not fit.


def match_of(tensors, groups=1, widths=(32, 16, 16), **more):
    tree = abstract(trees(leaves_of(widths))["looped"])
    return reconcile(tree, source_of(tensors), naming(groups, **more))


def test_a_tensor_of_another_size():
    tensors = file_of(leaves_of((32, 16, 16)), 1, TORCH)
    name = "layers.1.self_attn.qkv_proj.weight"
    tensors[name] = tensors[name][:-16]  # without v
    with pytest.raises(
        fp.CheckpointError,
        match=r"3 tensors do not fit.*layers/1/self_attn/k_proj/kernel: "
        r"'layers.1.self_attn.qkv_proj.weight' has shape \(48, 16\), expected \(64, 16\), "
        r"whose 32:48 along axis 0 are the leaf's",
    ):
        check_shapes(match_of(tensors))
    match = match_of(tensors)
    assert {bad.path for bad in match.mismatched} == {
        f"layers/1/self_attn/{part}/kernel" for part in QKV
    }


def test_a_joined_tensor_that_is_not_there():
    tensors = file_of(leaves_of((32, 16, 16)), 1, TORCH)
    del tensors["layers.2.mlp.gate_up_proj.bias"]
    match = match_of(tensors)
    assert match.missing == ("layers/2/mlp/gate_proj/bias", "layers/2/mlp/up_proj/bias")
    with pytest.raises(
        fp.CheckpointError,
        match=r"layers/2/mlp/gate_proj/bias \(of 'layers.2.mlp.gate_up_proj.bias'\)",
    ):
        check_backbone(match)


def test_parts_beside_the_joined_tensor():
    tensors = file_of(leaves_of((32, 16, 16)), 1, TORCH)
    tensors["layers.0.self_attn.q_proj.weight"] = np.zeros((32, 16), np.float32)
    with pytest.raises(
        fp.CheckpointError, match="no place for 1 tensors: 'layers.0.self_attn.q_proj.weight'"
    ):
        check_backbone(match_of(tensors))


def test_groups_that_do_not_divide():
    tensors = file_of(leaves_of((32, 16, 16)), 1, TORCH)
    with pytest.raises(
        fp.CheckpointError,
        match="layers/0/self_attn/qkv_proj/bias is joined in 3 runs, and the last axis of "
        "layers/0/self_attn/q_proj/bias, of size 32, does not divide into them",
    ):
        match_of(tensors, groups=3)


def test_a_model_without_a_part():
    tree = abstract(trees(leaves_of((32, 16, 16)))["looped"])
    del tree["layers"]["1"]["self_attn"]["k_proj"]["bias"]
    with pytest.raises(
        fp.CheckpointError,
        match="layers/1/self_attn/qkv_proj/bias is joined of .*, and the model has no "
        "layers/1/self_attn/k_proj/bias",
    ):
        reconcile(tree, source_of({}), naming(1))
    tree = abstract(trees(leaves_of((32, 16, 16)))["looped"])
    tree["layers"]["1"]["self_attn"]["k_proj"]["kernel"] = jax.ShapeDtypeStruct((8, 16), "float32")
    with pytest.raises(
        fp.CheckpointError, match=r"is joined of leaves of different sizes: .*8, 16"
    ):
        reconcile(tree, source_of({}), naming(1))


def test_saving_a_part_alone(tmp_path):
    tree = trees(leaves_of((32, 16, 16)))["stacked"]
    how, template = naming(1), abstract(tree)
    for select in ("self_attn", lambda path, leaf: "mlp" in path):
        (folder := tmp_path / str(select)[:9].strip("<")).mkdir()
        chosen = select if callable(select) else lambda path, leaf: "self_attn" in path
        write_checkpoint(folder, tree, template, how, WriteOptions(select=chosen), progress=False)
        assert all(
            ("mlp" in n) == callable(select) for n in load_file(folder / "model.safetensors")
        )
    with pytest.raises(
        fp.CheckpointError,
        match="layers.0.self_attn.qkv_proj.weight is joined of layers/self_attn/q_proj/kernel, "
        "which are there, and of .*k_proj/kernel, .*v_proj/kernel, which are not",
    ):
        chosen = WriteOptions(select=lambda path, leaf: "q_proj/kernel" in path)
        write_checkpoint(tmp_path, tree, template, how, chosen, progress=False)
    tree["layers"]["self_attn"]["k_proj"]["kernel"] = np.zeros((DEPTH, D, 16), np.float16)
    with pytest.raises(fp.CheckpointError, match="is joined of leaves of different dtypes"):
        write_checkpoint(tmp_path, tree, template, how, progress=False)


# Names, constants, layers that are too many, prefixes and heads.

EXCEPTIONS = fp.Naming(
    stacks=("block",),
    names=(
        (r"(^|/)relative_bias/embedding$", r"\1block.0.layer.0.attn.relative_bias.weight"),
        (r"/norm/mean$", "/norm/running_mean"),
        (r"/in_proj/kernel$", "/in_proj_weight"),
        (r"/in_proj/bias$", "/in_proj_bias"),
    ),
    constants=(
        fp.Constant(r"(.*)/norm/mean", r"\1/norm/num_batches_tracked", lambda: np.int64(0)),
        fp.Constant(r"(|.*/)table/embedding", r"\1encoder/positions/embedding",
                    lambda: np.ones((3, 2), np.float32)),
    ),
    ignored_from=(("block", 2),),
)  # fmt: skip


def test_names_and_constants_both_ways(tmp_path):
    flat = {
        "relative_bias/embedding": random_array(0, (5, 2), np.float32),
        "table/embedding": random_array(1, (7, 4), np.float32),
        "block/norm/mean": random_array(2, (2, 4), np.float32),
        "block/in_proj/kernel": random_array(3, (2, 4, 6), np.float32),
        "block/in_proj/bias": random_array(4, (2, 6), np.float32),
    }
    axes = {p: ("layers",) * p.startswith("block") for p in flat}
    template = fp.unflatten(
        {p: fs.AbstractParam(x.shape, x.dtype, axes=(*axes[p], *[None] * (x.ndim - len(axes[p]))))
         for p, x in flat.items()}
    )  # fmt: skip
    write_checkpoint(tmp_path, fp.unflatten(flat), template, EXCEPTIONS, progress=False)
    written = load_file(tmp_path / "model.safetensors")
    expected = {
        "block.0.layer.0.attn.relative_bias.weight": flat["relative_bias/embedding"],
        "table.weight": flat["table/embedding"],
        "encoder.positions.weight": np.ones((3, 2), np.float32),
    }
    for i in range(2):
        expected |= {
            f"block.{i}.norm.running_mean": flat["block/norm/mean"][i],
            f"block.{i}.norm.num_batches_tracked": np.int64(0),
            f"block.{i}.in_proj_weight": flat["block/in_proj/kernel"][i].T,
            f"block.{i}.in_proj_bias": flat["block/in_proj/bias"][i],
        }
    assert written.keys() == expected.keys()
    assert all(same(written[name], np.asarray(expected[name])) for name in expected)
    more = written | {f"block.{i}.norm.running_mean": np.ones(4, np.float32) for i in (2, 3, 14)}
    match = reconcile(template, source_of(more), EXCEPTIONS)
    check_backbone(match)
    assert not match.unexpected and sorted(match.constants) == sorted(
        name for name in written if "num_batches" in name or "positions" in name
    )
    check(stream(make_plan(match, template), progress=False), fp.unflatten(flat))
    for format in ("msgpack", "orbax"):  # which have no constants
        (folder := tmp_path / format).mkdir()
        options = WriteOptions(format=format)
        (name,) = write_checkpoint(
            folder, fp.unflatten(flat), template, EXCEPTIONS, options, progress=False
        )
        assert len(fp.open_checkpoint(folder / name).tensors) == (8 if format == "msgpack" else 5)


def test_a_layer_in_the_middle_that_is_not_there():
    """Holes are of the checkpoint, not layers to leave out."""
    template = {"block": {"b": fs.AbstractParam((3, 4), "float32", axes=("layers", None))}}
    template["norm"] = {"b": jax.ShapeDtypeStruct((4,), "float32")}
    tensors = {f"block.{i}.b": np.zeros(4, np.float32) for i in (0, 2, 3, 4)}
    tensors["norm.b"] = np.zeros(4, np.float32)
    how = fp.Naming(stacks=("block",), ignored_from=(("block", 3),))
    with pytest.raises(fp.CheckpointError, match="1 leaves of the model are not in.*block/b"):
        check_backbone(reconcile(template, source_of(tensors), how))
    del template["block"]
    template["block"] = {"b": fs.AbstractParam((2, 4), "float32", axes=("layers", None))}
    tensors |= {"block.1.b": np.zeros(4, np.float32)}
    with pytest.raises(fp.CheckpointError, match="no place for 1 tensors: 'block.2.b'"):
        check_backbone(reconcile(template, source_of(tensors), how))


@pytest.mark.parametrize("file", ["", "model.", "model.language_model.", "text."])
@pytest.mark.parametrize("model", ["", "model/", "text/"])
def test_spellings_of_a_prefix(model, file):
    how = fp.Naming(prefixes=("model.language_model", "text"))
    template = fp.unflatten(
        {f"{model}norm/bias": jax.ShapeDtypeStruct((4,), "float32"),
         "head/bias": jax.ShapeDtypeStruct((2,), "float32")}
    )  # fmt: skip
    tensors = {f"{file}norm.bias": np.zeros(4, np.float32), "head.bias": np.zeros(2, np.float32)}
    match = reconcile(template, source_of(tensors), how, prefix="model")
    assert len(match.found) == 2 and not match.said
    tensors[f"{file}more.bias"] = np.zeros(1, np.float32)
    match = reconcile(template, source_of(tensors), how, prefix="model")
    with pytest.raises(fp.CheckpointError, match="no place for 1 tensors"):
        check_backbone(match, "model", how)
    tensors |= {"vision.bias": np.zeros(1, np.float32)}
    del tensors[f"{file}more.bias"]
    match = reconcile(template, source_of(tensors), how, prefix="model")
    if file:  # it is no part of the backbone
        check_backbone(match, "model", how)


def test_two_spellings_at_once():
    how = fp.Naming(prefixes=("text",))
    template = {"model": {"b": jax.ShapeDtypeStruct((4,), "float32")}}
    tensors = {"text.b": np.zeros(4, np.float32), "b": np.ones(4, np.float32)}
    match = reconcile(template, source_of(tensors), how, prefix="model")
    assert [piece.tensor.name for piece in match.found["model/b"]] == ["text.b"]


def test_heads_where_no_prefix_tells_them():
    how = fp.Naming(head_paths=(r"^lm_head/", r"^decoder/"))
    leaf = jax.ShapeDtypeStruct((4,), "float32")
    template = {"encoder": {"b": leaf}, "lm_head": {"bias": leaf}}
    tensors = {"encoder.b": np.zeros(4, np.float32), "decoder.b": np.zeros(4, np.float32)}
    match = reconcile(template, source_of(tensors), how)
    check_backbone(match, "", how)
    assert match.missing == ("lm_head/bias",) and match.unexpected == ("decoder.b",)
    with pytest.raises(fp.CheckpointError, match="1 leaves .*lm_head/bias"):
        check_backbone(match)
    with pytest.raises(fp.CheckpointError, match="not in the checkpoint: encoder/b"):
        check_backbone(reconcile(template, source_of({"lm_head.bias": np.zeros(4)}), how), "", how)

"""Writing: shards, sizes, and files that the reference libraries read as we do."""

import json
import os

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
from _files import msgpack_arrays, quick, random_array, raw, safetensors_arrays, same
from flax.traverse_util import flatten_dict
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from flaxmodels import params as fp
from flaxmodels import sharding as fs
from flaxmodels.params.checkpoint.make_plan import make_plan
from flaxmodels.params.checkpoint.reconcile import reconcile
from flaxmodels.params.checkpoint.stream import stream
from flaxmodels.params.formats.safetensors import DTYPES
from flaxmodels.params.save import encode
from flaxmodels.params.save.options import WriteOptions
from flaxmodels.params.save.tensor_specs import plan_shards, tensor_specs
from flaxmodels.params.save.write import write_checkpoint
from flaxmodels.params.sizes import parse_size
from flaxmodels.params.tree.naming import FLAX, TORCH

KERNEL = random_array(0, (4, 6), np.float32)
FLOATS = np.linspace(-1, 1, 4 * 8, dtype=np.float32).reshape(4, 8)
NAMING = fp.Naming(
    stacks=("h",),
    kernels_in_out=("c_attn",),
    flax_kernels_out_in=("c_attn",),
    flax_names=((r"norm/scale$", "norm/weight"),),
)
TREE = {
    "wte": {"embedding": random_array(1, (7, 4), "bfloat16")},
    "norm": {"scale": random_array(2, (4,), "float32")},
    "h": {
        "c_attn": {"kernel": random_array(3, (12, 4, 6), "float32")},
        "c_fc": {
            "kernel": random_array(4, (12, 4, 6), "float16"),
            "bias": random_array(5, (12, 6), "int8"),
        },
    },
    "conv": {"kernel": random_array(6, (3, 3, 2, 5), "float8_e5m2")},
    "mask": random_array(7, (3, 3), "bool"),
    "step": np.asarray(3, np.int32),
    "none": {"kernel": np.zeros((0, 4), np.float32)},
}


def abstract(tree, stack="h"):
    """The template of a tree whose leaves under `stack` have a layer axis."""

    def one(path, leaf):
        axes = [None] * leaf.ndim
        if path.startswith(f"{stack}/"):
            axes[0] = "layers"
        return fs.AbstractParam(leaf.shape, leaf.dtype, axes=tuple(axes))

    return fp.unflatten({path: one(path, leaf) for path, leaf in fp.flatten(tree).items()})


def specs_of(*sizes):
    tree = {
        f"{chr(97 + i)}": jax.ShapeDtypeStruct((size,), jnp.int8) for i, size in enumerate(sizes)
    }
    return tensor_specs(tree, tree, fp.Naming(), TORCH)


@pytest.mark.parametrize(
    ("sizes", "limit", "shards"),
    [
        ([4, 4, 4], 8, ["ab", "c"]),  # equality does not split
        ([4, 4, 4], 7, ["a", "b", "c"]),
        ([4, 4, 4], 12, ["abc"]),
        ([20, 4, 4], 8, ["a", "bc"]),  # oversized: alone, and no empty shard before it
        ([4, 20, 4], 8, ["a", "b", "c"]),
        ([4, 4, 20], 8, ["ab", "c"]),
        ([20, 20], 8, ["a", "b"]),
        ([3, 6, 2, 2], 8, ["a", "bc", "d"]),  # in order, not packed
        ([8, 0, 0, 1], 8, ["abc", "d"]),
        ([1], 1, ["a"]),
    ],
)
def test_R2_P28_6_plan_of_shards(sizes, limit, shards):
    planned = plan_shards(specs_of(*sizes), limit)
    assert ["".join(spec.name for spec in shard) for shard in planned] == shards


@pytest.mark.parametrize(
    ("size", "count"),
    [
        (1, 1), (5_000_000, 5_000_000), ("5GB", 5 * 10**9), ("5gb", 5 * 10**9), ("5 GB", 5 * 10**9),
        ("5GiB", 5 * 2**30), ("500MB", 5 * 10**8), ("500MiB", 500 * 2**20), ("1KB", 1000),
        ("1KiB", 1024), ("2TB", 2 * 10**12), ("2TiB", 2 * 2**40), ("10B", 10), (" 1.5 KB ", 1500),
        ("0.5KiB", 512),
    ],
)  # fmt: skip
def test_D30_sizes(size, count):
    assert parse_size(size) == count


@pytest.mark.parametrize(
    "size",
    [0, -1, True, None, 1.5]
    + [
        "",
        "5",
        "GB",
        "5 G",
        "5XB",
        "-5GB",
        "5GB/s",
        "5iB",
        "0GB",
        "0.1B",
        "1e3KB",
        "\u0663GB",
        "9" * 400 + "GB",
    ],
)
def test_D30_what_is_no_size(size):
    with pytest.raises(ValueError, match="max_shard_size is .*give bytes, or a string"):
        parse_size(size)


def written(folder, tree=TREE, naming=NAMING, on_file=None, **options):
    options = WriteOptions(**options)
    return write_checkpoint(
        folder, tree, abstract(tree), naming, options, on_file=on_file, progress=False
    )


def test_P28_7_safetensors_opens_in_the_reference(tmp_path):
    assert written(tmp_path) == ["model.safetensors"]
    found = dict(safetensors.deserialize((tmp_path / "model.safetensors").read_bytes()))
    flat = fp.flatten(TREE)
    expected = {
        "wte.weight": flat["wte/embedding"],
        "norm.weight": flat["norm/scale"],
        "conv.weight": flat["conv/kernel"].transpose(3, 2, 0, 1),
        "none.weight": flat["none/kernel"].T,
        "mask": flat["mask"],
        "step": flat["step"],
    }
    for i in range(12):
        expected[f"h.{i}.c_attn.weight"] = flat["h/c_attn/kernel"][i]
        expected[f"h.{i}.c_fc.weight"] = flat["h/c_fc/kernel"][i].T
        expected[f"h.{i}.c_fc.bias"] = flat["h/c_fc/bias"][i]
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert bytes(found[name]["data"]) == raw(array), name
        assert found[name]["shape"] == list(array.shape), name
        assert DTYPES[found[name]["dtype"]] == array.dtype, name
    with safetensors.safe_open(tmp_path / "model.safetensors", "numpy") as file:
        assert file.metadata() == {"format": "pt"}


def test_safetensors_is_aligned(tmp_path):
    """As the reference writes it: data at a multiple of 8, each tensor at one of its itemsize."""
    written(tmp_path)
    for tensor in fp.open_checkpoint(tmp_path).tensors.values():
        assert tensor.spans[0].offset % tensor.dtype.itemsize == 0
    content = (tmp_path / "model.safetensors").read_bytes()
    assert int.from_bytes(content[:8], "little") % 8 == 0


@pytest.mark.parametrize("chunk", [1 << 30, 16])
def test_P28_7_msgpack_opens_in_flax(chunk, tmp_path, monkeypatch):
    monkeypatch.setattr(encode, "_MSGPACK_CHUNK", chunk)
    assert written(tmp_path, format="msgpack") == ["flax_model.msgpack"]
    content = (tmp_path / "flax_model.msgpack").read_bytes()
    found = flatten_dict(flax.serialization.msgpack_restore(content), sep="/")
    flat = fp.flatten(TREE)
    expected = {
        path: flat[path] for path in ("wte/embedding", "conv/kernel", "none/kernel", "mask", "step")
    }
    expected["norm/weight"] = flat["norm/scale"]
    for i in range(12):
        expected[f"h/{i}/c_attn/kernel"] = flat["h/c_attn/kernel"][i].T
        expected[f"h/{i}/c_fc/kernel"] = flat["h/c_fc/kernel"][i]
        expected[f"h/{i}/c_fc/bias"] = flat["h/c_fc/bias"][i]
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert same(np.asarray(found[name]), array), name


@pytest.mark.parametrize("limit", ["5GB", 1, 100, 300])
@pytest.mark.parametrize("format", ["safetensors", "msgpack"])
def test_P28_round_trip(format, limit, tmp_path):
    names = written(tmp_path, format=format, max_shard_size=limit)
    assert sorted(names) == sorted(os.listdir(tmp_path))
    match = reconcile(abstract(TREE), fp.open_checkpoint(tmp_path), NAMING)
    assert not match.missing and not match.unexpected and not match.mismatched
    loaded = fp.flatten(stream(make_plan(match, abstract(TREE)), progress=False))
    assert loaded.keys() == fp.flatten(TREE).keys()
    for path, leaf in fp.flatten(TREE).items():
        assert same(np.asarray(loaded[path]), leaf), path


def test_R2_files_of_a_sharded_checkpoint(tmp_path):
    """Layer 10 comes after layer 9, and the index tells the truth."""
    tree = {"h": {"bias": random_array(0, (12, 8), np.float32)}}  # 12 layers of 32 bytes
    names = written(tmp_path, tree, max_shard_size=96)
    assert names == [f"model-{i:05d}-of-00004.safetensors" for i in range(1, 5)] + [
        "model.safetensors.index.json"
    ]
    index = json.loads((tmp_path / names[-1]).read_text())
    assert index["metadata"] == {"total_size": 12 * 32, "save_id": index["metadata"]["save_id"]}
    assert {name: index["weight_map"][f"h.{i}.bias"] for i in range(12) for name in [i]} == {
        i: names[i // 3] for i in range(12)
    }
    for i, name in enumerate(names[:-1]):
        with safetensors.safe_open(tmp_path / name, "numpy") as file:
            assert sorted(file.keys()) == sorted(f"h.{j}.bias" for j in range(3 * i, 3 * i + 3))


def test_R2_no_empty_shard_before_an_oversized_leaf(tmp_path):
    tree = {"a": np.zeros(1000, np.int8), "b": np.zeros(1, np.int8)}
    names = written(tmp_path, tree, max_shard_size=10, format="msgpack")
    assert names[0] == "flax_model-00001-of-00002.msgpack" and len(names) == 3
    assert list(flax.serialization.msgpack_restore((tmp_path / names[0]).read_bytes())) == ["a"]


@quick
@given(st.dictionaries(st.text("abc/", min_size=1), safetensors_arrays, max_size=5))
def test_any_safetensors(tmp_path_factory, tensors):
    tree = {name.replace("/", "_"): array for name, array in tensors.items()}
    folder = tmp_path_factory.mktemp("w")
    written(folder, tree, max_shard_size=50)
    checkpoint = fp.open_checkpoint(folder)
    assert checkpoint.tensors.keys() == tree.keys()
    for name, array in tree.items():
        assert same(checkpoint[name].read(), array)


@quick
@given(st.dictionaries(st.text("abc", min_size=1), msgpack_arrays, min_size=1, max_size=5))
def test_any_msgpack(tmp_path_factory, tree):
    """What `to_bytes` of flax gives, but for the length codes of small extensions."""
    folder = tmp_path_factory.mktemp("w")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode, "_MSGPACK_CHUNK", 64)
        patch.setattr(flax.serialization, "MAX_CHUNK_SIZE", 64)
        written(folder, {"x": tree}, format="msgpack")
        expected = flax.serialization.msgpack_restore(
            flax.serialization.msgpack_serialize({"x": tree})
        )
    found = dict(flax.serialization.msgpack_restore((folder / "flax_model.msgpack").read_bytes()))
    assert found["x"].keys() == tree.keys()
    for name, array in tree.items():
        assert same(np.asarray(found["x"][name]), array)
        assert same(np.asarray(found["x"][name]), np.asarray(expected["x"][name]))


@pytest.mark.parametrize("size", [0, 1, 255, 256, 65_000, 65_535, 65_536, 70_000])
def test_every_width_of_a_length(size, tmp_path):
    tree = {"a": random_array(0, (size,), np.uint8)}
    written(tmp_path, tree, format="msgpack")
    found = flax.serialization.msgpack_restore((tmp_path / "flax_model.msgpack").read_bytes())
    assert same(found["a"], tree["a"])
    assert same(fp.open_checkpoint(tmp_path)["a"].read(), tree["a"])


@pytest.mark.parametrize("format", ["safetensors", "msgpack"])
def test_leaves_on_devices(format, tmp_path):
    """Sharded, stacked and replicated arrays are written as NumPy ones, to the sign of a zero,
    and are left alone."""
    mesh = fs.make_mesh(fsdp=4, tensor=2)
    host = {
        "h": {"kernel": np.full((4, 8, 16), -0.0, "bfloat16"), "bias": FLOATS},
        "a": {"kernel": random_array(1, (8, 16), np.int32)},
        "b": random_array(2, (16,), np.int32),
    }
    specs = {
        "h": {"kernel": P("fsdp", None, "tensor"), "bias": P(None, "fsdp")},
        "a": {"kernel": P("tensor", "fsdp")},
        "b": P(),
    }
    tree = jax.tree.map(lambda x, spec: jax.device_put(x, NamedSharding(mesh, spec)), host, specs)
    for name, params in (("host", host), ("device", tree)):
        (tmp_path / name).mkdir()
        (file,) = written(tmp_path / name, params, format=format)
    assert (tmp_path / "host" / file).read_bytes() == (tmp_path / "device" / file).read_bytes()
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(tree))


BAD = {
    "missing": ({"a": {"kernel": KERNEL}}, "a/bias is not in the params .1 such leaves"),
    "too-much": (
        {"a": {"kernel": KERNEL, "bias": np.zeros(6), "more": KERNEL}},
        "a/more is no leaf of the model",
    ),
    "shape": (
        {"a": {"kernel": KERNEL.T, "bias": np.zeros(6)}},
        r"a/kernel has shape \(6, 4\), the model's is \(4, 6\)",
    ),
    "stacked": (
        {"a": {"kernel": KERNEL[None], "bias": np.zeros(6)}},
        r"a/kernel has shape \(1, 4, 6\), .*; of 1 sets of params, flax.jax_utils.unreplicate",
    ),
    "object": ({"a": {"kernel": KERNEL, "bias": np.array([None] * 6)}}, "a.bias: .*dtype object"),
    "big-endian": ({"a": {"kernel": KERNEL, "bias": np.zeros(6, ">f4")}}, "a.bias: .*dtype >f4"),
    "int4": ({"a": {"kernel": KERNEL, "bias": np.zeros(6, jnp.int4)}}, "a.bias: .*dtype int4"),
}


@pytest.mark.parametrize("format", ["safetensors", "msgpack"])
@pytest.mark.parametrize("case", BAD)
def test_wrong_params_are_refused_before_anything_is_written(case, format, tmp_path):
    params, said = BAD[case]
    like = abstract({"a": {"kernel": KERNEL, "bias": np.zeros(6, np.float32)}})
    with pytest.raises(fp.CheckpointError, match=said.replace("a.bias", "a[./]bias")):
        write_checkpoint(tmp_path, params, like, options=WriteOptions(format), progress=False)
    assert not os.listdir(tmp_path)


def test_a_key_is_no_weight(tmp_path):
    params = {"a": {"key": jax.random.key(0)}}
    like = {"a": {"key": jax.ShapeDtypeStruct((), jnp.uint32)}}
    with pytest.raises(fp.CheckpointError, match="a.key: .* cannot hold dtype key<"):
        write_checkpoint(tmp_path, params, like, progress=False)
    assert not os.listdir(tmp_path)


def test_hostile_S48_two_leaves_of_one_name(tmp_path):
    tree = {"a": {"kernel": KERNEL, "scale": np.zeros(4)}}
    with pytest.raises(fp.CheckpointError, match="two leaves have the name a.weight"):
        written(tmp_path, tree)
    assert not os.listdir(tmp_path)


def test_a_file_that_is_there_is_not_overwritten(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"mine")
    with pytest.raises(fp.CheckpointError, match="model.safetensors: File exists"):
        written(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == b"mine"


def test_layouts_of_entries():
    like = abstract(TREE)
    for layout in (TORCH, FLAX):
        specs = tensor_specs(TREE, like, NAMING, layout)
        assert len({spec.name for spec in specs}) == len(specs) == 6 + 3 * 12
        for spec in specs:
            assert spec.read().shape == spec.shape, spec.name
            assert spec.read().nbytes == spec.nbytes

"""Orbax folders: what a bad one gets, and that good ones are read and written to the last bit."""

import contextlib
import functools
import gzip
import json
import os
import random
import resource
import shutil
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import _files
import jax
import jax.numpy as jnp
import msgpack
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tensorstore
from _files import arrays, extension, listed, pack, put, quick, random_array, same
from _paths import GOLDENS
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels import sharding as fs
from flaxmodels.params import CheckpointError, open_checkpoint
from flaxmodels.params.formats.orbax import tree as orbax_tree
from flaxmodels.params.formats.orbax import write_folder, zarr

ORBAX = GOLDENS / "formats" / "orbax"
FOUR = np.arange(4, dtype=np.float32)
refused = functools.partial(_files.refused, read=True)  # arrays are looked at when they are read


def tree_of(*paths: str, kind="jax.Array", **more) -> dict:
    """What `_METADATA` says of leaves at these paths."""
    leaves = {
        str(tuple(path.split("/"))): {
            "key_metadata": [{"key": key, "key_type": 2} for key in path.split("/")],
            "value_metadata": {"value_type": kind, "skip_deserialize": False},
        }
        for path in paths
    }
    return {"tree_metadata": leaves, "use_ocdbt": False, "use_zarr3": False} | more


ZARRAY = {
    "chunks": [4],
    "compressor": None,
    "dimension_separator": ".",
    "dtype": "<f4",
    "fill_value": 0.0,
    "filters": None,
    "order": "C",
    "shape": [4],
    "zarr_format": 2,
}
ZARR3 = {
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4]}},
    "chunk_key_encoding": {"name": "default"},
    "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
    "data_type": "float32",
    "fill_value": 0.0,
    "node_type": "array",
    "shape": [4],
    "zarr_format": 3,
}


def checkpoint(folder: Path, tree=None, zarray=None, chunk: bytes | None = FOUR.tobytes()) -> Path:
    """A folder with one leaf `a/w` of four floats, byte by byte."""
    (folder / "a.w").mkdir(parents=True)
    put(folder, "_METADATA", json.dumps(tree_of("a/w") if tree is None else tree))
    put(folder / "a.w", ".zarray", json.dumps(ZARRAY if zarray is None else zarray))
    if chunk is not None:
        put(folder / "a.w", "0", chunk)
    return folder


def checkpoint_3(folder: Path, **changes) -> Path:
    (folder / "a.w" / "c").mkdir(parents=True)
    put(folder, "_METADATA", json.dumps(tree_of("a/w", use_zarr3=True)))
    put(folder / "a.w", "zarr.json", json.dumps(ZARR3 | changes))
    put(folder / "a.w" / "c", "0", FOUR.tobytes())
    return folder


def copy_of(name: str, folder: Path) -> Path:
    return Path(shutil.copytree(ORBAX / name / "checkpoint", folder / "ck"))


@pytest.mark.parametrize("golden", sorted(path.name for path in ORBAX.iterdir()))
def test_reads_what_orbax_wrote(golden):
    """All nodes and dtypes, sharded leaves, zarr 2 and 3, databases and folders, steps."""
    expected = listed(ORBAX / golden / "expected.json")
    found = open_checkpoint(ORBAX / golden / "checkpoint")
    assert found.layout == "paths" and found.tensors.keys() == expected.keys()
    lost = {"layers/0/w"} if golden == "old-zarr3" else set()  # see test_O10_zeros_left_out
    for name in expected.keys() - lost:
        assert same(found[name].read(), expected[name]), name


def test_O10_zeros_left_out():
    """orbax 0.5.16 did not write chunks of zeros into zarr 3: not to be told from lost ones."""
    tensor = open_checkpoint(ORBAX / "old-zarr3" / "checkpoint")["layers/0/w"]
    with pytest.raises(CheckpointError, match="old-zarr3.*'layers/0/w'.*is missing"):
        tensor.read()


def test_what_this_file_builds_is_good(tmp_path):
    for folder in (checkpoint(tmp_path / "two"), checkpoint_3(tmp_path / "three")):
        assert same(open_checkpoint(folder)["a/w"].read(), FOUR)


@pytest.mark.parametrize("left", ["ck.orbax-checkpoint-tmp", "7.orbax-checkpoint-tmp-3"])
def test_O1_interrupted(left, tmp_path):
    checkpoint(tmp_path / left)
    refused(tmp_path, f"the save was interrupted; found '{left}'")
    with pytest.raises(CheckpointError, match="the save was not finished"):
        open_checkpoint(tmp_path / left)


def test_O1_interrupted_item(tmp_path):
    put(tmp_path, "_CHECKPOINT_METADATA", "{}")
    checkpoint(tmp_path / "default.orbax-checkpoint-tmp")
    refused(tmp_path, "the save was interrupted; found 'default")


def changed(*keys, value) -> dict:
    """The description of one leaf with a value in it replaced."""
    tree = tree_of("a/w")
    node = tree["tree_metadata"]["('a', 'w')"] if keys else tree
    for key in keys[:-1]:
        node = node[key]
    node[keys[-1]] = value
    return tree


BAD_TREE = {
    "O2-empty": (b"", "_METADATA: not valid"),
    "O2-cut": (json.dumps(tree_of("a/w"))[:-9], "_METADATA: not valid"),
    "O2-not-utf8": (b"\xff", "_METADATA: not valid"),
    "O2-deep": (b'{"a":' + b"[" * 100_000, "_METADATA: not valid: nested too deeply"),
    "O2-list": ([], "expected a map at the top"),
    "O2-no-tree": ({}, "no tree_metadata"),
    "O2-tree-is-list": ({"tree_metadata": []}, "no tree_metadata"),
    "O2-leaf-is-list": ({"tree_metadata": {"a": []}}, "'a': expected 1 to 64 keys"),
    "O2-no-keys": (changed("key_metadata", value=[]), "expected 1 to 64 keys"),
    "O2-keys-are-text": (changed("key_metadata", value="ab"), "expected 1 to 64 keys"),
    "O2-key-is-text": (changed("key_metadata", 0, value="a"), "expected 1 to 64 keys"),
    "O2-key-is-int": (changed("key_metadata", 0, "key", value=1), "expected 1 to 64 keys"),
    "O2-type-3": (changed("key_metadata", 0, "key_type", value=3), "expected 1 to 64 keys"),
    "O2-type-true": (changed("key_metadata", 0, "key_type", value=True), "expected 1 to 64"),
    "O2-index-is-name": (changed("key_metadata", 0, "key_type", value=1), "expected 1 to 64 keys"),
    "O2-no-value": (changed("value_metadata", value=None), "holds 'None', not an array"),
    "O2-type-unknown": (tree_of("a/w", kind="Unknown"), "holds 'Unknown', not an array"),
    "O2-text": (tree_of("a/w", kind="string"), "holds 'string', not an array"),
    "O2-key": (tree_of("a/w", kind="jax.random.key"), "holds 'jax.random.key', not an array"),
    "O2-zarr3-is-text": (tree_of("a/w", use_zarr3="no"), "use_zarr3 is 'no', expected a bool"),
    "O2-skipped": (
        changed("value_metadata", "skip_deserialize", value=True),
        "'a/w' has no array, nor a value elsewhere",
    ),
    "O8-up": (tree_of("../w"), r"'\.\./w' cannot be read: .*does not exist"),
    "O8-up-inside-a-key": (
        changed("key_metadata", 0, "key", value="x/../../y"),
        r"'x/../../y.w' cannot be the name of an array",
    ),
    "O8-absolute": (changed("key_metadata", 0, "key", value="/etc"), "'/etc.w' cannot be"),
    "O8-nul": (changed("key_metadata", 0, "key", value="a\0"), r"'a\\x00.w' cannot be"),
    "O8-backslash": (changed("key_metadata", 0, "key", value="..\\x"), "cannot be the name"),
    "O8-control": (changed("key_metadata", 0, "key", value="\x1b[2J"), r"'\\x1b\[2J/w'"),
    "O9-many-parts": (
        changed("key_metadata", value=[{"key": "a", "key_type": 2}] * 100_000),
        "expected 1 to 64 keys",
    ),
    "O9-long": (changed("key_metadata", 0, "key", value="a" * 100_000), "cannot be the name"),
    "O10-no-array": (tree_of("a/w", "a/v"), "'a/v' cannot be read: .*does not exist"),
    "names-with-slashes": (
        {
            "tree_metadata": {
                "1": tree_of("a/w")["tree_metadata"]["('a', 'w')"],
                "2": {
                    "key_metadata": [{"key": "a/w", "key_type": 2}],
                    "value_metadata": {"value_type": "jax.Array"},
                },
            }
        },
        "'a/w' and 'a/w' have the same name",
    ),
    "names-with-dots": (tree_of("a/w", "a.w"), "'a/w' and 'a.w' have the same name"),
}


@pytest.mark.parametrize("case", BAD_TREE)
def test_bad_tree(case, tmp_path):
    content, message = BAD_TREE[case]
    checkpoint(tmp_path / "ck")
    if not isinstance(content, bytes | str):
        content = json.dumps(content)
    put(tmp_path / "ck", "_METADATA", content)
    refused(tmp_path / "ck", message)


def test_O2_huge_tree(tmp_path):
    os.truncate(checkpoint(tmp_path / "ck") / "_METADATA", 1 << 30)
    refused(tmp_path / "ck", "1073741824 bytes; it has at most")


@pytest.mark.parametrize("content", [None, "{}", '{"commit_timestamp_nsecs": 5}'])
def test_O3_step_description_is_not_needed(content, tmp_path):
    folder = checkpoint(tmp_path / "ck")
    if content is not None:
        put(folder, "_CHECKPOINT_METADATA", content)
    assert same(open_checkpoint(folder)["a/w"].read(), FOUR)


def test_O3_step_description_is_broken(tmp_path):
    put(checkpoint(tmp_path / "ck"), "_CHECKPOINT_METADATA", '{"a')
    refused(tmp_path / "ck", "_CHECKPOINT_METADATA: not valid")


@pytest.mark.parametrize("size", [0, 10, -1])
def test_O4_manifest_cut(size, tmp_path):
    manifest = copy_of("new-ocdbt", tmp_path) / "manifest.ocdbt"
    os.truncate(manifest, size if size >= 0 else manifest.stat().st_size - 1)
    refused(tmp_path / "ck", "cannot be read")


def test_O4_manifest_gone(tmp_path):
    os.unlink(copy_of("new-ocdbt", tmp_path) / "manifest.ocdbt")
    refused(tmp_path / "ck", "cannot be read")


@pytest.mark.parametrize("harm", [os.unlink, lambda path: os.truncate(path, 30)])
def test_O5_data_gone_or_cut(harm, tmp_path):
    write_folder(tmp_path / "ck", {"w": random_array(0, (100, 100), np.float32)})
    data = (tmp_path / "ck" / "ocdbt.process_0" / "d").iterdir()
    harm(max(data, key=lambda path: path.stat().st_size))
    refused(tmp_path / "ck", "'w' cannot be read: ")


def test_O5_chunk_cut(tmp_path):
    refused(checkpoint(tmp_path / "ck", chunk=FOUR.tobytes()[:-1]), "'a/w' cannot be read")


def test_O6_a_flipped_bit_is_not_noticed(tmp_path):
    """The known limit: there is no checksum to hold the data to."""
    folder = checkpoint(tmp_path / "ck", chunk=b"\1" + FOUR.tobytes()[1:])
    assert not same(open_checkpoint(folder)["a/w"].read(), FOUR)


BAD_ARRAY = {  # with what TensorStore says of it, if we leave it to that
    "O7-shape-2**60": ({"shape": [2**60], "chunks": [4]}, "cannot be in the .* bytes"),
    "O7-chunk-2**60": ({"shape": [2**60], "chunks": [2**60]}, "too large|cannot be in the"),
    "O7-chunk-over-array": ({"chunks": [2**30]}, "a chunk of 4294967296 bytes in an array of 16"),
    "O7-rank-20000": ({"shape": [2**63] * 20_000, "chunks": [1] * 20_000}, '"shape"'),
    "O7-shape-overflows": ({"shape": [2**62, 2**62], "chunks": [1, 1]}, "too large"),
    "O7-empty-but-huge": ({"shape": [0, 2**62], "chunks": [1, 1]}, "too large|cannot be read"),
    "O7-chunks-0": ({"chunks": [0]}, '"chunks": .*received: 0'),
    "O7-chunks-negative": ({"chunks": [-4]}, '"chunks": .*received: -4'),
    "O7-chunks-gone": ({"chunks": None}, '"chunks": Expected array'),
    "O7-rank-differs": ({"chunks": [2, 2]}, "Array has length 2 but should have length 1"),
    "O7-shape-bool": ({"shape": [True]}, '"shape": .*received: true'),
    "O7-shape-text": ({"shape": ["4"]}, '"shape": .*received: "4"'),
    "O7-shape-map": ({"shape": {}}, '"shape": Expected array'),
    "O7-dtype-object": ({"dtype": "|O"}, r'Unsupported zarr dtype: "\|O"'),
    "O7-dtype-text": ({"dtype": "<U4"}, 'Unsupported zarr dtype: "<U4"'),
    "O7-dtype-bytes": ({"dtype": "|S4", "fill_value": ""}, "cannot be"),
    "O7-dtype-fields": ({"dtype": [["a", "<f4"]]}, "cannot be"),
    "O7-dtype-date": ({"dtype": "<M8[s]"}, "Unsupported zarr dtype"),
    "O7-dtype-null": ({"dtype": None}, '"dtype"'),
    "O7-compressor-unknown": ({"compressor": {"id": "lzma"}}, '"lzma" is not registered'),
    "O7-compressor-blosc": ({"compressor": {"id": "blosc"}}, "compressor .*blosc; known: .*zstd"),
    "O7-compressor-text": ({"compressor": "zstd"}, '"compressor": .*"zstd"'),
    "O7-compressor-level": (
        {"compressor": {"id": "zstd", "level": "a"}},
        '"compressor": .*"level"',
    ),
    "O7-filters": ({"filters": [{"id": "delta"}]}, "filters are not supported"),
    "O7-order": ({"order": "K"}, '"order": .*"K"'),
    "O7-separator": ({"dimension_separator": "/../"}, '"dimension_separator": .*"/../"'),
    "O7-format": ({"zarr_format": 1}, '"zarr_format": .*received: 1'),
    "O7-wrong-dtype": ({"dtype": "<f8"}, "cannot be read"),
}


@pytest.mark.parametrize("case", BAD_ARRAY)
def test_bad_array(case, tmp_path):
    changes, message = BAD_ARRAY[case]
    refused(checkpoint(tmp_path / "ck", zarray=ZARRAY | changes), f"'a/w'.*{message}")


def test_O7_big_endian(tmp_path):
    """TensorStore reads it for what it is."""
    big = FOUR.astype(">f4").tobytes()
    two = checkpoint(tmp_path / "two", zarray=ZARRAY | {"dtype": ">f4"}, chunk=big)
    three = checkpoint_3(tmp_path / "three", codecs=[codec("bytes", endian="big")])
    put(three / "a.w" / "c", "0", big)
    for folder in (two, three):
        assert same(open_checkpoint(folder)["a/w"].read(), FOUR)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"zarr_format": 2}', b"\xff", b" " * 2**21, b'{"a":' + b"[" * 10**6],
)
def test_O7_not_metadata(content, tmp_path):
    put(checkpoint(tmp_path / "ck") / "a.w", ".zarray", content)
    refused(tmp_path / "ck", "'a/w' cannot be read: ")


def codec(name, **options):
    return {"name": name, "configuration": options}


BYTES = codec("bytes", endian="little")
BLOSC = codec("blosc", cname="lz4", clevel=5, shuffle="shuffle", typesize=4, blocksize=0)


def shard(*chunk_shape, codecs=(BYTES,)):
    return codec("sharding_indexed", chunk_shape=chunk_shape, codecs=codecs, index_codecs=[BYTES])


BAD_ARRAY_3 = {
    "dtype": ({"data_type": "r8", "fill_value": "AA=="}, "cannot be"),
    "dtype-map": ({"data_type": {"name": "float32"}}, '"data_type"'),
    "group": ({"node_type": "group"}, '"node_type": .*"group"'),
    "grid": ({"chunk_grid": codec("rectilinear")}, '"rectilinear"'),
    "grid-null": ({"chunk_grid": None}, '"chunk_grid": Expected object'),
    "grid-empty": ({"chunk_grid": codec("regular")}, '"chunk_shape": .*missing'),
    "keys": ({"chunk_key_encoding": codec("other")}, '"chunk_key_encoding": .*"other"'),
    "separator": ({"chunk_key_encoding": codec("default", separator="..")}, '"separator"'),
    "codecs-null": ({"codecs": None}, '"codecs": Expected array'),
    "codecs-many": ({"codecs": [BYTES] * 1000}, '"codecs": Expected bytes -> bytes codec'),
    "codec-blosc": ({"codecs": [BYTES, BLOSC]}, "compressor .*blosc; known"),
    "codec-unknown": ({"codecs": [BYTES, codec("lzma")]}, "lzma"),
    "shard-in-shard": ({"codecs": [shard(4, codecs=[shard(4)])]}, "codecs .*known"),
    "shard-uneven": ({"codecs": [shard(3)]}, "evenly divide"),
    "shard-0": ({"codecs": [shard(0)]}, '"chunk_shape"'),
    "shard-rank": ({"codecs": [shard(2, 2)]}, "through codec"),
    "shape": ({"shape": [2**60]}, "cannot be in the"),
    "format": ({"zarr_format": 2}, '"zarr_format": .*received: 2'),
}


@pytest.mark.parametrize("case", BAD_ARRAY_3)
def test_O7_bad_array_of_zarr_3(case, tmp_path):
    changes, message = BAD_ARRAY_3[case]
    refused(checkpoint_3(tmp_path / "ck", **changes), f"'a/w'.*{message}")


def test_O8_links_pipes_and_folders_elsewhere(tmp_path, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    elsewhere = put(outside, "elsewhere", FOUR.tobytes())
    folder = checkpoint(tmp_path / "ck")
    chunk = folder / "a.w" / "0"
    chunk.unlink()
    chunk.symlink_to(elsewhere)
    assert same(open_checkpoint(folder)["a/w"].read(), FOUR)  # links are followed, as DVC's are
    shutil.move(folder / "a.w", outside)
    (folder / "a.w").symlink_to(outside / "a.w")
    assert same(open_checkpoint(folder)["a/w"].read(), FOUR)
    os.unlink(elsewhere)
    refused(folder, "No such file or directory")
    (outside / "a.w" / "0").unlink()
    os.mkfifo(outside / "a.w" / "0")
    refused(folder, "not a regular file")
    (outside / "a.w" / "0").unlink()
    (outside / "a.w" / "0").symlink_to(folder)
    refused(folder, "a folder that is there twice, through a link")


def test_O8_links_into_a_hub_cache(tmp_path):
    folder = checkpoint(tmp_path / "snapshots" / "abc" / "flax_model.orbax")
    (tmp_path / "blobs").mkdir()
    chunk = folder / "a.w" / "0"
    chunk.rename(tmp_path / "blobs" / "0")
    chunk.symlink_to("../../../../blobs/0")
    assert same(open_checkpoint(folder.parent)["a/w"].read(), FOUR)


@pytest.mark.parametrize("make", [checkpoint, checkpoint_3])
def test_O10_data_missing(make, tmp_path):
    """The metadata's fill value is never used."""
    folder = make(tmp_path / "ck")
    tensor = open_checkpoint(folder)["a/w"]
    for chunk in folder.glob("a.w/**/0"):
        chunk.unlink()
    with pytest.raises(CheckpointError, match="'a/w'.*is missing"):
        tensor.read()


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        (".zarray", 1 << 40, "1099511627776 bytes; such a file has at most 16777216"),
        ("0", 1 << 40, "1099511627776 bytes; such a file has at most 17179869184"),
        ("0", 1 << 30, "a file of 1073741824 bytes, and all arrays take 16"),
    ],
)
def test_O7_O15_sparse_files(name, size, message, tmp_path):
    """TensorStore would read them whole, and end the process where memory does not suffice."""
    os.truncate(checkpoint(tmp_path / "ck") / "a.w" / name, size)
    refused(tmp_path / "ck", message)


def test_O11_not_committed(tmp_path):
    folder = checkpoint(tmp_path / "ck")
    put(folder, "_CHECKPOINT_METADATA", '{"commit_timestamp_nsecs": null}')
    refused(folder, "not finished: no time of commit.*commit_success.txt; take an earlier step")
    put(folder, "commit_success.txt", "")
    assert same(open_checkpoint(folder)["a/w"].read(), FOUR)


def test_O12_devices_that_do_not_exist(tmp_path):
    folder = checkpoint(tmp_path / "ck")
    put(folder, "_sharding", '{"YS53": "{\\"device_str\\": \\"TPU_512\\"}"')
    assert same(open_checkpoint(folder)["a/w"].read(), FOUR)


def test_O13_names_of_steps(tmp_path):
    for name in ("1e3", "-1", "٣", "12.orbax-checkpoint-tmp-4", "9" * 30, "x2", "5"):
        checkpoint(tmp_path / name / "default")
    checkpoint(tmp_path / "11" / "default", chunk=FOUR[::-1].tobytes())
    put(tmp_path / "11", "_CHECKPOINT_METADATA", '{"commit_timestamp_nsecs": null}')
    put(tmp_path, "13", "a file")
    checkpoint(tmp_path / "010" / "default", chunk=(FOUR + 1).tobytes())
    assert same(open_checkpoint(tmp_path)["a/w"].read(), FOUR + 1)
    assert same(open_checkpoint(tmp_path / "11" / "default")["a/w"].read(), FOUR[::-1])
    refused(tmp_path / "11", "the save was not finished")


def test_O13_parts_of_a_step(tmp_path):
    checkpoint(tmp_path / "7" / "ema")
    put(tmp_path / "7", "_CHECKPOINT_METADATA", "{}")
    assert same(open_checkpoint(tmp_path)["a/w"].read(), FOUR)
    checkpoint(tmp_path / "7" / "params")
    refused(tmp_path, "open one of its parts: ema, params")
    checkpoint(tmp_path / "7" / "default", chunk=(FOUR + 1).tobytes())
    assert same(open_checkpoint(tmp_path)["a/w"].read(), FOUR + 1)


def test_a_step_that_is_a_loop(tmp_path):
    (tmp_path / "1").symlink_to(tmp_path)
    put(tmp_path, "_CHECKPOINT_METADATA", "{}")
    refused(tmp_path, "no orbax checkpoint; folders there: 1")


def aggregate(folder: Path, content: bytes) -> Path:
    """A folder as the oldest versions write it: no `_METADATA`."""
    folder.mkdir()
    put(folder, "checkpoint", content)
    return folder


def test_O14_values_in_the_msgpack_file(tmp_path):
    tree = {"a": [extension((4,), "float32", FOUR.tobytes()), None], "b": "PLACEHOLDER://a.w"}
    folder = checkpoint(tmp_path / "ck")
    (folder / "_METADATA").unlink()
    put(folder, "checkpoint", pack(tree))
    found = open_checkpoint(folder).tensors
    assert found.keys() == {"a/0", "b"}
    assert same(found["a/0"].read(), FOUR) and same(found["b"].read(), FOUR)


GOOD = extension((4,), "float32", FOUR.tobytes())
BAD_AGGREGATE = {
    "O14-empty": (b"", "the file is empty"),
    "O14-cut": (pack({"a": GOOD})[:-3], "cut short"),
    "O14-trailing": (pack({"a": GOOD}) + b"\xc0", "1 bytes follow"),
    "O14-list-claims-much": (b"\x81\xa1a\xdd\xff\xff\xff\xff", "claims 4294967295 entries"),
    "O14-deep": (b"\x81\xa1a" + b"\x91" * 10**6, "deeper than 64"),
    "O14-string": (pack({"a": "text"}), "'a'.*a string where an array belongs"),
    "O14-int": (pack({"a": 3}), "'a' holds 3, expected an array"),
    "O14-float": (pack({"a": [1.5]}), "'a/0'.*a float where"),
    "O14-object": (pack({"a": extension((1,), "O", bytes(8))}), "'a'.*dtype 'O'"),
    "O14-pointer-up": (pack({"a": "PLACEHOLDER://../../x"}), "'../../x' cannot be the name"),
    "O14-pointer-absolute": (pack({"a": "PLACEHOLDER:///etc"}), "'/etc' cannot be the name"),
    "O14-pointer-nowhere": (
        pack({"a": "PLACEHOLDER://x"}),
        "'a' cannot be read: .*x/.zarray.* does not exist",
    ),
    "O14-pointer-is-nothing": (pack({"a": "PLACEHOLDER://"}), "'' cannot be the name"),
    "O14-clash": (pack({"a": {"b": GOOD}, "a.b": GOOD}), "have the same name"),
    "O14-extension": (pack({"a": msgpack.ExtType(99, b"")}), "'a'.*extension 99"),
}


@pytest.mark.parametrize("case", BAD_AGGREGATE)
def test_bad_msgpack_file(case, tmp_path):
    content, message = BAD_AGGREGATE[case]
    refused(aggregate(tmp_path / "ck", content), message)


def test_O14_a_text_of_tensorflow_is_not_meant(tmp_path):
    put(tmp_path, "checkpoint", 'model_checkpoint_path: "/etc/passwd"\n')
    refused(tmp_path, "no checkpoint: looked for")


def zeros_of_zstd(blocks: int) -> bytes:
    """A frame of blocks that each say `128 KiB of 0` in four bytes."""
    size = 128 << 10
    last = [i == blocks - 1 for i in range(blocks)]
    runs = (((size << 3) | 2 | end).to_bytes(3, "little") + b"\0" for end in last)
    return struct.pack("<I", 0xFD2FB528) + bytes([0, 7 << 3]) + b"".join(runs)


@pytest.mark.parametrize("kind", ["zstd", "gzip"])
def test_O15_bomb(kind, tmp_path):
    """A chunk is not decoded beyond its declared bytes."""
    bomb = gzip.compress(bytes(256 << 20), 1) if kind == "gzip" else zeros_of_zstd(8 << 10)
    compressor = {"id": kind, "level": 1}
    folder = checkpoint(tmp_path / "ck", zarray=ZARRAY | {"compressor": compressor}, chunk=bomb)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(folder, "'a/w' cannot be read")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB


def test_reads_only_the_chunks_of_a_slice(tmp_path):
    array = random_array(0, (6, 4), np.float32)
    zarray = ZARRAY | {"shape": [6, 4], "chunks": [2, 2]}
    folder = checkpoint(tmp_path / "ck", zarray=zarray, chunk=None)
    put(folder / "a.w", "1.0", array[2:4, :2].tobytes())
    put(folder / "a.w", "1.1", array[2:4, 2:].tobytes())
    tensor = open_checkpoint(folder)["a/w"]
    assert same(tensor.read(((3, 4), (1, 3))), array[3:4, 1:3])
    assert same(tensor.read(((2, 4), (0, 4))), array[2:4])
    with pytest.raises(CheckpointError, match="chunk {0, .} stored .* is missing"):
        tensor.read(((1, 3), (0, 1)))


def test_opening_reads_no_chunk(tmp_path):
    assert open_checkpoint(checkpoint(tmp_path / "ck", chunk=b"no data"))["a/w"].shape == (4,)


def test_many_arrays_open_quickly(tmp_path):
    tree = {str(i): np.full(2, i) for i in range(1000)}
    write_folder(tmp_path / "ck", tree)
    start = time.process_time()
    found = open_checkpoint(tmp_path / "ck").tensors
    assert time.process_time() - start < 3
    assert found.keys() == tree.keys() and found["999"].read().tolist() == [999, 999]


def on_mesh(array: np.ndarray, *axes) -> jax.Array:
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("x", "y"))
    return jax.device_put(array, NamedSharding(mesh, PartitionSpec(*axes)))


def test_plain_orbax_restores_what_is_written(tmp_path):
    tree = {
        "model": {
            "numpy": random_array(0, (3, 5), np.float32),
            "bfloat16": jnp.arange(6, dtype=jnp.bfloat16),
            "scalar": jnp.float32(3),
            "layers": {"0": {"kernel": on_mesh(random_array(1, (8, 4), np.float32), "x", "y")}},
        },
        "zeros": on_mesh(np.zeros((4, 4), np.int32), None, "y"),
    }
    write_folder(tmp_path / "ck", tree)
    with ocp.StandardCheckpointer() as checkpointer:
        restored = checkpointer.restore(
            tmp_path / "ck", jax.tree.map(ocp.utils.to_shape_dtype_struct, tree)
        )
    assert jax.tree.structure(restored) == jax.tree.structure(tree)
    assert all(jax.tree.leaves(jax.tree.map(same, restored, tree)))
    found = open_checkpoint(tmp_path / "ck").tensors
    expected = fp.flatten(tree)
    assert found.keys() == expected.keys()
    assert all(same(found[path].read(), leaf) for path, leaf in expected.items())


def test_large_arrays_are_written_in_chunks(tmp_path, monkeypatch):
    """So that a slab can be read without the whole array."""
    monkeypatch.setattr(orbax_tree, "_CHUNK", 400)
    array = random_array(0, (100, 10), np.float32)
    write_folder(tmp_path / "ck", {"w": array})
    tensor = open_checkpoint(tmp_path / "ck")["w"]
    assert np.prod(vars(tensor)["store"].chunk_layout.write_chunk.shape) <= 100
    assert same(tensor.read(), array)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"a": {"b": np.zeros((0, 3))}}, "a/b of shape .0, 3.: orbax writes no such array"),
        ({}, "orbax cannot write it"),
    ],
)
def test_what_orbax_does_not_write(tree, message, tmp_path):
    with pytest.raises(CheckpointError, match=message) as caught:
        write_folder(tmp_path / "ck", tree)
    assert str(tmp_path / "ck") in str(caught.value)
    assert not (tmp_path / "ck").exists()


def test_a_folder_is_not_overwritten(tmp_path):
    write_folder(tmp_path / "ck", {"w": FOUR})
    with pytest.raises(CheckpointError, match="orbax cannot write it"):
        write_folder(tmp_path / "ck", {"w": FOUR + 1})
    assert same(open_checkpoint(tmp_path / "ck")["w"].read(), FOUR)


NARROW = ("float4_e2m1fn", "int4", "int2")  # a byte each, of which only some bits count
nonempty = arrays([d for d in zarr.DTYPES if hasattr(tensorstore, d.name)]).filter(
    lambda array: array.size
)


@quick
@given(st.data())
def test_any_part_of_any_array(tmp_path_factory, data):
    """Against TensorStore's own writer: both versions of zarr, any chunks and compressor."""
    array, version = data.draw(nonempty), data.draw(st.sampled_from([2, 3]))
    if array.dtype.name in NARROW:
        array = (array.view(np.uint8) % 2).astype(array.dtype)
    chunks = [data.draw(st.integers(1, size)) for size in array.shape]
    metadata: dict = {"shape": list(array.shape)}
    if version == 2:
        compressor = data.draw(st.sampled_from([None, {"id": "zstd"}, {"id": "gzip"}]))
        order = data.draw(st.sampled_from("CF" if array.ndim > 1 else "C"))
        metadata |= {"chunks": chunks, "compressor": compressor, "order": order}
    else:
        metadata["chunk_grid"] = codec("regular", chunk_shape=chunks)
    folder = tmp_path_factory.mktemp("ck")
    put(folder, "_METADATA", json.dumps(tree_of("w", use_zarr3=version == 3)))
    store = tensorstore.open(
        {
            "driver": "zarr" if version == 2 else "zarr3",
            "kvstore": {"driver": "file", "path": str(folder / "w")},
            "metadata": metadata,
            "dtype": array.dtype.name,
            "create": True,
            "store_data_equal_to_fill_value": True,
        }
    ).result()
    store.write(array).result()
    bounds = tuple(
        (start, data.draw(st.integers(start, size)))
        for size in array.shape
        for start in [data.draw(st.integers(0, size))]
    )
    tensor = open_checkpoint(folder)["w"]
    assert same(tensor.read(), array)
    assert same(tensor.read(bounds), array[tuple(slice(*bound) for bound in bounds)])


@pytest.mark.parametrize("golden", ["new-folders", "old-aggregate", "new-items"])
def test_any_change_gives_an_error_or_tensors(golden, tmp_path, thorough):
    folder = copy_of(golden, tmp_path)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    contents = {path: path.read_bytes() for path in files}
    choose = random.Random(0)
    refusals, count = 0, 400 if thorough else 150
    for _ in range(count):
        path = choose.choice(files)
        content = bytearray(contents[path])
        at = choose.randrange(len(content))
        content[at : at + choose.randrange(3)] = choose.randbytes(choose.randrange(3))
        path.write_bytes(content)
        try:
            for tensor in open_checkpoint(folder).tensors.values():
                tensor.read()
        except CheckpointError as error:
            refusals += 1
            assert str(folder) in str(error)
        path.write_bytes(contents[path])
    assert count // 8 < refusals < count


@pytest.fixture
def model_folder(tmp_path) -> Path:
    """config.json beside flax_model.orbax, with the params of a golden of old Flax."""
    golden = GOLDENS / "flax-llama-causal-lm" / "checkpoint"
    shutil.copy(golden / "config.json", tmp_path)
    tensors = open_checkpoint(golden).tensors
    tree = fp.unflatten({name: tensor.read() for name, tensor in tensors.items()})
    write_folder(tmp_path / "flax_model.orbax", tree)
    return tmp_path


def test_from_pretrained(model_folder):
    golden = GOLDENS / "flax-llama-causal-lm" / "checkpoint"
    _, expected = fm.LlamaForCausalLM.from_pretrained(golden)
    _, found = fm.LlamaForCausalLM.from_pretrained(model_folder)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    assert all(jax.tree.leaves(jax.tree.map(same, found, expected)))


def test_from_pretrained_on_a_mesh(model_folder):
    golden = GOLDENS / "flax-llama-causal-lm" / "checkpoint"
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("fsdp", "tensor"))
    _, expected = fm.LlamaForCausalLM.from_pretrained(golden)
    _, found = fm.LlamaForCausalLM.from_pretrained(
        model_folder, mesh=mesh, rules=(("vocab", None), *fs.DEFAULT_RULES), max_host_memory=1 << 20
    )
    assert any(len(leaf.sharding.device_set) == 8 for leaf in jax.tree.leaves(found))
    assert all(jax.tree.leaves(jax.tree.map(same, found, expected)))


def test_where_a_folder_is_looked_for(model_folder):
    os.rename(model_folder / "flax_model.orbax", model_folder / "flax_model.ema.orbax")
    assert open_checkpoint(model_folder, variant="ema").layout == "paths"
    with pytest.raises(CheckpointError, match="looked for.*flax_model.orbax, .*; the folder holds"):
        open_checkpoint(model_folder)
    for only in ({"use_safetensors": True}, {"framework": "pt"}):
        with pytest.raises(CheckpointError, match="looked for"):
            open_checkpoint(model_folder, variant="ema", **only)


def test_other_formats_come_first(model_folder):
    put(model_folder, "flax_model.msgpack", b"")
    refused(model_folder, "flax_model.msgpack: the file is empty")


def test_errors_of_the_system(tmp_path, monkeypatch):
    checkpoint(tmp_path / "ck")

    def fail(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", fail)
    with contextlib.suppress(ImportError):
        refused(tmp_path / "ck", "Permission denied")


def test_saves_in_several_threads_at_once_are_whole(tmp_path):
    """orbax alone loses arrays of them, or waits for ever."""
    trees = {f"{i}": {"a": jnp.full(4, i), "b": {"c": jnp.full((2, 3), i)}} for i in range(8)}
    with ThreadPoolExecutor(len(trees)) as pool:
        list(pool.map(lambda name: write_folder(tmp_path / name, trees[name]), trees))
    for name, tree in trees.items():
        found = open_checkpoint(tmp_path / name).tensors
        assert {k: x.read().tolist() for k, x in found.items()} == {
            k: x.tolist() for k, x in fp.flatten(tree).items()
        }

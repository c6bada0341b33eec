"""Folders and indexes of sharded checkpoints: what is taken, and what is refused."""

import copy
import gc
import json
import os
import pickle
from pathlib import Path

import flax.serialization
import numpy as np
import pytest
from _files import (
    extension,
    pack,
    put,
    put_index,
    quick,
    refused,
    same,
    template,
    write_safetensors,
)
from _paths import GOLDENS
from hypothesis import given
from hypothesis import strategies as st

import flaxmodels
from flaxmodels.params import CheckpointError, open_checkpoint
from flaxmodels.params.checkpoint.match import check_backbone
from flaxmodels.params.checkpoint.reconcile import reconcile
from flaxmodels.params.formats import files, shard_index
from flaxmodels.params.formats.checksums import write_checksums
from flaxmodels.params.save.options import WriteOptions
from flaxmodels.params.save.write import write_checkpoint

ONE = np.ones(2, np.float32)
TWO = np.full(2, 2, np.float32)
INDEX = "model.safetensors.index.json"


@pytest.fixture
def sharded(tmp_path):
    """Two shards: a and b in the first, c in the second."""
    write_safetensors(tmp_path / "model-1.safetensors", {"a": ONE, "b": TWO})
    write_safetensors(tmp_path / "model-2.safetensors", {"c": ONE})
    put_index(
        tmp_path,
        {"a": "model-1.safetensors", "b": "model-1.safetensors", "c": "model-2.safetensors"},
    )
    return tmp_path


def test_a_sharded_checkpoint(sharded):
    checkpoint = open_checkpoint(sharded)
    assert checkpoint.tensors.keys() == {"a", "b", "c"}
    assert len(checkpoint.files) == 2
    assert same(checkpoint["b"].read(), TWO)
    assert open_checkpoint(sharded / INDEX).tensors.keys() == {"a", "b", "c"}


def test_hostile_I1_shard_missing(sharded):
    os.unlink(sharded / "model-1.safetensors")
    refused(sharded, "shard 'model-1.safetensors' is missing; it holds 'a', 'b'")


def test_hostile_I2_shard_truncated(sharded):
    os.truncate(sharded / "model-2.safetensors", 70)
    refused(sharded, "'c': 8 bytes at byte .*cut short", sharded / "model-2.safetensors")


def test_hostile_I3_extra_shard_on_disk(sharded):
    write_safetensors(sharded / "model-3.safetensors", {"d": ONE})
    assert "d" not in open_checkpoint(sharded).tensors


OUTSIDE = [
    "../../etc/passwd", "../model-1.safetensors", "/etc/passwd", "C:\\x", "C:x", "\\\\host\\share",
    "~/x", "~root/x", "a/../../x", "a/../model-1.safetensors", "..\\x", "./model-1.safetensors",
    "a//x", "x/.", "x/..", "x/", "..", ".", "", "x\0y", "/", "file:///etc/passwd",
]  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE)
def test_hostile_I4_I5_I6_R7_names_that_may_leave_the_folder(name, tmp_path, monkeypatch):
    index = put_index(tmp_path, {"w": name})
    opened = []
    open_file = os.open
    monkeypatch.setattr(
        os, "open", lambda path, *args: opened.append(path) or open_file(path, *args)
    )
    refused(tmp_path, "'w' is said to be in .* not the name of a file in this folder", index)
    assert opened and set(opened) == {str(index)}


@quick
@given(
    st.lists(
        st.sampled_from(["..", ".", "a", "/", "\\", "\0", "C:", "~", "model", "\u2215"]), max_size=6
    ),
    st.sampled_from(["/", "", "\\"]),
)
def test_R7_no_name_leads_outside(parts, between):
    name = between.join(parts)
    if shard_index.is_plain(name):
        assert os.path.normpath(os.path.join("/folder", name)).startswith("/folder/")
        assert not {"..", "."} & set(name.replace("\\", "/").split("/"))


def test_hostile_I7_weights_are_read_wherever_links_lead(sharded, tmp_path_factory):
    """As DVC, Nix, clusters and the Hub's cache make them; a chain of links too."""
    outside = tmp_path_factory.mktemp("outside")
    for name in ("model-1.safetensors", INDEX):
        os.rename(sharded / name, outside / name)
        os.symlink(outside / name, outside / f"to {name}")
        os.symlink(os.path.relpath(outside / f"to {name}", sharded), sharded / name)
    checkpoint = open_checkpoint(sharded)
    assert same(checkpoint["a"].read(), ONE) and same(checkpoint["b"].read(), TWO)


def test_hostile_I7_a_link_to_what_is_no_checkpoint(sharded, tmp_path_factory):
    """It fails as such, and the error does not quote it."""
    secret = put(tmp_path_factory.mktemp("home"), "token", "a secret of some length")
    for name in ("model-1.safetensors", INDEX):
        os.unlink(sharded / name)
        os.symlink(secret, sharded / name)
        with pytest.raises(CheckpointError, match="not safetensors|not an index") as caught:
            open_checkpoint(sharded)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("kind", ["dangling", "loop", "fifo", "device", "folder"])
def test_hostile_I7_I9_links_to_no_file(kind, sharded, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    path = sharded / "model-1.safetensors"
    os.unlink(path)
    if kind == "fifo":
        os.mkfifo(outside / "fifo")
    targets = {"loop": path, "device": "/dev/zero", "folder": outside}
    os.symlink(targets.get(kind, outside / "fifo"), path)
    said = {
        "dangling": f"No such file or directory; it is a link to '{outside}/fifo'",
        "loop": "Too many levels of symbolic links",
    }
    refused(sharded, said.get(kind, "not a regular file"), path)


def test_hostile_I7_links_inside_the_folder_and_the_cache_are_fine(sharded, tmp_path_factory):
    os.rename(sharded / "model-1.safetensors", sharded / "blob")
    os.symlink("blob", sharded / "model-1.safetensors")
    assert open_checkpoint(sharded).tensors.keys() == {"a", "b", "c"}
    cache = tmp_path_factory.mktemp("cache")  # as the Hub lays it out
    (cache / "blobs").mkdir()
    (cache / "snapshots" / "abc").mkdir(parents=True)
    for name in ("model-1.safetensors", "model-2.safetensors", INDEX):
        os.rename(os.path.realpath(sharded / name), cache / "blobs" / name)
        os.symlink(f"../../blobs/{name}", cache / "snapshots" / "abc" / name)
    assert open_checkpoint(cache / "snapshots" / "abc").tensors.keys() == {"a", "b", "c"}


def test_hostile_I8_folder_inside_is_a_link_out(tmp_path, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    write_safetensors(outside / "x.safetensors", {"a": ONE})
    os.symlink(outside, tmp_path / "sub")
    put_index(tmp_path, {"a": "sub/x.safetensors"})
    assert same(open_checkpoint(tmp_path)["a"].read(), ONE)


def test_a_shard_in_a_folder_inside(tmp_path):
    (tmp_path / "sub").mkdir()
    write_safetensors(tmp_path / "sub" / "x.safetensors", {"a": ONE})
    put_index(tmp_path, {"a": "sub/x.safetensors"})
    assert same(open_checkpoint(tmp_path)["a"].read(), ONE)


def test_hostile_I9_index_is_a_loop_of_links(tmp_path):
    os.symlink(tmp_path / INDEX, tmp_path / INDEX)
    refused(tmp_path, "Too many levels of symbolic links")


def test_hostile_I11_tensor_not_in_its_shard(sharded):
    """A warning; and an error where the model needs it, of a head as well, which names both."""
    write_safetensors(sharded / "model-2.safetensors", {"d": ONE})
    with pytest.warns(UserWarning, match="lists 1 tensors .*'c' in .*model-2.safetensors"):
        source = open_checkpoint(sharded)
    assert source.tensors.keys() == {"a", "b", "d"}
    assert dict(source.absent) == {"c": str(sharded / "model-2.safetensors")}
    check_backbone(reconcile(template({"a": ONE, "b": ONE, "d": ONE}), source))
    for prefix in ("", "a"):
        needed = reconcile(template({"a": ONE, "b": ONE, "c": ONE, "d": ONE}), source)
        with pytest.raises(CheckpointError, match="no tensor 'c'.* initialise") as caught:
            check_backbone(needed, prefix)
        for said in (INDEX, "model-2.safetensors", "c of the model needs"):
            assert said in str(caught.value)


def test_hostile_I11_no_tensor_in_its_shard(sharded):
    for i in (1, 2):
        write_safetensors(sharded / f"model-{i}.safetensors", {f"other{i}": ONE})
    refused(sharded, "no tensor 'a', which", sharded / "model-1.safetensors", sharded / INDEX)


def test_hostile_I12_tensor_that_the_index_lacks(sharded):
    """It is there, so that a strict load refuses it by name."""
    write_safetensors(sharded / "model-2.safetensors", {"c": ONE, "more": ONE})
    assert "more" in open_checkpoint(sharded).tensors


def test_hostile_I13_tensor_in_two_shards(sharded):
    """Equal byte for byte it is one, NaN and zeros of both signs included."""
    odd = np.array([[np.nan, -0.0], [0.0, 1.0]], np.float32)
    signs = np.array([[1, 1], [-1, 1]], np.float32)
    for other in (odd * signs, odd.astype(np.float16), odd.reshape(4), odd + np.float32(1)):
        write_safetensors(sharded / "model-1.safetensors", {"a": odd, "b": TWO})
        write_safetensors(sharded / "model-2.safetensors", {"c": ONE, "a": other})
        said = "'a' is in 'model-1.safetensors' and in 'model-2.safetensors', and is not the"
        refused(sharded, said, sharded / INDEX)
    write_safetensors(sharded / "model-2.safetensors", {"c": ONE, "a": odd})
    assert same(open_checkpoint(sharded)["a"].read(), odd)


def test_hostile_I13_the_shard_that_the_index_names_is_read(sharded):
    tensors = {"a": np.arange(10**6, dtype=np.float32), "c": np.float32(3), "e": ONE[:0]}
    tensors = {name: np.asarray(array) for name, array in tensors.items()}
    write_safetensors(sharded / "model-1.safetensors", tensors)
    write_safetensors(sharded / "model-2.safetensors", tensors)
    put_index(sharded, dict.fromkeys(tensors, "model-2.safetensors") | {"x": "model-1.safetensors"})
    with pytest.warns(UserWarning, match="'x' in"):
        source = open_checkpoint(sharded)
    assert {file.path for file in source.files} == {str(sharded / "model-2.safetensors")}
    assert all(same(source[name].read(), array) for name, array in tensors.items())


BAD_INDEX = {
    "I14-twice": ('{"weight_map": {"a": "x", "b": "x", "a": "y"}}', "'a' appears twice"),
    "I15-missing": ("{}", "no weight_map"),
    "I15-empty": ('{"weight_map": {}}', "no weight_map"),
    "I15-list": ('{"weight_map": ["a"]}', "no weight_map"),
    "I15-null": ('{"weight_map": null}', "no weight_map"),
    "I15-int-values": ('{"weight_map": {"a": 1}}', "'a' is said to be in '1'"),
    "I15-null-values": ('{"weight_map": {"a": null}}', "'a' is said to be in 'None'"),
    "I15-top-level-list": ("[1]", "no weight_map"),
    "empty": ("", "not an index: Expecting value"),
    "not-json": ("{'weight_map'}", "not an index: Expecting property name"),
    "not-utf8": (b"\xff\xfe", "not an index: .*utf-8"),
    "bom": (b"\xef\xbb\xbf{}", "not an index"),
    "deep": ('{"a":' + "[" * 100_000, "not an index: nested too deeply"),
    "long-number": ('{"a":' + "9" * 5000 + "}", "not an index: .*digits"),
    "lfs": ("version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "not an index|git lfs"),
    "I6-control": (
        '{"weight_map": {"a": "\\u001b[2J.safetensors"}}',
        r"in '\\x1b\[2J.safetensors'",
    ),
    "I25-percent": ('{"weight_map": {"a": "%2e%2e%2f.safetensors"}}', "shard '%2e.* is missing"),
    "I25-url": ('{"weight_map": {"a": "https://example.invalid/x"}}', "'a' is said to be in"),
    "I26-itself": (json.dumps({"weight_map": {"a": INDEX}}), "'a' is said to be in"),
    "surrogate": ('{"weight_map": {"a": "\\ud800"}}', "not an index: .*surrogates"),
    "long-name": (json.dumps({"weight_map": {"a": "x" * 5000 + ".safetensors"}}), "is missing"),
    "control": ('{"weight_map": {"\\u001b[2J": "x.safetensors"}}', r"it holds '\\x1b\[2J'"),
}


@pytest.mark.parametrize("case", BAD_INDEX)
def test_bad_index(case, tmp_path):
    content, message = BAD_INDEX[case]
    refused(tmp_path, message, put(tmp_path, INDEX, content))


def test_hostile_I17_many_entries_and_many_shards(tmp_path):
    put_index(tmp_path, {f"t{i}": f"model-{i % 50_000}.safetensors" for i in range(100_000)})
    missing = "shard 'model-0.safetensors' is missing; it holds 't0', 't50000'"
    refused(tmp_path, missing, within=10)


def test_hostile_I17_few_files_stay_open_and_those_until_the_source_is_gone(tmp_path):
    for i in range(100):
        write_safetensors(tmp_path / f"{i}.safetensors", {f"t{i}": ONE})
    put_index(tmp_path, {f"t{i}": f"{i}.safetensors" for i in range(100)})
    before = len(os.listdir("/proc/self/fd"))
    checkpoint = open_checkpoint(tmp_path)
    assert all(same(tensor.read(), ONE) for tensor in checkpoint.tensors.values())
    assert len(os.listdir("/proc/self/fd")) <= before + 32
    del checkpoint
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_hostile_I18_huge_index(tmp_path):
    os.truncate(put(tmp_path, INDEX, "{}"), 1 << 30)
    refused(tmp_path, "1073741824 bytes; it has at most 104857600", tmp_path / INDEX)


def test_hostile_I19_one_file_under_two_names(tmp_path):
    """What a case-insensitive disk makes of names that differ in case."""
    write_safetensors(tmp_path / "a.safetensors", {"x": ONE, "y": ONE})
    os.link(tmp_path / "a.safetensors", tmp_path / "A.safetensors")
    put_index(tmp_path, {"x": "a.safetensors", "y": "A.safetensors"})
    refused(tmp_path, "'A.safetensors' and 'a.safetensors' are one file")


MSGPACK = pack({"m": extension((2,), "float32", ONE.tobytes())})


def everything(folder):
    write_safetensors(folder / "model.safetensors", {"single": ONE})
    write_safetensors(folder / "shard.safetensors", {"sharded": ONE})
    put_index(folder, {"sharded": "shard.safetensors"})
    put(folder, "flax_model.msgpack", MSGPACK)
    put(folder, "part.msgpack", pack({"part": extension((2,), "float32", ONE.tobytes())}))
    put_index(folder, {"part": "part.msgpack"}, "flax_model.msgpack.index.json")
    put(folder, "pytorch_model.bin", b"never opened")


@pytest.mark.parametrize(
    ("use_safetensors", "gone", "found"),
    [
        (None, [], "single"),
        (None, ["model.safetensors"], "sharded"),
        (None, ["model.safetensors", INDEX], "m"),
        (None, ["model.safetensors", INDEX, "flax_model.msgpack"], "part"),
        (True, [], "single"),
        (True, ["model.safetensors"], "sharded"),
        (False, [], "m"),
        (False, ["flax_model.msgpack"], "part"),
    ],
)
def test_hostile_I20_which_file_is_taken(use_safetensors, gone, found, tmp_path):
    everything(tmp_path)
    for name in gone:
        os.unlink(tmp_path / name)
    checkpoint = open_checkpoint(tmp_path, use_safetensors=use_safetensors)
    assert list(checkpoint.tensors) == [found]


def test_hostile_I21_no_other_format_after_an_error(tmp_path):
    everything(tmp_path)
    put(tmp_path, "model.safetensors", b"broken")
    refused(tmp_path, "too small for safetensors", tmp_path / "model.safetensors")


@pytest.mark.parametrize("use_safetensors", [True, False, None])
def test_hostile_I23_nothing_there(use_safetensors, tmp_path):
    put(tmp_path, "notes.txt", b"never opened")
    with pytest.raises(CheckpointError, match="the folder holds notes.txt") as caught:
        open_checkpoint(tmp_path, use_safetensors=use_safetensors)
    said = str(caught.value)
    assert ("model.safetensors" in said) == (use_safetensors is not False)
    assert ("flax_model.msgpack" in said) == (use_safetensors is not True)


def test_hostile_I23_empty_missing_file_unreadable(tmp_path, monkeypatch):
    refused(tmp_path, "the folder holds nothing")
    refused(tmp_path / "gone", "no such file or folder")
    refused(put(tmp_path, "file", b""), "not a checkpoint folder")
    refused(tmp_path / "nul\0byte.safetensors", "cannot be opened")

    def fail(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", fail)
    refused(tmp_path, "Permission denied")


def test_hostile_I24_many_other_files(tmp_path, monkeypatch):
    write_safetensors(tmp_path / "model.safetensors", {"a": ONE})
    monkeypatch.setattr(os, "listdir", None)
    monkeypatch.setattr(os, "scandir", None)
    assert list(open_checkpoint(tmp_path).tensors) == ["a"]


def test_hostile_M30_sharded_msgpack(tmp_path):
    index = "flax_model.msgpack.index.json"
    for i in (1, 2):
        tree = {"params": {f"w{i}": ONE * i}}
        put(tmp_path, f"f{i}.msgpack", flax.serialization.msgpack_serialize(tree))
    put_index(tmp_path, {"params/w1": "f1.msgpack", "params/w2": "f2.msgpack"}, index)
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.layout == "flax"
    assert same(checkpoint["params/w2"].read(), ONE * 2)
    put(tmp_path, "f2.msgpack", (tmp_path / "f1.msgpack").read_bytes())
    with pytest.warns(UserWarning, match="'params/w2' in .*f2.msgpack"):
        assert open_checkpoint(tmp_path).tensors.keys() == {"params/w1"}
    put_index(tmp_path, {"params/w1": "../f1.msgpack"}, index)
    refused(tmp_path, "not the name of a file in this folder")
    put(
        tmp_path,
        "f2.msgpack",
        flax.serialization.msgpack_serialize({"params": {"w1": TWO, "w2": ONE}}),
    )
    put_index(tmp_path, {"params/w1": "f1.msgpack", "params/w2": "f2.msgpack"}, index)
    refused(tmp_path, "'params/w1' is in 'f1.msgpack' and in 'f2.msgpack'")


def test_hostile_S48_names_that_become_one(tmp_path):
    content = {"a.kernel": ONE, "a/kernel": TWO}
    path = write_safetensors(tmp_path / "model.safetensors", content, {"format": "flax"})
    refused(path, "'a.kernel' and 'a/kernel' both stand for 'a/kernel'")


@pytest.mark.parametrize(
    ("names", "metadata", "layout"),
    [
        (["a.weight"], {"format": "pt"}, "torch"),
        (["a.weight", "b.bias"], None, "torch"),
        (["a.scale"], {"format": "pt"}, "torch"),
        (["a.kernel", "b.bias"], None, "flax"),
        (["a.embedding"], None, "flax"),
        (["a.scale"], {"format": "np"}, "flax"),
        (["a.weight"], {"format": "flax"}, "flax"),
        ([], None, "torch"),
    ],
)
def test_layout(names, metadata, layout, tmp_path):
    tensors = dict.fromkeys(names, ONE)
    path = write_safetensors(tmp_path / "model.safetensors", tensors, metadata)
    assert open_checkpoint(path).layout == layout


def test_goldens_open():
    """Each flax golden has the same tensors in three formats."""
    folders = [path.parent for path in sorted(GOLDENS.glob("*/sharded"))]
    assert folders
    for folder in folders:
        single, parts, safe = (
            open_checkpoint(folder / name) for name in ("checkpoint", "sharded", "safetensors")
        )
        assert {source.layout for source in (single, parts, safe)} == {"flax"}
        assert len(parts.files) > 1
        assert single.tensors.keys() == parts.tensors.keys() == safe.tensors.keys()
        for name, tensor in single.tensors.items():
            assert same(tensor.read(), parts[name].read())
            assert same(tensor.read(), safe[name].read())


def test_metadata(tmp_path):
    path = write_safetensors(tmp_path / "model.safetensors", {"a": ONE}, {"format": "pt", "k": "v"})
    assert open_checkpoint(path).metadata == {"format": "pt", "k": "v"}


def test_hostile_I22_shards_of_two_saves(tmp_path):
    """Of the same names and shapes, which no other check would tell apart."""
    tree = {"a": np.zeros(8, np.float32), "b": np.zeros(8, np.float32)}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        options = WriteOptions(max_shard_size=32)
        write_checkpoint(tmp_path / name, tree, template(tree), options=options, progress=False)
    shard = "model-00002-of-00002.safetensors"
    os.replace(tmp_path / "two" / shard, tmp_path / "one" / shard)
    refused(tmp_path / "one", "the folder holds a mixture of two", tmp_path / "one" / shard)


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"framework": "PT"}, "framework='PT'; expected one of flax, pt, tf"),
        ({"framework": ["pt"]}, "expected one of flax, pt, tf"),
        ({"use_safetensors": "no"}, "use_safetensors is 'no'; expected True or False"),
        ({"weights_only": "no"}, "weights_only is 'no'; expected True or False"),
        ({"weights_only": None}, "expected True or False"),
        ({"variant": ""}, "variant=''; expected a part of file names"),
        ({"variant": 16}, "variant=16; expected a part of file names"),
    ],
    ids=str,
)
def test_what_is_asked_for_is_known_or_refused(asked, error, sharded):
    for path in (sharded, sharded / "model.safetensors.index.json"):
        with pytest.raises((TypeError, ValueError), match=error):
            open_checkpoint(path, **asked)
    with pytest.raises(TypeError, match="the path of a checkpoint is b'"):
        open_checkpoint(os.fsencode(sharded))  # pyright: ignore[reportArgumentType]


def test_a_file_that_is_not_what_was_asked_for(tmp_path):
    path = write_safetensors(tmp_path / "x.safetensors", {"w": np.ones(2, np.float32)})
    assert open_checkpoint(path, use_safetensors=True, framework="pt").tensors
    with pytest.raises(CheckpointError, match="=False was asked for, .* this file is one of saf"):
        open_checkpoint(path, use_safetensors=False)
    with pytest.raises(CheckpointError, match="x.safetensors: written by pt, and flax was asked"):
        open_checkpoint(path, framework="flax")


@pytest.mark.parametrize(
    "bounds",
    [
        ((0, 1),),  # of another rank
        ((0, 3), (0, 5), (0, 1)),
        ((0, 4), (0, 5)),  # bytes of the next tensor
        ((-1, 3), (0, 5)),
        ((2, 1), (0, 5)),
        ((0.0, 1.0), (0, 5)),
        (0, 1),
        "ab",
        3,
    ],
    ids=str,
)
def test_a_part_that_is_none_of_a_tensor_is_refused(bounds, tmp_path):
    arrays = {"a": np.ones((3, 5), np.float32), "b": np.ones(99, np.float32)}
    tensor = open_checkpoint(write_safetensors(tmp_path / "x.safetensors", arrays))["a"]
    with pytest.raises(ValueError, match=r"tensor 'a' has shape \(3, 5\), and bounds .* are no"):
        tensor.read(bounds)
    np.testing.assert_array_equal(tensor.read([(np.int64(1), 2), (5, 5)]), np.ones((1, 0)))


@pytest.mark.parametrize(
    "scratch",
    [
        bytearray(99),
        np.empty(3, np.uint8),
        np.empty(99),
        np.empty((9, 9), np.uint8),
        np.empty(198, np.uint8)[::2],
        np.frombuffer(bytes(99), np.uint8),  # read-only
    ],
)
def test_scratch_that_does_not_hold_a_tensor_is_refused(scratch, tmp_path):
    arrays = {"a": np.ones((3, 5), np.float32)}
    tensor = open_checkpoint(write_safetensors(tmp_path / "x.safetensors", arrays))["a"]
    with pytest.raises(ValueError, match="tensor 'a': scratch must be .* of at least 60 uint8"):
        tensor.read(scratch=scratch)


def test_a_source_is_read_from_another_working_folder(tmp_path, monkeypatch):
    """Where many files are open, one is opened again for each read."""
    monkeypatch.setattr(files, "_MOST_KEPT", 0)
    write_safetensors(tmp_path / "x.safetensors", {"a": ONE})
    monkeypatch.chdir(tmp_path)
    tensor = open_checkpoint("x.safetensors")["a"]
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(tensor.read(), ONE)


def test_checksums_wait_for_no_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="pipe: not a regular file"):
        write_checksums(tmp_path)


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-llama-msgpack"])
def test_what_is_read_off_open_files_says_why_it_is_not_pickled(name):
    source = open_checkpoint(Path(flaxmodels.__file__).parent / "bundled" / name)
    for opened in (source, next(iter(source.tensors.values()))):
        for make in (pickle.dumps, copy.deepcopy):
            with pytest.raises(TypeError, match=f"{name}.*hand on the path, and call fp.open_che"):
                make(opened)

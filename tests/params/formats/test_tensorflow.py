"""TensorFlow checkpoints: what a bad one gets, and that good ones are read to the last bit."""

import functools
import json
import os
import random
import shutil
import struct
import time

import h5py
import jax
import numpy as np
import pytest
from _files import put, quick, random_array, raw, refused, same
from _paths import GOLDENS
from _tf import (
    block,
    bundle,
    entry,
    extents,
    header,
    masked,
    number,
    table,
    text,
    varint,
)
from hypothesis import given
from hypothesis import strategies as st

import flaxmodels as fm
from flaxmodels.params import CheckpointError, open_checkpoint
from flaxmodels.params.checkpoint.make_plan import make_plan
from flaxmodels.params.checkpoint.reconcile import reconcile
from flaxmodels.params.checkpoint.stream import stream
from flaxmodels.params.formats.files import LocalFile
from flaxmodels.params.formats.tensorflow.bundle import DTYPES, read_index
from flaxmodels.params.formats.tensorflow.checksum import masked_crc32c
from flaxmodels.params.tree.naming import TF, canonical, layout_of, tf_name

TF_GOLDENS = GOLDENS / "formats" / "tf"
DATA = np.arange(2, dtype=np.float32).tobytes()
GOOD = entry(DATA)
GRAPH = b"_CHECKPOINTABLE_OBJECT_GRAPH"
NAMING = fm.BertForPreTraining(fm.BertConfig()).naming


def rows(**changes):
    """An index of one good tensor, `w`, with entries changed or added."""
    return {b"w": GOOD} | {name.encode(): value for name, value in changes.items()}


def sliced(*cuts, **parts):
    """A float tensor of shape (4, 2) in these slices; `parts` are the entries that are there."""
    found = {b"w": entry(shape=(4, 2), size=0, crc=0, more=b"".join(extents(*c) for c in cuts))}
    return found | {slice_key(b"w", *cut): value for cut, value in zip(cuts, parts.values())}  # noqa: B905


def slice_key(name, *pairs):
    """The key of a slice of small numbers: one byte each."""
    flat = [n for pair in pairs for n in (pair or (0, -1))]
    return b"\0" + name + b"\0\1\1" + bytes([len(pairs)]) + bytes((0x80 ^ n) & 0xFF for n in flat)


TWO_ROWS = entry(raw(np.ones((2, 2), np.float32)), shape=(2, 2))


def graph(content: bytes, size: int | None = None) -> dict[str, bytes]:
    """The shard and the index of a checkpoint with this object graph."""
    length = varint(len(content) if size is None else size)
    data = length + bytes(4) + content
    return {"index": {GRAPH: entry(data, dtype=7, shape=(), crc=0)}, "data": data}


# id (the row in the table of hostile inputs): what is in the index, and what the error says
BAD = {
    "T2-other-count": ({b"": header(2)} | rows(), "data-00000-of-00002 is missing; it holds 'w'"),
    "T3-2**31": ({b"": header(2**31)} | rows(), "of-2147483648 is missing"),
    "T3-negative": ({b"": header(-1)} | rows(), "claims -1 shards"),
    "T3-none": ({b"": header(0)} | rows(), "claims 0 shards"),
    "T4-shard": (rows(w=entry(DATA, shard=1)), "'w': it is in shard 1 of 1"),
    "T4-negative": (rows(w=entry(DATA, shard=-1)), "'w': it is in shard -1 of 1"),
    "T5-past-the-end": (rows(w=entry(DATA, offset=1)), "'w': 8 bytes at byte 1, .* at byte 8"),
    "T5-negative": (rows(w=entry(DATA, offset=-8)), "'w': 8 bytes at byte -8"),
    "T5-2**63": (rows(w=entry(DATA, offset=2**63)), "'w': 8 bytes at byte -9223372036854775808"),
    "T5-size-negative": (rows(w=entry(DATA, size=-8)), "'w': .* takes 8 .*gives it -8"),
    "T6-size": (rows(w=entry(DATA, size=4)), r"'w': float32 of shape \(2,\) takes 8.*gives it 4"),
    "T6-shape": (rows(w=entry(DATA, shape=(1,))), "'w': float32 .*takes 4.*gives it 8"),
    "T6-empty": (rows(w=entry(DATA, shape=(0,))), "'w': float32 .*takes 0.*gives it 8"),
    "T7-negative": (rows(w=entry(DATA, shape=(-1, -2))), "'w': shape .*negative or too large"),
    "T7-huge": (rows(w=entry(b"", shape=(0, 2**62))), "'w': shape .*negative or too large"),
    "T7-overflow": (rows(w=entry(DATA, shape=(2**33, 2**31, 2))), "'w': shape .*too large"),
    "T7-rank-33": (rows(w=entry(DATA, shape=(1,) * 33)), "'w': shape .*too large"),
    "T7-unknown-rank": (
        rows(w=number(1, 1) + text(2, number(3, 1)) + number(5, 8)),
        "'w': its rank is unknown",
    ),
    "T11-varint-of-11": (rows(w=b"\x08" + b"\xff" * 10 + b"\1"), "'w': no varint at byte 1"),
    "T11-varint-of-65-bits": (rows(w=b"\x08" + b"\xff" * 9 + b"\2"), "'w': no varint at byte 1"),
    "T11-varint-cut": (rows(w=b"\x08\xff"), "'w': no varint at byte 1"),
    "T11-length": (rows(w=b"\x12\x7f"), "'w': 127 bytes claimed at byte 2 of 2"),
    "T11-group": (rows(w=b"\x0b\x0c"), "'w': wire type 3"),
    "T11-wrong-type": (rows(w=text(1, b"x")), "'w': field 1 has wire type 2, not 0"),
    "T12-no-header": (table(block([(b"w", GOOD)])), "no header"),
    "T12-empty-table": (table(), "no header"),
    "T12-not-sorted": (table(block([(b"", header()), (b"x", GOOD), (b"w", GOOD)])), "not in order"),
    "T12-twice": (table(block([(b"", header()), (b"w", GOOD), (b"w", GOOD)])), "not in order"),
    "T12-not-sorted-blocks": (
        table(block([(b"", header()), (b"x", GOOD)]), block([(b"w", GOOD)])),
        "key b'w' follows b'x'",
    ),
    "T12-not-utf8": ({b"\xff": GOOD}, "can't decode"),
    "T13-big-endian": ({b"": header() + number(2, 1)} | rows(), "big endian"),
    "T13-version": ({b"": header(more=text(3, number(2, 2)))} | rows(), "reader of version 2"),
    "T14-missing": (
        sliced(((0, 2), ()), ((2, 2), ()), a=TWO_ROWS),
        r"'w': slice .*is not there, in shape \(2, 2\)",
    ),
    "T14-overlap": (
        sliced(((0, 2), ()), ((1, 3), ()), a=TWO_ROWS, b=TWO_ROWS),
        "'w': slice .*no run of rows",
    ),
    "T14-hole": (sliced(((0, 1), ()), ((2, 2), ()), a=GOOD), "'w': slice"),
    "T14-end": (sliced(((0, 2), ()), a=TWO_ROWS), "'w': its slices end at row 2"),
    "T14-past-the-end": (sliced(((0, 5), ()), a=TWO_ROWS), "'w': slice .*is not there"),
    "T14-negative": (sliced(((0, -2), ()), a=TWO_ROWS), "'w': slice"),
    "T14-columns": (sliced(((), (0, 1)), ((), (1, 1))), "'w': slice .*no run of rows"),
    "T14-rank": (sliced(((0, 4),), a=TWO_ROWS), "'w': slice .*no run of rows"),
    "T14-no-extents": (sliced(()), "'w': slice .*no run of rows"),
    "T14-other-dtype": (
        sliced(((0, 4), ()), a=entry(bytes(8), dtype=4, shape=(4, 2))),
        "'w': slice .*is not there",
    ),
    "T14-scalar": ({b"w": entry(shape=(), size=0, more=text(7, b""))}, "'w': slice"),
    "T16-not-a-graph": (graph(b"\x0b")["index"], "not a whole TensorFlow"),
    "T16-dtype": ({GRAPH: entry(DATA)}, "an object graph of 8 bytes, dtype 1"),
    "T16-too-large": ({GRAPH: entry(DATA, dtype=7, size=2**30)}, "object graph of 1073741824"),
    "long-key": ({b"w" * 5000: GOOD}, "an entry of lengths 0, 5000"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "git lfs pull"),
    "html": (b"<!DOCTYPE html>", "starts with HTML"),
    "control-characters": ({b"\x1b[2J": b"\x08\xff"}, r"'\\x1b\[2J'"),
}
BAD |= {
    f"T8-{dtype}": (rows(w=entry(DATA, dtype=dtype)), f"'w': dtype {dtype} .*JAX.*known: float32")
    for dtype in (0, 7, 18, 20, 21, 26, 29, 99, 101, 2**63)
}
BLOCK = block([(b"", header()), (b"w", GOOD)])
LAST = len(BLOCK) - 8  # where the restarts begin
BAD |= {
    "T10-checksum": (table(BLOCK, crc=1), "checksum of the block at byte .* is wrong"),
    "T10-snappy": (table(BLOCK, kind=1), r"is compressed \(type 1\)"),
    "T10-type-7": (table(BLOCK, kind=7), r"is compressed \(type 7\)"),
    "T11-restarts": (table(BLOCK[:-4] + b"\xff" * 4), "claims 4294967295 restarts"),
    "T11-no-restarts": (table(b""), "claims 0 restarts"),
    "T11-shared": (table(b"\5\0\0" + BLOCK[LAST:]), "an entry of lengths 5, 0, 0"),
    "T11-value": (table(b"\0\0\x7f" + BLOCK[LAST:]), "an entry of lengths 0, 0, 127"),
    "T11-key": (table(b"\0\x7f\0" + BLOCK[LAST:]), "an entry of lengths 0, 127, 0"),
    "T11-cut": (table(b"\0\1" + BLOCK[LAST:]), "no varint at byte 2"),
    "T15-magic": (table(BLOCK, magic=1), "the magic number at the end is missing"),
    "T15-empty": (b"", "the magic number at the end is missing"),
    "T15-47-bytes": (table(BLOCK)[-47:], "the magic number at the end is missing"),
    "T15-48-bytes": (table(BLOCK)[-48:], "a block of"),
    "T15-footer": (table(BLOCK)[:-48] + b"\xff" * 40 + table()[-8:], "no varint"),
    "same-block-again": (table(block([]), twice=True), "a block of 8 bytes at byte 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_checkpoint(case, tmp_path):
    index, message = BAD[case]
    path = bundle(tmp_path, index, DATA)
    refused(path, message)


def test_a_good_checkpoint_of_our_own(tmp_path):
    path = bundle(tmp_path, rows(), DATA)
    assert open_checkpoint(path)["w"].read().tolist() == [0, 1]


def test_hostile_T1_files_missing(tmp_path):
    with pytest.raises(CheckpointError, match="No such file"):
        open_checkpoint(tmp_path / "model.ckpt.index")
    path = bundle(tmp_path, {b"": header(2), b"v": entry(DATA, shard=1), b"w": GOOD}, DATA, DATA)
    os.unlink(tmp_path / "model.ckpt.data-00001-of-00002")
    with pytest.raises(CheckpointError, match="data-00001-of-00002 is missing; it holds 'v'"):
        open_checkpoint(path)


def test_hostile_T1_shard_is_a_link_out_of_the_folder(tmp_path):
    """It is followed, and what is no shard fails as such."""
    inside = tmp_path / "inside"
    inside.mkdir()
    path = bundle(inside, rows(), DATA)
    os.rename(inside / "model.ckpt.data-00000-of-00001", tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", inside / "model.ckpt.data-00000-of-00001")
    whole = {name: tensor.read() for name, tensor in open_checkpoint(path).tensors.items()}
    assert whole
    content = (tmp_path / "elsewhere").read_bytes()
    (tmp_path / "elsewhere").write_bytes(b"x" * len(content))
    with pytest.raises(CheckpointError, match="the checksum of its .* is wrong"):
        for tensor in open_checkpoint(path).tensors.values():
            tensor.read()


def test_hostile_T5_data_is_cut(tmp_path):
    folder = shutil.copytree(TF_GOLDENS / "google", tmp_path / "google")
    data = folder / "bert_model.ckpt.data-00000-of-00001"
    os.truncate(data, data.stat().st_size - 1)
    with pytest.raises(CheckpointError, match="data-00000-of-00001: .* bytes at byte .*cut short"):
        open_checkpoint(folder)


def test_hostile_T9_damaged_data(tmp_path):
    folder = shutil.copytree(TF_GOLDENS / "variables", tmp_path / "variables")
    for data in folder.glob("*.data-*"):
        content = bytearray(data.read_bytes())
        content[len(content) // 2] ^= 1
        data.write_bytes(content)
    damaged = []
    for name, tensor in open_checkpoint(folder).tensors.items():
        try:
            tensor.read()
        except CheckpointError as error:
            assert f"{name!r}: the checksum of its" in str(error) and ".data-" in str(error)
            damaged.append(name)
    assert len(damaged) == 2  # one in each shard


def test_hostile_T9_damaged_slice(tmp_path):
    folder = shutil.copytree(TF_GOLDENS / "partitioned", tmp_path / "partitioned")
    [data] = folder.glob("*.data-*")
    many = open_checkpoint(folder)["many"]
    at = many.spans[2].offset + 5
    content = bytearray(data.read_bytes())
    content[at] ^= 0x80
    data.write_bytes(content)
    many = open_checkpoint(folder)["many"]
    with pytest.raises(CheckpointError, match=f"'many': the checksum of its .* at byte {at - 5}"):
        many.read()
    assert many.read(((0, 100), (0, 1))).shape == (100, 1)  # a part is not compared


def test_hostile_T9_through_from_pretrained(tmp_path):
    folder = shutil.copytree(TF_GOLDENS / "google", tmp_path / "google")
    data = folder / "bert_model.ckpt.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[1000] ^= 4
    data.write_bytes(content)
    with pytest.raises(CheckpointError, match="the checksum of its"):
        fm.BertForPreTraining.from_pretrained(folder, config=TF_GOLDENS / "h5")


def test_hostile_T16_graphs_are_not_descended_into(tmp_path):
    bomb = b""
    for _ in range(300):
        bomb = text(1, bomb)
    deep = bomb * 100
    node = text(2, text(1, deep) + text(2, b"name") + text(3, b"w") + text(4, deep))
    made = graph(text(1, text(1, deep) + node))
    shard = made["data"] + DATA
    path = bundle(tmp_path, rows(w=entry(DATA, offset=len(made["data"]))) | made["index"], shard)
    start = time.process_time()
    assert read_index(LocalFile(path)).keys() == {"name"}
    assert time.process_time() - start < 1


@pytest.mark.parametrize("length", [0, 10**6, 2**63])
def test_hostile_T16_graph_of_another_length(tmp_path, length):
    made = graph(b"\x0a\x00", length)
    with pytest.raises(CheckpointError, match=f"object graph of {length} bytes"):
        read_index(LocalFile(bundle(tmp_path, made["index"], made["data"])))


def called(**names):
    """A checkpoint whose object graph calls keys so."""
    nodes = [text(2, text(2, name.encode()) + text(3, key.encode())) for key, name in names.items()]
    made = graph(b"".join(text(1, node) for node in nodes))
    keys = {key.encode(): entry(DATA, offset=len(made["data"])) for key in names}
    return made["index"] | keys, made["data"] + DATA


def test_names_out_of_the_object_graph(tmp_path):
    path = bundle(tmp_path, *called(a="bert/kernel", b="", c="same", d="same"))
    assert read_index(LocalFile(path)).keys() == {"bert/kernel", "b", "c", "d"}
    path = bundle(tmp_path, *called(a="b", b=""))
    with pytest.raises(CheckpointError, match="two variables have one name"):
        read_index(LocalFile(path))


def test_what_python_objects_keep_is_left_out(tmp_path):
    """Text that TensorFlow 2 writes beside variables, of dtypes that JAX cannot hold."""
    config = b"layer/.ATTRIBUTES/OBJECT_CONFIG_JSON"
    path = bundle(tmp_path, {config: entry(DATA, dtype=7), b"w": GOOD}, DATA)
    assert open_checkpoint(path).tensors.keys() == {"w"}
    text_variable = b"table/.ATTRIBUTES/VARIABLE_VALUE"
    path = bundle(tmp_path, {text_variable: entry(DATA, dtype=7), b"w": GOOD}, DATA)
    with pytest.raises(CheckpointError, match="'table/.*dtype 7 cannot be held by JAX"):
        open_checkpoint(path)


@pytest.mark.parametrize("target", ["/etc/passwd", "../../x", "model.ckpt-1"])
def test_hostile_T17_the_text_file_is_never_followed(tmp_path, target):
    put(tmp_path, "checkpoint", f'model_checkpoint_path: "{target}"\n')
    bundle(tmp_path, rows(), DATA)
    os.rename(tmp_path / "model.ckpt.index", tmp_path / "model.ckpt-1.index")
    said = {tmp_path: "no checkpoint: .*give the path of 'model.ckpt-1.index', .*; looked for "}
    for path, message in (said | {tmp_path / "checkpoint": "not a checkpoint folder"}).items():
        with pytest.raises(CheckpointError, match=message) as caught:
            open_checkpoint(path)
        assert target == "model.ckpt-1" or target not in str(caught.value)


def test_hostile_T18_a_huge_index(tmp_path):
    path = put(tmp_path, "model.ckpt.index", b"")
    os.truncate(path, 1 << 30)
    with pytest.raises(CheckpointError, match="1073741824 bytes; an index has at most 67108864"):
        open_checkpoint(path)


def test_many_keys_take_bounded_memory(tmp_path, monkeypatch):
    """A prefix that is shared costs nothing in the file."""
    monkeypatch.setattr("flaxmodels.params.formats.tensorflow.sstable._MAX_KEYS", 10**6)
    keys = [b"w" * 4000 + b"%04d" % i for i in range(300)]
    path = bundle(tmp_path, dict.fromkeys(keys, GOOD), DATA)
    assert path.stat().st_size < 20_000
    with pytest.raises(CheckpointError, match="1000000 bytes of keys"):
        open_checkpoint(path)


def test_hostile_T11_many_empty_blocks_take_bounded_time(tmp_path, monkeypatch):
    monkeypatch.setattr("flaxmodels.params.formats.tensorflow.sstable._MAX_BLOCKS", 100)
    empty = struct.pack("<I", 0)
    assert open_checkpoint(bundle(tmp_path, table(*[empty] * 99, BLOCK), DATA)).tensors
    with pytest.raises(CheckpointError, match="more than 100 blocks"):
        open_checkpoint(bundle(tmp_path, table(*[empty] * 100, BLOCK), DATA))


def test_many_fields_take_bounded_time(tmp_path, monkeypatch):
    """Fields of two bytes, in the object graph, in a node of it, and in an entry."""
    monkeypatch.setattr("flaxmodels.params.formats.tensorflow.bundle._MAX_FIELDS", 10**5)
    tiny = b"\x12\x00" * 10**5
    for content in (tiny * 3, text(1, tiny) * 3):
        made = graph(content)
        path = bundle(tmp_path, made["index"], made["data"])
        start = time.process_time()
        with pytest.raises(CheckpointError, match="too many fields"):
            open_checkpoint(path)
        assert time.process_time() - start < 0.6


@pytest.mark.parametrize("size", [0, 1, 2048, (1 << 16) + 1])
def test_the_checksum(size):
    data = random.Random(size).randbytes(size)
    assert masked_crc32c(memoryview(data)) == masked(data)
    assert masked_crc32c(np.frombuffer(bytearray(data), np.uint8)) == masked(data)


numbers = {dtype: number for number, dtype in DTYPES.items()}


@quick
@given(st.data())
def test_reads_what_the_format_says(tmp_path_factory, data):
    """Any arrays, in any of three shards, in tables of many blocks; whole and in part."""
    count = data.draw(st.integers(0, 6))
    shards, entries, arrays = [b"", b"", b""], {}, {}
    for i in range(count):
        shape = tuple(data.draw(st.lists(st.integers(0, 5), max_size=3)))
        array = random_array(i, shape, data.draw(st.sampled_from(sorted(numbers, key=str))))
        shard = data.draw(st.integers(0, 2))
        name = data.draw(st.sampled_from(["a", "a/b", "é", "layer"])) + str(i)
        place = {"shard": shard, "offset": len(shards[shard])}
        entries[name.encode()] = entry(raw(array), numbers[array.dtype], shape, **place)
        shards[shard] += raw(array) + b"\0" * data.draw(st.integers(0, 3))
        arrays[name] = array
    rows = sorted(({b"": header(3)} | entries).items())
    size = data.draw(st.integers(1, 4))
    blocks = [
        block(rows[i : i + size], shared=data.draw(st.booleans()))
        for i in range(0, len(rows), size)
    ]
    path = bundle(tmp_path_factory.mktemp("tf"), table(*blocks), *shards)
    found = read_index(LocalFile(path))
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert same(found[name].read(), array)
        bounds = tuple((size // 2, size) for size in array.shape)
        assert same(found[name].read(bounds), array[tuple(slice(*bound) for bound in bounds)])


def mutated(rng, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(changed))
        if rng.random() < 0.7:
            changed[at] = rng.choice([rng.randrange(256), 0, 0xFF, 0x7F, changed[at] ^ 1])
        else:
            changed[at : at + rng.randint(0, 4)] = rng.randbytes(rng.randint(0, 4))
    return bytes(changed)


def survives(path) -> bool:
    try:
        for tensor in open_checkpoint(path).tensors.values():
            tensor.read()
    except CheckpointError as error:
        assert str(path.parent) in str(error)
        return False
    return True


def test_mutants_of_a_golden(tmp_path, thorough):
    rng = random.Random(0)
    folder = shutil.copytree(TF_GOLDENS / "variables", tmp_path / "variables")
    path = folder / "model.ckpt.index"
    content = path.read_bytes()
    for _ in range(1000 if thorough else 400):
        path.write_bytes(mutated(rng, content))
        survives(path)


def test_mutants_whose_checksums_are_right(tmp_path, thorough):
    """So that what lies behind the checksum of a block is reached."""
    rng = random.Random(0)
    arrays = {b"a": np.ones((4, 2), np.float32), b"b": np.arange(3), b"c/d": np.float32(2)}
    data, entries = b"", {b"": header()}
    for name, array in arrays.items():
        entries[name] = entry(raw(array), numbers[array.dtype], array.shape, offset=len(data))
        data += raw(array)
    made = graph(text(1, text(2, text(2, b"bert/kernel") + text(3, b"a"))))
    entries[GRAPH] = entry(made["data"], dtype=7, shape=(), offset=len(data), crc=0)
    entries |= sliced(((0, 2), ()), ((2, 2), ()), a=TWO_ROWS, b=TWO_ROWS)
    data += made["data"]
    content = block(sorted(entries.items()))
    assert survives(bundle(tmp_path, table(content), data)), "the original"
    count = 700 if thorough else 300
    made = (bundle(tmp_path, table(mutated(rng, content)), data) for _ in range(count))
    assert 0 < sum(map(survives, made)) < count


# What TensorFlow wrote


def expected(folder: str) -> dict[str, np.ndarray]:
    with np.load(TF_GOLDENS / folder / "expected.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize("folder", ["variables", "partitioned"])
def test_variables_equal_the_goldens(folder):
    source = open_checkpoint(TF_GOLDENS / folder)
    arrays = expected(folder)
    assert source.layout == TF and source.tensors.keys() == arrays.keys()
    for name, content in arrays.items():
        found = source[name].read()
        assert (found.shape, found.dtype.itemsize) == (content.shape[:-1], content.shape[-1])
        assert raw(found) == raw(content), name
        if folder == "variables" and name not in ("scalar", "empty"):
            assert found.dtype.name == name
    assert len(source.files) == (2 if folder == "variables" else 1)


def test_a_part_of_a_partitioned_variable():
    tensor = open_checkpoint(TF_GOLDENS / "partitioned")["many"]
    content = expected("partitioned")["many"][..., 0].view(np.int8)
    assert len(tensor.spans) == 4
    assert same(tensor.read(((90, 9100), (0, 1))), content[90:9100])


def test_hostile_T14_partitioned_by_columns():
    with pytest.raises(CheckpointError, match="'cut': slice .* is no run of rows"):
        open_checkpoint(TF_GOLDENS / "columns")


def keras_arrays() -> dict[str, np.ndarray]:
    """The parameters of the golden `h5`, under PyTorch's names, by h5py itself."""
    arrays = {}

    def visit(path, node):
        if isinstance(node, h5py.Dataset):
            arrays[tf_name(path.partition("/")[2])] = node[()]

    with h5py.File(TF_GOLDENS / "h5" / "tf_model.h5") as file:
        file.visititems(visit)
    return arrays


@pytest.mark.parametrize("folder", ["h5", "safetensors", "objects", "google"])
def test_one_model_in_four_formats(folder):
    """The same tensors, to the last bit, under the same names."""
    source = open_checkpoint(TF_GOLDENS / folder)
    names = canonical(source.tensors, NAMING)
    arrays = keras_arrays()
    assert source.layout == TF and names.keys() == arrays.keys()
    for today, name in names.items():
        array = source[name].read()
        assert same(array.T if name.endswith("output_weights") else array, arrays[today]), name


CASES = {
    "h5": "BertForPreTraining",
    "safetensors": "BertForPreTraining",
    "google": "BertForPreTraining",
    "objects": "BertForPreTraining",
    "sharded": "BertForMaskedLM",
    "sharded-safetensors": "BertForMaskedLM",
    "gpt2": "GPT2LMHeadModel",
}


@functools.cache
def program_of(model):
    return jax.jit(model.apply)


def assert_logits(model, params, folder):
    arrays = expected(folder)
    inputs = {name[3:]: array for name, array in arrays.items() if name.startswith("in.")}
    logits = {name[4:]: array for name, array in arrays.items() if name.startswith("out.")}
    assert logits
    out = program_of(model)({"params": params}, **inputs)
    for name, array in logits.items():
        assert np.abs(getattr(out, name) - array).max() < 1e-5


@pytest.mark.parametrize("folder", CASES)
def test_logits_equal_tensorflows(folder):
    has_config = (TF_GOLDENS / folder / "config.json").exists()
    config = {} if has_config else {"config": TF_GOLDENS / "h5"}
    cls = getattr(fm, CASES[folder])
    model, params, info = cls.from_pretrained(
        TF_GOLDENS / folder, **config, output_loading_info=True
    )
    assert not info.missing_keys and not info.unexpected_keys
    assert_logits(model, params, folder if has_config else "h5")


def test_P3_load_tf_weights():
    config = fm.BertForPreTraining.config_class.from_pretrained(TF_GOLDENS / "h5")
    for path in ("google/bert_model.ckpt", "google/bert_model.ckpt.index", "h5/tf_model.h5", "h5"):
        params = fm.BertForPreTraining.load_tf_weights(config, TF_GOLDENS / path)
        assert_logits(fm.BertForPreTraining(config), params, "h5")


def test_P3_scanned():
    model, params = fm.BertForPreTraining.from_pretrained(TF_GOLDENS / "h5", scan_layers=True)
    assert_logits(model, params, "h5")


def test_P3_placement():
    config = fm.BertForPreTraining.config_class.from_pretrained(TF_GOLDENS / "h5")
    mesh = jax.make_mesh((2,), ("fsdp",), axis_types=(jax.sharding.AxisType.Auto,))
    params = fm.BertForPreTraining.load_tf_weights(
        config, TF_GOLDENS / "google", mesh=mesh, param_dtype="bfloat16"
    )
    for leaf in jax.tree.leaves(params):
        assert leaf.dtype == "bfloat16" and leaf.sharding.mesh == mesh


def test_P3_not_all_of_the_model():
    config = fm.BertForPreTraining.config_class.from_pretrained(TF_GOLDENS / "h5")
    with pytest.raises(CheckpointError, match="not in the checkpoint: classifier/bias"):
        fm.BertForTokenClassification.load_tf_weights(config, TF_GOLDENS / "google")
    with pytest.raises(CheckpointError, match="written by pt, and tf was asked for"):
        fm.BertModel.load_tf_weights(
            fm.BertModel.config_class.from_pretrained(GOLDENS / "bert-model" / "checkpoint"),
            GOLDENS / "bert-model" / "checkpoint",
        )


# Names


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("tf_bert_for_masked_lm/bert/encoder/layer_._11/output/dense/kernel:0",
         "bert.encoder.layer.11.output.dense.weight"),
        ("tf_bert_model_1/bert/pooler/dense/bias:0", "bert.pooler.dense.bias"),
        ("bert/embeddings/LayerNorm/gamma:0", "bert.embeddings.LayerNorm.weight"),
        ("tf_x/mlm___cls/predictions/bias", "cls.predictions.bias"),
        ("tfgpt2lm_head_model/transformer/h_._0/attn/c_attn/weight:0",
         "transformer.h.0.attn.c_attn.weight"),
        ("transformer/wte/embeddings", "transformer.wte.weight"),
        ("model/dense/kernel/.ATTRIBUTES/VARIABLE_VALUE", "model.dense.weight"),
        ("embeddings/kernel", "embeddings.weight"),
        ("kernel", "weight"),
        ("bert/pooler/dense/kernel/adam_m", None),
        ("bert/pooler/dense/kernel/lamb_v", None),
        ("bert/pooler/dense/kernel/AdamWeightDecayOptimizer_1", None),
        ("global_step", None),
        ("global_step:0", None),
        ("beta1_power", None),
        ("save_counter/.ATTRIBUTES/VARIABLE_VALUE", None),
        ("save_counter", None),
        ("Adam/iter", None),
        ("optimizer/_variables/1/.ATTRIBUTES/VARIABLE_VALUE", None),
        ("w/.OPTIMIZER_SLOT/optimizer/m/.ATTRIBUTES/VARIABLE_VALUE", None),
    ],
)  # fmt: skip
def test_names(name, ours):
    assert tf_name(name) == ours


@pytest.mark.parametrize(
    ("google", "ours"),
    [
        ("bert/encoder/layer_11/attention/self/query/kernel",
         "bert.encoder.layer.11.attention.self.query.weight"),
        ("bert/embeddings/word_embeddings", "bert.embeddings.word_embeddings.weight"),
        ("cls/predictions/output_bias", "cls.predictions.bias"),
        ("cls/seq_relationship/output_weights", "cls.seq_relationship.weight"),
        ("cls/squad/output_weights", "qa_outputs.weight"),
        ("cls/squad/output_bias", "qa_outputs.bias"),
        ("output_weights", "classifier.weight"),
        ("output_bias", "classifier.bias"),
    ],
)  # fmt: skip
def test_googles_names(google, ours):
    assert canonical([tf_name(google)], NAMING).keys() == {ours}


def test_a_classifier_of_googles(tmp_path):
    """`run_classifier.py` keeps the head's weights as (labels, hidden)."""
    head = np.arange(6, dtype=np.float32).reshape(3, 2)
    rows = {b"output_weights": entry(raw(head), shape=(3, 2))}
    source = open_checkpoint(bundle(tmp_path, rows, raw(head)))
    template = {"classifier": {"kernel": jax.ShapeDtypeStruct((2, 3), np.float32)}}
    match = reconcile(template, source, NAMING)
    params = stream(make_plan(match, template), progress=False)
    assert same(np.asarray(params["classifier"]["kernel"]), head.T)


def test_two_names_of_one_leaf(tmp_path):
    rows = {b"a/gamma": GOOD, b"a/kernel": GOOD}
    with pytest.raises(CheckpointError, match="'a/gamma' and 'a/kernel' both stand for 'a.weight'"):
        open_checkpoint(bundle(tmp_path, rows, DATA))


def test_layout_by_metadata():
    assert layout_of(["a/kernel"], {"format": "tf"}) == TF


def test_C23_no_name_takes_long():
    names = ("___" * 30_000, "a" * 50_000 + "!", ":0" * 30_000, "/Adam" * 10_000, "_._" * 20_000)
    start = time.process_time()
    for name in (*names, "output_" * 9_000, "layer_0." * 9_000, ".layer_" + "0" * 50_000):
        canonical([tf_name(name) or "x"], NAMING)
    assert time.process_time() - start < 1


def test_goldens_name_their_writers():
    versions = json.loads((TF_GOLDENS / "versions.json").read_text())
    assert versions.keys() == {"tensorflow", "tf-keras", "transformers", "h5py"}

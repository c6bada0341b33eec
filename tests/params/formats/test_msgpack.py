"""The flax msgpack reader: what a bad file gets, and that good ones are read to the last bit."""

import time
import tracemalloc

import flax.serialization
import msgpack
import numpy as np
import pytest
from _files import (
    extension,
    listed,
    msgpack_arrays,
    pack,
    put,
    quick,
    random_array,
    raw,
    refused,
    same,
)
from _paths import GOLDENS
from flax.traverse_util import flatten_dict
from hypothesis import given
from hypothesis import strategies as st

from flaxmodels.params import CheckpointError, open_checkpoint
from flaxmodels.params.formats.files import LocalFile
from flaxmodels.params.formats.msgpack import CHUNKED, read_index

GOOD = extension((2,), "float32", bytes(8))


def leaf(shape, dtype="float32", data=b"", code=1) -> bytes:
    return pack({"a": {"w": extension(shape, dtype, data, code)}})


def payload(data: bytes, code=1) -> bytes:
    """A leaf whose extension holds these bytes."""
    return pack({"a": {"w": msgpack.ExtType(code, data)}})


def chunked(shape=(4,), chunks=(GOOD, GOOD), **changes) -> bytes:
    """A leaf in chunks; a change of None leaves the key out."""

    def numbered(values):
        return (
            {str(i): v for i, v in enumerate(values)}
            if isinstance(values, tuple | list)
            else values
        )

    node = {CHUNKED: True, "shape": numbered(shape), "chunks": numbered(chunks)} | changes
    return pack({"a": {"w": {key: value for key, value in node.items() if value is not None}}})


NOT_CHUNKED = "'a/w' is not a chunked array as flax writes it"

# id (the row in the table of hostile inputs): the file's bytes, and what the error says
BAD = {
    "M1-empty": (b"", "the file is empty"),
    "M1-truncated": (leaf((2,), data=bytes(8))[:-5], "'a/w'.*cut short"),
    "M1-truncated-name": (b"\x81\xa5ab", "cut short"),
    "M2-trailing-byte": (leaf((2,), data=bytes(8)) + b"\xc0", "1 bytes follow the tree"),
    "M3-nested-lists": (b"\x91" * 10**6 + b"\xc0", "a list where an array belongs"),
    "M3-nested-maps": (b"\x81\xa1a" * 10**6 + b"\x80", "deeper than 64"),
    "M5-array32": (b"\xdd\xff\xff\xff\xff", "a list where an array belongs"),
    "M5-map32": (b"\xdf\xff\xff\xff\xff", "a map claims 4294967295 entries"),
    "M6-bin32": (b"\x81\xa1a\xc6\xff\xff\xff\xff", "'a'.*bare bytes where an array belongs"),
    "M6-str32": (b"\x81\xdb\xff\xff\xff\xff", "a name of 4294967295 bytes"),
    "M6-ext32": (b"\x81\xa1a\xc9\xff\xff\xff\xff\x01", "'a'.*array of 4294967295 bytes"),
    "M8-shape-over-buffer": (leaf((3,), data=bytes(8)), r"'a/w'.*takes 12 bytes.*gives it 8"),
    "M8-not-a-multiple": (leaf((2,), data=bytes(9)), r"'a/w'.*takes 8 bytes.*gives it 9"),
    "M9-negative": (leaf((-1, 2), data=bytes(16)), "'a/w'.*an integer where an array belongs"),
    "M9-int32": (leaf((-1000, 2), data=bytes(16)), "'a/w'.*an integer where an array belongs"),
    "M9-huge": (leaf((2**63, 2), data=bytes(16)), "'a/w'.*too large"),
    "M9-huge-empty": (leaf((0, 2**62)), "'a/w'.*too large"),
    "M9-float": (leaf((2.0,), data=bytes(8)), "'a/w'.*a float where an array belongs"),
    "M9-bool": (leaf((True,), data=bytes(4)), r"'a/w'.*array of shape '\(True,\)'"),
    "M9-array": (leaf((GOOD,), data=bytes(4)), "'a/w'.*array of shape"),
    "M9-map": (leaf(({},), data=bytes(4)), r"'a/w'.*array of shape '\({},\)'"),
    "M9-rank-16": (leaf((1,) * 16, data=bytes(4)), "'a/w'.*no short list"),
    "M11-object": (leaf((1,), "O", bytes(8)), "'a/w'.*dtype 'O'.*known: float64"),
    "M14-int": (leaf((2,), 4, bytes(8)), "'a/w'"),
    "M14-none": (leaf((2,), None, bytes(8)), "'a/w'"),
    "M14-1-MB": (leaf((2,), "f" * 10**6, bytes(8)), "'a/w'.*a name of 1000000 bytes"),
    "M14-data-is-text": (payload(pack(((2,), "uint8", "ab"))), "'a/w'.*data is not bytes"),
    "M15-two": (payload(pack(((2,), "float32"))), "'a/w'.*without .shape, dtype, bytes"),
    "M15-four": (payload(pack(((0,), "float32", b"", 1))), "'a/w'.*without .shape, dtype"),
    "M15-more": (payload(pack(((0,), "float32", b"")) + b"\xc0"), "'a/w'.*takes 0 bytes"),
    "M15-empty": (payload(b""), "cut short"),
    "M15-empty-then-more": (
        pack({"a": msgpack.ExtType(1, b""), "b": extension((0,), "int8", b"")}),
        "'a'.*without .shape, dtype, bytes",
    ),
    "M15-map": (payload(pack({})), "'a/w'.*without .shape, dtype, bytes"),
    "M15-shape-no-list": (payload(pack((2, "float32", bytes(8)))), "'a/w'.*no short list"),
    "M17-code-99": (leaf((2,), data=bytes(8), code=99), "'a/w'.*extension 99"),
    "M17-code-0": (leaf((2,), data=bytes(8), code=0), "'a/w'.*extension 0"),
    "M17-timestamp": (pack({"a": msgpack.Timestamp(1, 2)}), "'a'.*extension -1"),
    "M18-complex": (payload(pack(("1", "2")), code=2), "'a/w'.*a complex number"),
    "M18-complex-number": (payload(pack((1.0, 2.0)), code=2), "'a/w'.*a complex number where"),
    "M18-empty": (payload(b"", code=2), "'a/w'.*a complex number where"),
    "M19-scalar-of-shape-5": (leaf((5,), data=bytes(20), code=3), r"'a/w'.*shape \(5,\)"),
    "M21-list": (pack([1]), "a list where an array belongs"),
    "M21-nil": (pack(None), "nil where an array belongs"),
    "M21-array": (pack(GOOD), "expected a map of names at the top"),
    "M21-int": (pack(3), "expected a map of names at the top"),
    "M23-slash-clash": (pack({"a/b": GOOD, "a": {"b": GOOD}}), "two arrays are called 'a/b'"),
    "M23-dot-clash": (pack({"a.b": GOOD, "a": {"b": GOOD}}), "'a[./]b' and 'a[./]b' both stand"),
    "M23-key-twice": (b"\x82\xa1a\x80\xa1a\x80", "key 'a' appears twice"),
    "M23-key-int": (pack({1: GOOD}), "a key that is not a string"),
    "M23-key-not-utf8": (b"\x81\xa1\xff\x80", "a key that is not UTF-8"),
    "M24-wrong-shape": (chunked(shape=(5,)), r"'a/w': chunks of 4 elements.*shape '\(5,\)'"),
    "M24-negative-shape": (chunked(shape=(-1,)), "'a/w/shape/0'.*an integer where"),
    "M24-huge-shape": (chunked((0, 2**63), [extension((0,), "int8", b"")]), "'a/w'"),
    "M24-bool-shape": (chunked(shape=(True,)), NOT_CHUNKED),
    "M24-chunk-missing": (chunked(chunks={"0": GOOD, "2": GOOD}), NOT_CHUNKED),
    "M24-chunk-extra": (chunked(chunks=(GOOD,) * 3), "'a/w': chunks of 6 elements"),
    "M24-chunk-negative": (chunked(chunks={"-1": GOOD, "0": GOOD}), NOT_CHUNKED),
    "M24-chunk-leading-zero": (chunked(chunks={"00": GOOD, "1": GOOD}), NOT_CHUNKED),
    "M24-no-shape": (chunked(shape=None), NOT_CHUNKED),
    "M24-no-chunks": (chunked(chunks=()), NOT_CHUNKED),
    "M24-chunks-gone": (chunked(chunks=None), NOT_CHUNKED),
    "M24-extra-key": (chunked(more=1), NOT_CHUNKED),
    "M24-chunks-is-int": (chunked(chunks=3), NOT_CHUNKED),
    "M25-mixed-dtypes": (
        chunked(chunks=(GOOD, extension((2,), "float64", bytes(16)))),
        "'a/w': .*float32 and float64",
    ),
    "M26-flag-false": (chunked(**{CHUNKED: False}), NOT_CHUNKED),
    "M26-flag-one": (chunked(**{CHUNKED: 1}), NOT_CHUNKED),
    "M26-at-the-root": (
        pack({CHUNKED: True, "shape": {"0": 2}, "chunks": {"0": GOOD}}),
        "'' is not a chunked array",
    ),
    "M26-nested": (
        chunked(chunks=({CHUNKED: True, "shape": {"0": 2}, "chunks": {"0": GOOD}},)),
        NOT_CHUNKED,
    ),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "git lfs pull"),
    "html": (b"<!DOCTYPE html>", "starts with HTML"),
    "control-characters": (pack({"\x1b[2J\u202e": None}), r"'\\x1b\[2J\\u202e'.*nil"),
}
BAD |= {
    f"M12-{dtype}": (leaf((2,), dtype, bytes(16)), "'a/w'.*dtype .*JAX cannot hold")
    for dtype in ("V8", "U2", "S4", "datetime64[s]", "i4,f4", "(3,)f4", "f4", "int4", "")
}
BAD |= {
    f"M13-{dtype}": (leaf((2,), dtype, bytes(8)), "'a/w'.*dtype .*JAX cannot hold")
    for dtype in (">f4", "<f4")
}
BAD |= {
    f"M20-{name}": (pack({"a": {"w": value}}), f"'a/w'.*{said}")
    for name, value, said in (
        ("string", "x", "a string where"),
        ("long-string", "x" * 300, "a string where"),
        ("int", 3, "3, expected an array"),
        ("large-int", 2**40, "1099511627776, expected an array"),
        ("negative", -300, "an integer where"),
        ("float", 1.0, "a float where"),
        ("none", None, "nil where"),
        ("bool", True, "True, expected an array"),
        ("bytes", b"abcd", "bare bytes where"),
        ("list", [GOOD], "a list where"),
    )
}


@pytest.mark.parametrize("case", BAD)
def test_bad_file(case, tmp_path):
    content, message = BAD[case]
    path = put(tmp_path, "flax_model.msgpack", content)
    refused(path, message)


def test_hostile_M7_too_many_values(tmp_path, monkeypatch):
    monkeypatch.setattr("flaxmodels.params.formats.msgpack.MAX_NODES", 1000)
    for content in (
        b"\xdd" + (10**7).to_bytes(4, "big") + b"\x80" * 10**7,
        pack({str(i): {} for i in range(1001)}),
    ):
        with pytest.raises(CheckpointError):
            open_checkpoint(put(tmp_path, "flax_model.msgpack", content))


def test_hostile_M23_long_paths_take_bounded_memory(tmp_path):
    """Each array has the names of all the maps that it is in."""
    content = pack({f"{i:06d}": extension((), "int8", b"a") for i in range(5000)})
    for _ in range(60):
        content = b"\x81\xda\x10\x00" + b"a" * 4096 + content
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match="paths of 33554432 characters"):
            open_checkpoint(put(tmp_path, "flax_model.msgpack", content))
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_hostile_M24_a_shape_of_very_many_sizes(tmp_path):
    path = put(tmp_path, "flax_model.msgpack", chunked(shape=[2**64 - 1] * 50_000))
    start = time.process_time()
    with pytest.raises(CheckpointError, match="'a/w': chunks of 4 elements") as caught:
        open_checkpoint(path)
    assert time.process_time() - start < 2 and len(str(caught.value)) < 1000


def test_hostile_M27_chunks_of_nothing(tmp_path):
    nothing = extension((0,), "int8", b"")
    content = chunked((3,), (*[nothing] * 10_000, extension((3,), "int8", b"abc"), nothing))
    tensor = open_checkpoint(put(tmp_path, "flax_model.msgpack", content))["a/w"]
    assert tensor.read().tobytes() == b"abc"


ODD = {
    "M29-bfloat16": (leaf((2,), "bfloat16", b"\x80\x3f\0\x40"), [1.0, 2.0]),
    "M29-float8": (leaf((2,), "float8_e4m3fn", b"\x38\x40"), [1.0, 2.0]),
    "scalar": (leaf((), "int8", b"\7", code=3), 7),
    "rank-0": (leaf((), "int8", b"\7"), 7),
    "any-byte-but-0-is-true": (leaf((3,), "bool", b"\0\1\7"), [False, True, True]),
    "chunks-of-their-own-shapes": (
        chunked((2, 2), [extension((1, 3), "int8", b"abc"), extension((1,), "int8", b"d")]),
        [[97, 98], [99, 100]],
    ),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_but_good_file(case, tmp_path):
    content, value = ODD[case]
    tensor = open_checkpoint(put(tmp_path, "flax_model.msgpack", content))["a/w"]
    assert tensor.read().tolist() == value
    if tensor.dtype == bool:
        assert raw(tensor.read()) == b"\0\1\1"


def test_an_empty_tree(tmp_path):
    for tree in ({}, {"a": {}, "b": {"c": {}}}):
        checkpoint = open_checkpoint(put(tmp_path, "flax_model.msgpack", pack(tree)))
        assert not checkpoint.tensors


def test_reads_no_weights_to_open(tmp_path):
    """An array costs its own head and a window of 64 KiB, whatever its size."""
    tree = {"a": np.zeros(10**6), "b": np.zeros(10**6), "c": np.zeros(3)}
    path = put(tmp_path, "flax_model.msgpack", flax.serialization.msgpack_serialize(tree))
    assert open_checkpoint(path).bytes_read < 300_000


keys = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="./"), min_size=1)
trees = st.recursive(msgpack_arrays, lambda inner: st.dictionaries(keys, inner, max_size=3))


@quick
@given(st.dictionaries(keys, trees, max_size=4), st.sampled_from([1, 7, 64, 2**30]))
def test_reads_what_flax_writes(tmp_path_factory, tree, chunk):
    """Whole arrays and arrays in chunks, which flax makes of what is above MAX_CHUNK_SIZE."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flax.serialization, "MAX_CHUNK_SIZE", chunk)
        content = flax.serialization.msgpack_serialize(tree)
    path = put(tmp_path_factory.mktemp("mp"), "flax_model.msgpack", content)
    found = read_index(LocalFile(path))
    expected = flatten_dict(tree, sep="/")
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert same(found[name].read(), array)


@quick
@given(st.data())
def test_part_of_a_chunked_array(tmp_path_factory, data):
    array = random_array(0, (6, 5, 4), data.draw(st.sampled_from(["float32", "int8", "bool"])))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flax.serialization, "MAX_CHUNK_SIZE", data.draw(st.integers(1, 100)))
        content = flax.serialization.msgpack_serialize({"a": {"w": array}})
    path = put(tmp_path_factory.mktemp("mp"), "flax_model.msgpack", content)
    bounds = tuple(
        (start, data.draw(st.integers(start, size)))
        for size in array.shape
        for start in [data.draw(st.integers(0, size))]
    )
    part = open_checkpoint(path)["a/w"].read(bounds)
    assert same(part, array[tuple(slice(*bound) for bound in bounds)])


@quick
@given(st.tuples(st.integers(0, 300), st.binary(max_size=4), st.integers(0, 4)))
def test_any_bytes_give_an_error_or_tensors(tmp_path_factory, noise):
    at, piece, gone = noise
    content = chunked()
    content = content[:at] + piece + content[at + gone :]
    path = put(tmp_path_factory.mktemp("noise"), "flax_model.msgpack", content)
    try:
        for tensor in open_checkpoint(path).tensors.values():
            tensor.read()
    except CheckpointError as error:
        assert str(path) in str(error)


FLAX = GOLDENS / "formats" / "flax"


@pytest.mark.parametrize("name", ["dtypes", "numpy-scalars", "lists", "chunks"])
def test_what_flax_0_7_wrote(name):
    """M29: every dtype there was; scalars of NumPy, lists and tuples, arrays in chunks."""
    expected = listed(FLAX / f"{name}.expected.json")
    found = read_index(LocalFile(FLAX / f"{name}.msgpack"))
    assert found.keys() == expected.keys()
    assert all(same(found[path].read(), array) for path, array in expected.items())
    assert (name == "chunks") == any(len(tensor.spans) > 2 for tensor in found.values())


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("int", "3, expected an array"),
        ("float", "a float where"),
        ("bool", "True, expected an array"),
        ("text", "a string where"),
        ("none", "nil where"),
    ],
)
def test_hostile_M20_what_flax_0_7_wrote_of_python_values(kind, said):
    with pytest.raises(CheckpointError, match=f"'a/w'.*{said}"):
        open_checkpoint(FLAX / f"python-{kind}.msgpack")


def test_hostile_M18_flax_0_7_wrote_a_complex_number_as_an_array():
    tensor = open_checkpoint(FLAX / "python-complex.msgpack")["a/w"]
    assert tensor.dtype == np.complex128 and tensor.read() == 1 + 2j


def test_goldens_equal_the_reference():
    paths = sorted(GOLDENS.glob("*/checkpoint/*.msgpack")) + sorted(
        GOLDENS.glob("*/sharded/*.msgpack")
    )
    assert len(paths) >= 3
    for path in paths:
        expected = flatten_dict(flax.serialization.msgpack_restore(path.read_bytes()), sep="/")
        found = read_index(LocalFile(path))
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            assert same(found[name].read(), np.asarray(array))

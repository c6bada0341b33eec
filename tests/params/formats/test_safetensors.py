"""The safetensors reader: what a bad file gets, and that good ones are read to the last bit."""

import contextlib
import json
import os
import re
import socket
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors
from _files import (
    arrays,
    entry,
    listed,
    put,
    quick,
    random_array,
    raw,
    safetensors_arrays,
    same,
    write_safetensors,
)
from _files import safetensors as st_file
from _paths import GOLDENS
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from flaxmodels.params import CheckpointError, open_checkpoint
from flaxmodels.params.formats import files, source
from flaxmodels.params.formats.safetensors import DTYPES, read_header

EIGHT = b"\0" * 8
FLOATS = np.arange(2, dtype=np.float32).tobytes()


def bare(**tensors) -> bytes:
    """A file of tensors that share the eight bytes of data."""
    return st_file(tensors, EIGHT)


def text(header: str, data: bytes = EIGHT) -> bytes:
    return st_file(header.encode(), data)


A = json.dumps(entry())
DEEP = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"

# id (the row in the table of hostile inputs): the file's bytes, and what the error says
BAD = {
    "S1-empty": (b"", "0 bytes is too small"),
    "S1-seven": (b"\0" * 7, "7 bytes is too small"),
    "S2-lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
        "Git LFS pointer.*git lfs pull",
    ),
    "S3-html": (b"<!DOCTYPE html><title>404</title>", "starts with HTML"),
    "S3-html-lower": (b"\n<!doctype html>\n<p>404</p>", "starts with HTML"),
    "S3-html-bare": (b"<HTML><body>log in</body></HTML>", "starts with HTML"),
    "S5-2**63": (st_file({}, length=2**63), "header length 9223372036854775808"),
    "S5-2**64-1": (st_file({}, length=2**64 - 1), "header length 18446744073709551615"),
    "S6-over-limit": (st_file({}, length=100_000_001), "header length 100000001"),
    "S7-past-end": (st_file({}, length=1000), "header length 1000 in a file of 10"),
    "S7-zero": (struct.pack("<Q", 0), "header length 0"),
    "S8-not-utf8": (st_file(b'{"\xff":1}'), "header is not valid: .*utf-8"),
    "S9-bom": (st_file(b"\xef\xbb\xbf{}"), "does not start with '{'"),
    "S11-nul-padding": (st_file(b"{}\0\0"), "header is not valid"),
    "S13-nan": (text('{"a":NaN}'), "NaN is not a JSON number"),
    "S13-infinity": (text('{"a":-Infinity}'), "-Infinity is not a JSON number"),
    "S13-1e999": (text('{"a":{"dtype":"F32","shape":[1e999],"data_offsets":[0,8]}}'), "'a'.*inf"),
    "S14-surrogate-name": (text(f'{{"\\ud800":{A}}}'), "surrogates not allowed"),
    "S14-surrogate-value": (
        text('{"__metadata__":{"a":"\\ud800"}}', b""),
        "surrogates not allowed",
    ),
    "S15-twice": (text(f'{{"a":{A},"a":{A}}}'), "'a' appears twice"),
    "S15-twice-escaped": (text(f'{{"a":{A},"\\u0061":{A}}}'), "'a' appears twice"),
    "S17-field-twice": (
        text('{"a":{"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]}}'),
        "'shape' appears twice",
    ),
    "S17-metadata-twice": (text('{"__metadata__":{},"__metadata__":{}}', b""), "appears twice"),
    "S18-same-bytes": (bare(a=entry(), b=entry()), "'b' starts at byte 0 of .*8: it overlaps"),
    "S19-overlap": (
        st_file({"a": entry(), "b": entry(offsets=(4, 12))}, b"\0" * 12),
        "'b' starts at byte 4 of the data, expected 8: it overlaps",
    ),
    "S21-hole": (
        st_file({"a": entry(), "b": entry(offsets=(12, 20))}, b"\0" * 20),
        "'b' starts at byte 12 of the data, expected 8: it leaves a hole",
    ),
    "S21-hole-at-start": (
        st_file({"a": entry(offsets=(4, 12))}, b"\0" * 12),
        "'a' starts at byte 4 of the data, expected 0: it leaves a hole",
    ),
    "S21-more-at-end": (st_file({"a": entry()}, b"\0" * 9), "tensors end at byte .*, the file has"),
    "S23-cut-by-one": (bare(a=entry())[:-1], "'a': 8 bytes at byte 69.*ends at byte 76"),
    "S23-cut-by-half": (bare(a=entry())[:-4], "'a': 8 bytes at byte 69.*ends at byte 73"),
    "S25-reversed": (bare(a=entry(offsets=(8, 0))), "'a': .* takes 8 bytes, .* gives it -8"),
    "S26-negative-offset": (bare(a=entry(offsets=(-8, 0))), "'a'.*must be sizes"),
    "S27-float-offset": (bare(a=entry(offsets=(0, 8.0))), "'a'.*must be sizes"),
    "S27-bool-offset": (bare(a=entry(offsets=(False, 8))), "'a'.*must be sizes"),
    "S27-str-offset": (bare(a=entry(offsets=(0, "8"))), "'a'.*must be sizes"),
    "S27-null-offset": (bare(a=entry(offsets=(None, 8))), "'a'.*must be sizes"),
    "S27-one-offset": (bare(a=entry(offsets=(8,))), "'a'.*must be sizes"),
    "S27-no-list": (bare(a=entry() | {"data_offsets": 8}), "'a'.*must be sizes"),
    "S29-2**64": (
        bare(a=entry(offsets=(0, 2**64))),
        r"'a': shape .*data_offsets '\[0, 18446744073709551616\]' must be sizes",
    ),
    "S29-4300-digits": (
        bare(a=entry(offsets=(10**4300 - 9, 10**4300 - 1))),
        "must be sizes",
    ),
    "S29-5000-digits": (
        text('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,' + "9" * 5000 + "]}}"),
        "header is not valid: .*digits",
    ),
    "S30-negative": (bare(a=entry(shape=(-2,))), "'a'.*must be sizes"),
    "S30-two-negative": (bare(a=entry(shape=(-1, -2))), "'a'.*must be sizes"),
    "S31-float": (bare(a=entry(shape=(2.0,))), "'a'.*must be sizes"),
    "S31-bool": (bare(a=entry(shape=(2, True))), "'a'.*must be sizes"),
    "S31-str": (bare(a=entry(shape=("2",))), "'a'.*must be sizes"),
    "S32-wraps-to-8": (bare(a=entry("U8", (2**32, 2**32, 8))), "'a'"),
    "S33-huge-empty": (st_file({"a": entry(shape=(0, 2**62), offsets=(0, 0))}), "'a'.*too large"),
    "S33-huge-empty-2": (
        st_file({"a": entry(shape=(2**62, 2**62, 0), offsets=(0, 0))}),
        "'a'.*too large",
    ),
    "S33-rank-33": (st_file({"a": entry("U8", (1,) * 33, (0, 1))}, b"\0"), "'a'.*too large"),
    "S35-not-the-bytes": (bare(a=entry(shape=(3,))), r"'a'.*takes 12 bytes, the file gives it 8"),
    "S36-unknown": (bare(a=entry("F128")), "'a': dtype 'F128'.*known: F64, F32"),
    "S36-lower": (bare(a=entry("f32")), "'a': dtype 'f32'.*known: F64"),
    "S36-null": (bare(a=entry(None)), "'a': dtype 'None'.*known: F64"),
    "S36-list": (bare(a=entry(["F32"])), "'a': dtype .*known: F64"),
    "S37-F4": (bare(a=entry("F4", (3,), (0, 2))), "'a': dtype 'F4' cannot be held by JAX"),
    "S37-F6": (bare(a=entry("F6_E2M3", (4,), (0, 3))), "'a': dtype 'F6_E2M3' cannot be held"),
    "S37-F6-other": (bare(a=entry("F6_E3M2", (4,), (0, 3))), "'a': dtype 'F6_E3M2' cannot be held"),
    "S37-F4-even": (bare(a=entry("F4", (4,), (0, 2))), "'a': dtype 'F4' cannot be held by JAX"),
    "S38-C128": (bare(a=entry("C128", (0,), (0, 0))), "'a': dtype 'C128' cannot be held by JAX"),
    "S42-int": (st_file({"__metadata__": {"a": 1}}), "__metadata__ must map strings to strings"),
    "S42-nested": (st_file({"__metadata__": {"a": {}}}), "__metadata__ must map strings"),
    "S42-list": (st_file({"__metadata__": []}), "__metadata__ must map strings to strings"),
    "S43-tensor-called-metadata": (bare(__metadata__=entry()), "__metadata__ must map strings"),
    "S45-no-offsets": (bare(a={"dtype": "F32", "shape": [2]}), "'a': expected dtype, shape and"),
    "S45-no-entry": (bare(a=None), "'a': expected dtype, shape and data_offsets"),
    "S47-control-characters": (bare(**{"\x1b[2J\u202e": None}), r"'\\x1b\[2J\\u202e'"),
    "S49-deep": (st_file(DEEP), "header is not valid: nested too deeply"),
    "top-level-list": (st_file(b"[]"), "does not start with '{'"),
    "not-closed": (st_file(b'{"a":'), "header is not valid"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_file(case, tmp_path):
    content, message = BAD[case]
    path = put(tmp_path, "model.safetensors", content)
    with pytest.raises(CheckpointError, match=message) as caught:
        open_checkpoint(path)
    said = str(caught.value)
    assert str(path) in said
    assert "\x1b" not in said and "\u202e" not in said and len(said) < 2000


GOOD = {
    "S12-padding": (st_file(b"  {}\r\n"), {}),
    "S18-nothing-shared": (
        st_file(
            {
                "a": entry(shape=(0,), offsets=(0, 0)),
                "b": entry(),
                "c": entry("I8", (3, 0), (8, 8)),
            },
            FLOATS,
        ),
        {"a": (0,), "b": (2,), "c": (3, 0)},
    ),
    "S24-out-of-order": (
        st_file({"b": entry(offsets=(8, 16)), "a": entry()}, EIGHT + FLOATS),
        {"a": (2,), "b": (2,)},
    ),
    "S41-metadata-null": (text(f'{{"__metadata__":null,"b":{A}}}', FLOATS), {"b": (2,)}),
    "S41-metadata-empty": (text(f'{{"__metadata__":{{}},"b":{A}}}', FLOATS), {"b": (2,)}),
    "S44-extra-field": (st_file({"b": entry() | {"evil": 1}}, FLOATS), {"b": (2,)}),
    "scalar": (st_file({"b": entry("F64", (), (0, 8))}, EIGHT), {"b": ()}),
    "no-name": (st_file({"": entry()}, EIGHT), {"": (2,)}),
}


@pytest.mark.parametrize("case", GOOD)
def test_odd_but_good_file(case, tmp_path):
    content, shapes = GOOD[case]
    tensors = open_checkpoint(put(tmp_path, "model.safetensors", content)).tensors
    assert {name: tensor.shape for name, tensor in tensors.items()} == shapes
    if shapes.get("b"):
        assert tensors["b"].read().tolist() == [0.0, 1.0]


def test_hostile_S20_many_tensors_over_the_same_bytes(tmp_path):
    header = {f"t{i}": entry("U8", (160_000,), (0, 160_000)) for i in range(20_000)}
    path = put(tmp_path, "model.safetensors", st_file(header, b"\0" * 160_000))
    start = time.process_time()
    with pytest.raises(CheckpointError, match="overlaps"):
        open_checkpoint(path)
    assert time.process_time() - start < 1


def test_hostile_S37_S38_every_dtype_of_the_format_is_read_or_refused():
    """But for numbers that share bytes with others."""
    with pytest.raises(safetensors.SafetensorError) as caught:
        safetensors.deserialize(bare(a=entry("none such")))
    known = set(re.findall("`([A-Z0-9_]+)`", str(caught.value)))
    assert len(known) >= 20 and known - DTYPES.keys() == {"F4", "F6_E2M3", "F6_E3M2"}


def test_hostile_S39_any_byte_but_0_is_true(tmp_path):
    content = st_file({"a": entry("BOOL", (2, 4))}, bytes([0, 1, 7, 255, 0, 2, 0, 128]))
    tensor = open_checkpoint(put(tmp_path, "model.safetensors", content))["a"]
    expected = np.array([[0, 1, 1, 1], [0, 1, 0, 1]], np.uint8)
    assert tensor.read().view(np.uint8).tolist() == expected.tolist()
    assert tensor.read(((0, 2), (1, 4))).view(np.uint8).tolist() == expected[:, 1:].tolist()


def test_hostile_S50_header_of_brackets(tmp_path):
    path = put(tmp_path, "model.safetensors", st_file(b'{"x":[' + b"[]," * 5_000_001 + b"[]]}"))
    start = time.process_time()
    with pytest.raises(CheckpointError, match="header is not valid: more than 2000000 values"):
        open_checkpoint(path)
    assert time.process_time() - start < 2


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        old = os.getcwd()
        os.chdir(path.parent)  # the name of a socket has at most 107 bytes
        try:
            server.bind(path.name)
        finally:
            os.chdir(old)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (os.mkfifo, "not a regular file"),
        (Path.mkdir, "not a regular file"),
        (make_socket, "cannot be opened"),
        (lambda path: path.symlink_to(os.devnull), "not a regular file"),
        (lambda path: path.symlink_to(path), "cannot be opened: Too many levels of symbolic"),
        (lambda path: path.symlink_to(path.parent / "gone"), "cannot be opened: No such file"),
    ],
    ids=["fifo", "directory", "socket", "device", "loop", "dangling"],
)
def test_hostile_S51_not_a_file(make, message, tmp_path):
    path = tmp_path / "model.safetensors"
    make(path)
    with pytest.raises(CheckpointError, match=message) as caught:
        open_checkpoint(tmp_path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: os.truncate(path, 100),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    ],
    ids=["S53-truncated", "S53-cut", "longer"],
)
def test_file_changed_after_its_header_was_read(change, tmp_path):
    path = write_safetensors(tmp_path / "model.safetensors", {"a": np.ones(1000)})
    write_safetensors(tmp_path / "other", {"a": np.zeros(1000)})
    tensor = open_checkpoint(path)["a"]
    change(path)
    with pytest.raises(CheckpointError, match="changed while") as caught:
        tensor.read()
    assert str(path) in str(caught.value)


def test_hostile_S54_file_replaced_after_its_header_was_read(tmp_path, monkeypatch):
    """The old one goes on being read; where it was not kept open, that it is gone is an error."""
    old, new = np.ones(1000), np.zeros(1000)
    path = write_safetensors(tmp_path / "model.safetensors", {"a": old})
    kept = open_checkpoint(path)["a"]
    monkeypatch.setattr(files, "_MOST_KEPT", 0)
    reopened = open_checkpoint(path)["a"]
    assert same(reopened.read(), old)
    os.replace(write_safetensors(tmp_path / "other", {"a": new}), path)
    assert same(kept.read(), old)
    with pytest.raises(CheckpointError, match="changed while"):
        reopened.read()
    path.unlink()
    assert same(kept.read(), old)
    with pytest.raises(CheckpointError, match="cannot be opened"):
        reopened.read()


def test_hostile_S53_cut_between_the_check_and_the_read(tmp_path, monkeypatch):
    path = write_safetensors(tmp_path / "model.safetensors", {"a": np.ones(1000)})
    tensor = open_checkpoint(path)["a"]
    preadv = os.preadv

    def cut_first(*args):
        os.truncate(path, 100)
        return preadv(*args)

    monkeypatch.setattr(os, "preadv", cut_first)
    with pytest.raises(CheckpointError, match="cut while it was being read"):
        tensor.read()


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("open", PermissionError(13, "Permission denied")),
        ("preadv", OSError(5, "Input/output error")),
    ],
)
def test_hostile_S55_errors_of_the_system(call, error, tmp_path, monkeypatch):
    path = write_safetensors(tmp_path / "model.safetensors", {"a": np.ones(2)})

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(CheckpointError, match=error.strerror) as caught:
        open_checkpoint(path)
    assert str(path) in str(caught.value)


def test_hostile_S55_short_reads(tmp_path, monkeypatch):
    array = random_array(0, (100, 7), np.float32)
    path = write_safetensors(tmp_path / "model.safetensors", {"a": array})
    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, views, at: preadv(fd, [views[0][:13]], at))
    assert same(open_checkpoint(path)["a"].read(), array)


def test_hostile_S56_more_than_4_gib(tmp_path, monkeypatch):
    """A sparse file; and no single read is longer than the limit, which Linux would cut."""
    shape = (3 << 20, 1500)  # uint8: 4.7 GB, 2**31 elements lie below the end
    size = shape[0] * shape[1]
    header = st_file({"a": entry("U8", shape, (0, size))})
    path = put(tmp_path, "model.safetensors", header)
    os.truncate(path, len(header) + size)
    with open(path, "r+b") as file:
        file.seek(len(header) + size - 1500)
        file.write(bytes(range(250)) * 6)
    tensor = open_checkpoint(path)["a"]
    monkeypatch.setattr(files, "_LARGEST_READ", 1000)
    last = tensor.read(((shape[0] - 2, shape[0]), (0, 1500)))
    assert last[0].sum() == 0 and last[1].tobytes() == bytes(range(250)) * 6
    assert tensor.read(((shape[0] - 1, shape[0]), (249, 251))).tolist() == [[249, 0]]


def test_reads_no_weights_to_open(tmp_path):
    path = write_safetensors(tmp_path / "model.safetensors", {"a": np.ones((1000, 1000))})
    assert open_checkpoint(path).bytes_read < 1000


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(
    lambda name: name != "__metadata__"
)


def written(dtype) -> bool:
    """Whether the reference writes it; 0.7 has no F8_E4M3FNUZ and F8_E5M2FNUZ."""
    with contextlib.suppress(safetensors.SafetensorError):
        return bool(save({"a": np.zeros(1, dtype)}))
    return False


written_arrays = arrays([dtype for dtype in DTYPES.values() if written(dtype)])


@quick
@given(st.dictionaries(names, written_arrays, max_size=6), st.none() | st.just({"format": "pt"}))
def test_reads_what_the_reference_writes(tmp_path_factory, tensors, metadata):
    path = put(tmp_path_factory.mktemp("st"), "model.safetensors", save(tensors, metadata))
    found, said = read_header(files.LocalFile(path))
    assert found.keys() == tensors.keys() and said == (metadata or {})
    for name, array in tensors.items():
        assert same(found[name].read(), array)


nasty = st.sampled_from(
    [None, True, -1, 0, 1, 2**31, 2**63, 2**64, 1.5, "", "F32", "a", "BOOL", "F4"]
    + [[], [0], [0, 0], [0, 8], [8, 16], [2**62, 0], [1] * 40, {}, {"a": "b"}]
)


@quick
@given(st.data())
def test_accepts_nothing_that_the_reference_refuses(tmp_path_factory, data):
    """One lie in a good header: refused, or read as the reference reads it."""
    header = {"__metadata__": {"k": "v"}, "a": entry(), "b": entry("I16", (2, 2), (8, 16))}
    where = data.draw(st.sampled_from(["__metadata__", "a", "b"]))
    field = data.draw(st.sampled_from(["", *header[where], "new"]))
    value = data.draw(nasty)
    if field:
        header[where][field] = value
    else:
        header[where] = value
    content = st_file(header, bytes(range(16)))
    path = put(tmp_path_factory.mktemp("lie"), "model.safetensors", content)
    try:
        found = open_checkpoint(path).tensors
    except CheckpointError as error:
        assert str(path) in str(error)
        return
    expected = dict(safetensors.deserialize(content))
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert raw(tensor.read()) == bytes(expected[name]["data"])
        assert list(tensor.shape) == expected[name]["shape"]


@quick
@given(st.binary(max_size=200) | st.tuples(st.integers(0, 200), st.binary(min_size=1, max_size=4)))
def test_any_bytes_give_an_error_or_tensors(tmp_path_factory, noise):
    content = st_file({"a": entry(), "b": entry("U8", (3,), (8, 11))}, b"\1" * 11)
    if isinstance(noise, bytes):
        content = noise
    else:
        at, piece = noise
        content = content[:at] + piece + content[at + len(piece) :]
    path = put(tmp_path_factory.mktemp("noise"), "model.safetensors", content)
    try:
        for tensor in open_checkpoint(path).tensors.values():
            tensor.read()
    except CheckpointError as error:
        assert str(path) in str(error)


@quick
@given(st.data())
def test_read_of_bounds_equals_slicing(tmp_path_factory, data):
    """Any box of any tensor, in one file part or across several, equals NumPy's slice."""
    array = data.draw(safetensors_arrays)
    runs = data.draw(st.sampled_from([1, 8, 64, 4096]))
    path = write_safetensors(tmp_path_factory.mktemp("b") / "model.safetensors", {"a": array})
    tensor = open_checkpoint(path)["a"]
    (span,) = tensor.spans
    cuts = sorted(data.draw(st.lists(st.integers(0, span.length), max_size=4)))
    edges = [0, *cuts, span.length]
    spans = tuple(
        files.Span(span.file, span.offset + start, stop - start)
        for start, stop in zip(edges, edges[1:], strict=False)
    )
    tensor = source.Tensor("a", tensor.shape, tensor.dtype, spans)
    bounds = []
    for size in array.shape:
        start = data.draw(st.integers(0, size))
        bounds.append((start, data.draw(st.integers(start, size))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "_SHORT_RUN", runs)
        patch.setattr(source, "_BLOCK", data.draw(st.sampled_from([1, 16, 1 << 20])))
        part = tensor.read(tuple(bounds))
    assert same(part, array[tuple(slice(*bound) for bound in bounds)])


@pytest.mark.parametrize(
    ("bounds", "most"),
    [
        (((0, 512), (0, 4096)), 1.0),  # rows
        (((100, 101), (0, 4096)), 1.0),
        (((0, 1024), (1024, 2048)), 1.0),  # columns, in runs of 4096 bytes
        (((7, 9), (3, 1500)), 1.0),
        (((0, 1024), (0, 4)), 1024.0),  # runs shorter than a page: with what lies between them
    ],
)
def test_reads_about_what_is_asked_for(bounds, most, tmp_path):
    array = random_array(0, (1024, 4096), np.float32)
    path = write_safetensors(tmp_path / "model.safetensors", {"a": array})
    checkpoint = open_checkpoint(path)
    before = checkpoint.bytes_read
    part = checkpoint["a"].read(bounds)
    assert same(part, array[tuple(slice(*bound) for bound in bounds)])
    assert checkpoint.bytes_read - before <= most * part.nbytes


def test_short_runs_of_long_rows_need_no_long_rows_of_memory(tmp_path):
    """Ten numbers of each 1 GiB row of a sparse file: neither memory nor bytes of whole rows."""
    shape = (4, 1 << 28)
    header = st_file({"a": entry("F32", shape, (0, 4 << 30))})
    path = put(tmp_path, "model.safetensors", header)
    os.truncate(path, len(header) + (4 << 30))
    checkpoint = open_checkpoint(path)
    assert checkpoint["a"].read(((0, 4), (5, 15))).tolist() == [[0.0] * 10] * 4
    assert checkpoint.bytes_read < 10_000


def test_goldens_equal_the_reference():
    paths = sorted(GOLDENS.glob("*/checkpoint/*.safetensors"))
    assert len(paths) >= 5
    for path in paths:
        expected = dict(safetensors.deserialize(path.read_bytes()))
        found = read_header(files.LocalFile(path))[0]
        assert found.keys() == expected.keys()
        for name, tensor in found.items():
            assert raw(tensor.read()) == bytes(expected[name]["data"])
            assert DTYPES[expected[name]["dtype"]] == tensor.dtype


def test_every_dtype_as_the_reference_writes_it():
    folder = GOLDENS / "formats" / "safetensors"
    found = open_checkpoint(folder / "dtypes.safetensors").tensors
    expected = {k.replace("/", "."): v for k, v in listed(folder / "dtypes.expected.json").items()}
    assert found.keys() == expected.keys()
    assert {array.dtype for array in expected.values()} == set(DTYPES.values())
    assert all(same(found[name].read(), array) for name, array in expected.items())


def test_is_not_a_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="no such file or folder"):
        open_checkpoint(tmp_path / "gone")
    with pytest.raises(CheckpointError, match="not a checkpoint folder, a weights file"):
        open_checkpoint(put(tmp_path, "weights.txt", b""))
    with pytest.raises(CheckpointError, match="'nowhere'"):
        path = write_safetensors(tmp_path / "a.safetensors", {})
        open_checkpoint(path)["nowhere"]

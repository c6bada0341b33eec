"""The GGUF reader: what a bad file gets, and that good ones are read to the last bit."""

import re
import struct
import time

import numpy as np
import pytest
from _files import put, refused
from _gguf import ARRAY, BOOL, F32, I32, STRING, U8, U32, U64, array, gguf, info, pair, string
from _paths import GOLDENS

from flaxmodels import params as fp
from flaxmodels.gguf import config_of
from flaxmodels.params.formats import gguf as reader
from flaxmodels.params.formats.files import LocalFile
from flaxmodels.params.formats.gguf import header, metadata
from flaxmodels.params.formats.gguf.types import BLOCKS, PLAIN, REFUSED
from flaxmodels.params.quantized.packed import PackedTensor
from flaxmodels.params.quantized.readers import gguf as blocks

FOUR = np.arange(4, dtype=np.float32).tobytes()
FILES = GOLDENS / "gguf"
ONE = [info("a")]
DEEP = struct.pack("<IQ", ARRAY, 1) * 100_000


def of(*pairs: bytes, infos=ONE, data: bytes = FOUR, **lies) -> bytes:
    return gguf(pairs, infos, data, **lies)


def with_alignment(kind: int, value) -> bytes:
    return of(pair("general.alignment", kind, value))


# id (the row in the table of hostile inputs): the file's bytes, and what the error says
BAD = {
    "G1-empty": (b"", "0 bytes is too small"),
    "G1-short": (b"GGUF" + bytes(19), "23 bytes is too small"),
    "G1-magic": (of(magic=b"GGML"), "not GGUF: it begins with b'GGML'"),
    "G1-lfs": (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer"),
    "G1-html": (b"<!DOCTYPE html><title>404</title>", "starts with HTML"),
    "G1-version-0": (of(version=0), "version 0; read are 2 and 3"),
    "G1-version-1": (of(version=1), "version 1; .*since 2023"),
    "G1-version-99": (of(version=99), "version 99"),
    "G1-big-endian": (of(version=3 << 24), "big-endian GGUF.*gguf_convert_endian"),
    "G2-tensors-2**63": (of(counts=(2**63, 0)), "9223372036854775808 tensors in"),
    "G2-tensors-2**40": (of(counts=(2**40, 0)), "1099511627776 tensors in"),
    "G2-tensors-one-more": (of(counts=(2, 0)), "tensor 'a' starts at byte 0 .*it overlaps"),
    "G2-pairs-2**63": (of(counts=(1, 2**63)), "9223372036854775808 pairs of metadata in"),
    "G3-key-2**62": (
        of(string(b"a", 2**62), infos=()),
        "a key of 4611686018427387904 bytes",
    ),
    "G3-key-long": (of(pair("k" * 70_000, U8, 1)), "a key of 70000 bytes, at most 65535"),
    "G3-value": (
        of(string("k") + struct.pack("<I", STRING) + string(b"", 2**62)),
        "the value of 'k' of 4611686018427387904 bytes",
    ),
    "G3-name": (of(infos=[string(b"a", 2**62) + bytes(24)]), "name of 4611686018427387904 bytes"),
    "G4-array-2**60": (of(pair("k", ARRAY, array(U8, (), 2**60))), "1152921504606846976 elements"),
    "G4-wraps": (of(pair("k", ARRAY, array(U64, (), 2**61))), "2305843009213693952 elements"),
    "G4-strings": (of(pair("k", ARRAY, array(STRING, (), 2**60))), "elements of metadata 'k'"),
    "G4-string-in-array": (
        of(pair("k", ARRAY, struct.pack("<IQ", STRING, 1) + string(b"", 2**63)), infos=()),
        "cut short: 9223372036854775808 bytes",
    ),
    "G5-nested": (of(pair("k", ARRAY, DEEP)), "'k' is an array of arrays, which is not read"),
    "G6-type": (of(string("k") + struct.pack("<I", 13)), "'k' has type 13; known: 0 to 12"),
    "G6-array-type": (of(pair("k", ARRAY, array(99, ()))), "'k' is an array of type 99"),
    "G7-key-twice": (of(pair("k", U8, 1), pair("k", U8, 1)), "metadata 'k' appears twice"),
    "G7-name-twice": (
        of(infos=[info("a"), info("a", offset=32)], data=bytes(64)),
        "'a' appears twice",
    ),
    "G8-alignment-0": (with_alignment(U32, 0), "'general.alignment' is 0, expected a power"),
    "G8-alignment-3": (with_alignment(U32, 3), "is 3, expected a power of two"),
    "G8-alignment-2**31": (with_alignment(U32, 2**31), "is 2147483648, expected a power"),
    "G8-alignment-string": (with_alignment(STRING, "32"), "is '32', expected an integer"),
    "G8-alignment-bool": (with_alignment(BOOL, True), "is 'True', expected an integer"),
    "G8-alignment-float": (with_alignment(F32, 32.0), "is '32.0', expected an integer"),
    "G8-alignment-negative": (with_alignment(I32, -32), "is '-32', expected an integer"),
    "G9-rank-5": (of(infos=[info("a", (1,) * 5)]), "'a': 5 dimensions, at most 4"),
    "G9-rank-2**32-1": (
        of(infos=[string("a") + struct.pack("<I", 2**32 - 1) + bytes(40)]),
        "'a': 4294967295 dimensions",
    ),
    "G10-overflow": (of(infos=[info("a", (2**32, 2**32, 4))]), "'a': shape .*is too large"),
    "G10-2**40": (
        of(infos=[info("a", (2**40, 2))]),
        "'a': float32 of shape .1099511627776, .*cut short",
    ),
    "G10-0": (of(infos=[info("a", (0, 2))]), "'a': shape .*has a size of 0"),
    "G11-unknown": (of(infos=[info("a", kind=99)]), r"'a': type 99 \(unknown\) is not read; read"),
    "G11-removed": (of(infos=[info("a", kind=4)]), r"'a': type 4 \(Q4_2\) is not read"),
    "G11-iq": (of(infos=[info("a", (1, 256), 16)]), r"type 16 \(IQ2_XXS\) is not read.*Q4_K"),
    "G12-block": (of(infos=[info("a", (2, 31), 8)]), "'a': Q8_0 .*rows of 31 are no whole blocks"),
    "G12-vector": (of(infos=[info("a", (32,), 8)]), "'a': Q8_0 of shape .*expected a matrix"),
    "G13-past-end": (of(infos=[info("a", offset=2**63)]), "'a' starts at byte .*leaves a hole"),
    "G13-wraps": (of(infos=[info("a", offset=2**64 - 32)]), "'a' starts at byte .*leaves a hole"),
    "G13-unaligned": (
        of(infos=[info("a"), info("b", offset=16)], data=bytes(64)),
        "'b' starts at byte 16 of the data, expected 32: it overlaps",
    ),
    "G13-overlap": (
        of(infos=[info("a"), info("b")], data=bytes(64)),
        "'b' starts at byte 0 of the data, expected 32: it overlaps",
    ),
    "G13-hole": (of(infos=[info("a", offset=32)], data=bytes(64)), "expected 0: it leaves a hole"),
    "G14-cut": (of()[:-1], "'a': float32 of shape .* the file ends at .*cut short"),
    "G14-header": (of()[:30], "tensors in .* bytes|name of"),
    "G15-key": (of(pair(b"\xff", U8, 1)), "a key is not UTF-8"),
    "G15-value": (of(pair("k", STRING, b"\xff")), "the value of 'k' is not UTF-8"),
    "G15-name": (of(infos=[info(b"\xff")]), "a tensor's name is not UTF-8"),
    "G15-control": (of(infos=[info("\x1b[2J\u202e", kind=99)]), r"'\\x1b\[2J\\u202e'"),
    "G16-name": (of(pair("split.count", U32, 2)), "'split.count' is 2, .* -00001-of-00002|called"),
    "G16-2**32": (of(pair("split.count", U32, 2**32 - 1)), "'split.count' is 4294967295"),
    "G16-string": (of(pair("split.count", STRING, "2")), "'split.count' is '2', expected an int"),
    "G16-tensors": (of(pair("split.tensors.count", I32, 2)), "'split.tensors.count' is 2, .*1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_file(case, tmp_path):
    content, message = BAD[case]
    refused(put(tmp_path, "x.gguf", content), message, within=1)


def part(number: int, count: int = 2, name: str = "a", total: int = 2) -> bytes:
    keys = {"split.no": number, "split.count": count, "split.tensors.count": total}
    return of(*(pair(key, U32, value) for key, value in keys.items()), infos=[info(name)])


PARTS = {  # the second part; which is opened; and what the error says
    "G16-missing": (None, 0, "1 are not there: .*00002-of-00002"),
    "G16-number": (part(0, name="b"), 0, "says that it is part 0 .from 0. of 2; expected 1 of 2"),
    "G16-count": (part(1, 3, "b"), 0, "says that it is part 1 .from 0. of 3; expected 1 of 2"),
    "G16-twice": (part(1), 0, "tensor 'a' is in an earlier part"),
    "G16-total": (part(1, name="b", total=9), 0, None),
    "G16-second": (part(1, name="b"), 1, "one of 2 parts; give the first, 'x-00001-of-00002.gguf'"),
}


@pytest.mark.parametrize("case", PARTS)
def test_G16_parts(case, tmp_path):
    second, opened, message = PARTS[case]
    paths = [put(tmp_path, "x-00001-of-00002.gguf", part(0))]
    if second is not None:
        paths.append(put(tmp_path, "x-00002-of-00002.gguf", second))
    if message is not None:
        refused(paths[opened], message)
        return
    source = fp.open_checkpoint(paths[0])
    assert [*source.tensors] == ["a", "b"] and len(source.files) == 2
    assert source["b"].read().tobytes() == FOUR


def test_G16_a_name_that_leads_out_of_the_folder(tmp_path):
    """A part's name is that of the first one but for its number: no file says it."""
    put(tmp_path, "x-00002-of-00002.gguf", part(1, name="b"))
    inside = tmp_path / "inside"
    inside.mkdir()
    refused(put(inside, "x-00001-of-00002.gguf", part(0)), "1 are not there")


def test_G4_a_vocabulary_is_walked_at_once(tmp_path):
    many = struct.pack("<IQ", STRING, 200_000) + (struct.pack("<Q", 2) + b"ab") * 200_000
    path, start = put(tmp_path, "x.gguf", of(pair("k", ARRAY, many))), time.process_time()
    assert reader.open_gguf(str(path)).metadata.array("k").count == 200_000
    assert time.process_time() - start < 1


def test_G4_more_strings_than_there_are_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(metadata, "_MOST_STRINGS", 100)
    some = array(STRING, ["a"] * 60)
    path = put(tmp_path, "x.gguf", of(pair("k", ARRAY, some), pair("l", ARRAY, some)))
    refused(path, "'l': more than 100 strings")
    many = array(STRING, ["a"] * 101)
    refused(put(tmp_path, "x.gguf", of(pair("k", ARRAY, many))), "101 elements .*at most 100")


def test_G13_many_tensors_over_the_same_bytes(tmp_path, monkeypatch):
    infos = [info(f"t{i}", (4,)) for i in range(10_001)]
    monkeypatch.setattr(header, "_MOST_TENSORS", 10_000)
    path = put(tmp_path, "x.gguf", of(infos=infos[1:]))
    refused(path, "starts at byte 0 of the data, expected 32: it overlaps", within=1)
    refused(put(tmp_path, "x.gguf", of(infos=infos)), "10001 tensors in .*at most 10000", within=1)


GOOD = {
    "empty": (gguf(), {}),
    "version-2": (of(version=2), {"a": (2, 2)}),
    "scalar": (of(infos=[info("a", ())]), {"a": ()}),
    "four": (of(infos=[info("a", (1, 2, 2, 1))]), {"a": (1, 2, 2, 1)}),
    "out-of-order": (
        of(infos=[info("b", offset=32), info("a")], data=bytes(64)),
        {"b": (2, 2), "a": (2, 2)},
    ),
    "alignment": (
        gguf([pair("general.alignment", U32, 128)], ONE, FOUR, alignment=128),
        {"a": (2, 2)},
    ),
    "more-at-the-end": (of(data=FOUR + bytes(100)), {"a": (2, 2)}),
    "one-part": (of(pair("split.count", U32, 1)), {"a": (2, 2)}),
}


@pytest.mark.parametrize("case", GOOD)
def test_odd_but_good_file(case, tmp_path):
    content, shapes = GOOD[case]
    tensors = fp.open_checkpoint(put(tmp_path, "x.gguf", content)).tensors
    assert {name: tensor.shape for name, tensor in tensors.items()} == shapes
    for tensor in tensors.values():
        tensor.read()


def test_metadata_by_its_type():
    found = reader.open_gguf(str(FILES / "blocks.gguf")).metadata
    assert found.text("general.architecture") == "llama" and len(found) == 6
    assert found.array("tokens").read() == ["a", "\u00df", ""]
    assert found.array("numbers").read() == [1, -2]
    assert found.number("half") == 0.5 and found.flag("yes") is True
    assert found.whole("none", 3) == 3 and found["minus"] == -3
    wrong = {
        "no key 'none'": lambda: found.text("none"),
        "'yes' is 'True', expected an integer": lambda: found.whole("yes"),
        "'minus' is '-3', expected an integer that is not": lambda: found.whole("minus"),
        "'tokens' is an array of 3, expected a string": lambda: found.text("tokens"),
        "'half' is '0.5', expected an array": lambda: found.array("half"),
    }
    for message, ask in wrong.items():
        with pytest.raises(fp.CheckpointError, match=f"blocks.gguf.*{message}"):
            ask()


@pytest.mark.parametrize("number", [float("inf"), float("nan")])
def test_a_number_that_is_none(number, tmp_path):
    path = put(tmp_path, "x.gguf", of(pair("k", F32, number)))
    with pytest.raises(fp.CheckpointError, match="expected a finite number"):
        reader.open_gguf(str(path)).metadata.number("k")


def test_float32_is_the_shortest_number_that_it_may_have_been(tmp_path):
    path = put(tmp_path, "x.gguf", of(pair("k", F32, 1e-6)))
    assert reader.open_gguf(str(path)).metadata.number("k") == 1e-6


@pytest.fixture(scope="module")
def read():
    """The tensors of all types, quantised ones as packed tensors."""
    return blocks.read_gguf(fp.open_checkpoint(FILES / "blocks.gguf")).tensors


@pytest.mark.parametrize("name", [*blocks.NUMBERS, "F32", "F16", "BF16"])
def test_numbers_are_the_writers_bit_for_bit(name, read):
    with np.load(FILES / "blocks.npz") as expected:
        numbers = read[name].read()
        assert numbers.astype(np.float32).tobytes() == expected[name].tobytes()
        columns = numbers.shape[-1]
        for rows, cut in ((0, 1), (3, columns - 3)), ((1, 2), (columns - 1, columns)):
            part = read[name].read((rows, cut)).astype(np.float32)
            assert part.tobytes() == expected[name][slice(*rows), slice(*cut)].tobytes()


def test_all_types_of_the_format_are_read_or_refused_by_name():
    assert {block.name for block in BLOCKS.values()} == blocks.NUMBERS.keys()
    for number, block in BLOCKS.items():
        assert block.size == blocks.NUMBERS[block.name].count and number not in REFUSED
    assert {*PLAIN, *BLOCKS, *REFUSED} == {*range(42)}


@pytest.mark.parametrize("name", blocks.NUMBERS)
def test_fields_are_those_of_a_quantised_weight(name, read):
    """Kept packed, a weight takes hardly more than the file's blocks."""
    packed, raw = read[name], read[name].spans[0].length
    assert packed.form.codes == blocks.NUMBERS[name].codes and packed.nbytes <= raw
    assert raw - packed.nbytes < 0.02 * raw


def test_a_scale_that_is_no_number_is_refused(tmp_path):
    block = np.float16("nan").tobytes() + bytes(32)
    path = put(tmp_path, "x.gguf", of(infos=[info("a", (1, 32), 8)], data=block))
    tensor = blocks.read_gguf(fp.open_checkpoint(path))["a"]
    with pytest.raises(fp.CheckpointError, match=rf"{re.escape(str(path))}: tensor 'a' .*nan"):
        tensor.read()


def test_parts_of_rows_read_their_own_bytes_alone(tmp_path):
    rows = 4096
    path = put(tmp_path, "x.gguf", of(infos=[info("a", (rows, 256), 12)], data=bytes(144 * rows)))
    source = blocks.read_gguf(fp.open_checkpoint(path))
    before, start = source.bytes_read, time.process_time()
    source["a"].read(((17, 19), (0, 256)))
    assert source.bytes_read - before <= 5 * 2 * 144 and time.process_time() - start < 1


class Address(LocalFile):
    """A file that counts its reads, as a server its requests."""

    is_kept = False
    reads = 0

    def _fill(self, offset: int, view: memoryview) -> None:
        self.reads += 1
        super()._fill(offset, view)


def test_a_file_at_an_address_is_read_in_few_requests(tmp_path):
    rows, data = 4096, bytes(144 * 4096 * 4)
    path = put(tmp_path, "x.gguf", of(infos=[info("a", (rows, 1024), 12)], data=data))
    file = Address(path)
    raw = header.read_header(file).tensors["a"]
    assert raw.shape == (rows, 4 * 144)
    tensor = blocks.read_gguf(fp.Source(str(path), {"a": raw}, "torch"))["a"]
    assert isinstance(tensor, PackedTensor)
    file.reads = 0
    tensor.read()
    assert file.reads <= 5  # arrays of a weight
    file.reads = 0
    tensor.fields["data"].read()
    assert file.reads == 1


def test_what_is_refused_may_be_that_a_key_is_not_there():
    opened = reader.open_gguf(str(FILES / "falcon.gguf"))
    key = "falcon.attention.head_count_kv"
    keys = {name: value for name, value in opened.metadata.items() if name != key}
    tensors = opened.tensors | {"blk.0.attn_norm_2.weight": opened.tensors["output_norm.weight"]}
    changed = reader.Gguf(opened.path, reader.Metadata(opened.path, keys), tensors)
    with pytest.raises(fp.CheckpointError, match=f"{key}' is not there; read is a Falcon with one"):
        config_of(changed)

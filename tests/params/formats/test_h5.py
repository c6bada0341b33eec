"""Keras H5: what a bad file gets, and that good ones are read to the last bit."""

import json
import os
import random
import re
import subprocess
import sys

import h5py
import numpy as np
import pytest
from _files import put, random_array, refused, same
from _paths import GOLDENS

from flaxmodels.params import CheckpointError, open_checkpoint
from flaxmodels.params.formats.files import LocalFile
from flaxmodels.params.formats.hdf5 import datasets, read_index

TF_GOLDENS = GOLDENS / "formats" / "tf"
ONE = np.ones(4, np.float32)


def external_storage(file, folder):
    file.create_dataset("k", (16,), "u1", external=[(put(folder, "secret", b"s" * 16), 0, 16)])


def external_link(file, folder):
    with h5py.File(folder / "other.h5", "w") as other:
        other["k"] = ONE
    file["k"] = h5py.ExternalLink(folder / "other.h5", "/k")


def virtual(file, folder):
    with h5py.File(folder / "other.h5", "w") as other:
        other["k"] = ONE
    layout = h5py.VirtualLayout((4,), np.float32)
    layout[:] = h5py.VirtualSource(folder / "other.h5", "k", (4,))
    file.create_virtual_dataset("k", layout)


def one_dataset_under_many_names(file, _):
    file["w"] = ONE
    for i in range(20_000):
        file.id.links.create_hard(f"w{i}".encode(), file.id, b"w")


def one_group_as_many_layers(file, _):
    """Ten kilobytes that say nine million times where one array is."""
    names = [f"layer{i}" for i in range(300)]
    group = file.create_group("layer")
    group["w"] = ONE
    group.attrs["weight_names"] = np.array([b"w"] * 3000)
    for name in names:
        file[name] = group
    file.attrs["layer_names"] = np.array([name.encode() for name in names])


def two_groups_in_a_circle(file, folder):
    file["a/w"] = ONE
    file["a/b"] = file["a"]


def never_written(file, folder):
    file.create_dataset("k", (4,), "f4")


def third_party_filter(file, folder):
    create = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    create.set_chunk((4,))
    create.set_filter(32001, h5py.h5z.FLAG_OPTIONAL)
    h5py.h5d.create(file.id, b"k", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((4,)), create)


def odd_float(file, folder):
    """Four bytes whose exponent is not where IEEE has it."""
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_ebias(100)
    dataset = h5py.h5d.create(file.id, b"k", kind, h5py.h5s.create_simple((4,)))
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, ONE, mtype=kind)


def compact(file, folder):
    create = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    create.set_layout(h5py.h5d.COMPACT)
    h5py.h5d.create(file.id, b"k", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((4,)), create)


def array(value, **kwargs):
    return lambda file, folder: file.create_dataset("k", data=value, **kwargs)


def typed(dtype, shape=(2,)):
    return lambda file, folder: file.create_dataset("k", shape, dtype)


def lists(layers, weights=None, **kwargs):
    """A file with Keras' attributes."""

    def make(file, folder):
        file["layer/w"] = ONE
        file.attrs["layer_names"] = layers
        if weights is not None:
            file["layer"].attrs["weight_names"] = weights

    return make


FORM = "'k' is chunked, compressed, virtual or in another file"
TYPE = "'k' is of type .*; known are little-endian float16"
NAMES = "is not a list of at most 100000 names"
# id (the row in the table of hostile inputs): what makes the file, and what the error says
BAD = {
    "H1-external-storage": (external_storage, FORM),
    "H2-external-link": (external_link, "'k' is a ExternalLink, which leads elsewhere"),
    "H2-soft-link": (lambda f, _: f.update({"k": h5py.SoftLink("/x")}), "'k' is a SoftLink"),
    "H3-virtual": (virtual, FORM),
    "H5-4-TiB": (lambda f, _: f.create_dataset("k", (1 << 40,), "f4", chunks=(1 << 20,)), FORM),
    "H5-never-written": (never_written, "'k' was never written"),
    "H6-gzip": (array(np.zeros(1 << 20, np.uint8), compression="gzip"), FORM),
    "H6-chunked": (array(ONE, chunks=(2,)), FORM),
    "H7-third-party-filter": (third_party_filter, FORM),
    "H8-strings": (array(["a", "b"]), TYPE),
    "H8-references": (typed(h5py.ref_dtype), TYPE),
    "H8-vlen": (typed(h5py.vlen_dtype(np.int32)), TYPE),
    "H9-compound": (typed([("a", "f4"), ("b", "i4")]), TYPE),
    "H9-complex": (typed(np.complex64), TYPE),
    "H9-enum": (typed(h5py.enum_dtype({"A": 1, "B": 2}, "i1")), TYPE),
    "H9-opaque": (typed("V8"), TYPE),
    "H9-bytes": (typed("S4"), TYPE),
    "H9-array": (typed(np.dtype("(3,)f4")), TYPE),
    "H9-big-endian": (array(ONE.astype(">f4")), TYPE),
    "H9-odd-float": (odd_float, TYPE),
    "H9-compact": (compact, FORM),
    "H11-empty": (array(h5py.Empty("f4")), "'k' is no array"),
    "H12-outside": (lists(["layer"], ["../x"]), r"'../x' is named, but is not there"),
    "H12-absolute": (lists(["/layer"]), "'/layer' is named, but is not there"),
    "H12-layer-missing": (lists(["other"]), "'other' is named, but is not there"),
    "H12-no-weight-names": (lists(["layer"]), "layer 'layer' has no weight_names"),
    "H12-weight-missing": (lists(["layer"], ["w", "x"]), "'x' is named, but is not there"),
    "H12-through-a-dataset": (lists(["layer"], ["w/x"]), "'w/x' is named, but is not there"),
    "H12-number": (lists(3), NAMES),
    "H12-numbers": (lists(np.arange(3)), NAMES),
    "H12-one-string": (lists("layer"), NAMES),
    "H12-square": (lists(np.full((2, 2), b"layer")), NAMES),
    "H12-not-utf8": (lists(np.array([b"\xff"])), "not HDF5, or damaged"),
    "H12-a-group": (lists(["layer"], [""]), "'' is named, but is not there"),
    "H12-many-names-of-one": (one_dataset_under_many_names, "more than 20000 groups and datasets"),
    "H12-a-dataset-twice": (lambda f, _: f.update({"a": ONE}) or f.update({"b": f["a"]}), "twice"),
    "H12-many-layers-of-one": (one_group_as_many_layers, "lists more than 20000 layers"),
    "H12-million": (lists(np.full(120_000, b"w"), ["w"]), NAMES),
    "circle": (two_groups_in_a_circle, "'a/b' is there twice, or too deep"),
    "deep": (array(ONE) and (lambda f, _: f.update({"a/" * 70 + "k": ONE})), "or too deep"),
    "link-in-the-way": (
        lambda f, _: f.update({"layer/w": ONE, "model_weights": h5py.SoftLink("/layer")}),
        "'model_weights' is a SoftLink",
    ),
    "long-name": (lambda f, _: f.update({"n" * 5000: ONE}), "no description of a dataset"),
    "control-characters": (lambda f, _: f.update({"\x1b[2J": h5py.SoftLink("x")}), r"'\\x1b\[2J'"),
}


ANSWERS = """
import json, runpy, sys
walk = runpy.run_path(sys.argv[1], run_name="walk")
walk["limited"]()
print(json.dumps([walk["main"](path) for path in json.load(sys.stdin)]))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """{case: (its file, what is said of it)}: one process walks all files."""
    files = {}
    for case, (make, _) in BAD.items():
        path = tmp_path_factory.mktemp("bad") / "tf_model.h5"
        with h5py.File(path, "w", libver="latest") as file:
            make(file, path.parent)
        files[case] = path
    walk = subprocess.run(
        [sys.executable, "-c", ANSWERS, str(datasets._WALK)],
        input=json.dumps([str(path) for path in files.values()]),
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
        check=True,
    )
    found = zip(files.values(), json.loads(walk.stdout), strict=True)
    return dict(zip(files, found, strict=True))


@pytest.mark.parametrize("case", BAD)
def test_bad_file(case, answers, monkeypatch):
    path, answer = answers[case]
    monkeypatch.setattr(datasets, "_walk", lambda file: answer)
    refused(path, BAD[case][1])


@pytest.mark.parametrize("case", ["H2-external-link", "control-characters"])
def test_bad_file_by_the_process_itself(case, answers):
    refused(answers[case][0], BAD[case][1])


GOOD = (TF_GOLDENS / "keras" / "model.h5").read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not HDF5, or damaged"),
        (GOOD[:-1], "not HDF5, or damaged: .*truncated file"),
        (GOOD[:100], "not HDF5, or damaged"),
        (GOOD[:20] + b"\xff" * 8 + GOOD[28:], "not HDF5, or damaged"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "git lfs pull"),
        (b"<!DOCTYPE html>", "starts with HTML"),
    ],
    ids=["empty", "cut", "superblock-only", "superblock", "lfs", "html"],
)
def test_hostile_H13_damaged(tmp_path, content, message):
    refused(put(tmp_path, "tf_model.h5", content), message)


def test_hostile_H15_a_whole_model_and_its_lambda():
    """The bytecode in `model_config` and the optimizer are left alone."""
    path = TF_GOLDENS / "keras" / "model.h5"
    with h5py.File(path) as file:
        assert "Lambda" in file.attrs["model_config"] and "optimizer_weights" in file
        kernel = file["model_weights/dense/dense/kernel:0"][()]
    found = read_index(LocalFile(path))
    assert found.keys() == {"dense/kernel:0", "dense/bias:0"}
    assert same(found["dense/kernel:0"].read(), kernel)


def test_without_h5py(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match=re.escape("pip install flaxmodels[h5]")):
        open_checkpoint(TF_GOLDENS / "h5")


# The other process


@pytest.fixture
def walker(monkeypatch, tmp_path):
    """Puts a program in the place of the one that walks."""

    def replace(code):
        path = put(tmp_path, "walk.py", "import os, sys, time\n" + code)
        monkeypatch.setattr(datasets, "_WALK", path)

    return replace


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("os.kill(os.getpid(), 11)", "the HDF5 reader process died, signal 11"),
        ("os.abort()", "the HDF5 reader process died, signal 6"),
        ("time.sleep(60)", "the HDF5 reader process: .*timed out after 1 seconds"),
        ("sys.exit('no room')", "the HDF5 reader process failed: b'no room"),
        ("print('[')", "the HDF5 reader process: "),
        ("print('[' * 10**6)", "the HDF5 reader process: nested too deeply"),
        ("print('{}')", "{}"),
        ("print('[[]]')", "no description of a dataset"),
        ("""print('[["w", [2], "float32", 0]]')""", "no description of a dataset"),
        ("""print('[["w", [2.0], "float32", 0, 8]]')""", "no description of a dataset"),
        ("""print('[["w", [-2], "float32", 0, 8]]')""", "no description of a dataset"),
        ("""print('[["w", [2], "object", 0, 8]]')""", "no description of a dataset"),
        ("""print('[[1, [2], "float32", 0, 8]]')""", "no description of a dataset"),
        ("""print('[["w", [2], "float32", 0, 4]]')""", "'w': float32 .*takes 8 bytes, .* 4"),
        ("""print('[["w", [2], "float32", -8, 8]]')""", "'w': 8 bytes at byte -8"),
        ("""print('[["w", [2], "float32", 1000000, 8]]')""", "'w': 8 bytes at byte 1000000"),
        ("""print('[["w", [0, %d], "int8", 0, 0]]' % (2**63))""", "'w': shape .*too large"),
        ("""print('[["w", [%s1], "int8", 0, 0]]' % ("9223372036854775807," * 50000))""", "large"),
        ("""print('"' + chr(92) + 'u001b[2J"')""", r"\\x1b\[2J"),
    ],
)  # fmt: skip
def test_hostile_H14_what_the_process_may_say(walker, monkeypatch, code, message):
    monkeypatch.setattr(datasets, "_SECONDS", 1)
    walker(code)
    refused(TF_GOLDENS / "keras" / "model.h5", message)


LIMITS = {
    "memory": ("bytearray(3 << 30)", "MemoryError"),
    "output": ("print('x' * (100 << 20))", "File too large"),
    "time": ("sys.exit(str(resource.getrlimit(resource.RLIMIT_CPU)))", r"\(20, 20\)"),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_hostile_H14_limits(walker, limit):
    """They hold once the program has been read, before it is given a file."""
    code, message = LIMITS[limit]
    limited = f"sys.path[:] = sys.argv[2:]\nrunpy.run_path({str(datasets._WALK)!r})['limited']()"
    walker(f"import resource, runpy, sys\n{limited}\n{code}\n")
    refused(TF_GOLDENS / "keras" / "model.h5", f"the HDF5 reader process failed: .*{message}")


MUTANTS = """
import json, resource, runpy, sys
walk = runpy.run_path(sys.argv[1], run_name="walk")
resource.setrlimit(resource.RLIMIT_CPU, (3, 20))  # some hang
for path in json.load(sys.stdin):
    print(path, flush=True)
    answer = walk["main"](path)
    json.dump(answer, open(path + ".json", "w"))
"""


def test_hostile_H14_mutants(tmp_path, monkeypatch, thorough):
    """The walk answers or the process dies; no answer leads to another error than ours."""
    rng = random.Random(0)
    left = []
    for i in range(count := 300 if thorough else 40):
        content = bytearray(GOOD)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(content))
            content[at] = rng.choice([0, 0xFF, rng.randrange(256), content[at] ^ 1])
        left.append(str(put(tmp_path, f"{i}.h5", bytes(content))))
    paths, deaths = list(left), 0
    while left:
        done = subprocess.run(
            [sys.executable, "-c", MUTANTS, str(datasets._WALK), *sys.path],
            input=json.dumps(left),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        seen = done.stdout.split()
        if done.returncode == 0:
            break
        assert done.returncode < 0, done.stderr
        deaths += 1
        left = left[len(seen) :]
    read = 0
    for path in paths:
        if not os.path.exists(f"{path}.json"):
            continue
        with open(f"{path}.json") as file:
            answer = json.load(file)
        monkeypatch.setattr(datasets, "_walk", lambda file, answer=answer: answer)
        try:
            for tensor in read_index(LocalFile(path)).values():
                tensor.read()
            read += 1
        except CheckpointError as error:
            assert path in str(error)
    assert 0 < read < count and deaths < 30


# What is good


def test_every_dtype_and_shape(tmp_path):
    """By h5py, which writes contiguous arrays, also behind a block of the user's."""
    path = tmp_path / "tf_model.h5"
    shapes = [(), (0,), (3,), (2, 0, 3), (2, 3, 4)]
    arrays = {
        f"{dtype}/{i}": random_array(i, shape, dtype)
        for dtype in datasets._DTYPES
        for i, shape in enumerate(shapes)
    }
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            file[name] = array
    found = read_index(LocalFile(path))
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert same(found[name].read(), array)
    part = found["float32/4"].read(((1, 2), (0, 3), (1, 3)))
    assert same(part, arrays["float32/4"][1:2, :, 1:3])


def test_lists_in_parts_and_variables_of_the_model_itself(tmp_path):
    path = tmp_path / "tf_model.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names0"] = ["a"]
        file.attrs["layer_names1"] = ["b"]
        for layer, names in {"a": ["a/x", "y"], "b": ["y"], "none": ["z"]}.items():
            for i, name in enumerate(names):
                file[f"{layer}/{name}"] = ONE * i
            file[layer].attrs["weight_names"] = names
        top = file.create_group("top_level_model_weights")
        top["t"] = ONE
        top.attrs["weight_names"] = ["t"]
    found = read_index(LocalFile(path))
    assert found.keys() == {"a/x", "y", "t"}
    assert found["y"].read()[0] == 1  # the first of the two layers


def test_it_opens_what_has_an_odd_path(tmp_path, monkeypatch):
    folder = tmp_path / "a b'\udcff\n-"
    folder.mkdir()
    (folder / "tf_model.h5").write_bytes(GOOD)
    assert len(open_checkpoint(folder).tensors) == 2
    monkeypatch.chdir(folder)
    (folder / "-x.h5").write_bytes(GOOD)
    assert len(open_checkpoint("-x.h5").tensors) == 2


def test_reads_no_weights_to_open():
    source = open_checkpoint(TF_GOLDENS / "h5")
    assert source.bytes_read <= 256  # what tells a web page from a file

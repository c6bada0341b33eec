"""Differences of trees and of checkpoints, in the library and as `flaxmodels diff`."""

import os

import _children
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _files import put, random_array, safetensors, write_safetensors
from _paths import GOLDENS
from _turns import in_turn, some_of
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from flaxmodels import params as fp
from flaxmodels import sharding as fs
from flaxmodels.commands import cli
from flaxmodels.commands.convert import convert
from flaxmodels.params.checkpoint.sources import source_of

FORMATS = GOLDENS / "formats"


def compared(a, b):
    """The only row of two arrays."""
    found = fp.diff({"w": a}, {"w": b})
    (row,) = found.rows
    assert row.path == "w" and found.equal == row.equal
    return row


def differences(a, b):
    row = compared(a, b)
    return row.max_abs, row.max_rel, row.equal


def f32(*values):
    return np.array(values, np.float32)


NAN, INF = np.nan, np.inf


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (f32(1, 2), f32(1, 2), (0, 0, True)),
        (f32(1, 2), f32(1, 4), (2, 0.5, False)),
        (f32(1, -1), f32(1, 1), (2, 2, False)),
        (f32(0, 0), f32(0, 3), (3, 1, False)),
        (f32(0.0), f32(-0.0), (0, 0, True)),
        (f32(NAN, INF, -INF, 1), f32(NAN, INF, -INF, 1), (0, 0, True)),
        (f32(NAN, INF, 1), f32(NAN, INF, 2), (1, 0.5, False)),
        (f32(INF, 1), f32(-INF, 1), (INF, INF, False)),
        (f32(INF, 1), f32(5, 1), (INF, INF, False)),
        (f32(1e-45), f32(0), (float(f32(1e-45)[0]), 1, False)),
        (np.float64([1]), np.float64([1 + 2**-50]), (2**-50, 2**-50 / (1 + 2**-50), False)),
        (np.int64([2**62, 7]), np.int64([2**62 + 1, 7]), (1, pytest.approx(2**-62), False)),
        (np.int64([-(2**63)]), np.int64([2**63 - 1]), (2**64 - 1, pytest.approx(2), False)),
        (np.uint8([0, 255]), np.uint8([1, 255]), (1, 1, False)),
        (np.int8([-128]), np.int8([127]), (255, pytest.approx(255 / 128), False)),
        (np.array([True, False]), np.array([True, True]), (1, 1, False)),
        (np.complex64([1j]), np.complex64([2j]), (1, 0.5, False)),
        (np.zeros((0, 3)), np.zeros((0, 3)), (0, 0, True)),
        (np.float32(2), np.float32(3), (1, pytest.approx(1 / 3), False)),
    ],
)
def test_values(a, b, expected):
    assert differences(a, b) == expected
    assert differences(b, a) == expected


@pytest.mark.parametrize("other", [1.0, INF])
def test_a_nan_against_a_number_is_a_difference(other):
    largest, _, equal = differences(f32(NAN, 1, 5), f32(other, 1, 9))
    assert np.isnan(largest) and not equal
    several = np.ones(200_000, np.float32)
    worse = several.copy()
    worse[3], worse[150_000] = NAN, 4  # in runs of their own
    assert np.isnan(compared(several, worse).max_abs)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float8_e4m3fn", "float8_e5m2"])
def test_narrow_floats_are_compared_in_float32(dtype):
    a = f32(1, 2, -4).astype(jnp.dtype(dtype))
    b = f32(1, 3, -4).astype(jnp.dtype(dtype))
    assert differences(a, a.copy()) == (0, 0, True)
    assert differences(a, b) == (1, pytest.approx(1 / 3), False)


LONG = 70_000  # elements: XLA's to compare, not NumPy's
DRAWN = np.random.default_rng(0).standard_normal((2, LONG)).astype(np.float32)


@in_turn(
    "extra",
    [
        (0, 0),
        (0, 3e38),
        (-3e38, 3e38),
        (1e-45, 0),
        (1e-39, -1e-39),
        (2**-100, 2**-100 * (1 + 2**-23)),
        (2**-101, 2**-101 * (1 + 2**-23)),
        (2**-126, 2**-126 * (1 + 2**-23)),
        (INF, INF),
        (-INF, 1),
        (NAN, NAN),
        (NAN, 1),
    ],
    "dtypes",
    [
        ("float32", "float32"),
        ("bfloat16", "bfloat16"),
        ("bfloat16", "float16"),
        ("float8_e5m2", "float32"),
    ],
)
def test_long_tensors_are_compared_as_short_ones(extra, dtypes):
    a, b = (array.astype(jnp.dtype(dtype)) for array, dtype in zip(DRAWN, dtypes, strict=True))
    with np.errstate(over="ignore"):
        a[-1], b[-1] = extra
    for first, second in ((a, b), (np.r_[np.zeros_like(a[:-1]), a[-1]], a), (a, a)):
        whole = compared(first, second)
        rows = [compared(first[i : i + 1000], second[i : i + 1000]) for i in range(0, LONG, 1000)]
        largest, relative = (np.max([[r.max_abs, r.max_rel] for r in rows], 0)).tolist()
        assert repr((whole.max_abs, whole.max_rel)) == repr((largest, relative))
        assert whole.equal == all(row.equal for row in rows)


def test_other_dtypes_have_values_that_may_agree():
    row = compared(f32(1, 2), np.array([1, 2], jnp.bfloat16))
    assert (row.max_abs, row.equal, row.dtypes) == (0, False, ("float32", "bfloat16"))
    row = compared(np.int32([1, 2]), f32(1, 2.5))
    assert (row.max_abs, row.max_rel) == (0.5, 0.2)
    row = compared(np.array([1, -8], jnp.int4), np.array([1, 7], jnp.int4))
    assert row.max_abs == 15


def test_shapes_and_names_that_only_one_has():
    found = fp.diff({"a": f32(1), "b": f32(1)}, {"b": np.ones((2, 1)), "c": f32(1)})
    assert not found.equal and (found.only_in_a, found.only_in_b) == (("a",), ("c",))
    row = found.rows[1]
    assert (row.shapes, row.max_abs, row.equal) == (((1,), (2, 1)), None, False)
    lines = str(found).splitlines()
    assert lines[0].split() == ["path", "shape", "dtype", "max", "abs", "max", "rel"]
    assert lines[3].split() == "b (1,) -> (2, 1) float32 -> float64 different".split()
    assert lines[-1] == "0 equal, 1 different, 1 only in a, 1 only in b"
    assert fp.diff({}, {}).equal


def test_rows_are_in_the_order_of_layers():
    tree = {"h": {str(i): f32(i) for i in range(12)}}
    assert [row.path for row in fp.diff(tree, tree).rows] == [f"h/{i}" for i in range(12)]


def test_long_tensors_are_cut():
    """Larger than a slab, in one long row too; what is different is at the very end."""
    for shape in ((3, 700_001), (2_100_003,)):
        a = np.ones(shape, np.float32)
        b = a.copy()
        assert differences(a, b) == (0, 0, True)
        b[..., -1] = 3
        assert differences(a, b) == (2, pytest.approx(2 / 3), False)
        assert differences(jnp.asarray(a), np.asfortranarray(b))[0] == 2


def test_eight_devices():
    mesh = fs.make_mesh(fsdp=4, tensor=2)
    array = random_array(0, (8, 6), np.float32)
    other = array.copy()
    other[7, 5] = 1e30
    for spec in (P("fsdp", "tensor"), P("tensor"), P()):
        where = NamedSharding(mesh, spec)
        a = jax.device_put(array, where)
        for b in (array, jnp.asarray(array), jax.device_put(array, NamedSharding(mesh, P("fsdp")))):
            assert compared(a, b).equal and compared(b, a).equal
        for b in (other, jax.device_put(other, where)):
            assert compared(a, b).max_abs == np.float32(1e30)
    key = jax.random.key(0)
    assert compared(key, key).equal and not compared(key, jax.random.key(1)).equal


def test_abstract_leaves_by_shape_and_dtype():
    struct = jax.ShapeDtypeStruct((2, 3), jnp.bfloat16)
    row = compared(struct, jnp.ones((2, 3), jnp.bfloat16))
    assert row.equal and row.max_abs is None
    assert not compared(struct, struct.update(dtype=jnp.float32)).equal


@some_of(
    "folder",
    ["torch/llama/sharded", "torch/llama/legacy", "tf/h5", "tf/sharded", "tf/gpt2"],
    *("torch/llama/legacy", "tf/h5"),
)
def test_folders_of_every_format(folder, tmp_path):
    folder = FORMATS / folder
    opened = fp.open_checkpoint(folder)
    found = fp.diff(opened, str(folder))
    assert found.equal and len(found.rows) == len(opened.tensors)
    tensors = {name: tensor.read() for name, tensor in opened.tensors.items()}
    assert fp.diff(opened, source_of(tensors)).equal
    file = write_safetensors(tmp_path / "model.safetensors", tensors)
    assert fp.diff(folder, file).equal
    name = max(tensors, key=lambda name: tensors[name].size)
    tensors[name] = tensors[name] + 1
    write_safetensors(tmp_path / "model.safetensors", tensors)
    found = fp.diff(opened, tmp_path)
    assert [row.path for row in found.rows if not row.equal] == [name]


@pytest.mark.parametrize("format", ["msgpack", "orbax"])
def test_folders_that_jax_wrote(format, tmp_path):
    for name in "ab":
        convert(GOLDENS / "llama-tied/checkpoint", tmp_path / name, format=format, progress=False)
        (tmp_path / name / "config.json").unlink()
    assert fp.diff(tmp_path / "a", tmp_path / "b").equal


def test_the_command(tmp_path, capsys):
    a = write_safetensors(tmp_path / "a.safetensors", {"x": f32(1), "y\x1b[31m": f32(2)})
    b = write_safetensors(tmp_path / "b.safetensors", {"x": f32(2), "y\x1b[31m": f32(2)})
    assert cli.main(["diff", str(a), str(a)]) == 0
    assert "2 equal, 0 different" in capsys.readouterr().out
    assert cli.main(["diff", str(a), str(b)]) == 1
    said = capsys.readouterr().out
    assert "1 equal, 1 different" in said and "\x1b" not in said
    bad = put(tmp_path, "c.safetensors", b"no")
    for other in (bad, tmp_path / "nowhere"):
        assert cli.main(["diff", str(a), str(other)]) == 2
        assert str(other) in capsys.readouterr().err


def test_memory_stays_at_some_slabs(tmp_path):
    """Two files of 80 MB (of holes), compared in a process that may take 60 MB more than it has."""
    size = 80 << 20
    header = {"t": {"dtype": "U8", "shape": (size // 10, 10), "data_offsets": (0, size)}}
    large = [put(tmp_path, f"{name}.safetensors", safetensors(header)) for name in "ab"]
    for file in large:
        os.truncate(file, file.stat().st_size + size)
    small = write_safetensors(tmp_path / "c.safetensors", {"x": f32(1)})
    program = """
import resource, sys
from flaxmodels import params as fp
assert fp.diff(sys.argv[3], sys.argv[3]).equal
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert fp.diff(sys.argv[1], sys.argv[2]).equal
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    run = _children.run("-c", program, *large, small)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 60_000, run.stdout

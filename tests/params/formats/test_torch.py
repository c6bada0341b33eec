"""The reader of PyTorch's files: good ones, to the last bit, from torch.save and from a builder."""

import math
import os
import random
import struct
import time
import tracemalloc
import zipfile

import ml_dtypes
import numpy as np
import pytest
from _files import put, put_index, quick, random_array, same
from _paths import GOLDENS
from _torch_bad import ZIP
from _torch_files import (
    EIGHT,
    FALSE,
    NONE,
    ORDERED,
    archive,
    call,
    legacy,
    map_of,
    named,
    number,
    one,
    patched,
    storage,
    tensor,
    text,
    tuple_of,
)
from hypothesis import given
from hypothesis import strategies as st

from flaxmodels.params import CheckpointError, open_checkpoint
from flaxmodels.params.formats.files import LocalFile, Span
from flaxmodels.params.formats.torch import strided
from flaxmodels.params.formats.torch.strided import Strided
from flaxmodels.params.tree.naming import TORCH

SAVED = GOLDENS / "formats" / "torch"
FILES = sorted(path for path in SAVED.iterdir() if path.suffix in (".bin", ".pt", ".pth"))
GOOD = [path for path in FILES if not path.name.startswith("refused-")]


def expected(path) -> dict[str, np.ndarray]:
    """What a golden holds."""
    found = {}
    with np.load(SAVED / "expected.npz") as answers:
        for key in answers:
            stem, name, dtype = key.split("|")
            if stem == path.stem.removesuffix("-legacy"):
                found[name] = answers[key].view(np.dtype(getattr(ml_dtypes, dtype, dtype)))
    return found


@pytest.mark.filterwarnings("ignore:.*the tensors are those under 'state_dict'")
@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.name)
def test_goldens(path):
    checkpoint = open_checkpoint(path, weights_only="training" not in path.name)
    arrays = expected(path)
    assert checkpoint.layout == TORCH
    assert checkpoint.tensors.keys() == arrays.keys()
    assert arrays or "empty" in path.name
    for name, array in arrays.items():
        assert same(checkpoint[name].read(), array), name
    kinds = {name: type(tensor) is Strided for name, tensor in checkpoint.tensors.items()}
    assert any(kinds.values()) == ("views" in path.name)
    assert not kinds.get("rows") and not kinds.get("ones") and not kinds.get("empty-transposed")


REFUSED = {
    "attribute": "'w': what torch._utils._rebuild_parameter_with_state makes",
    "complex128": "'w': torch.ComplexDoubleStorage cannot be held",
    "conjugated": "'w': what torch._utils._rebuild_tensor_v2 makes",
    "integer-key": "a key that is no text",
    "list": "a list at the top",
    "meta": "'w': what torch._utils._rebuild_meta_tensor_no_storage makes",
    "module": "__main__.Net.__new__ at the top, expected a dict",
    "nested": "'b' holds a dict",
    "number": "'epoch' holds a int",
    "quantised": "'w': what torch._utils._rebuild_qtensor makes",
    "script": "this is TorchScript",
    "sparse": "'w': what torch._utils._rebuild_sparse_tensor makes",
    "tensor": "torch._utils._rebuild_tensor_v2 at the top",
}


@pytest.mark.parametrize("path", sorted(set(FILES) - set(GOOD)), ids=lambda path: path.name)
def test_hostile_P23_P25_P39_refused_goldens(path):
    kind = path.stem.removeprefix("refused-").removesuffix("-legacy")
    with pytest.raises(CheckpointError, match=REFUSED[kind]):
        open_checkpoint(path)
    if kind in ("attribute", "integer-key", "nested", "number"):
        assert len(open_checkpoint(path, weights_only=False).tensors) == 1
    else:
        with pytest.raises(CheckpointError):
            open_checkpoint(path, weights_only=False)


@pytest.mark.parametrize("path", [p for p in GOOD if "training" in p.name], ids=lambda p: p.name)
def test_hostile_P25_a_training_checkpoint_names_its_keys(path):
    with pytest.raises(CheckpointError, match="keys are 'state_dict', 'optimizer', 'epoch', 'best"):
        open_checkpoint(path)


def viewed(*view) -> bytes:
    """A legacy file whose tensor is on a view of a storage, as before PyTorch 0.4."""
    part = tuple_of(text("9"), *map(number, view))
    return legacy(map_of({"w": tensor(storage("Float", "0", 2, part), 0, (1,))}))


LOADS = {
    "P17-location": one(tensor(storage(location="cuda:99"))),
    "P17-location-meta": one(tensor(storage(location="meta"))),
    "P20-stride-unused": one(tensor(None, 0, (2, 1, 1), (1, 2**80, 0))),
    "P21-stride-unused": one(tensor(storage(), 0, (1, 2), (2**80, 1))),
    "P27-outside": archive(
        map_of({"w": tensor()}),
        extra=[("archive/../../../evil", b"x"), ("/etc/evil", b"x"), ("C:\\evil", b"x")],
    ),
    "P29-elsewhere": archive(map_of({"w": tensor()}), extra=[("notes.txt", b"x" * 999)]),
    "P31-bit-3": patched(ZIP, "archive/data/0", 8, "<H", 1 << 3),  # as torch.save sets it
    "P35-no-byteorder": archive(map_of({"w": tensor()}), byteorder=None),
    "P36-unaligned": archive(map_of({"w": tensor()}), extra=[], root="a" * 13),
    "P37-legacy": legacy(),
    "another-root": archive(map_of({"w": tensor()}), root="модель"),
    "ordered": archive(map_of({"w": tensor()}, ORDERED)),
    "metadata": archive(map_of({"w": tensor()}, ORDERED) + map_of({"_metadata": ORDERED}) + b"b"),
    "no-state": archive(map_of({"w": tensor()}, ORDERED) + b"}b"),
    "python-2": archive(named("collections.OrderedDict") + b"](](U\1w" + tensor() + b"ee\x85R"),
    "v1": one(call("torch._utils._rebuild_tensor", storage(), number(0), b"K\2\x85", b"K\1\x85")),
    "parameter": one(call("torch._utils._rebuild_parameter", tensor(), FALSE, ORDERED)),
    "no-metadata": one(tensor(None, 0, (2,), (1,), NONE)),
}


@pytest.mark.parametrize("case", LOADS)
def test_loads(case, tmp_path):
    found = open_checkpoint(put(tmp_path, "pytorch_model.bin", LOADS[case]))
    assert found.tensors.keys() == {"w"}
    assert found["w"].read().tobytes() == EIGHT


def test_hostile_P18_tied_and_P37_views_of_storages(tmp_path):
    found = open_checkpoint(put(tmp_path, "a.pt", archive(map_of({"a": tensor(), "b": tensor()}))))
    assert found["a"].spans == found["b"].spans
    for start in (0, 1):
        found = open_checkpoint(put(tmp_path, "a.pth", viewed(start, 1)))
        assert found["w"].read().tobytes() == EIGHT[4 * start :][:4]


def test_hostile_P21_tied_tensors_are_counted_once(tmp_path):
    tied = archive(
        map_of({f"w{i}": tensor(storage(size=999), 0, (999,)) for i in range(40)}),
        {"0": bytes(3996)},
    )
    assert len(open_checkpoint(put(tmp_path, "a.bin", tied)).tensors) == 40


def test_a_sharded_checkpoint(tmp_path):
    put(tmp_path, "pytorch_model-1.bin", one(tensor()))
    put(tmp_path, "pytorch_model-2.bin", legacy(map_of({"v": tensor(storage(size=2))})))
    weight_map = {"w": "pytorch_model-1.bin", "v": "pytorch_model-2.bin"}
    put_index(tmp_path, weight_map, "pytorch_model.bin.index.json")
    found = open_checkpoint(tmp_path)
    assert {name: found[name].read().tobytes() for name in "vw"} == {"v": EIGHT, "w": EIGHT}
    assert open_checkpoint(tmp_path, framework="pt").tensors.keys() == {"v", "w"}
    with pytest.raises(CheckpointError, match="no checkpoint"):
        open_checkpoint(tmp_path, framework="flax")
    odd = archive(map_of({"w": tensor(), "epoch": number(3)}))
    put(tmp_path, "pytorch_model-1.bin", odd)
    with pytest.raises(CheckpointError, match="pytorch_model-1.bin: 'epoch' holds a int"):
        open_checkpoint(tmp_path)
    assert open_checkpoint(tmp_path, weights_only=False).tensors.keys() == {"v", "w"}


def sparse_zip64(path, size: int) -> None:
    """A zip64 archive with a storage of `size` zeros, which takes no space on the disk."""
    name = b"archive/data/0"
    small = archive(map_of({"w": tensor(storage("Byte", size=size), size - 3, (3,))}), {})
    body = small[: small.index(b"PK\1\2")]
    central = small[len(body) : -22]
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 45, 8, 0, 0, 0, 0, 0, 0, len(name), 0)
    wide = struct.pack("<2H3Q", 1, 24, size, size, len(body))
    most = 2**32 - 1
    central += struct.pack(
        "<4s6H3L5H2L", b"PK\1\2", 45, 45, 8, 0, 0, 0, 0, most, most, len(name), len(wide), 0, 0, 0,
        0, most,
    ) + name + wide  # fmt: skip
    start = len(body) + len(local) + len(name) + size
    end = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 4, 4, len(central), start)
    end += struct.pack("<4sLQL", b"PK\6\7", 0, start + len(central), 1)
    end += struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 4, 4, len(central), most, 0)
    path.write_bytes(body + local + name)
    with path.open("r+b") as file:
        file.seek(start)
        file.write(central + end)


def test_hostile_P31_zip64_of_more_than_4_GiB(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    sparse_zip64(path, 5 << 30)
    found = open_checkpoint(path)
    assert found["w"].read().tolist() == [0, 0, 0]
    assert found.bytes_read < 100_000
    raw = path.stat().st_size - 42
    for at, value in ((raw, b"PK\5\7"), (raw + 8, bytes(8))):  # the locator, and where it points
        with path.open("r+b") as file:
            file.seek(at)
            kept = file.read(len(value))
            file.seek(at)
            file.write(value)
        with pytest.raises(CheckpointError, match="not a whole zip archive"):
            open_checkpoint(path)
        with path.open("r+b") as file:
            file.seek(at)
            file.write(kept)
    assert open_checkpoint(path).tensors


def test_hostile_P31_extra_fields_take_time_with_their_size(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    with zipfile.ZipFile(path, "w") as file:
        for i in range(100):
            entry = zipfile.ZipInfo(f"archive/{i}")
            entry.extra = b"\2\0\0\0" * 16_000  # fields of no bytes
            file.writestr(entry, b"")
    start = time.process_time()
    with pytest.raises(CheckpointError, match="with 0 data.pkl"):
        open_checkpoint(path)
    assert time.process_time() - start < 1


def test_opens_a_large_checkpoint_by_its_index(tmp_path):
    """200 tensors in a sparse legacy file of 2 GB: a few reads of 64 KiB."""
    size = 2_500_000
    names = [str(i) for i in range(200)]
    body = map_of({name: tensor(storage("Float", name, size), 0, (size,)) for name in names})
    head = legacy(body, {}, keys=names)
    path = put(tmp_path, "pytorch_model.bin", head)
    with path.open("r+b") as file:
        for i in range(len(names)):
            file.seek(len(head) + i * (8 + 4 * size))
            file.write(struct.pack("<q", size))
    os.truncate(path, len(head) + len(names) * (8 + 4 * size))
    found = open_checkpoint(path)
    assert found["199"].shape == (size,)
    assert found.bytes_read < 200 * (1 << 16) + 10 * len(head)


DTYPES = {
    "Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16",
    "ComplexFloat": "complex64", "Long": "int64", "Int": "int32", "Short": "int16", "Char": "int8",
    "Byte": "uint8", "Bool": "bool",
}  # fmt: skip
NEW = "uint16 uint32 uint64 float8_e4m3fn float8_e5m2".split()


@st.composite
def views(draw):
    """(kind of storage or new dtype, elements, offset, size, stride): any that lies inside."""
    size = draw(st.lists(st.integers(0, 4), max_size=4).map(tuple))
    stride = tuple(draw(st.integers(0, 9)) for _ in size)
    offset = draw(st.integers(0, 5))
    extent = 1 + sum((n - 1) * step for n, step in zip(size, stride, strict=True) if n)
    elements = offset + (extent if 0 not in size else 0) + draw(st.integers(0, 3))
    return draw(st.sampled_from([*DTYPES, *NEW])), elements, offset, size, stride


def written(kind: str, key: str, elements: int, offset: int, size, stride) -> bytes:
    if kind in DTYPES:
        return tensor(storage(kind, key, elements), offset, size, stride)
    itemsize = np.dtype(getattr(ml_dtypes, kind, kind)).itemsize
    of = storage("torch.storage.UntypedStorage", key, elements * itemsize)
    return tensor(of, offset, size, stride, named(f"torch.{kind}"), by="v3")


@quick
@given(st.data(), st.lists(views(), max_size=4), st.booleans(), st.integers(0, 200))
def test_reads_any_view_as_numpy_does(tmp_path_factory, data, saved, as_legacy, gap):
    body, storages, arrays = {}, {}, {}
    for i, (kind, elements, offset, size, stride) in enumerate(saved):
        name = DTYPES.get(kind, kind)
        flat = random_array(i, (elements,), getattr(ml_dtypes, name, name))
        steps = [step * flat.itemsize for step in stride]
        bits = flat.view(f"u{flat.itemsize}")[offset:]
        view = np.lib.stride_tricks.as_strided(bits, size, steps)
        arrays[str(i)] = np.array(view if view.size else np.empty(size, bits.dtype)).view(
            flat.dtype
        )
        body[str(i)] = written(kind, str(i), elements, offset, size, stride)
        count = elements if kind in DTYPES else flat.nbytes
        storages[str(i)] = (count, flat.tobytes()) if as_legacy else flat.tobytes()
    content = (legacy if as_legacy else archive)(map_of(body), storages)
    found = open_checkpoint(put(tmp_path_factory.mktemp("views"), "a.bin", content))
    assert found.tensors.keys() == arrays.keys()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strided, "_BLOCK", data.draw(st.sampled_from([16, 64, 1 << 20])))
        patch.setattr(strided, "_GAP", gap)
        for name, array in arrays.items():
            assert same(found[name].read(), array)
            bounds = tuple(
                (start, data.draw(st.integers(start, size)))
                for size in array.shape
                for start in [data.draw(st.integers(0, size))]
            )
            part = array[tuple(slice(*bound) for bound in bounds)]
            assert same(found[name].read(bounds), part)


@pytest.fixture(scope="module")
def blob(tmp_path_factory):
    """32 MiB, and the file that holds them."""
    array = random_array(0, (2048 * 4096,), np.uint32)
    return array, put(tmp_path_factory.mktemp("blob"), "blob", array.tobytes())


@pytest.mark.parametrize(
    ("shape", "strides", "most"),
    [
        ((2048, 4096), (1, 2048), 1.0),  # transposed
        ((64, 8, 64, 256), (1, 64 * 256 * 64, 256 * 64, 64), 1.0),  # permuted
        ((2048, 2048), (4096, 2), 2.01),  # every other column
        ((16, 4096), (128 * 4096, 1), 1.0),  # rows that lie far apart
        ((5, 2048, 1024), (0, 1024, 1), 0.21),  # expanded
    ],
)
def test_strided_needs_little_memory_and_reads_little_more(shape, strides, most, blob):
    array, path = blob
    file = LocalFile(path)
    found = Strided("a", shape, array.dtype, (Span(file, 0, array.nbytes),), strides)
    scratch = np.empty(math.prod(shape) * 4, np.uint8)
    tracemalloc.start()
    out = found.read(scratch=scratch)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    expected = np.lib.stride_tricks.as_strided(array, shape, [4 * step for step in strides])
    assert np.array_equal(out, expected)
    assert peak < 8 << 20
    assert file.bytes_read <= most * out.nbytes


MUTATED = "module.bin module-legacy.bin training.bin protocol-4.pt protocol-1-legacy.pth".split()
OPCODES = b"().NQRabcehijqrstu]}KMJXU\x80\x81\x85\x86\x87\x88\x89\x8a\x94"


@pytest.mark.filterwarnings("ignore:.*the tensors are those under")
@pytest.mark.parametrize("name", MUTATED)
def test_mutants_give_an_error_or_tensors(name, tmp_path, thorough):
    rng = random.Random(name)
    good, path, outcomes = (SAVED / name).read_bytes(), tmp_path / "a.bin", [0, 0]
    for _ in range(1000 if thorough else 300):
        mutant = bytearray(good)
        for _ in range(rng.choice((1, 1, 1, 2, 8))):
            at = rng.randrange(len(mutant))
            opcode = bytes([rng.choice(OPCODES)])
            piece = rng.choice((rng.randbytes(1), b"", b"\xff" * 4, bytes(4), opcode))
            mutant[at : at + rng.choice((0, 1, len(piece)))] = piece
        path.write_bytes(mutant)
        try:
            for tensor in open_checkpoint(path, weights_only=rng.random() < 0.5).tensors.values():
                tensor.read()
            outcomes[0] += 1
        except CheckpointError as error:
            assert str(path) in str(error)
            outcomes[1] += 1
    assert all(outcomes)

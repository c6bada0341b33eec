"""Streaming: the right numbers on the right devices, few bytes read, little memory used."""

import itertools
import json
import os
import re
import sys
import threading
import time

import _children
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _files import quick, random_array, safetensors, same, write_safetensors
from _turns import in_turn
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from flaxmodels import params as fp
from flaxmodels import sharding as fs
from flaxmodels.params.checkpoint import leaf_loader
from flaxmodels.params.checkpoint.make_plan import make_plan
from flaxmodels.params.checkpoint.match import Match
from flaxmodels.params.checkpoint.reconcile import reconcile
from flaxmodels.params.checkpoint.stream import stream
from flaxmodels.params.formats import files, source
from flaxmodels.params.host.copies import empty_bytes

MIB = 1 << 20


@pytest.fixture(scope="module")
def mesh():
    return fs.make_mesh(fsdp=4, tensor=2)


def torch_layout(path: str, array: np.ndarray) -> np.ndarray:
    """What PyTorch stores: (out, in, *window) for our (*window, in, out)."""
    if path.endswith("kernel") and array.ndim >= 2:
        return np.moveaxis(array, (-1, -2), (0, 1))
    return array


def torch_name(path: str) -> str:
    return re.sub("/(kernel|scale|embedding)$", "/weight", path).replace("/", ".")


def write(path, leaves: dict[str, np.ndarray]):
    """A checkpoint under PyTorch names; `layers/...` leaves with a leading layer axis apart."""
    tensors = {}
    for name, leaf in leaves.items():
        if name.startswith("layers/"):
            for i, layer in enumerate(leaf):
                inner = name.replace("layers/", f"layers/{i}/")
                tensors[torch_name(inner)] = np.asarray(torch_layout(name, layer), order="C")
        else:
            tensors[torch_name(name)] = np.asarray(torch_layout(name, leaf), order="C")
    return write_safetensors(path, tensors, {"format": "pt"})


def abstract(path: str, leaf) -> jax.ShapeDtypeStruct:
    if path.startswith("layers/"):
        axes = ("layers", *[None] * (leaf.ndim - 1))
        return fs.AbstractParam(leaf.shape, jnp.float32, axes=axes)
    return jax.ShapeDtypeStruct(leaf.shape, jnp.float32)


def plan_for(path, leaves, *, shardings=None, dtype="auto", max_host_memory=MIB):
    template = fp.unflatten({name: abstract(name, leaf) for name, leaf in leaves.items()})
    match = reconcile(template, fp.open_checkpoint(path), fp.Naming(stacks=("layers",)))
    assert not match.missing and not match.unexpected and not match.mismatched
    if isinstance(shardings, dict):
        shardings = fp.unflatten(shardings)
    return make_plan(
        match, template, dtype=dtype, shardings=shardings, max_host_memory=max_host_memory
    )


def load(path, leaves, *, workers=4, **options):
    return fp.flatten(stream(plan_for(path, leaves, **options), progress=False, workers=workers))


SHAPES = {
    "a/kernel": (600, 1000),  # 2.4 MB: many slabs under the smallest budget
    "a/bias": (1000,),
    "b/embedding": (1000, 600),
    "c/kernel": (3, 5, 8, 16),
    "d/kernel": (3, 8, 16),
    "e/scale": (8,),
    "layers/f/kernel": (3, 200, 400),
    "layers/f/bias": (3, 400),
    "layers/g/embedding": (3, 400, 200),
    "layers/h/count": (3,),
    "i/scale": (),
    "j/kernel": (0, 8),
    "j/bias": (0,),
    "k/kernel": (8, 0),
    "layers/l/kernel": (3, 8, 0),
    "m/kernel": (1, 1000),
    "n/kernel": (1000, 1),
}


def leaves_of(dtype):
    return {path: random_array(i, shape, dtype) for i, (path, shape) in enumerate(SHAPES.items())}


# In place of floats, whose NaNs a cast may change.
def numbers(dtype):
    values = {path: np.asarray(leaf.view(np.int8)) for path, leaf in leaves_of("int8").items()}
    return {path: values[path].astype(dtype) for path in values}


def specs(mesh, rows, columns):
    """Matrices by (rows, columns), everything that does not divide replicated."""
    made = {}
    for path, shape in SHAPES.items():
        entries = [None] * len(shape)
        for axis, name in ((-2, rows), (-1, columns)):
            names = (name,) if isinstance(name, str) else name or ()
            size = int(np.prod([mesh.shape[n] for n in names]))
            if len(shape) >= 2 and names and shape[axis] % size == 0:
                entries[axis] = names
        made[path] = NamedSharding(mesh, P(*entries))
    return made


PLACES = {
    "one-device": None,
    "replicated": (None, None),
    "rows": ("fsdp", None),
    "columns": (None, "tensor"),
    "both": ("fsdp", "tensor"),
    "both-swapped": ("tensor", "fsdp"),
    "rows-by-all": (("fsdp", "tensor"), None),
    "columns-by-all": (None, ("tensor", "fsdp")),
}


def as_on_a_gpu(patch):
    """CPU devices are used as if their memory were not the host's."""
    patch.setattr(leaf_loader, "_on_host", lambda device: False)
    # A CPU device keeps the memory it is given.
    patch.setattr(leaf_loader.Scratch, "bytes", lambda self, count: empty_bytes(count))


def four_devices():
    return fs.make_mesh(devices=jax.devices()[:4], fsdp=2, tensor=2)


def placed(mesh, where):
    return None if PLACES[where] is None else specs(mesh, *PLACES[where])


ON_HOST = [(where, False) for where in PLACES]


@in_turn(
    *("put", [*ON_HOST, ("both", True), ("replicated", True)]),
    *("budget", [MIB, 1 << 30]),
    ids=([*PLACES, "both on a device", "replicated on a device"], ["slabs", "whole"]),
)
def test_equals_numpy(put, budget, mesh, tmp_path, monkeypatch):
    """Put together in host memory or, as on a GPU, on the device."""
    where, device = put
    if device:
        as_on_a_gpu(monkeypatch)
    leaves = leaves_of(np.float32)
    if device:  # each part of another shape is a program of each device
        mesh = four_devices()
        leaves = {name: leaf for name, leaf in leaves.items() if name[-6:] == "kernel"}
    shardings = placed(mesh, where)
    path = write(tmp_path / "model.safetensors", leaves)
    shardings = shardings and {name: shardings[name] for name in leaves}
    loaded = load(path, leaves, shardings=shardings, max_host_memory=budget)
    assert loaded.keys() == leaves.keys()
    for name, leaf in loaded.items():
        assert same(np.asarray(leaf), leaves[name]), name
        if shardings:
            assert leaf.sharding == shardings[name]
            for shard in leaf.addressable_shards:
                assert same(np.asarray(shard.data), leaves[name][shard.index]), name


@in_turn(
    "dtype",
    ["bfloat16", "float16", "float8_e4m3fn", "int8", "uint16", "int32", "complex64", "bool"],
    *("where", ["one-device", "replicated", "both"]),
)
def test_every_dtype(dtype, where, mesh, tmp_path):
    leaves = leaves_of(dtype)
    path = write(tmp_path / "model.safetensors", leaves)
    for name, leaf in load(path, leaves, shardings=placed(mesh, where)).items():
        assert same(np.asarray(leaf), leaves[name]), name


@in_turn(
    "dtypes",
    [
        ("bfloat16", "float32", "float32"),
        ("float32", "bfloat16", "bfloat16"),
        ("float16", {"bias": "float32", ".": "bf16"}, None),
        ("float32", {"kernel": "bfloat16"}, None),
        ("float64", "auto", "float32"),
        ("int64", "bfloat16", "int32"),
        ("uint64", "auto", "uint32"),
        ("int8", "float32", "int8"),
        ("bool", "float32", "bool"),
    ],
    *("where", ["one-device", "both", "columns-by-all"]),
)
def test_cast_on_load(dtypes, where, mesh, tmp_path):
    stored, dtype, loaded = dtypes
    leaves = numbers(stored)
    path = write(tmp_path / "model.safetensors", leaves)
    shardings = placed(mesh, where)
    for name, leaf in load(path, leaves, shardings=shardings, dtype=dtype).items():
        wanted = loaded
        if isinstance(dtype, dict):
            found = [value for pattern, value in dtype.items() if re.search(pattern, name)]
            wanted = jnp.dtype({"bf16": "bfloat16"}.get(found[0], found[0]) if found else stored)
        assert leaf.dtype == wanted
        assert same(np.asarray(leaf), leaves[name].astype(leaf.dtype)), name
        if shardings:
            assert leaf.sharding == shardings[name]


@pytest.mark.parametrize("where", [None, ("fsdp", "tensor")])
def test_cast_on_a_device(where, tmp_path, monkeypatch):
    """As on a GPU: a leaf is put together as it is stored, and cast when it is whole."""
    as_on_a_gpu(monkeypatch)
    leaves = {name: leaf for name, leaf in numbers("bfloat16").items() if name[0] in "adij"}
    path = write(tmp_path / "model.safetensors", leaves)
    shardings = where and {name: specs(four_devices(), *where)[name] for name in leaves}
    for name, leaf in load(path, leaves, shardings=shardings, dtype="float32").items():
        assert same(np.asarray(leaf), leaves[name].astype(np.float32)), name
        assert not shardings or leaf.sharding == shardings[name]


def test_64_bit_numbers_with_x64(tmp_path):
    leaves = numbers("int64")
    path = write(tmp_path / "model.safetensors", leaves)
    with jax.enable_x64(True):
        for name, leaf in load(path, leaves, workers=1).items():
            assert same(np.asarray(leaf), leaves[name])


@settings(quick, max_examples=30)
@given(st.data())
def test_any_shape_permutation_and_sharding(tmp_path_factory, data):
    mesh = four_devices()
    rank = data.draw(st.integers(0, 4))
    axes = data.draw(st.permutations(["fsdp", "tensor", None, None]))[:rank]
    shape = tuple(data.draw(st.integers(0, 4)) * (mesh.shape[axis] if axis else 1) for axis in axes)
    permutation = tuple(data.draw(st.permutations(range(rank))))
    leaf = random_array(0, shape, data.draw(st.sampled_from(["float32", "int8"])))
    stored = np.asarray(leaf.transpose(np.argsort(permutation)), order="C")
    path = write_safetensors(tmp_path_factory.mktemp("s") / "model.safetensors", {"w": stored})
    checkpoint = fp.open_checkpoint(path)
    piece = sys.modules["flaxmodels.params.checkpoint.match"].Piece(
        checkpoint["w"], permutation, ()
    )
    match = Match(checkpoint, {"w": (piece,)}, (), (), ())
    template = {"w": jax.ShapeDtypeStruct(shape, jnp.float32)}
    sharding = NamedSharding(mesh, P(*axes))
    plan = make_plan(match, template, shardings=sharding)
    with pytest.MonkeyPatch.context() as patch:
        small = leaf_loader.LeafLoader.__init__
        patch.setattr(leaf_loader.LeafLoader, "__init__", lambda self, _, bar: small(self, 24, bar))
        if data.draw(st.booleans()):  # what is done on a GPU
            as_on_a_gpu(patch)
        loaded = stream(plan, progress=False, workers=1)["w"]
    assert same(np.asarray(loaded), leaf)
    assert loaded.sharding == sharding


@pytest.mark.parametrize("sharded", [("fsdp", None, None), (None, "tensor", "fsdp")])
def test_stacked_layers_sharded_over_the_layer_axis(sharded, mesh, tmp_path):
    leaves = {"layers/f/kernel": random_array(0, (8, 16, 32), np.float32)}
    path = write(tmp_path / "model.safetensors", leaves)
    sharding = NamedSharding(mesh, P(*sharded))
    loaded = load(path, leaves, shardings=sharding)["layers/f/kernel"]
    assert same(np.asarray(loaded), leaves["layers/f/kernel"]) and loaded.sharding == sharding


BYTES = {"a/kernel": (4096, 256), "b/embedding": (256, 4096), "layers/c/kernel": (2, 4096, 256)}


@pytest.mark.parametrize("device", [0, 3, 7])
@pytest.mark.parametrize(
    "spec",
    [
        ("fsdp", None),
        (None, "tensor"),
        ("tensor", None),
        ("fsdp", "tensor"),
        (None, "fsdp"),
        (None,),
    ],
    ids=str,
)
def test_S1_reads_only_what_a_device_holds(spec, device, mesh, tmp_path, monkeypatch):
    """One process per device: each reads its own part of the file, and nothing of the others'."""
    leaves = {path: np.zeros(shape, np.float32) for path, shape in BYTES.items()}
    path = tmp_path / "model.safetensors"
    shardings = {
        name: NamedSharding(mesh, P(*[None] * (leaf.ndim - 2), *spec))
        for name, leaf in leaves.items()
    }
    sparse(path, leaves)
    me = jax.devices()[device]

    def mine(plan, shards=leaf_loader.local_shards):
        kept = [shard for shard in shards(plan) if me in shard.devices]
        return [leaf_loader.Shard(shard.bounds, (me,)) for shard in kept]

    monkeypatch.setattr(leaf_loader, "local_shards", mine)
    monkeypatch.setattr(jax, "make_array_from_single_device_arrays", lambda *args: args[2][0])
    plan = plan_for(path, leaves, shardings=shardings, max_host_memory=64 * MIB)
    before = plan.match.source.bytes_read
    loaded = fp.flatten(stream(plan, progress=False, workers=1))
    held = sum(leaf.nbytes for leaf in loaded.values())
    assert held == plan.bytes_per_device[me]
    assert plan.match.source.bytes_read - before <= 1.05 * held


def sparse(path, leaves):
    """A file of zeros, without a disk's worth of them, that holds `leaves` under PyTorch names."""
    header, position = {}, 0
    names = {"float16": "F16", "bfloat16": "BF16", "float32": "F32"}
    for name, leaf in leaves.items():
        stacked = name.startswith("layers/")
        for i in range(leaf.shape[0] if stacked else 1):
            shape = leaf.shape[1:] if stacked else leaf.shape
            if name.endswith("kernel"):
                shape = (*shape[:-2], shape[-1], shape[-2])
            end = position + leaf.nbytes // (leaf.shape[0] if stacked else 1)
            inner = name.replace("layers/", f"layers/{i}/")
            header[torch_name(inner)] = {
                "dtype": names[leaf.dtype.name],
                "shape": shape,
                "data_offsets": [position, end],
            }
            position = end
    content = safetensors(header)
    path.write_bytes(content)
    os.truncate(path, len(content) + position)


def test_a_whole_host_reads_each_byte_once(mesh, tmp_path):
    leaves = {path: random_array(0, (512, 512), np.float32) for path in ("a/kernel", "b/embedding")}
    path = write(tmp_path / "model.safetensors", leaves)
    for spec in (P("fsdp", "tensor"), P(("tensor", "fsdp")), P(None, "fsdp"), P()):
        plan = plan_for(path, leaves, shardings=NamedSharding(mesh, spec))
        before = plan.match.source.bytes_read
        stream(plan, progress=False)
        assert plan.match.source.bytes_read - before == plan.stored_bytes


@pytest.mark.parametrize("budget", [MIB, 16 * MIB, 1 << 30])
def test_scratch_memory_is_never_part_of_the_params(budget, tmp_path):
    """Four workers reuse their buffers for forty tensors of various shapes."""
    rng = np.random.default_rng(0)
    leaves = {
        f"m{i}/kernel": random_array(i, tuple(rng.integers(1, 500, 2)), np.float32)
        for i in range(38)
    }
    leaves |= {f"v{i}/kernel": random_array(i, (1, 5000), np.float32) for i in range(2)}
    path = write(tmp_path / "model.safetensors", leaves)
    loaded = load(path, leaves, max_host_memory=budget)
    for name, leaf in loaded.items():
        assert same(np.asarray(leaf), leaves[name]), name


@pytest.mark.parametrize("where", ["one-device", "replicated", "rows", "both"])
def test_donated_params_change_nothing_else(where, mesh, tmp_path):
    """A CPU array may be the very memory that was read into, even one for eight devices."""
    leaves = {
        "a/embedding": random_array(1, (64, 64), np.int32),
        "b/embedding": random_array(2, (64, 64), np.int32),
        "c/kernel": random_array(3, (64, 64), np.int32),
        "d/bias": random_array(4, (64,), np.int32),
    }
    path = write(tmp_path / "model.safetensors", leaves)
    spec = PLACES[where]
    shardings = None
    if spec is not None:
        shardings = {
            name: NamedSharding(mesh, P(*spec) if leaf.ndim == 2 else P())
            for name, leaf in leaves.items()
        }
    first = load(path, leaves, shardings=shardings)
    second = load(path, leaves, shardings=shardings)
    update = jax.jit(lambda x: x.at[...].add(1), donate_argnums=0)
    for name in ("a/embedding", "c/kernel", "d/bias"):
        after = first.pop(name)
        for _ in range(3):
            after = update(after)
        assert same(np.asarray(after), leaves[name] + 3)
        for shard in after.addressable_shards:
            assert same(np.asarray(shard.data), leaves[name][shard.index] + 3)
    for name, leaf in [*first.items(), *second.items()]:
        for shard in leaf.addressable_shards:
            assert same(np.asarray(shard.data), leaves[name][shard.index]), name


@pytest.mark.parametrize("kind", ["pinned_host", "unpinned_host", "device"])
def test_memory_kinds(kind, mesh, tmp_path):
    leaves = {"a/kernel": random_array(0, (600, 1000), np.float32)}
    path = write(tmp_path / "model.safetensors", leaves)
    sharding = NamedSharding(mesh, P("fsdp", "tensor"), memory_kind=kind)
    loaded = load(path, leaves, shardings=sharding)["a/kernel"]
    assert loaded.sharding.memory_kind == kind
    assert same(np.asarray(jax.device_put(loaded, jax.devices()[0])), leaves["a/kernel"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: os.truncate(path, 10_000), "changed while it was being read"),
        (lambda path: path.write_bytes(path.read_bytes()[::-1]), "changed while it was being read"),
    ],
    ids=["truncated", "rewritten"],
)
def test_a_file_that_changes_before_it_is_read(change, message, tmp_path):
    leaves = {f"m{i}/kernel": random_array(i, (100, 100), np.float32) for i in range(20)}
    path = write(tmp_path / "model.safetensors", leaves)
    plan = plan_for(path, leaves)
    change(path)
    with pytest.raises(fp.CheckpointError, match=message) as caught:
        stream(plan, progress=False)
    assert str(path) in str(caught.value)


def test_a_file_that_changes_halfway(tmp_path, monkeypatch):
    """The error comes out, the other workers stop, and no thread is left."""
    leaves = {f"m{i}/kernel": random_array(i, (100, 100), np.float32) for i in range(200)}
    path = write(tmp_path / "model.safetensors", leaves)
    plan = plan_for(path, leaves)
    reads = []
    read = source.Tensor.read

    def counting(self, *args):
        reads.append(self.name)
        if len(reads) == 10:
            os.truncate(path, 10_000)
        if len(reads) > 10:
            time.sleep(0.01)  # so that there is time to stop
        return read(self, *args)

    monkeypatch.setattr(source.Tensor, "read", counting)
    with pytest.raises(fp.CheckpointError, match="changed|cut"):
        stream(plan, progress=False, workers=4)
    assert len(reads) < 30
    assert not [t for t in threading.enumerate() if "flaxmodels-load" in t.name]


@pytest.mark.parametrize("kept", [True, False])
def test_reads_that_end_early_go_on(kept, tmp_path, monkeypatch):
    """The system may fill a part of what it is asked for, at any byte, of one buffer or of many."""
    leaves = {"a/kernel": random_array(0, (1500, 700), "uint16"), "b/scale": np.arange(5000.0)}
    path = write(tmp_path / "model.safetensors", leaves)
    monkeypatch.setattr(files, "_MOST_KEPT", 32 if kept else 0)
    plan = plan_for(path, leaves)
    sizes = itertools.cycle([1, 1000, 1399, 1401, 1 << 20])
    whole, calls = os.preadv, []  # how many buffers

    def some(descriptor, buffers, offset):
        calls.append(len(buffers))
        left, taken = next(sizes), []
        for buffer in buffers:
            taken.append(buffer[:left])
            left -= len(taken[-1])
            if not left:
                break
        return whole(descriptor, taken, offset)

    monkeypatch.setattr(os, "preadv", some)
    found = fp.flatten(stream(plan, progress=False, workers=1))
    assert all(np.array_equal(found[name], leaves[name]) for name in leaves)
    assert max(calls) > 50 and sum(file.bytes_read for file in plan.match.source.files) > 2_000_000


def test_nothing_to_read(tmp_path):
    path = write_safetensors(tmp_path / "model.safetensors", {})
    match = reconcile({}, fp.open_checkpoint(path))
    assert stream(make_plan(match, {}), progress=False) == {}


PEAK = """
import ctypes, gc, sys, json
ctypes.CDLL(None).mallopt(-3, 65536)  # M_MMAP_THRESHOLD, or glibc keeps what was freed
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from flaxmodels import params as fp, sharding as fs
from flaxmodels.params.checkpoint import leaf_loader
from flaxmodels.params.checkpoint.make_plan import make_plan
from flaxmodels.params.checkpoint.reconcile import reconcile
from flaxmodels.params.checkpoint.stream import stream
from flaxmodels.params.host.copies import empty_bytes

plain = leaf_loader._on_host, leaf_loader.Scratch.bytes

def load(path, dtype, budget, sharding):
    source = fp.open_checkpoint(path)
    template = {}
    for name, tensor in source.tensors.items():
        module, _, _ = name.partition(".")
        leaf = "embedding" if module.startswith("e") else "kernel"
        shape = tensor.shape if leaf == "embedding" else tensor.shape[::-1]
        template[module] = {leaf: jax.ShapeDtypeStruct(shape, jnp.float32)}
    match = reconcile(template, source)
    plan = make_plan(match, template, dtype=dtype, shardings=sharding, max_host_memory=budget)
    return plan, stream(plan, progress=False, workers=2)

def status(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key))

def figures(path, dtype, budget, spec, device):
    leaf_loader._on_host, leaf_loader.Scratch.bytes = plain if not device else (
        lambda device: False, lambda self, count: empty_bytes(count)
    )
    mesh = fs.make_mesh(fsdp=4, tensor=2)
    sharding = NamedSharding(mesh, P(*spec)) if spec is not None else None
    load(path + ".small.safetensors", dtype, budget, sharding)
    gc.collect()
    before = status("VmRSS")
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak starts anew
    plan, params = load(path + ".safetensors", dtype, budget, sharding)
    held = sum(plan.bytes_per_device.values())
    return {"peak": status("VmHWM") - before, "held": held, "predicted": plan.predicted_host_peak}

jax.block_until_ready(jnp.zeros(3))  # the compiler's own memory
json.dump([figures(*case) for case in json.loads(sys.argv[1])], sys.stdout)
"""


def test_host_memory_stays_below_what_was_promised(tmp_path, thorough):
    """75 to 135 MB (of holes in files), in a process of its own; 24 MB for what lies outside
    arrays: any leaf more is 34 MB or above."""
    budget = 16 * MIB
    sizes = {"float32": 3072, "bfloat16": 4096}
    for stored, size in sizes.items():
        for name, length in ((stored, size), (f"{stored}.small", 1024)):
            leaf = np.broadcast_to(np.zeros((), stored), (length, length))
            paths = ("a/kernel", "e1/embedding")
            sparse(tmp_path / f"{name}.safetensors", dict.fromkeys(paths, leaf))
    cases: list[tuple] = [
        ("float32", "auto", None, True),
        ("float32", "auto", ("fsdp", "tensor"), False),
        ("bfloat16", "float32", None, False),
    ]
    if thorough:
        cases += [
            ("float32", "auto", None, False),
            ("bfloat16", "float32", ("tensor", "fsdp"), False),
        ]
    given = [[str(tmp_path / stored), dtype, budget, *where] for stored, dtype, *where in cases]
    run = _children.run("-c", PEAK, json.dumps(given))
    assert run.returncode == 0, run.stderr
    for case, found in zip(cases, json.loads(run.stdout), strict=True):
        assert found["held"] == 2 * sizes[case[0]] ** 2 * 4, case
        assert found["predicted"] == found["held"] + budget, case
        assert found["peak"] <= found["predicted"] + 24 * MIB, (case, found)

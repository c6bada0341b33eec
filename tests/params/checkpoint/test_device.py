"""Weights that devices transform: what the host would give, bit for bit, in few programs and little
memory. CPU devices stand for others here."""

import dataclasses
import functools
import json
import math
import os
import threading
import time

import _bench
import _children
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _files import random_array, same, write_safetensors
from _paths import GOLDENS, LLAMA
from _turns import some_of
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels import sharding as fs
from flaxmodels.checkpoints import model_plan as planning
from flaxmodels.checkpoints import offload
from flaxmodels.params.checkpoint import make_plan as plans
from flaxmodels.params.checkpoint.device import programs, ring, routes
from flaxmodels.params.checkpoint.device.routes import RING, SLABS, Limits
from flaxmodels.params.checkpoint.device.steps import programs_of
from flaxmodels.params.checkpoint.match import Match, Piece, identity_match
from flaxmodels.params.checkpoint.reconcile import reconcile
from flaxmodels.params.checkpoint.stream import stream
from flaxmodels.params.formats import Source
from flaxmodels.params.formats.source import ArrayTensor, Tensor
from flaxmodels.params.host import pinned

MIB = 1 << 20


@pytest.fixture(scope="module")
def mesh():
    return fs.make_mesh(fsdp=4, tensor=2)


@pytest.fixture
def limits(monkeypatch):
    """Sets what leaves are cut by."""

    def sets(slot, slab, small):
        monkeypatch.setattr(plans, "limits_of", lambda _: Limits(slot, slab, small))

    return sets


def plan_of(leaf, permutation, lead, sharding, dtype, route):
    """A plan of one leaf, which is made of arrays as a checkpoint would store them."""
    numbers = leaf.shape[:lead]
    inverse = np.argsort(permutation)
    pieces = []
    for index in np.ndindex(*numbers):
        stored = np.array(leaf[index].transpose(inverse), order="C")
        tensor = ArrayTensor(f"w{index}", stored.shape, stored.dtype, array=stored)
        pieces.append(Piece(tensor, tuple(permutation), index))
    source = Source("here", {piece.tensor.name: piece.tensor for piece in pieces}, "torch")
    match = Match(source, {"w": tuple(pieces)}, (), (), ())
    template = {"w": jax.ShapeDtypeStruct(leaf.shape, jnp.float32)}
    return plans.make_plan(match, template, dtype=dtype, shardings=sharding, route=route)


DTYPES = [
    *(("float32", "auto"), ("bfloat16", "auto"), ("float8_e4m3fn", "auto"), ("float16", "auto")),
    *(("float32", "bfloat16"), ("bfloat16", "float32"), ("float8_e5m2", "float32")),
    *(("int8", "auto"), ("bool", "auto"), ("uint16", "auto"), ("float64", "float32")),
]


def pins(patch):
    """CPU devices are used as if it paid to pin memory for them, as it does for GPUs."""
    patch.setattr(routes, "can_pin", lambda device: True)


def check_a_layout(mesh, data, patch):
    """A leaf of any rank, permutation, dtype, sharding and chunk is what the host makes of it."""
    lead, rank = data.draw(st.integers(0, 2)), data.draw(st.integers(0, 3))
    choices = st.permutations(["fsdp", "tensor", None, None, None])
    names = [(name,) if name else () for name in data.draw(choices)[: lead + rank]]
    if names and data.draw(st.booleans()):
        both = data.draw(st.sampled_from([("fsdp", "tensor"), ("tensor", "fsdp")]))
        names = [both, *((),) * (len(names) - 1)]
        names = data.draw(st.permutations(names))
    shape = tuple(
        data.draw(st.integers(1, 5)) * math.prod(mesh.shape[x] for x in of) for of in names
    )
    assume(math.prod(shape) <= 5000)
    permutation = data.draw(st.permutations(range(rank)))
    stored, dtype = data.draw(st.sampled_from(DTYPES))
    leaf = random_array(0, shape, stored if dtype == "auto" else "int8").astype(stored)
    sharding = NamedSharding(mesh, P(*names)) if data.draw(st.booleans()) else None
    slot, slab = (math.prod(shape) * 8 // data.draw(st.integers(1, 9)) + 64 for _ in range(2))
    limits = Limits(slot, slab, data.draw(st.sampled_from([0, 0, 0, 64, 1 << 20])))
    patch.setattr(plans, "limits_of", lambda _: limits)
    if data.draw(st.booleans()):
        pins(patch)
    plan, by_host = (
        plan_of(leaf, permutation, lead, sharding, dtype, route) for route in ("device", "host")
    )
    loaded, expected = (stream(x, progress=False, workers=2)["w"] for x in (plan, by_host))
    assert loaded.dtype == expected.dtype and loaded.sharding == expected.sharding
    assert loaded.committed == expected.committed
    for one, two in zip(loaded.addressable_shards, expected.addressable_shards, strict=True):
        assert same(np.asarray(one.data), np.asarray(two.data)), (plan, permutation, names)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.data())
def test_any_layout(mesh, data):
    with pytest.MonkeyPatch.context() as patch:
        check_a_layout(mesh, data, patch)


@pytest.mark.soak
@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.data())
def test_300_layouts(mesh, data):
    with pytest.MonkeyPatch.context() as patch:
        check_a_layout(mesh, data, patch)


def llama(monkeypatch, route, **options):
    """The plan and params of a tiny Llama, its kernels in chunks."""
    made = []

    def streamed(plan, progress):
        made.append(plan)
        return stream(plan, progress=progress)

    monkeypatch.setattr(offload, "stream", streamed)
    make_plan = functools.partial(plans.make_plan, route=route)
    monkeypatch.setattr(planning, "make_plan", make_plan)
    _, params = fm.LlamaForCausalLM.from_pretrained(LLAMA, progress=False, **options)
    return made[-1], params


@pytest.mark.parametrize("scan_layers", [False, True])
def test_a_llama_takes_few_programs(scan_layers, limits, monkeypatch):
    limits(8 << 10, 8 << 10, 256)
    programs.Update.compiled.cache_clear()
    programs.Unpack.compiled.cache_clear()
    programs.allocation.cache_clear()
    _, expected = llama(monkeypatch, "host", scan_layers=scan_layers)
    compiled = _bench.compilations()
    known = len(compiled)
    plan, params = llama(monkeypatch, "device", scan_layers=scan_layers)
    count = len(compiled) - known
    assert count == 1 + len(programs_of(plan.leaves, plan.limits)) <= 12
    assert sum(leaf.route.kind == "device" for leaf in plan.leaves) >= 9
    assert sum(leaf.route.kind == "packed" for leaf in plan.leaves) >= 3
    llama(monkeypatch, "device", scan_layers=scan_layers)
    assert len(compiled) == known + count  # a second load compiles nothing
    jax.tree.map(np.testing.assert_array_equal, params, expected)


@pytest.mark.parametrize("spec", [None, P(), P("fsdp", "tensor"), P(None, ("tensor", "fsdp"))])
def test_a_device_holds_three_chunks_beside_its_params(spec, mesh, limits):
    """By what the compiler says: the leaf's memory is the result's, and what a program needs beside
    its arguments is two chunks; one more is on its way."""
    limits(1 << 20, 1 << 16, 0)
    sharding = None if spec is None else NamedSharding(mesh, spec)
    leaf = np.zeros((512, 512), np.float32)
    plan = plan_of(leaf, (1, 0), 0, sharding, "bfloat16", "device")
    (program,) = programs_of(plan.leaves, plan.limits)
    memory = program.compiled().memory_analysis()
    chunk = plan.transient_bytes // SLABS
    assert chunk <= 1 << 16
    assert memory.alias_size_in_bytes == plan.leaves[0].shard_bytes
    beside = memory.argument_size_in_bytes - memory.alias_size_in_bytes
    assert beside - 64 <= chunk and memory.temp_size_in_bytes <= 2 * chunk + 256


PEAK = """
import ctypes, gc, json, sys
ctypes.CDLL(None).mallopt(-3, 65536)  # M_MMAP_THRESHOLD, or glibc keeps what was freed
import jax, jax.numpy as jnp, numpy as np
from flaxmodels import params as fp
from flaxmodels.params.checkpoint.make_plan import make_plan
from flaxmodels.params.checkpoint.reconcile import reconcile
from flaxmodels.params.checkpoint.stream import stream

def load(path):
    source = fp.open_checkpoint(path)
    shapes = {name: tensor.shape for name, tensor in source.tensors.items()}
    template = {
        name.removesuffix(".weight"): {"kernel": jax.ShapeDtypeStruct(shape[::-1], jnp.float32)}
        for name, shape in shapes.items()
    }
    match = reconcile(template, source)
    plan = make_plan(match, template, dtype="float32", max_host_memory=32 << 20, route="device")
    return plan, stream(plan, progress=False, workers=2)

def status(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key))

jax.config.update("jax_disable_most_optimizations", False)
_, params = load(sys.argv[2])  # what is compiled is not counted
jax.block_until_ready(params)
del params, _
gc.collect()
before = status("VmRSS")
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak starts anew
plan, params = load(sys.argv[1])
held = sum(plan.bytes_per_device.values())
json.dump([status("VmHWM") - before, held, plan.ring_bytes, plan.transient_bytes,
           plan.predicted_host_peak], sys.stdout)
"""


def test_host_memory_is_the_ring(tmp_path):
    """34 MB of float32, stored as bfloat16, transposed; 8 MB for what lies outside arrays."""
    leaf = np.zeros((2048, 2048), jnp.bfloat16)
    tensors = {f"{name}.weight": leaf for name in "ab"}
    path = write_safetensors(tmp_path / "model.safetensors", tensors, {"format": "pt"})
    one = write_safetensors(tmp_path / "one.safetensors", {"a.weight": leaf}, {"format": "pt"})
    run = _children.run("-c", PEAK, path, one)
    assert run.returncode == 0, run.stderr
    peak, held, host, device, predicted = json.loads(run.stdout)
    assert held == 2 * 2048 * 2048 * 4 and predicted == held + host + device
    assert host <= RING * (4 << 20) and device <= SLABS * (4 << 20)
    assert peak <= predicted + 8 * MIB


FORMATS = {
    "safetensors": "safetensors/dtypes.safetensors",
    "msgpack": "flax/dtypes.msgpack",
    "msgpack in chunks": "flax/chunks.msgpack",
    "torch": "torch/dtypes.bin",
    "torch, views": "torch/views.bin",
    "torch, legacy": "torch/dtypes-legacy.bin",
    "orbax, ocdbt": "orbax/new-ocdbt/checkpoint",
    "orbax, folders": "orbax/old-folders/checkpoint",
    "tensorflow": "tf/google/bert_model.ckpt.index",
    "hdf5": "tf/keras/model.h5",
}


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")  # float64 on the host
# What a reader makes of a part of a tensor is compared in tests/params/formats.
@some_of(
    "name", FORMATS, *("safetensors", "msgpack in chunks", "torch, views", "orbax, ocdbt", "hdf5")
)
def test_every_format(name, limits):
    """Each tensor as it is, in chunks but for the smallest."""
    source = fp.open_checkpoint(GOLDENS / "formats" / name)
    largest = max(tensor.nbytes for tensor in source.tensors.values())
    limits(largest // 3 + 64, largest // 2 + 64, 8)
    match = identity_match(source)
    made = [plans.make_plan(match, dict(source.tensors), route=x) for x in ("device", "host")]
    assert any(leaf.route.kind == "device" for leaf in made[0].leaves)
    one, two = (fp.flatten(stream(plan, progress=False)) for plan in made)
    for path, leaf in two.items():
        assert same(np.asarray(one[path]), np.asarray(leaf)), path


def checkpoint(folder, leaves):
    """A file of matrices under PyTorch's names -> (path, plan by way)."""
    tensors = {f"{name}.weight": np.ascontiguousarray(leaf.T) for name, leaf in leaves.items()}
    path = write_safetensors(folder / "model.safetensors", tensors, {"format": "pt"})
    template = {
        name: {"kernel": jax.ShapeDtypeStruct(x.shape, x.dtype)} for name, x in leaves.items()
    }
    match = reconcile(template, fp.open_checkpoint(path))
    return path, functools.partial(plans.make_plan, match, template)


def test_the_ring_is_never_part_of_the_params(limits, tmp_path, monkeypatch):
    """A CPU device may take the memory that it is given: it is overwritten when all is loaded."""
    limits(1 << 14, 1 << 14, 1 << 10)
    slots = []
    made = ring.Slot.__init__

    def kept(self, nbytes):
        made(self, nbytes)
        slots.append(self)

    monkeypatch.setattr(ring.Slot, "__init__", kept)
    shapes = [(64, 64), (1, 4096), (100, 50), (3, 5), (64, 64)]
    leaves = {f"m{i}": random_array(i, shape, "float32") for i, shape in enumerate(shapes)}
    _, plan = checkpoint(tmp_path, leaves)
    loaded = stream(plan(route="device"), progress=False)
    assert len(slots) == RING
    for slot in slots:
        slot._memory[...] = 255
    for name, leaf in leaves.items():
        assert same(np.asarray(loaded[name]["kernel"]), leaf)


def test_a_pinned_ring(limits, tmp_path, monkeypatch):
    """It is as large as the plan says, is sent whole, and is written anew for each chunk."""
    limits(1 << 14, 1 << 13, 1 << 10)
    pins(monkeypatch)
    made = []

    class Counted(pinned.Pinned):
        def __init__(self, device, shape):
            made.append(math.prod(shape))
            super().__init__(device, shape)

    monkeypatch.setattr(ring, "Pinned", Counted)
    leaves = {f"m{i}": random_array(i, (90, 120), "float16") for i in range(3)}
    leaves |= {f"n{i}": random_array(i, (10, 90), "float16") for i in range(4)}
    _, plan = checkpoint(tmp_path, leaves)
    plan = plan(route="device")
    assert all(leaf.route.cut.capacity for leaf in plan.leaves)
    for name, leaf in stream(plan, progress=False).items():
        assert same(np.asarray(leaf["kernel"]), leaves[name])
    assert len(made) == 8 and sum(made) == plan.ring_bytes
    assert plan.ring_bytes <= RING << 14


def test_pinned_memory_is_sent_as_it_is_at_the_time():
    memory = pinned.Pinned(jax.devices()[1], (3, 4))
    for value in (7, 8):
        memory.bytes[...] = value
        sent = memory.send().block_until_ready()
        assert sent.device == jax.devices()[1] and sent.sharding.memory_kind == "device"
        memory.bytes[...] = 0  # as a later read does
        np.testing.assert_array_equal(sent, np.full((3, 4), value))


def test_the_plan_says_which_way_leaves_take(mesh, limits, tmp_path):
    limits(1 << 14, 1 << 14, 1 << 10)
    leaves = {"a": np.zeros((64, 128), np.float32), "b": np.zeros((8, 8), np.float32)}
    leaves |= {"c": np.zeros((8, 8), np.float64)}
    _, plan = checkpoint(tmp_path, leaves)
    shardings = NamedSharding(mesh, P("tensor", None))
    made = plan(route="device", shardings=shardings)
    assert [str(leaf.route) for leaf in made.leaves] == [
        "device, exchanged over fsdp x tensor",
        "packed",
        "host: float64 needs x64",
    ]
    assert "ring of 65.54 kB in host memory, 3 chunks of 8.19 kB on each device" in repr(made)
    assert all(leaf.route.kind == "host" for leaf in plan().leaves)  # of CPUs
    assert "ring" not in repr(plan())
    host = NamedSharding(mesh, P(), memory_kind="pinned_host")
    assert str(plan(route="device", shardings=host).leaves[0].route) == (
        "host: it goes to pinned_host"
    )


def test_a_leaf_that_is_placed_elsewhere_takes_the_way_there(limits, tmp_path):
    """As leaves do that a `device_map` gives to another device, or to the host."""
    limits(1 << 14, 1 << 14, 1 << 10)
    leaf = random_array(0, (64, 128), "float32")
    _, plan = checkpoint(tmp_path, {"a": leaf})
    plan = plan(route="device")
    for kind, route in (("device", "device"), ("pinned_host", "host: it goes to pinned_host")):
        sharding = SingleDeviceSharding(jax.devices()[3], memory_kind=kind)
        moved = plan.elsewhere(plan.leaves[0], sharding)
        assert str(moved.route) == route
        loaded = stream(dataclasses.replace(plan, leaves=(moved,)), progress=False)["a"]["kernel"]
        assert loaded.sharding == sharding and same(np.asarray(loaded), leaf)


def test_a_mesh_with_explicit_axes(mesh, limits, tmp_path):
    limits(1 << 14, 1 << 14, 1 << 10)
    explicit = jax.make_mesh((4, 2), ("fsdp", "tensor"), axis_types=(AxisType.Explicit,) * 2)
    leaves = {"a": random_array(0, (64, 128), "float32"), "b": random_array(1, (8, 8), "float32")}
    _, plan = checkpoint(tmp_path, leaves)
    sharding = NamedSharding(explicit, P("fsdp", "tensor"))
    for name, leaf in stream(plan(route="device", shardings=sharding), progress=False).items():
        assert same(np.asarray(leaf["kernel"]), leaves[name])
        assert leaf["kernel"].sharding == sharding


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_nothing_goes_on_after_an_error(error, limits, tmp_path, monkeypatch):
    """A file that changes halfway, and Ctrl-C: the error comes out, and no thread is left."""
    limits(1 << 14, 1 << 14, 0)
    leaves = {f"m{i}": random_array(i, (100, 100), "float32") for i in range(50)}
    path, plan = checkpoint(tmp_path, leaves)
    plan = plan(route="device")
    reads, read = [], Tensor.read

    def counting(self, *args):
        reads.append(self.name)
        if len(reads) == 10:
            if error is not None:
                raise error
            os.truncate(path, 10_000)
        if len(reads) > 10:
            time.sleep(0.01)  # so that there is time to stop
        return read(self, *args)

    monkeypatch.setattr(Tensor, "read", counting)
    with pytest.raises(error or fp.CheckpointError, match=None if error else "changed|cut"):
        stream(plan, progress=False, workers=4)
    assert len(reads) < 30
    assert not [t for t in threading.enumerate() if "flaxmodels-load" in t.name]

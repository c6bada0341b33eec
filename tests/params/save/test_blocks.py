"""What each process of a run writes: together the file that one process would write, each byte
once. Here processes are pairs of one process's devices."""

import dataclasses
import itertools
from collections import Counter

import jax
import numpy as np
import pytest
from _weights import uniform
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels.params.save import blocks as save_blocks
from flaxmodels.params.save import leaf_pieces, write
from flaxmodels.params.save.file_layout import FileLayout
from flaxmodels.params.save.tensor_specs import tensor_specs

SIZES = {
    "vocab_size": 24,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 16,
}


class Joined(fm.LlamaForCausalLM):
    """Files have q, k and v as one tensor, by groups, and gate and up one after the other."""

    @property
    def naming(self) -> fp.Naming:  # pyright: ignore[reportIncompatibleVariableOverride]
        joined = (
            fp.Joined("self_attn/qkv_proj", ("q_proj", "k_proj", "v_proj"), 2),
            fp.Joined("mlp/gate_up_proj", ("gate_proj", "up_proj")),
        )
        return dataclasses.replace(fm.LlamaForCausalLM.naming, joined=joined)


MODELS = {
    "loop": lambda: fm.LlamaForCausalLM(fm.LlamaConfig(**SIZES)),
    "scan": lambda: fm.LlamaForCausalLM(fm.LlamaConfig(**SIZES), scan_layers=True),
    "joined": lambda: Joined(fm.LlamaConfig(**SIZES, attention_bias=True)),
    "joined scan": lambda: Joined(fm.LlamaConfig(**SIZES), scan_layers=True),
    "convolution": lambda: fm.GPT2LMHeadModel(
        fm.GPT2Config(vocab_size=24, n_embd=16, n_layer=2, n_head=2, n_positions=16)
    ),
}


def spread(path, leaf, seed):
    """The leaf on eight devices, along axes of the mesh that are drawn, the same for leaves of one
    shape: a program that cuts one's shards cuts the others'."""
    draw = np.random.default_rng([seed, *leaf.shape])
    mesh = Mesh(np.array(jax.devices()).reshape(2, 2, 2), ("a", "b", "c"))
    names, spec = list(draw.permutation(["a", "b", "c"])), []
    for size in leaf.shape:
        count = int(draw.integers(0, 3))
        taken = [str(names.pop()) for _ in range(min(count, len(names)))]
        while taken and size % 2 ** len(taken):
            names.append(taken.pop())
        spec.append(tuple(taken) or None)
    value = uniform(path, leaf.shape)
    return jax.device_put(value, NamedSharding(mesh, PartitionSpec(*spec)))


@pytest.fixture
def four_processes(monkeypatch):
    monkeypatch.setattr(save_blocks, "is_spread", lambda leaf: isinstance(leaf, jax.Array))
    monkeypatch.setattr(save_blocks, "_process_of", lambda device: device.id // 2)


@pytest.mark.parametrize("format", ["safetensors", "msgpack"])
@pytest.mark.parametrize("name", MODELS)
def test_all_blocks_are_the_file_and_each_byte_is_written_once(
    name, format, four_processes, monkeypatch, tmp_path
):
    monkeypatch.setattr(save_blocks, "CHUNK", 96)
    monkeypatch.setattr("flaxmodels.params.save.encode._MSGPACK_CHUNK", 500)
    model = MODELS[name]()
    template = model.abstract_params()
    leaves = {path: spread(path, leaf, len(name)) for path, leaf in fp.flatten(template).items()}
    params = fp.unflatten(leaves)
    model.save_pretrained(jax.device_get(params), tmp_path, format=format, progress=False)
    (file,) = (path for path in tmp_path.iterdir() if path.suffix in (".safetensors", ".msgpack"))
    expected = np.frombuffer(file.read_bytes(), np.uint8)

    specs = tensor_specs(params, template, model.naming, write.WriteOptions(format=format).names)
    layout = FileLayout(write.written(format).encode(specs, {"format": "pt"}))
    assert layout.size == len(expected)
    data, times, owners = np.zeros_like(expected), np.zeros_like(expected), Counter()

    def put(offset, piece):
        data[offset : offset + len(piece)] = np.frombuffer(piece, np.uint8)
        times[offset : offset + len(piece)] += 1

    for offset, head in layout.heads:
        put(offset, head)
    for block, place in layout.blocks(0):
        for box, part in block.read():
            assert part.nbytes <= 96 or part.size == 1
            for offset, piece in place.pieces(box, part):
                put(offset, piece)
            owners[block.owner] += part.nbytes
    np.testing.assert_array_equal(data, expected)
    assert (times == 1).all()
    assert max(owners.values()) < 1.5 * sum(owners.values()) / 4  # each writes about its part


def test_a_shard_on_an_accelerator_is_cut_and_turned_there(four_processes, monkeypatch):
    """By one program for all chunks of a size; here the accelerator is a CPU device."""
    monkeypatch.setattr(save_blocks, "is_in_host_memory", lambda data: False)
    monkeypatch.setattr(save_blocks, "CHUNK", 256)
    model = MODELS["scan"]()
    template = model.abstract_params()
    leaves = {path: spread(path, leaf, 1) for path, leaf in fp.flatten(template).items()}
    for spec in tensor_specs(fp.unflatten(leaves), template, model.naming, "torch"):
        whole, seen = spec.read(), np.zeros(spec.shape, bool)
        for block in save_blocks.blocks(spec, 0):
            for box, part in block.read():
                cut = tuple(slice(*each) for each in box)
                np.testing.assert_array_equal(part, whole[cut])
                seen[cut] = True
        assert seen.all()


@pytest.mark.parametrize("seed", range(20))
def test_runs_are_the_bytes_of_a_box(seed):
    draw = np.random.default_rng(seed)
    shape = tuple(map(int, draw.integers(1, 5, size=draw.integers(0, 4))))
    box = tuple((int(draw.integers(0, n)), n) for n in shape)
    array = np.arange(int(np.prod(shape))).reshape(shape)
    starts, length = save_blocks.runs(shape, box)
    found = list(itertools.chain(*(range(at, at + length) for at in starts)))
    assert found == array[tuple(slice(*cut) for cut in box)].reshape(-1).tolist()


@pytest.mark.parametrize(
    ("model", "seen"), [("scan", True), ("joined", True), ("scan", False), ("joined", False)]
)
def test_what_is_read_off_devices_is_the_leaf_chunk_by_chunk(model, seen, monkeypatch):
    """Where the host does not see their memory, they transpose no more than a chunk at a time."""
    sizes, cut_out = [], leaf_pieces.cut_out

    def counted(data, *told):
        part = cut_out(data, *told)
        sizes.append(part.nbytes)
        return part

    monkeypatch.setattr(leaf_pieces, "CHUNK", 256)
    monkeypatch.setattr(leaf_pieces, "cut_out", counted)
    monkeypatch.setattr(leaf_pieces, "is_in_host_memory", lambda data: seen)
    made = MODELS[model]()
    template = made.abstract_params()
    arrays = {path: uniform(path, x.shape) for path, x in fp.flatten(template).items()}
    for each in (spread, lambda path, leaf, seed: jax.device_put(leaf)):
        placed = {path: each(path, leaf, 1) for path, leaf in arrays.items()}
        ways = [fp.unflatten(arrays), fp.unflatten(placed)]
        want, have = (tensor_specs(x, template, made.naming, "torch") for x in ways)
        for one, two in zip(want, have, strict=True):
            np.testing.assert_array_equal(one.read(), two.read(), err_msg=one.name)
    assert (sizes == []) if seen else (max(sizes) <= 256)

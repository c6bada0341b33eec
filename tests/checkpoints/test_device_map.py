"""`device_map`, `max_memory`, `offload_folder`: where leaves go, and what is run from there."""

import errno
import os
from typing import Any

import jax
import numpy as np
import pytest
from _drawn import applied, params_of, tiny_llama
from _turns import some_of

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels.params.checkpoint import disk_leaf
from flaxmodels.params.checkpoint.disk_leaf import DiskLeaf
from flaxmodels.params.formats.source import Tensor

CONFIG = tiny_llama(num_hidden_layers=4)
IDS = np.arange(12, dtype=np.int32).reshape(2, 6)
DRAWN: dict[str, Any] = {"max_new_tokens": 4, "do_sample": True, "top_k": 8}
DRAWN["key"] = jax.random.key(1)
LAYER = 4 * (4 * 16 * 16 + 3 * 16 * 32 + 2 * 16)  # bytes
TABLE = 4 * 64 * 16


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    model = fm.LlamaForCausalLM(CONFIG)
    params = params_of(model)
    model.save_pretrained(params, folder)
    logits = applied(model, params, IDS).logits
    tokens = model.generate(params, IDS, **DRAWN).sequences
    return folder, params, np.asarray(logits), np.asarray(tokens)


def load(folder, *args, **options):
    return fm.LlamaForCausalLM.from_pretrained(folder, *args, **options)


def places(params):
    """{module: where its leaves are}."""
    found: dict[str, Any] = {}
    for path, leaf in fp.flatten(params).items():
        (place,) = fp.memory_footprint(leaf, per_device=True)
        name = getattr(place, "id", place)
        parts = path.split("/")
        module = "/".join(parts[: 3 if "layers" in parts else -1])
        assert found.setdefault(module, name) == name, "a layer is split"
    return found


MAPS = {
    "disk": ({"": 0, "model.layers": "disk"}, {}),
    "host and disk": ({"": 0, "model/layers": "cpu", "model.layers.2": "disk"}, {}),
    "all on disk": ({"": "disk"}, {}),
    "all in host memory": ({"": "cpu"}, {}),
    "devices": ({"model.embed_tokens": "cpu:1", "model.layers": 0, "model": 1, "lm_head": 0}, {}),
    "made": ("auto", {"max_memory": {0: 2 * LAYER + TABLE + LAYER, "cpu": 2 * LAYER}}),
    "made for devices": ("balanced", {"max_memory": {0: "1GB", 1: "1GB"}}),
}


# "made" has layers on a device, in host memory and on the disk.
@some_of("name", [*MAPS], *(name for name in MAPS if name != "host and disk"))
def test_P13_18_logits_and_tokens_are_the_same(saved, name):
    folder, params, logits, tokens = saved
    device_map, options = MAPS[name]
    model, placed = load(folder, device_map=device_map, **options)
    have = model.apply({"params": placed}, IDS).logits
    assert np.abs(np.asarray(have) - logits).max() < 1e-5
    assert np.array_equal(model.generate(placed, IDS, **DRAWN).sequences, tokens)
    if name == "disk":
        streamed = np.stack([*model.stream(placed, IDS, **DRAWN)], axis=1)
        assert np.array_equal(streamed, tokens[:, IDS.shape[1] :])
    for path, leaf in fp.flatten(placed).items():
        assert np.array_equal(np.asarray(leaf), np.asarray(fp.get_leaf(params, path))), path


@pytest.mark.parametrize("tied", [pytest.param(False, marks=pytest.mark.soak), True])
def test_P13_18_of_a_table_on_the_disk_the_rows_of_the_ids_are_read(tmp_path, monkeypatch, tied):
    config = CONFIG.replace(tie_word_embeddings=tied, vocab_size=512)
    model = fm.LlamaForCausalLM(config)
    params = params_of(model)
    model.save_pretrained(params, tmp_path)
    model, placed = load(tmp_path, device_map={"": 0, "model.embed_tokens": "disk"})
    read, before = [], Tensor.read

    def counted(tensor, bounds=None, scratch=None):
        read.append(before(tensor, bounds, scratch))
        return read[-1]

    monkeypatch.setattr(Tensor, "read", counted)
    ids = np.array([[7, 511, 7], [0, 3, 511]])
    logits = model.apply({"params": placed}, ids).logits
    row, table = 4 * 16, 4 * 16 * 512
    assert sum(x.nbytes for x in read) == 4 * row + (table if tied else 0)
    want = applied(model, params, ids).logits
    assert np.abs(np.asarray(logits) - np.asarray(want)).max() < 1e-5


def test_P13_18_prefixes(saved):
    folder = saved[0]
    device_map = {"": 1, "model.layers": "cpu", "model/layers/2": "disk", "model.rotary_emb": 3}
    _, params = load(folder, device_map=device_map)
    expected = {f"model/layers/{i}": "disk" if i == 2 else "host" for i in range(4)}
    assert places(params) == expected | {"model/embed_tokens": 1, "model/norm": 1, "lm_head": 1}


def test_P13_18_one_device(saved):
    folder = saved[0]
    for device_map in (2, np.int64(2), "cpu:2", jax.devices()[2], {"": 2}):
        _, params = load(folder, device_map=device_map)
        assert set(places(params).values()) == {2}
    assert set(places(load(folder, device_map="cpu")[1]).values()) == {0}
    for how in ("sequential", "auto"):
        _, params = load(folder, device_map=how, max_memory={0: "1GB"}, scan_layers=True)
        assert [*fp.memory_footprint(params, per_device=True)] == [jax.devices()[0]]


def test_P13_19_layers_go_to_devices_then_host_then_disk(saved):
    limit = {5: 2 * LAYER + TABLE + LAYER, "cpu": 2 * LAYER}
    _, params = load(saved[0], device_map="auto", max_memory=limit)
    order = ["model/embed_tokens", *(f"model/layers/{i}" for i in range(4)), "model/norm"]
    found = places(params)
    assert [found[name] for name in order] == [5, 5, "host", "host", "disk", "disk"]
    assert found["lm_head"] == "disk"


def test_P13_19_balanced_spreads_and_sequential_fills(saved):
    folder = saved[0]

    def used(how):
        limits = dict.fromkeys(range(3), "1GB")
        return set(places(load(folder, device_map=how, max_memory=limits)[1]).values())

    assert used("balanced") >= {0, 1} and used("sequential") == {0}
    assert used("balanced_low_0") == {1, 2}


def test_P13_18_tied_leaves_are_one_and_a_map_may_name_both(tmp_path):
    model = fm.LlamaForCausalLM(CONFIG.replace(tie_word_embeddings=True))
    model.save_pretrained(params_of(model), tmp_path)
    _, params = load(tmp_path, device_map={"model": 0, "lm_head": 1, "model.layers": "disk"})
    assert "lm_head" not in params and places(params)["model/embed_tokens"] == 0


def test_P16_footprint_by_place(saved):
    model, params = load(saved[0], device_map=MAPS["host and disk"][0])
    per_device = model.get_memory_footprint(params, per_device=True, return_buffers=False)
    sizes = {jax.devices()[0]: 2 * TABLE + 4 * 16, "host": 3 * LAYER, "disk": LAYER}
    assert per_device == sizes
    assert model.get_memory_footprint(params) == sum(sizes.values())
    assert model.num_parameters(params) == sum(sizes.values()) // 4
    abstract = model.abstract_params()
    assert model.get_memory_footprint(abstract, per_device=True) == {
        jax.devices()[0]: sum(sizes.values())
    }
    arrays = jax.tree.map(np.asarray, params)
    assert model.get_memory_footprint(arrays, per_device=True) == {"host": sum(sizes.values())}


def test_P13_18_another_dtype_is_made_as_it_is_read(saved):
    folder, params, *_ = saved
    model, placed = load(folder, device_map={"": "disk"}, param_dtype="bfloat16")
    half = fp.to_bf16(params)
    for path, leaf in fp.flatten(placed).items():
        assert leaf.dtype == jax.numpy.bfloat16 and leaf.tensor.dtype == np.float32
        assert np.array_equal(np.asarray(leaf), np.asarray(fp.get_leaf(half, path)))
    want = applied(model, half, IDS).logits
    have = model.apply({"params": placed}, IDS).logits
    assert np.abs(np.asarray(have) - np.asarray(want)).max() < 1e-5
    again = fp.cast(placed, "float32")
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(again))


def test_P13_18_a_map_and_a_mesh_contradict_each_other(saved):
    from flaxmodels import sharding as fs

    with pytest.raises(TypeError, match="give device_map or mesh, not both"):
        load(saved[0], device_map="auto", mesh=fs.make_mesh(fsdp=-1))
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    with pytest.raises(TypeError, match="give device_map or shardings, not both"):
        load(saved[0], device_map=0, shardings=one)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"device_map": -1}, r"device_map is -1, and the devices of this process are 0 to 7"),
        ({"device_map": 8}, r"device_map is 8, and the devices"),
        ({"device_map": "mps"}, "device_map is 'mps'; expected one of auto, balanced"),
        ({"device_map": "cuda:1"}, "there is no such device; there are cpu:0, cpu:1"),
        ({"device_map": {"": "meta"}}, r"device_map\[''\] is 'meta'"),
        ({"device_map": 1.5}, "expected a device, its name or number, or a map"),
        ({"device_map": True}, "expected a device, its name or number, or a map"),
        ({"device_map": {0: "cpu"}}, "device_map has the key 0; expected a path"),
        ({"device_map": {"model.layers": 0, "model.norm": 0}}, "no place for lm_head, model/embed"),
        ({"device_map": {"": 0, "model.layer": 1}}, r"at 'model/layer' \(nearest: model/layers"),
        (
            {"max_memory": {0: "1GB"}},
            'max_memory is for a map that is made: give device_map="auto"',
        ),
        ({"device_map": "auto", "max_memory": "lots"}, "max_memory is 'lots'; expected a map"),
        ({"device_map": "auto", "max_memory": {0: "lots"}}, r"max_memory\[0\] is 'lots'; give byt"),
        ({"device_map": "auto", "max_memory": {9: 1}}, r"max_memory\[9\] is 9, and the devices"),
        ({"device_map": "auto", "max_memory": {"disk": 1}}, "the disk takes what is left"),
        (
            {"device_map": "auto", "max_memory": {0: LAYER}},
            r"does not fit: cpu:0 may hold .* takes .* at a time, 10.37 kB more; the largest is "
            r"model/layers/0 .* its largest leaf model/layers/0/mlp/down_proj/kernel \(2.05 kB\)",
        ),
        (
            {"device_map": {"": 0, "model.layers": 1}, "max_memory": {1: LAYER}},
            r"does not fit: by the device_map cpu:1 needs 41.47 kB and may hold 10.37 kB, 31.10 kB",
        ),
        (
            {"device_map": {"": 0, "model.layers": "disk"}, "scan_layers": True},
            "scan_layers=True keeps all layers in one array",
        ),
    ],
)
def test_P13_18_bad_maps_name_what_is_wrong(saved, options, error):
    before = list(os.scandir(saved[0]))
    with pytest.raises((TypeError, ValueError), match=error):
        load(saved[0], **options)
    assert len(list(os.scandir(saved[0]))) == len(before)


def test_P13_18_models_without_layers_to_run_one_by_one():
    sizes = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 16}
    model = fm.AlbertForMaskedLM(
        fm.AlbertConfig(**sizes, num_attention_heads=2, num_hidden_layers=2)
    )
    from flaxmodels.placement.outline import outline_of

    with pytest.raises(TypeError, match="AlbertForMaskedLM has no stack of layers that are run"):
        outline_of(model)


def test_P13_23_what_no_file_holds_as_it_is_goes_into_the_folder(saved, tmp_path):
    folder, params, logits, _ = saved
    state = {name: np.asarray(leaf) for name, leaf in fp.flatten(params).items()}
    told = {"config": CONFIG, "state_dict": fp.unflatten(state), "device_map": {"": "disk"}}
    with pytest.raises(ValueError, match="not in files of this machine as they are: give offload_"):
        load(None, **told)
    model, placed = load(None, **told, offload_folder=tmp_path / "new" / "room")
    assert len(os.listdir(tmp_path / "new" / "room")) == 1
    assert np.abs(np.asarray(model.apply({"params": placed}, IDS).logits) - logits).max() < 1e-5
    # a head that is drawn
    head = fm.LlamaForTokenClassification
    told = {"device_map": {"": 0, "score": "disk"}}
    with pytest.raises(ValueError, match="score/kernel.* not in the checkpoint: give offload_"):
        head.from_pretrained(folder, **told)
    with pytest.warns(UserWarning, match="not initialized|not used"):
        _, drawn = head.from_pretrained(folder, **told, offload_folder=tmp_path)
    assert isinstance(drawn["score"]["kernel"], DiskLeaf)


def test_P13_23_a_full_disk_leaves_nothing(saved, tmp_path, monkeypatch):
    params = saved[1]

    def full(file, array):
        file.write(b"some")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(disk_leaf, "_append", full)
    told = {"config": CONFIG, "state_dict": params, "device_map": {"": "disk"}}
    with pytest.raises(fp.CheckpointError, match="No space left on device; nothing was kept"):
        load(None, **told, offload_folder=tmp_path)
    assert os.listdir(tmp_path) == []
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="is a file; name a folder"):
        load(None, **told, offload_folder=tmp_path / "file")


def test_P13_23_a_file_that_changes_is_an_error(saved, tmp_path):
    model = fm.LlamaForCausalLM(CONFIG)
    model.save_pretrained(saved[1], tmp_path)
    model, placed = load(tmp_path, device_map={"": 0, "model.layers": "disk"})
    (file,) = tmp_path.glob("*.safetensors")
    with open(file, "r+b") as opened:
        opened.seek(-4, os.SEEK_END)
        opened.write(b"abcd")
    os.utime(file, ns=(1, 1))
    for run in (lambda: model.apply({"params": placed}, IDS), lambda: model.generate(placed, IDS)):
        with pytest.raises(fp.CheckpointError, match="the file changed while it was being read"):
            run()
    file.unlink()
    leaf = jax.tree.leaves(placed["model"]["layers"])[0]
    with pytest.raises(fp.CheckpointError, match="changed"):
        leaf.read()


def test_P13_18_an_offloaded_tree_is_saved_elsewhere(saved, tmp_path):
    folder, params, *_ = saved
    model, placed = load(folder, device_map=MAPS["host and disk"][0])
    with pytest.raises(fp.CheckpointError, match="still read from this file; save into another"):
        model.save_pretrained(placed, folder)
    model.save_pretrained(placed, tmp_path)
    _, back = load(tmp_path)
    assert jax.tree.all(jax.tree.map(np.array_equal, back, params))


def test_P13_18_leaves_on_the_disk_in_other_programs(saved):
    model, placed = load(saved[0], device_map={"": "disk"})
    kernel = placed["lm_head"]["kernel"]
    for run in (
        lambda: jax.numpy.sum(kernel),
        lambda: jax.jit(lambda p: model.apply({"params": p}, IDS).logits)(placed),
    ):
        with pytest.raises(TypeError, match=r"DiskLeaf\(float32\[16, 64\] in model.safetensors\)"):
            run()
    with pytest.raises(AttributeError, match="it is in a file, and leaf.read"):
        fp.stack_layers(placed)
    assert np.array_equal(jax.numpy.asarray(kernel), kernel.read())
    assert np.array_equal(fp.scale(placed, 2.0)["lm_head"]["kernel"], 2 * kernel.read())


def test_P13_24_P13_25_words_without_effect(saved):
    for name in ("low_cpu_mem_usage", "offload_state_dict"):
        for value in (True, False):
            with pytest.warns(FutureWarning, match=f"{name} .*leave it out"):
                load(saved[0], **{name: value})
    load(saved[0], device_map={"": 0, "model.layers": "disk"}, offload_buffers=True)
    with pytest.raises(TypeError, match="offload_buffers is 'yes'; expected True or False"):
        load(saved[0], device_map=0, offload_buffers="yes")


def test_P13_18_load_plan_tells_what_stays(saved):
    plan = fm.load_plan(saved[0], device_map=MAPS["host and disk"][0])
    assert "9 leaves, 10.37 kB, stay on the disk" in repr(plan)
    assert plan.bytes_per_device == {jax.devices()[0]: 2 * TABLE + 4 * 16}
    assert plan.held_on_host == 2 * TABLE + 4 * 16 + 3 * LAYER

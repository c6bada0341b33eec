"""Files that a training in PyTorch saved: which of their dicts a model's weights are."""

import re

import numpy as np
import pytest
from _files import put
from _paths import LLAMA
from _torch_files import NONE, archive, map_of, number, storage, tensor, text
from safetensors.numpy import load_file

import flaxmodels as fm
from flaxmodels import params as fp

TENSORS = load_file(LLAMA / "model.safetensors")
EPOCH = {"epoch": number(3), "loss": NONE}


class File:
    """A `torch.save` of dicts in dicts, built without torch."""

    def __init__(self):
        self.storages = {}

    def tensor(self, array) -> bytes:
        key = str(len(self.storages))
        self.storages[key] = array.tobytes()
        strides = [step // array.itemsize for step in np.empty(array.shape, array.dtype).strides]
        return tensor(storage("Float", key, array.size), 0, array.shape, strides)

    def tree(self, node) -> bytes:
        if isinstance(node, dict):
            return map_of({key: self.tree(value) for key, value in node.items()})
        return self.tensor(node) if isinstance(node, np.ndarray) else node

    @classmethod
    def put(cls, folder, node):
        made = cls()
        (folder / "config.json").write_bytes((LLAMA / "config.json").read_bytes())
        return put(folder, "x.pt", archive(made.tree(node), made.storages))


def moments():
    """What an optimizer of names keeps, as FSDP saves it."""
    return {"state": {name: {"exp_avg": array * 0} for name, array in TENSORS.items()}}


def under(prefix, change=0.0):
    return {prefix + name: array + np.float32(change) for name, array in TENSORS.items()}


ENTERED = {  # {case: (what the file holds, what is said of it)}
    "loop": (
        {"model_state_dict": TENSORS, **EPOCH, "optimizer_state_dict": {"param_groups": NONE}},
        "the tensors are those under 'model_state_dict'; not read: 'epoch', 'loss', 'optimizer_",
    ),
    "unheard-of": ({"weights": TENSORS, **EPOCH}, "under 'weights'; not read: 'epoch', 'loss'"),
    "lightning": (
        {"state_dict": under("model."), "hyper_parameters": {"lr": NONE}},
        "not read: 'hyper_parameters'.*the params are taken from under 'model'",
    ),
    "deep": ({"state": {"net": TENSORS, "step": number(9)}}, "under 'state.net'; not read: 'step'"),
    "optimizer": (
        {"model": TENSORS, "optimizer": moments(), **EPOCH},
        "the params are taken from under 'model'.*not read: 'optimizer'",
    ),
    "best": ({"state_dict": TENSORS, "best": np.ones(2, np.float32)}, "not read: 'best'"),
}


def load(path, **how):
    return fm.LlamaForCausalLM.from_pretrained(path, weights_only=False, progress=False, **how)


def assert_loaded(params, change=0.0):
    _, expected = fm.LlamaForCausalLM.from_pretrained(LLAMA, progress=False)
    expected = fp.flatten(expected)
    found = fp.flatten(params)
    assert found.keys() == expected.keys()
    for name, leaf in expected.items():
        np.testing.assert_array_equal(found[name], leaf + np.float32(change), err_msg=name)


@pytest.mark.parametrize("case", ENTERED)
def test_the_one_dict_that_fits_is_entered_and_said(case, tmp_path):
    node, message = ENTERED[case]
    path = File.put(tmp_path, node)
    with pytest.warns(UserWarning) as caught:
        _, params = load(path)
    said = " ".join(str(warning.message) for warning in caught)
    assert re.search(message, said), said
    assert_loaded(params)
    with pytest.raises(fm.CheckpointError, match="keys are .*|holds a dict") as refused:
        fm.LlamaForCausalLM.from_pretrained(path)  # only weights, unless it is asked for
    assert "weights_only=False leaves out" in str(refused.value)


@pytest.mark.parametrize("other", ["ema", "module.ema"])
def test_two_that_fit_alike_are_told_apart_by_key_mapping(other, tmp_path):
    path = File.put(tmp_path, {"model": TENSORS, other: under("", 1.0), **EPOCH})
    with pytest.raises(
        fm.CheckpointError, match="fit alike; say which are wanted: key_map"
    ) as caught:
        load(path)
    assert "under 'model'" in str(caught.value) and f"under '{other}'" in str(caught.value)
    for name, change in {"model": 0.0, other: 1.0}.items():
        with pytest.warns(UserWarning, match="not used in"):
            _, params = load(path, key_mapping={f"^{re.escape(name)}[.]": ""}, strict=False)
        assert_loaded(params, change)


def test_dicts_that_hold_themselves_and_one_dict_many_times(tmp_path):
    """Each is entered once: neither time nor memory grows with the ways to it."""
    itself = b"}q\1(" + text("model") + b"h\1" + text("w") + tensor() + b"u"
    deep = map_of({"w": tensor()})
    for _ in range(100):
        deep = map_of({"state_dict": deep})
    doubled = map_of({"w": tensor()})
    for i in range(14):
        at = bytes([i + 10])
        doubled = map_of({"a": doubled + b"q" + at, "b": b"h" + at})
    path = put(tmp_path, "itself.pt", archive(itself))
    assert fp.open_checkpoint(path, weights_only=False).tensors.keys() == {"w"}
    path = put(tmp_path, "doubled.pt", archive(doubled))
    with pytest.warns(UserWarning, match=r"under 'a(\.a)*'; not read: 'b'"):
        assert fp.open_checkpoint(path, weights_only=False).tensors.keys() == {"w"}
    path = put(tmp_path, "deep.pt", archive(deep))
    with pytest.raises(fm.CheckpointError, match="no tensors; the file's keys are 'state_dict'"):
        fp.open_checkpoint(path, weights_only=False)

"""Make tests/goldens/formats/torch: files of torch.save, and what is in them.

Run by hand where torch is: `python scripts/goldens/files/_goldens_torch.py`. `expected.npz` holds
each tensor of each file that is to be read, under "file|name|dtype", as unsigned integers of the
same bits. Files whose names begin with "refused-" hold what is no state dict of arrays. The keys of
storages in legacy files are addresses, so these files differ from run to run.
"""

import argparse
import json
import platform
import shutil
import warnings
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

GOLDENS = Path(__file__).resolve().parents[3] / "tests" / "goldens" / "formats" / "torch"
DTYPES = (
    "float64 float32 float16 bfloat16 float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz "
    "float8_e8m0fnu complex64 int64 int32 int16 int8 uint64 uint32 uint16 uint8 bool"
).split()
BITS = {1: torch.uint8, 2: torch.uint16, 4: torch.uint32, 8: torch.uint64}


def draw(*shape, dtype=torch.float32):
    """Any bits: also NaNs and subnormals; booleans are 0 or 1."""
    raw = torch.randint(0, 256, (*shape, dtype.itemsize), dtype=torch.uint8)
    raw = raw % 2 if dtype == torch.bool else raw
    return raw.view(dtype).reshape(shape)


def views():
    base, image = draw(6, 8), draw(2, 3, 4, 5)
    return {
        "base": base,
        "transposed": base.T,
        "rows": base[2:5],
        "columns": base[:, 3:5],
        "steps": base[1::2, ::3],
        "expanded": draw(1, 5).expand(4, 5),
        "repeated": draw(3, 1).expand(2, 3, 4),
        "scalar-expanded": draw().expand(3, 3),
        "permuted": image.permute(3, 1, 0, 2),
        "channels-last": image.to(memory_format=torch.channels_last),
        "windows": draw(9).unfold(0, 4, 2),
        "overlapping": base.as_strided((5, 7), (3, 1), 4),
        "diagonal": base.diagonal(1),
        "element": base[3, 4],
        "scalar": draw(),
        "empty": draw(0, 3),
        "empty-transposed": draw(4, 0).T,
        "empty-slice": base[6:],
        "ones": draw(1, 1, 7).transpose(0, 1),
        "tied": base,
        "half": base.half()[:, 1],
        "float8-transposed": draw(3, 5, dtype=torch.float8_e4m3fn).T,
        "int8-transposed": draw(5, 3, dtype=torch.int8).T,
        "bool-steps": draw(9, dtype=torch.bool)[::2],
    }


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(7, 4)
        self.conv = torch.nn.Conv1d(4, 4, 3)
        self.norm = torch.nn.BatchNorm1d(4)
        self.head = torch.nn.Linear(4, 7, bias=False)
        self.head.weight = self.embed.weight


class Increment(torch.nn.Module):
    def forward(self, x):
        return x + 1


def with_attribute():
    parameter = torch.nn.Parameter(draw(2))
    parameter.note = "kept in its __dict__"
    return parameter


def training(net):
    """A checkpoint as a training loop saves it, with all sorts of things beside the weights."""
    optimizer = torch.optim.Adam(net.parameters())
    net.norm(net.conv(net.embed(torch.zeros(2, 5, dtype=torch.long)).mT)).sum().backward()
    optimizer.step()
    return {
        "state_dict": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": 3,
        "best": torch.tensor(0.5),
        "args": argparse.Namespace(lr=1e-3, betas=(0.9, 0.99), tags={"a", "b"}),
        "rng": (torch.get_rng_state(), np.random.default_rng(0).bit_generator.state),
        "loss": np.float64(2.5),
        "history": np.arange(5.0),
        "big": 2**80,
        "data": b"bytes",
        "self": [frozenset({1}), bytearray(b"x"), 1.5, None, -3, "ü" * 3000],
    }


def good():
    """{file stem: state dict}, or the checkpoint around it under the key `state_dict`."""
    net = Net()
    return {
        "dtypes": {name: draw(3, 2, dtype=getattr(torch, name)) for name in DTYPES},
        "views": views(),
        "module": net.state_dict(),
        "parameters": OrderedDict(net.named_parameters()),
        "training": training(net),
        "empty": {},
    }


def refused():
    x = draw(2, 3)
    quantised = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)
    return {
        "module": Net(),
        "tensor": x,
        "list": [x],
        "nested": {"a": x, "b": {"c": x}},
        "quantised": {"a": x, "w": quantised},
        "sparse": {"a": x, "w": x.to_sparse()},
        "conjugated": {"w": draw(2, dtype=torch.complex64).conj()},
        "complex128": {"w": draw(2, dtype=torch.complex128)},
        "attribute": {"w": with_attribute()},
        "meta": {"w": torch.empty(2, device="meta")},
        "number": {"a": x, "epoch": 3},
        "integer-key": {"a": x, 3: x},
    }


def save(folder, name, value, *, ending="bin", **how):
    legacy = how.pop("legacy", False)
    torch.save(value, folder / f"{name}.{ending}", _use_new_zipfile_serialization=not legacy, **how)


def expected(stem, value):
    for name, tensor in value.get("state_dict", value).items():
        tensor = tensor.detach().clone(memory_format=torch.contiguous_format)
        bits = tensor.reshape(-1).view(BITS[tensor.dtype.itemsize]).reshape(tensor.shape)
        yield f"{stem}|{name}|{str(tensor.dtype).removeprefix('torch.')}", bits.numpy()


def make_model(folder: Path):
    """A golden's weights as `pytorch_model.bin`: single, legacy, and in two shards."""
    source = GOLDENS.parents[1] / "llama-causal-lm" / "checkpoint"
    state = load_file(source / "model.safetensors")
    for name in ("single", "legacy", "sharded"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(source / "config.json", folder / name)
    torch.save(state, folder / "single" / "pytorch_model.bin")
    torch.save(state, folder / "legacy" / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    weight_map = {}
    for i, names in enumerate((sorted(state)[::2], sorted(state)[1::2]), 1):
        shard = f"pytorch_model-{i:05d}-of-00002.bin"
        torch.save({name: state[name] for name in names}, folder / "sharded" / shard)
        weight_map |= dict.fromkeys(names, shard)
    index = json.dumps({"metadata": {}, "weight_map": weight_map})
    (folder / "sharded" / "pytorch_model.bin.index.json").write_text(index)


def make(folder: Path):
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    answers = {}
    for stem, value in good().items():
        save(folder, stem, value)
        save(folder, f"{stem}-legacy", value, legacy=True)
        answers |= expected(stem, value)
    three = {name: draw(2, 2, dtype=getattr(torch, name)) for name in ("float32", "uint16", "bool")}
    for protocol in (1, 3, 4, 5):
        stem = f"protocol-{protocol}"
        save(folder, stem, three, ending="pt", pickle_protocol=protocol)
        save(folder, f"{stem}-legacy", three, ending="pth", legacy=True, pickle_protocol=protocol)
        answers |= expected(stem, three)
    for stem, value in refused().items():
        save(folder, f"refused-{stem}", value)
        if stem != "module":  # which would put the source of PyTorch's modules into the file
            save(folder, f"refused-{stem}-legacy", value, legacy=True)
    torch.jit.script(Increment()).save(folder / "refused-script.pt")
    np.savez_compressed(folder / "expected.npz", **answers)
    make_model(folder / "llama")
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    (folder / "versions.json").write_text(json.dumps(versions, indent=1) + "\n")


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # of what is deprecated but still written
    make(GOLDENS)

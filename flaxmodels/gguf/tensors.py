"""The tensors of a GGUF file, under the names and in the layout of PyTorch's checkpoints."""

import dataclasses
import re

from .. import params as fp
from ..params.errors import quoted
from ..params.formats import Tensor
from ..params.formats.gguf import Gguf
from ..params.quantized.readers.gguf import read_gguf
from ..params.tree.naming import TORCH
from .architectures import Architecture
from .config import described
from .rope import FACTORS

_NUMBER = re.compile(r"(?<=\.)[0-9]{1,9}(?=\.)")  # of a layer


def source_of(gguf: Gguf) -> fp.Source:
    """Returns the source of a file, quantised weights as packed tensors.

    Raises:
        CheckpointError: an architecture that is not read, or a tensor that does not fit the
            metadata.
    """
    architecture, keys = described(gguf)
    raw = fp.Source(gguf.path, gguf.tensors, TORCH, {"format": "pt"})
    tensors: dict[str, Tensor] = {}
    for name, tensor in read_gguf(raw).tensors.items():
        if name in FACTORS:
            continue  # they are in the configuration
        module, new = _torch_name(name, architecture)
        if new in tensors:
            raise fp.CheckpointError(f"{gguf.path}: two tensors are {new}, {quoted(name)} is one")
        change = architecture.changes.get(module)
        tensors[new] = change(tensor, keys) if change else tensor
    return dataclasses.replace(raw, tensors=tensors)


def _torch_name(name: str, architecture: Architecture) -> tuple[str, str]:
    """Returns (the module of the file that a tensor is of, its name in PyTorch's checkpoints): of
    one that is not known a name of the backbone, where a load finds no place for it."""
    module, _, leaf = name.rpartition(".")
    layer = _NUMBER.search(module)
    number = "" if layer is None else str(int(layer[0]))
    module = _NUMBER.sub("*", module, count=1)
    if leaf in ("weight", "bias") and module in architecture.names:
        new = architecture.names[module].replace("*", number, 1)
        return module.rpartition(".")[2], f"{new}.{leaf}"
    return "", f"{architecture.backbone}{name}"

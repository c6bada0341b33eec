"""Goldens of quantised weights (scripts/make_quantized_goldens.py), case by case."""

import dataclasses
import functools
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from _paths import ROOT

from flaxmodels.params import open_checkpoint
from flaxmodels.params.formats import Source
from flaxmodels.params.quantized.packed import PackedTensor
from flaxmodels.params.quantized.qtensor import QTensor
from flaxmodels.params.quantized.readers import read_quantized

FOLDERS = ROOT / "tests" / "goldens" / "quantized"


@dataclasses.dataclass(frozen=True)
class Case:
    """What a library wrote, and what it says of it.

    Attributes:
        source: the tensors, as a checkpoint would have them.
        config: its `quantization_config`.
        decoded: {name: the numbers that the library decodes a weight to}.
        original: {name: what was quantised}.
    """

    source: Source
    config: Mapping[str, Any]
    decoded: Mapping[str, np.ndarray]
    original: Mapping[str, np.ndarray]

    def read(self) -> Source:
        return read_quantized(self.source, self.config)

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: tensor.read() for name, tensor in self.source.tensors.items()}


@functools.cache
def cases(group: str) -> dict[str, Case]:
    """The cases of a golden, by their names."""
    opened = open_checkpoint(FOLDERS / f"{group}.safetensors")
    configs = json.loads(opened.metadata["configs"])
    found = {}
    for case, config in configs.items():
        parts: dict[str, dict[str, Any]] = {"": {}, "decoded": {}, "original": {}}
        for name, tensor in opened.tensors.items():
            if name.startswith(f"{case}:"):
                kind, _, key = name[len(case) + 1 :].rpartition(":")
                parts[kind][key] = tensor if kind == "" else tensor.read()
        source = dataclasses.replace(opened, tensors=parts[""])
        found[case] = Case(source, config, parts["decoded"], parts["original"])
    return found


def value_of(tensor: PackedTensor) -> QTensor:
    """The arrays of a packed tensor, read, as a value of a tree."""
    fields: dict[str, Any] = {
        name: value_of(field) if isinstance(field, PackedTensor) else field.read()
        for name, field in tensor.fields.items()
    }
    return QTensor(**fields, form=tensor.form)

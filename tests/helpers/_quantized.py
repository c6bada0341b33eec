"""Goldens of quantised weights (scripts/goldens/models/make_quantized_goldens.py), case by case."""

import contextlib
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


_ODD = (None, True, 0, -1, 2, 8, 2**31, 10**30, 1.5, "", "4", [], [2**40, 2**40], [-1, 5], {"a": 1})


def mutated(case: Case, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and the config of a case, with one to three things wrong."""

    def any_of(values: Any) -> Any:
        values = [*values]
        return values[rng.integers(len(values))]

    arrays, config = case.arrays(), {**case.config}
    for _ in range(rng.integers(1, 4)):
        if not arrays:
            break
        name = any_of(arrays)
        array, kind = arrays[name], rng.integers(8)
        if kind == 0:
            arrays.pop(name)
        elif kind == 1:
            config[any_of(config)] = any_of(_ODD)
        elif kind == 2:
            with np.errstate(invalid="ignore"):
                arrays[name] = array.astype(any_of([np.float32, np.int32, np.uint8, np.int64]))
        elif kind == 3 and array.ndim:
            arrays[name] = array[: rng.integers(0, len(array) + 1)]
        elif kind == 4:
            arrays[name] = np.ascontiguousarray(array.T if rng.integers(2) else array.reshape(-1))
        elif kind == 5 and array.size:
            data = bytearray(array.tobytes())
            data[rng.integers(len(data))] = rng.integers(256)
            arrays[name] = np.frombuffer(bytes(data), array.dtype).reshape(array.shape)
        elif kind == 6 and (states := [name for name in arrays if ".quant_state." in name]):
            with contextlib.suppress(ValueError):
                state = json.loads(arrays[states[0]].tobytes())
                state[any_of(state)] = any_of(_ODD)
                arrays[states[0]] = np.frombuffer(json.dumps(state).encode(), np.uint8)
    return arrays, config

"""Quantised weights in a load: those that a configuration speaks of, and those to be made."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from .. import params as fp
from ..config.config import Config
from ..core.model import Model
from ..documents.config_keys import QUANTISED
from ..documents.json_values import thaw
from ..params.quantized.lazy import Computed
from ..params.quantized.moved import transposed
from ..params.quantized.packed import PackedTensor
from ..params.quantized.readers import check_read, read_quantized
from ..params.tree.paths import matches


def quantised_source(model: Model, source: fp.Source) -> fp.Source:
    """Returns a source in which each quantised weight is one tensor, as the model's configuration
    says; of one that is read so already, itself.

    Raises:
        fp.CheckpointError: a format that is not read, or tensors that are not what it says.
    """
    if any(isinstance(tensor, PackedTensor) for tensor in source.tensors.values()):
        return source
    config: Any = thaw(model.config.extra.get(QUANTISED))
    if not config:
        check_read(source)
        return source
    return _as_stored(read_quantized(source, config), config, model.naming)


_LINEAR = ("awq", "bitsandbytes", "gptq")
"""Methods whose layers hold (out, in) where PyTorch's hold (in, out), as GPT-2's Conv1D does."""


def _as_stored(source: fp.Source, config: Mapping[str, Any], naming: fp.Naming) -> fp.Source:
    """Returns the source with quantised weights in the order of axes that the naming expects."""
    if config.get("quant_method", "bitsandbytes") not in _LINEAR or not naming.kernels_in_out:
        return source

    def is_in_out(name: str, tensor: fp.Tensor) -> bool:
        path = f"/{name.removesuffix('.weight').replace('.', '/')}/kernel"
        is_quantised = isinstance(tensor, PackedTensor | Computed)
        return is_quantised and matches(naming.kernels_in_out, path)

    tensors = {
        name: transposed(tensor) if is_in_out(name, tensor) else tensor
        for name, tensor in source.tensors.items()
    }
    return dataclasses.replace(source, tensors=tensors)


def without_quantization(config: Config) -> Config:
    """Returns a configuration without the key that says how weights are quantised."""
    extra = {key: value for key, value in config.extra.items() if key != QUANTISED}
    return config if len(extra) == len(config.extra) else config.replace(extra=extra)

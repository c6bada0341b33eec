"""Quantised weights in a load: those that a configuration speaks of, and those to be made."""

from typing import Any

from .. import params as fp
from ..config.config import Config
from ..core.model import Model
from ..documents.config_keys import QUANTISED
from ..documents.json_values import thaw
from ..params.quantized.packed import PackedTensor
from ..params.quantized.readers import check_read, read_quantized


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
    return read_quantized(source, config)


def without_quantization(config: Config) -> Config:
    """Returns a configuration without the key that says how weights are quantised."""
    extra = {key: value for key, value in config.extra.items() if key != QUANTISED}
    return config if len(extra) == len(config.extra) else config.replace(extra=extra)

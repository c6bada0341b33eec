"""Readers of quantised checkpoints: one a format, found by `quant_method` of the configuration.

A reader is a module with a function `read(source, config) -> Source`: in the source that it
returns, each quantised weight `P.weight` is one `PackedTensor`, in the place of the tensors that
the format has for it (`P.qweight`, `P.SCB`, `P.weight.absmax`, ...). It reads no weights.
"""

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from ...errors import CheckpointError, quoted, some
from ...formats import Source
from ...strict_json import Json

_READERS = {
    "awq": "awq",
    "bitsandbytes": "bitsandbytes",
    "compressed-tensors": "compressed_tensors",
    "fbgemm_fp8": "fp8",
    "flaxmodels": "flaxmodels_layout",
    "fp8": "fp8",
    "gptq": "gptq",
    "modelopt": "modelopt",
    "mxfp4": "mxfp4",
}
"""{quant_method: module of this folder}."""

_ANOTHER = "take the original checkpoint and quantise it in the load (quantization_config=)"
_UNREAD = {
    "bitnet": "take the checkpoint with bfloat16 weights that its authors publish beside it",
    "eetq": "it is made in Transformers' load, from an original checkpoint: take that one, with "
    'quantization_config={"load_in_8bit": True}',
    "quark": _ANOTHER + ", or one of its exports in FP8 or AWQ",
    "torchao": _ANOTHER + ": what its files hold changes from version to version",
}
"""{quant_method that is not read: what to do}, where there is more to say than of any other."""

_SIGNS = {
    ".qweight": "gptq or awq",
    ".qzeros": "gptq or awq",
    ".SCB": "bitsandbytes",
    ".weight.absmax": "bitsandbytes",
    ".weight.quant_map": "bitsandbytes",
    ".weight_scale_inv": "fp8",
    ".weight_packed": "compressed-tensors",
    ".weight_scale": "compressed-tensors, modelopt or fbgemm_fp8",
    "_proj_blocks": "mxfp4",
}
"""{end of a name that only quantised checkpoints have: the quant_method that it speaks for}."""


def read_quantized(source: Source, config: Mapping[str, Json]) -> Source:
    """Returns a source in which each quantised weight is one lazy `PackedTensor`.

    Args:
        config: `quantization_config` of the checkpoint's `config.json`.

    Raises:
        CheckpointError: a format that is not read; tensors that are not what the configuration
            says, or do not fit each other.
    """
    method, config = _method(config, source.where)
    if method not in _READERS:
        known = ", ".join(_READERS)
        use = _UNREAD.get(method, f"those that are read are {known}; else {_ANOTHER}")
        raise CheckpointError(
            f"{source.where}: weights quantised by {quoted(method)} are not read; {use}"
        )
    reader: Any = importlib.import_module(f".{_READERS[method]}", __name__)
    made: Source = reader.read(source, config)
    if all(source.tensors.get(name) is tensor for name, tensor in made.tensors.items()):
        others = _speaks_for(source.tensors)
        raise CheckpointError(
            f"{source.where}: the config says quant_method {quoted(method)}, and no tensor is "
            "stored so: "
            + (
                f"their names are those of {others}; correct quantization_config"
                if others
                else "none is named as quantised ones are; pass config= without quantization_config"
            )
        )
    check_read(made, f"by quant_method {quoted(method)}")
    return made


def check_read(source: Source, how: str = "without a quantization_config") -> None:
    """Refuses tensors of quantised weights that no reader has taken; the error says `how` the
    source was read."""
    if odd := [name for name in source.tensors if name.endswith(tuple(_SIGNS))]:
        raise CheckpointError(
            f"{source.where}: read {how}, and {some(map(quoted, odd), 3)} are of weights quantised "
            f"by {_speaks_for(odd)}; check quantization_config of its config.json"
        )


def _speaks_for(names: Iterable[str]) -> str:
    """Returns the methods that names of tensors speak for; "" if they do for none."""
    found = (_SIGNS[end] for name in names for end in _SIGNS if name.endswith(end))
    return " or ".join(dict.fromkeys(found))


def _method(config: Mapping[str, Json], where: str) -> tuple[str, Mapping[str, Json]]:
    """Returns which reader a configuration asks for, and what that reader is told."""
    method = config.get("quant_method")
    if method is None and (config.get("load_in_8bit") or config.get("load_in_4bit")):
        method = "bitsandbytes"  # of Transformers before 4.33
    if not isinstance(method, str):
        raise CheckpointError(
            f"{where}: quantization_config says quant_method {quoted(method)}; expected a name"
        )
    if method.replace("_", "-") in ("auto-round", "intel/auto-round"):
        return _auto_round(config, where)
    return method, config


_PACKINGS = {
    "auto_round:auto_gptq": {"quant_method": "gptq", "checkpoint_format": "gptq"},
    "auto_round:gptqmodel": {"quant_method": "gptq", "checkpoint_format": "gptq_v2"},
    "auto_round:auto_awq": {"quant_method": "awq", "version": "gemm"},
}
"""AutoRound writes the formats of others: {packing_format: what its owner's configuration says}."""


def _auto_round(config: Mapping[str, Json], where: str) -> tuple[str, Mapping[str, Json]]:
    packing, layers = config.get("packing_format"), config.get("extra_config")
    if not isinstance(packing, str) or packing not in _PACKINGS:
        raise CheckpointError(
            f"{where}: AutoRound's packing_format {quoted(packing)} is not read; read are "
            f"{', '.join(_PACKINGS)}: export it as one of them, or {_ANOTHER}"
        )
    if layers:
        raise CheckpointError(
            f"{where}: AutoRound's extra_config, which gives layers bits of their own, is not "
            f"read; {_ANOTHER}"
        )
    owner = _PACKINGS[packing]
    return owner["quant_method"], {**config, "zero_point": not config.get("sym", True)} | owner

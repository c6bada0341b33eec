"""compressed-tensors: what LLM Compressor writes, for vLLM.

`config_groups` say which modules are quantised how; the tensors say it too, and both must agree. A
weight [out, in] is stored as

- pack-quantized: `P.weight_packed` int32 [out, ceil(in * bits / 32)], a stream of bits along each
  row, of numbers + 2 ** (bits - 1); `P.weight_shape`; where it is not symmetric
  `P.weight_zero_point`, packed likewise along the rows of a column of groups;
- int-, float- and naive-quantized, mxfp8-quantized: `P.weight` of 8 bits, and zero points as they
  are;
- nvfp4- and mxfp4-pack-quantized: `P.weight_packed` uint8 [out, in / 2], e2m1, the low half of a
  byte first; of NVFP4 the scales are float8_e4m3fn, and divided by `P.weight_global_scale`.

`P.weight_scale` has one number for all, for a row, or for a group or block. Activations, and keys
and values in a cache, are quantised by none of our programs.

Source: https://github.com/vllm-project/compressed-tensors (0.20.1).
"""

from collections.abc import Iterator

from ...errors import CheckpointError, quoted, warn
from ...formats.source import Source, Tensor
from ...strict_json import Json
from ..lazy_tensors import absent, misfit
from .companions import logical_dtype, plain_dtype, rewritten
from .compressed_weights import PARTS, weight_of
from .schemes import Schemes
from .settings import Settings, unread

_NOT_SPARSE = (None, "dense")


def read(source: Source, config: Json) -> Source:
    """Returns a source whose quantised weights are packed tensors.

    Raises:
        CheckpointError: settings or tensors that do not fit; sparse weights, transformed ones.
    """
    settings = Settings.of(source.where, config)
    _refuse_unread(settings)
    if settings.values.get("kv_cache_scheme") is not None:
        warn(
            f"{source.where}: kv_cache_scheme changes nothing here: keys and values are cached in "
            "the dtype of the computation"
        )
    modules = dict(_modules(source))
    schemes = Schemes.of(settings, modules)
    plain = plain_dtype(source)
    packed: dict[str, Tensor] = {}
    used: set[str] = set()
    for module, parts in modules.items():
        start = f"{module}." if module else ""
        dtype = logical_dtype(parts["weight_scale"], plain)
        packed[f"{start}weight"] = weight_of(f"{start}weight", parts, schemes.may_be(module), dtype)
        used |= {f"{start}{part}" for part in parts}
    lost = [x for x in source.tensors if x.rpartition(".")[2] in PARTS[1:]]
    return rewritten(source, packed, used, lost, "it is missing, or under another name")


def _modules(source: Source) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yields each module that has a quantised weight, and its tensors by the names of `PARTS`."""
    for name, tensor in source.tensors.items():
        module, _, leaf = name.rpartition(".")
        if leaf not in ("weight", "weight_packed"):
            continue
        start = f"{module}." if module else ""
        parts = {x: source.tensors[f"{start}{x}"] for x in PARTS if f"{start}{x}" in source.tensors}
        if "weight_scale" in parts:
            if {"weight", "weight_packed"} <= parts.keys():
                raise misfit(tensor, f"is there twice, as {quoted(f'{start}weight_packed')} too")
            yield module, parts
        elif leaf == "weight_packed" or tensor.dtype.itemsize == 1:
            raise absent(tensor, f"{start}weight_scale")


def _refuse_unread(settings: Settings) -> None:
    """Refuses what changes the weights in ways that are not undone here."""
    sparsity = settings.inner("sparsity_config")
    if sparsity and sparsity.values and (name := sparsity.values.get("format")) not in _NOT_SPARSE:
        raise unread(settings.where, f"sparsity_config of format {quoted(name)}", ["dense"])
    for key, what in (
        ("transform_config", "weights are turned by matrices that the model must undo"),
        ("moe_sparsity_config", "experts are left out"),
    ):
        if settings.values.get(key):
            raise CheckpointError(
                f"{settings.where}: quantization_config: {key} is not read: {what}. Use a "
                "checkpoint without it"
            )

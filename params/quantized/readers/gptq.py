"""GPTQ (Frantar et al. 2022): integers of 2, 3, 4 or 8 bits in groups, as AutoGPTQ and gptqmodel
store them.

Of a linear layer `P` whose weight stands for numbers [out, in]:

    P.qweight  int32 [in * bits / 32, out]: of each column one stream of bits, the first number
               lowest, whose 32-bit words lie in rows
    P.qzeros   int32 [groups, out * bits / 32]: likewise, along the columns
    P.scales   [groups, out]
    P.g_idx    int32 [in]: the group of each number of a row; `i // group_size`, or with `desc_act`
               in any order

A number is (code - zero) * scale. `checkpoint_format` "gptq" stores zeros less 1, "gptq_v2" as they
are. Source: `gptqmodel.nn_modules.qlinear`, `gptqmodel.utils.model`, 7.7.
"""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import numpy as np

from ...errors import CheckpointError, quoted
from ...formats import Source, Tensor
from ...formats.source import Bounds
from ...strict_json import Json
from ..codes import codes_of, pack, unpack
from ..lazy_tensors import Computed, Scales, misfit
from ..packed import PackedTensor, packed_tensor
from ..permuted import transposed
from ..qtensor import Form
from .int32_words import bytes_of, check, check_groups, needed, unpacked, with_weights
from .settings import Settings

_BITS = (2, 3, 4, 8)
# What makes a stored zero of version 1 one more. It is added to words, as gptqmodel subtracts it:
# a zero of 0 borrows from the number beside it.
_ONES = {2: 0x55555555, 4: 0x11111111, 8: 0x01010101}


class Group(NamedTuple):
    """How the numbers of a module are stored.

    Attributes:
        bits: of a number.
        size: numbers in a row that have one scale; -1 for all.
    """

    bits: int
    size: int


def read(source: Source, config: Mapping[str, Json]) -> Source:
    """Returns the source with a `PackedTensor` for each quantised weight.

    Which modules are quantised is what the file holds. Bits and group size of a module are those of
    the config, or of one of the overrides in `dynamic`, that its tensors have the shapes of.

    Raises:
        CheckpointError: a config that is not read; tensors that are missing, or do not fit.
    """
    version = _version(config, source.where)
    groups = _groups(config, source.where)
    ordered = any(x.get("desc_act") for x in (config, *_overrides(config, source.where)))
    return with_weights(
        source, _PARTS, lambda name, parts: _packed(name, parts, groups, version, ordered)
    )


Order: TypeAlias = Callable[[], np.ndarray | None]
"""() -> which number of a row is the i-th of the data; None where that is the i-th."""
_PARTS = ("qweight", "qzeros", "scales", "g_idx")


def _version(config: Mapping[str, Json], where: str) -> int:
    """Returns 1 where zeros are stored less 1, else 2."""
    said = config.get("checkpoint_format") or config.get("format") or "gptq"
    if config.get("is_marlin_format"):
        said = "marlin"
    version = {"gptq": 1, "gptq_v2": 2}.get(str(said).lower())
    if version is None:
        raise CheckpointError(
            f"{where}: GPTQ's checkpoint_format {quoted(said)} is not read; those that are read "
            "are gptq and gptq_v2: convert it with gptqmodel, or take the original checkpoint"
        )
    if config.get("pack_dtype", "int32") != "int32":
        raise CheckpointError(
            f"{where}: GPTQ's pack_dtype {quoted(config['pack_dtype'])} is not read; expected int32"
        )
    return version


def _overrides(config: Mapping[str, Json], where: str) -> list[Mapping[str, Json]]:
    """Returns what `dynamic` says of modules that are quantised otherwise."""
    dynamic = config.get("dynamic") or {}
    if not isinstance(dynamic, Mapping) or not all(
        isinstance(value, Mapping) for value in dynamic.values()
    ):
        raise CheckpointError(
            f"{where}: GPTQ's dynamic is {quoted(dynamic)}; expected {{pattern: overrides}}"
        )
    return [value for pattern, value in dynamic.items() if not pattern.startswith("-:")]


def _groups(config: Mapping[str, Json], where: str) -> list[Group]:
    """Returns the ways in which modules may be stored, that of the config first."""
    found = []
    for said in ({}, *_overrides(config, where)):
        settings = Settings.of(where, {**config, **said})
        if (bits := settings.number("bits")) not in _BITS:
            settings.refuse("bits", "2, 3, 4 or 8")
        found.append(Group(bits, settings.group_size("group_size")))
    return list(dict.fromkeys(found))


def _packed(
    name: str,
    parts: Mapping[str, Tensor | None],
    groups: list[Group],
    version: int,
    ordered: bool,
) -> PackedTensor:
    qweight, qzeros, scales = (needed(key, name, parts) for key in _PARTS[:3])
    g_idx = needed("g_idx", name, parts) if ordered else parts["g_idx"]
    check(qweight, np.int32, 2)
    check(qzeros, np.int32, 2)
    check(scales, np.floating, 2)
    if g_idx is not None:
        check(g_idx, np.integer, 1)
    fitting = [x for x in groups if _fits(x, qweight, qzeros, scales, g_idx)]
    if len(fitting) != 1:
        raise misfit(
            qweight,
            f"has shape {qweight.shape}, with qzeros of {qzeros.shape} and scales of "
            f"{scales.shape}"
            + (f" and g_idx of {g_idx.shape}" if g_idx else "")
            + f"; {'more than one' if fitting else 'none'} of (bits, group_size) "
            f"{', '.join(f'({bits}, {size})' for bits, size in groups)} fits: correct bits, "
            "group_size or dynamic of quantization_config, or quant_method if this is AWQ's",
        )
    bits, size = fitting[0]
    columns = _columns(bits, qweight, g_idx)
    size = columns if size == -1 else size
    # Read when a part of the weight is, and once.
    perm = functools.cache(lambda: None if g_idx is None else _order(g_idx, size, ordered))

    def order(bounds: Bounds) -> np.ndarray:
        whole = perm()
        assert whole is not None
        return whole[slice(*bounds[0])]

    fields = {
        "data": _data(qweight, bits, columns, perm),
        "scale": transposed(scales),
        "zero": _zeros(qzeros, bits, scales.shape, version),
        "perm": Computed.of([g_idx], g_idx.shape, np.dtype(np.int32), order)
        if g_idx is not None and ordered
        else None,
    }
    form = Form(f"uint{bits}", (1, size), scales.dtype)
    return packed_tensor(name, fields, form, scales=Scales.NOT_ZERO)


def _columns(bits: int, qweight: Tensor, g_idx: Tensor | None) -> int:
    return qweight.shape[0] * 32 // bits if g_idx is None else g_idx.shape[0]


def _fits(
    group: Group, qweight: Tensor, qzeros: Tensor, scales: Tensor, g_idx: Tensor | None
) -> bool:
    """Tells whether tensors have the shapes of numbers that are stored so."""
    bits, size = group
    rows, columns = qweight.shape[1], _columns(bits, qweight, g_idx)
    count = 1 if size == -1 else -(-columns // size)
    return (
        qweight.shape[0] == -(-columns * bits // 32)
        and columns % codes_of(f"uint{bits}").group == 0
        and scales.shape == (count, rows)
        and qzeros.shape == (count, -(-rows * bits // 32))
    )


def _order(g_idx: Tensor, size: int, ordered: bool) -> np.ndarray | None:
    """Reads which number of a row is the i-th of the data, where groups may lie in any order
    (`ordered`); None where that is the i-th."""
    found = g_idx.read()
    check_groups(g_idx, found, size)
    if ordered:
        return np.argsort(found, kind="stable").astype(np.int32)
    if (np.diff(found) < 0).any():
        raise misfit(
            g_idx,
            "has numbers that are not in the order of their groups, and quantization_config says "
            'desc_act false: set "desc_act": true in config.json',
        )
    return None


def _data(qweight: Tensor, bits: int, columns: int, order: Order) -> Tensor:
    """Returns the codes [out, in * bits / 8], in the order of their groups."""

    def made(bounds: Bounds) -> np.ndarray:
        rows, (first, last) = bounds
        if (perm := order()) is None:
            words = qweight.read(((first // 4, -(-last // 4)), rows)).T
            return bytes_of(words)[:, first % 4 :][:, : last - first]
        numbers = unpack(
            bytes_of(qweight.read(((0, qweight.shape[0]), rows)).T)[:, :width], bits, -1
        )
        return pack(numbers.take(perm, 1), bits, -1)[:, first:last]

    width = codes_of(f"uint{bits}").packed(columns)
    return Computed.of([qweight], (qweight.shape[1], width), np.dtype(np.uint8), made)


def _zeros(qzeros: Tensor, bits: int, shape: tuple[int, ...], version: int) -> Tensor:
    """Returns the zeros [out, groups] of scales that have the shape [groups, out]."""

    def made(bounds: Bounds) -> np.ndarray:
        rows, groups = bounds
        words = qzeros.read((groups, (0, qzeros.shape[1]))).view(np.uint32)
        if version == 1 and bits in _ONES:
            words = words + np.uint32(_ONES[bits])
        zeros = unpacked(bytes_of(words), bits)[:, slice(*rows)]
        if version == 1 and bits not in _ONES:
            zeros = (zeros + np.uint8(1)) & np.uint8((1 << bits) - 1)
        return zeros.T

    return Computed.of([qzeros], shape[::-1], np.dtype(np.uint8), made)

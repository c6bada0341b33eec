"""AWQ (Lin et al. 2023), version gemm: integers of 4 bits in groups, as AutoAWQ stores them.

Of a linear layer `P` whose weight stands for numbers [out, in]:

    P.qweight  int32 [in, out / 8]: eight numbers of a row a word, from its lowest bits on those of
               the columns 0, 2, 4, 6, 1, 3, 5, 7
    P.qzeros   int32 [groups, out / 8]: likewise
    P.scales   [groups, out]

A number is (code - zero) * scale. Source: `awq.modules.linear.gemm`, `awq.utils.packing_utils`,
AutoAWQ 0.2.9.
"""

from collections.abc import Mapping

import numpy as np

from ...errors import CheckpointError, quoted
from ...formats import Source, Tensor
from ...formats.source import Bounds
from ...strict_json import Json
from ..codes import pack
from ..lazy_tensors import Computed, Scales, misfit
from ..packed import PackedTensor, packed_tensor
from ..permuted import transposed
from ..qtensor import Form
from .int32_words import check, needed, with_weights
from .settings import Settings

_PARTS = ("qweight", "qzeros", "scales")
_SHIFTS = 4 * np.array([0, 4, 1, 5, 2, 6, 3, 7], np.uint32)
"""Where the number of each of eight columns is in its word."""


def read(source: Source, config: Mapping[str, Json]) -> Source:
    """Returns the source with a `PackedTensor` for each quantised weight: for what the file holds
    as quantised, whatever `modules_to_not_convert` says.

    Raises:
        CheckpointError: a config that is not read; tensors that are missing, or do not fit.
    """
    size = _group_size(config, source.where)
    return with_weights(source, _PARTS, lambda name, parts: _packed(name, parts, size))


def _group_size(config: Mapping[str, Json], where: str) -> int:
    version = config.get("version") or config.get("format") or config.get("checkpoint_format")
    version = "llm-awq" if config.get("backend") == "llm-awq" else version or "gemm"
    if str(version).lower() != "gemm":
        raise CheckpointError(
            f"{where}: AWQ's version {quoted(version)} is not read; expected gemm: take the "
            "checkpoint in that version, or the original one"
        )
    if config.get("bits", config.get("w_bit", 4)) != 4:
        raise CheckpointError(f"{where}: AWQ has bits {quoted(config.get('bits'))}; expected 4")
    key = "group_size" if "group_size" in config else "q_group_size"
    return Settings.of(where, config).group_size(key)


def _packed(name: str, parts: Mapping[str, Tensor | None], size: int) -> PackedTensor:
    qweight, qzeros, scales = (needed(key, name, parts) for key in _PARTS)
    check(qweight, np.int32, 2)
    check(qzeros, np.int32, 2)
    check(scales, np.floating, 2)
    columns, rows = qweight.shape[0], 8 * qweight.shape[1]
    groups = 1 if size == -1 else -(-columns // size)
    if columns % 2 or scales.shape != (groups, rows) or qzeros.shape != (groups, rows // 8):
        raise misfit(
            qweight,
            f"has shape {qweight.shape}, with qzeros of {qzeros.shape} and scales of "
            f"{scales.shape}; in groups of {size}, expected qzeros of {(groups, rows // 8)} and "
            f"scales of {(groups, rows)}: correct group_size of quantization_config, or "
            "quant_method if this is GPTQ's",
        )

    def codes(bounds: Bounds) -> np.ndarray:
        (first, last) = bounds[1]
        return pack(_numbers(qweight, (2 * first, 2 * last), bounds[0]).T, 4, -1)

    def zeros(bounds: Bounds) -> np.ndarray:
        return _numbers(qzeros, bounds[1], bounds[0]).T

    byte = np.dtype(np.uint8)
    fields = {
        "data": Computed.of([qweight], (rows, columns // 2), byte, codes),
        "scale": transposed(scales),
        "zero": Computed.of([qzeros], (rows, groups), byte, zeros),
    }
    form = Form("uint4", (1, columns if size == -1 else size), scales.dtype)
    return packed_tensor(name, fields, form, scales=Scales.NOT_ZERO)


def _numbers(words: Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
    """Returns the numbers in a box of a matrix whose columns are eight a word."""
    first, last = columns
    found = words.read((rows, (first // 8, -(-last // 8)))).view(np.uint32)
    numbers = (found[:, :, None] >> _SHIFTS & np.uint32(15)).astype(np.uint8)
    return numbers.reshape(len(numbers), -1)[:, first % 8 :][:, : last - first]

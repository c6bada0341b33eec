"""bitsandbytes: NF4 and FP4 in blocks (Dettmers et al. 2023), int8 rows (Dettmers et al. 2022).

Of a linear layer `P`, whose `P.weight` stands for numbers [out, in]:

    4 bits   P.weight              two numbers a byte, the first in the upper half, in one run over
                                   all rows; the bytes may be those of another dtype
             P.weight.absmax       a scale for each `blocksize` numbers of that run; or, twice
                                   quantised, a byte for each, with P.weight.nested_absmax and
                                   P.weight.nested_quant_map
             P.weight.quant_map    the 16 numbers of the codes
             P.weight.quant_state.bitsandbytes__nf4 (or __fp4)   the rest, as JSON
    int8     P.weight [out, in], P.SCB [out] (127 times the scales), P.weight_format (0: by rows)

Source: `bitsandbytes.functional.QuantState` and `bitsandbytes.nn.modules`, 0.50.
"""

import dataclasses
import math
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from ...errors import quoted, warn
from ...formats import Source, Tensor
from ...formats.source import Bounds
from ...strict_json import Json
from ...tree.leaf_places import Part
from ..codes import CODEBOOKS, unpack
from ..lazy_tensors import Computed, absent, misfit, viewed
from ..make import INVERSE_127
from ..nested_scales import run_of
from ..packed import PackedTensor, packed_tensor
from ..qtensor import Form
from .quant_state import DTYPES, QuantState, read_state

_STATE = ".quant_state.bitsandbytes__"
_PARTS = (".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map")
_FLOATS = tuple(DTYPES.values())
_FEWEST = 32  # numbers in a row that have one scale: with fewer, scales are most of the bytes


def read(source: Source, config: Mapping[str, Json]) -> Source:
    """Returns the source with a `PackedTensor` for each quantised weight.

    Blocks of 4 bits run over the ends of rows where `blocksize` does not divide these. A scale is
    then repeated for each part of a row, unless parts are shorter than 32: such a weight is read
    as numbers, with a warning.

    Args:
        config: its `load_in_4bit` and `load_in_8bit` must not say the other of what is there.

    Raises:
        CheckpointError: parts of a weight that are missing, or do not fit each other.
    """
    tensors = {**source.tensors}
    states = [name for name in tensors if _STATE in name]
    rows = [name for name in tensors if name.endswith(".SCB")]
    for names, key in ((states, "load_in_8bit"), (rows, "load_in_4bit")):
        if names and config.get(key):
            raise misfit(
                tensors[names[0]],
                f"is of a weight of {'4' if names is states else '8'} bits, and "
                f"quantization_config says {key}: correct config.json",
            )
    dense = []
    for name in states:
        weight, _, kind = name.partition(_STATE)
        parts = {end: tensors.pop(weight + end, None) for end in ("", *_PARTS)}
        made = _in_4bit(tensors.pop(name), weight, kind, parts)
        tensors[weight] = made
        dense += [] if isinstance(made, PackedTensor) else [made]
    logical = _dtype_of(tensors)
    for name in rows:
        module = name.removesuffix(".SCB")
        weight, form = tensors.get(f"{module}.weight"), tensors.pop(f"{module}.weight_format", None)
        tensors[f"{module}.weight"] = _in_8bit(module, weight, tensors.pop(name), form, logical)
    for name, tensor in tensors.items():
        if name.endswith(_PARTS):
            raise misfit(
                tensor,
                f"is a part of a weight of 4 bits that has no {name.rpartition('.')[0]}{_STATE}nf4 "
                "or fp4: the file is not complete; get it again",
            )
    if dense:
        warn(
            f"{source.where}: {len(dense)} weights are loaded as numbers, not packed: blocks of "
            f"{quoted(dense[0].name)}, of shape {dense[0].shape}, do not end where its rows do"
        )
    return dataclasses.replace(source, tensors=tensors)


def _in_4bit(state: Tensor, name: str, kind: str, parts: Mapping[str, Tensor | None]) -> Tensor:
    """Makes the tensor of a weight; a `PackedTensor` where parts of rows have one scale."""
    said = read_state(state, kind)
    needs = ["", ".absmax", ".quant_map"]
    if any(parts[end] is not None for end in _PARTS[2:]):
        needs += _PARTS[2:]
    for end in needs:
        if parts[end] is None:
            raise absent(state, name + end)
    given: dict[str, Tensor] = {end: part for end, part in parts.items() if part is not None}
    data = given[""]
    if data.nbytes != -(-said.size // 2):
        raise misfit(
            data,
            f"has shape {data.shape} and dtype {data.dtype}, {data.nbytes} bytes; the numbers of "
            f"shape {list(said.shape)} that {quoted(state.name)} says take {-(-said.size // 2)}",
        )
    flat = viewed(data, (data.nbytes,), np.dtype(np.uint8))
    table = _table(given[".quant_map"], 16)
    run = math.gcd(said.blocksize, said.shape[1])
    scale = _scales(given, said, run if run >= _FEWEST else 1)
    if run < _FEWEST:
        return _numbers(name, flat, table, scale, said)
    bytes_of_rows = viewed(flat, (said.shape[0], said.shape[1] // 2))
    is_standard = np.array_equal(table, np.asarray(CODEBOOKS[kind], np.float32))

    def swapped(bounds: Bounds) -> np.ndarray:
        """Returns bytes whose lower half is the first number."""
        if not is_standard:
            raise misfit(
                given[".quant_map"],
                f"does not hold the numbers of {kind}, and a weight of other numbers cannot be "
                "kept packed; pass dequantize=True",
            )
        pairs = bytes_of_rows.read(bounds)
        return pairs >> 4 | pairs << 4

    form = Form(kind, (1, run), said.dtype)
    codes = Computed.of([data], bytes_of_rows.shape, np.dtype(np.uint8), swapped)
    packed = packed_tensor(name, {"data": codes, "scale": scale}, form)
    if is_standard:
        return packed
    dense = _numbers(name, flat, table, _scales(given, said, 1), said)
    return _OwnTable(**vars(packed), dense=dense)


def _table(tensor: Tensor, size: int) -> np.ndarray:
    """Reads the numbers of codes."""
    if tensor.shape != (size,) or tensor.dtype.kind in "iub":
        raise misfit(
            tensor, f"has shape {tensor.shape} and dtype {tensor.dtype}; expected {size} floats"
        )
    table = tensor.read().astype(np.float32)
    if not np.isfinite(table).all():
        raise misfit(tensor, "holds numbers that are not finite: the file is damaged; get it again")
    return table


def _scales(parts: Mapping[str, Tensor], said: QuantState, run: int) -> Tensor:
    """Returns a scale for each `run` numbers of a row, [out, in / run]."""
    absmax, blocks = parts[".absmax"], -(-said.size // said.blocksize)
    is_nested = ".nested_absmax" in parts
    fits = absmax.dtype == np.uint8 if is_nested else jnp.issubdtype(absmax.dtype, jnp.floating)
    if absmax.shape != (blocks,) or not fits:
        expected = "uint8, with nested_absmax beside it" if is_nested else "float32"
        raise misfit(
            absmax,
            f"has shape {absmax.shape} and dtype {absmax.dtype}; {said.size} numbers in blocks of "
            f"{said.blocksize} have {blocks}, of dtype {expected}",
        )
    if not is_nested:
        return _of_runs(absmax, said.shape, run, said.blocksize)
    inner = parts[".nested_absmax"]
    if inner.shape != (-(-blocks // said.nested_blocksize),) or inner.dtype != np.float32:
        raise misfit(
            inner,
            f"has shape {inner.shape} and dtype {inner.dtype}; {blocks} scales in blocks of "
            f"{said.nested_blocksize} have {-(-blocks // said.nested_blocksize)}, of float32",
        )
    table = _table(parts[".nested_quant_map"], 256)
    standard = np.array_equal(table, np.asarray(CODEBOOKS["dynamic8"], np.float32))
    scales = (said.shape[0], said.shape[1] // run)
    inner_run = run_of(scales, said.nested_blocksize)
    if not standard or run != said.blocksize or not inner_run:
        return _of_runs(_twice(absmax, inner, table, said), said.shape, run, said.blocksize)
    inner = _of_runs(inner, scales, inner_run, said.nested_blocksize)

    def offsets(bounds: Bounds) -> np.ndarray:
        shape = tuple(stop - start for start, stop in bounds)
        return np.full(shape, -said.nested_offset, np.float32)

    fields = {
        "data": viewed(absmax, scales),
        "scale": inner,
        "offset": Computed.of([absmax], inner.shape, np.dtype(np.float32), offsets),
    }
    form = Form("dynamic8", (1, inner_run), np.dtype(np.float32))
    return packed_tensor(absmax.name, fields, form)


def _twice(absmax: Tensor, inner: Tensor, table: np.ndarray, said: QuantState) -> Tensor:
    """Returns the scales that are quantised, as numbers."""

    def numbers(bounds: Bounds) -> np.ndarray:
        ((start, stop),) = bounds
        places = np.arange(start, stop) // said.nested_blocksize
        first = int(places[0])
        scales = inner.read(((first, int(places[-1]) + 1),))[places - first]
        return table[absmax.read(bounds)] * scales + np.float32(said.nested_offset)

    return Computed.of([absmax, inner], absmax.shape, np.dtype(np.float32), numbers)


def _of_runs(scale: Tensor, shape: tuple[int, int], run: int, block: int) -> Tensor:
    """Returns the scale of each `run` numbers of a row, out of those of blocks that run on over all
    rows."""
    columns = shape[1] // run
    if run == block and shape[1] % block == 0:
        return viewed(scale, (shape[0], columns))

    def repeated(bounds: Bounds) -> np.ndarray:
        places = np.arange(*bounds[0])[:, None] * shape[1] + np.arange(*bounds[1]) * run
        places //= block
        first = int(places[0, 0])
        return scale.read(((first, int(places[-1, -1]) + 1),))[places - first]

    return Computed.of([scale], (shape[0], columns), scale.dtype, repeated)


def _numbers(name: str, flat: Tensor, table: np.ndarray, scale: Tensor, said: QuantState) -> Tensor:
    """Returns a weight as numbers; `scale` has one for each."""

    def numbers(bounds: Bounds) -> np.ndarray:
        (first, last), columns = bounds[0], slice(*bounds[1])
        start, stop = first * said.shape[1], last * said.shape[1]
        pairs = flat.read(((start // 2, -(-stop // 2)),))
        codes = unpack(pairs >> 4 | pairs << 4, 4, -1)[start % 2 :][: stop - start]
        return table[codes.reshape(-1, said.shape[1])[:, columns]] * scale.read(bounds)

    made = Computed.of([flat], said.shape, said.dtype, numbers)
    return dataclasses.replace(made, name=name)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _OwnTable(PackedTensor):
    """A weight whose codes mean other numbers than those of its form: it is read as `dense` has
    them, and cannot be kept packed."""

    dense: Tensor

    def numbers(self, bounds: Bounds) -> np.ndarray:
        return self.dense.read(bounds).astype(np.float32)

    def share(self, part: Part) -> None:
        return None


def _in_8bit(
    module: str, weight: Tensor | None, scale: Tensor, layout: Tensor | None, dtype: np.dtype
) -> Tensor:
    """Makes the tensor of a weight of int8."""
    if weight is None:
        raise absent(scale, f"{module}.weight")
    if weight.dtype != np.int8 or len(weight.shape) != 2:
        raise misfit(
            weight, f"has shape {weight.shape} and dtype {weight.dtype}; expected int8 [out, in]"
        )
    if layout is not None and (layout.shape not in ((), (1,)) or layout.read().any()):
        raise misfit(
            layout,
            "is not 0: the weight lies as an old GPU kernel reads it (col32, col_turing or "
            "col_ampere), which is not read; save it again with bitsandbytes 0.45 or later",
        )
    rows = weight.shape[0]
    if scale.shape != (rows,) or not jnp.issubdtype(scale.dtype, jnp.floating):
        raise misfit(
            scale,
            f"has shape {scale.shape} and dtype {scale.dtype}; expected a float for each of the "
            f"{rows} rows of {quoted(weight.name)}",
        )
    form = Form("int8", (1, -1), dtype, factor=INVERSE_127)
    return packed_tensor(weight.name, {"data": weight, "scale": viewed(scale, (rows, 1))}, form)


def _dtype_of(tensors: Mapping[str, Tensor]) -> np.dtype:
    """Returns the dtype of the weights that are not quantised: int8 files do not say what theirs
    was."""
    dense = [x for name, x in tensors.items() if not name.endswith(".SCB") and x.dtype in _FLOATS]
    return max(dense, key=lambda x: x.nbytes).dtype if dense else DTYPES["float16"]

"""Quantised weights in products and lookups."""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ...params.quantized.codes import codes_of, decode, unpack
from ...params.quantized.qtensor import Form, QTensor, in_float32, spread
from ...params.types import Concrete

_LONGEST = 4095  # numbers of float32: a larger x and XLA does not decode inside of the product
_FEW = 8  # rows of x, up to which a CPU multiplies one by one; more pay for an array of the weight


def reads_rows(weight: QTensor, axis: int) -> bool:
    """Tells whether a product over `axis` of a weight is one over the rows that it stores."""
    return axis == (0 if weight.form.turned else 1)


def product(x: jax.Array, weight: QTensor) -> jax.Array:
    """Multiplies x [..., D] with the stored rows [F, D] of a weight -> [..., F], as x.dtype.

    XLA decodes inside of the product on GPUs and TPUs. On a CPU it does so for one row of x alone,
    and is then as much faster than float32 as the codes are shorter (one row, 2048 x 8192, two
    cores: float32 2.5 ms, int8 0.9 ms, int4 in blocks of 64 1.7 ms; as an array first: 40 ms).
    """
    if weight.perm is not None:
        x = jnp.take(x, weight.perm, axis=-1)
    if weight.form.activations:
        return _rounded_product(x, weight)
    return jax.lax.platform_dependent(x, weight, cpu=_on_cpu, default=_by_columns)


def rows(table: QTensor, ids: jax.Array) -> jax.Array:
    """Looks up stored rows of a table, of which none is in another order -> [..., D] in float32;
    NaN for an id that has none."""
    flat, height = ids.reshape(-1), table.form.block[0]
    there = (flat >= -table.shape[0]) & (flat < table.shape[0])
    flat = jnp.where(flat < 0, flat + table.shape[0], flat)

    def of(scales: Concrete) -> Concrete:
        return scales if height < 0 else jnp.take(scales, flat // height, axis=0, mode="clip")

    codes = jnp.take(table.data, flat, axis=0, mode="clip")
    taken = _part(table, codes, (min(height, 1), table.form.block[1]), of)
    found = jnp.where(there[:, None], taken.dense(jnp.float32), jnp.nan)
    return found.reshape(*ids.shape, table.shape[1])


def _on_cpu(x: jax.Array, weight: QTensor) -> jax.Array:
    count, wide = math.prod(x.shape[:-1]), x.astype(jnp.float32)
    # a symbolic count may be anything
    if not isinstance(count, int) or count > _FEW or not _is_split(weight.form):
        return (wide @ weight.values().T).astype(x.dtype)
    found = [_row(row, weight) for row in wide.reshape(count, 1, -1)]
    return jnp.concatenate(found).reshape(*x.shape[:-1], -1).astype(x.dtype)


def _is_split(form: Form) -> bool:
    """Tells whether the codes in one place of their bytes can be multiplied without the others."""
    bits, width = codes_of(form.codes).bits, form.block[1]
    return 8 % bits == 0 and (width < 0 or width * bits % 8 == 0)


def _row(x: jax.Array, weight: QTensor) -> jax.Array:
    """Multiplies one row x [1, D] of float32 -> [1, F]: a product for each place that a code has in
    a byte and each run of columns, for XLA decodes inside of a product only what need not be put
    together first, and only for an x of less than 16 KiB."""
    form = weight.form
    bits = codes_of(form.codes).bits
    count = 8 // bits
    block = (form.block[0], form.block[1] // count if form.block[1] > 0 else -1)
    x = x.reshape(1, -1, count)
    y = jnp.zeros((), x.dtype)
    for start, stop in _runs(weight.data.shape[-1], max(block[1], 1)):
        part = _columns(weight, start, stop, block[1])
        for i in range(count):
            # Codes that wait for x are decoded here, in every step of a loop and for every row; XLA
            # would decode them once, into an array.
            x, data = jax.lax.optimization_barrier((x, part.data))
            codes = data if count == 1 else data >> i * bits & (1 << bits) - 1
            numbers = part.scaled(decode(codes, form.codes), block)
            # Two products that XLA computes as one are no longer decoded inside.
            y = y + jax.lax.optimization_barrier(x[:, start:stop, i] @ numbers.T)
    return y


def _runs(width: int, block: int) -> list[tuple[int, int]]:
    """Cuts columns into as few equal runs of whole blocks as are short enough."""
    size = -(-width // -(-width // _LONGEST))
    size = -(-size // block) * block
    return [(start, min(start + size, width)) for start in range(0, width, size)]


def _columns(weight: QTensor, start: int, stop: int, block: int) -> QTensor:
    """Returns a run of the columns of data, with their scales; one has `block` of them."""
    if (start, stop) == (0, weight.data.shape[-1]):
        return weight

    def of(scales: Concrete) -> Concrete:
        return scales if block < 0 else scales[:, start // block : -(-stop // block)]

    return _part(weight, weight.data[:, start:stop], weight.form.block, of)


def _part(
    weight: QTensor,
    data: Concrete,
    block: tuple[int, int],
    of: Callable[[Concrete], Concrete],
) -> QTensor:
    """Returns a weight of some of the codes, in blocks of `block`, with what `of` takes of scales,
    zero points and offsets, as numbers."""
    parts = [None if x is None else of(in_float32(x)) for x in (weight.zero, weight.offset)]
    form = dataclasses.replace(weight.form, block=block, scale=None, offset=None)
    return QTensor(data, of(in_float32(weight.scale)), *parts, form=form)


def _by_columns(x: jax.Array, weight: QTensor) -> jax.Array:
    form = weight.form
    if form.block[1] > 0 or weight.zero is not None or weight.offset is not None:
        return x @ weight.values().T.astype(x.dtype)
    numbers = decode(unpack(weight.data, codes_of(form.codes).bits, -1), form.codes)
    y = _product(x, numbers.astype(x.dtype), jnp.float32)
    return (y * _scale_of_rows(weight, y.ndim)).astype(x.dtype)


def _rounded_product(x: jax.Array, weight: QTensor) -> jax.Array:
    """Multiplies x, rounded to 8 bits with a scale for each of its rows, in integers (Dettmers et
    al. 2022, LLM.int8(), without its outliers)."""
    wide = x.astype(jnp.float32)
    scale = jnp.max(jnp.abs(wide), -1, keepdims=True) / 127
    rounded = jnp.round(wide / jnp.where(scale == 0, 1, scale)).astype(jnp.int8)
    y = _product(rounded, weight.data, jnp.int32).astype(jnp.float32)
    return (y * scale * _scale_of_rows(weight, y.ndim)).astype(x.dtype)


def _product(x: jax.Array, stored: Concrete, dtype: jax.typing.DTypeLike) -> jax.Array:
    dimensions = (((x.ndim - 1,), (1,)), ((), ()))
    return jax.lax.dot_general(x, stored, dimensions, preferred_element_type=dtype)


def _scale_of_rows(weight: QTensor, rank: int) -> Concrete:
    """Returns a scale for each stored row [..., F] of `rank` axes, or one for all [..., 1]."""
    scale = in_float32(weight.scale) * weight.form.factor
    scale = spread(scale, weight.form.block, (weight.stored[0], 1))
    return scale.reshape((1,) * (rank - 1) + (-1,))

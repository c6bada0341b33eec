"""Quantised weights as values: a `QTensor` is one leaf of params, its arrays are leaves of JAX."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from ..tree.cast import parse_dtype
from ..tree.weights import Shape, Weight
from ..types import Concrete
from .codes import codes_of, decode, module_of, unpack

Bounds: TypeAlias = tuple[tuple[int, int], ...]
FIELDS = ("data", "scale", "zero", "offset", "perm")


def swapped(axes: tuple[Any, ...]) -> tuple[Any, ...]:
    """Returns what there is for each axis with that of the last two exchanged."""
    return (*axes[:-2], axes[-1], axes[-2])


@dataclasses.dataclass(frozen=True)
class Form:
    """What is static about a quantised weight.

    Attributes:
        codes: how a number is stored: a name of `codes.py`, such as "int8", "nf4", "uint3".
        block: how many numbers of each of the last two stored axes have one scale, -1 for all of
            an axis: (1, 64) is a scale for 64 numbers of a row, (1, -1) for a row, (-1, -1) for
            all. The last block of an axis may be smaller.
        dtype: of the array that it stands for.
        turned: whether that array has the last two axes in the opposite order. Kernels are (in,
            out) and stored (out, in), as PyTorch has them: a product reads codes along `in`.
        scale, offset: the forms of scale and offset, where they are quantised too.
        factor: of all numbers, after the scale: bitsandbytes' int8 has scales of 127.
        activations: "int8" multiplies codes of 8 bits with activations that are rounded to 8 bits
            too, a scale for each row; "" multiplies numbers.
    """

    codes: str
    block: tuple[int, int]
    dtype: np.dtype
    turned: bool = False
    scale: "Form | None" = None
    offset: "Form | None" = None
    factor: float = 1.0
    activations: str = ""

    def __post_init__(self) -> None:
        codes_of(self.codes)
        if len(self.block) != 2 or any(type(n) is not int or n < 1 and n != -1 for n in self.block):
            raise ValueError(f"block is {self.block}; expected two numbers above 0, or -1 for all")
        rows = self.codes == "int8" and self.block[1] < 0
        if self.activations and (self.activations != "int8" or not rows):
            raise ValueError(
                f"activations is {self.activations!r} of {self.codes} in blocks of {self.block}; "
                "expected '', or 'int8' of codes int8 with one scale for a row"
            )

    def blocks(self, stored: Shape) -> Shape:
        """Returns the shape of the scales of numbers that are stored as `stored`, unpacked."""
        sizes = zip(stored[-2:], self.block, strict=True)
        return (*stored[:-2], *(1 if b < 0 else -(-n // b) for n, b in sizes))

    def blocks_of(self, bounds: Bounds) -> Bounds:
        """Returns the (start, stop) of the blocks that numbers between bounds lie in."""
        sizes = zip(bounds[-2:], self.block, strict=True)
        inner = ((0, 1) if size < 0 else (a // size, -(-b // size)) for (a, b), size in sizes)
        return (*bounds[:-2], *inner)

    def packed(self, stored: Shape) -> Shape:
        """Returns the shape of the codes of numbers that are stored as `stored`, unpacked."""
        return (*stored[:-1], codes_of(self.codes).packed(stored[-1]))

    def stored(self, data: Shape) -> Shape:
        """Returns the shape, unpacked, of numbers whose codes have the shape `data`."""
        return (*data[:-1], codes_of(self.codes).unpacked(data[-1]))

    def logical(self, data: Shape) -> Shape:
        """Returns the logical shape of a weight whose codes have the shape `data`."""
        return swapped(self.stored(data)) if self.turned else self.stored(data)


@dataclasses.dataclass(frozen=True, eq=False)
class QTensor(Weight):
    """A quantised weight: `(code - zero) * scale * form.factor - offset`, computed in float32 and
    cast to the logical dtype; what is None takes no part.

    Functions of `fp` see one leaf, with the `shape` and `dtype` of the array that it stands for;
    `jax.tree` sees `kernel/data`, `kernel/scale` and so on. Axes of stacked layers, [*L], lead in
    every array.

    Attributes:
        data: codes [*L, rows, columns * bits / 8], of int8, a float8 dtype, or uint8 where they
            have fewer bits: a row is one little-endian stream of bits.
        scale: floats, one for each block, [*L, ceil(rows / b), ceil(columns / c)] with `form.block`
            (b, c); a QTensor where scales are quantised.
        zero: integers, of the shape of the scales.
        offset: as the scales.
        perm: int32 [*L, columns]: number i of a row is number perm[i] of the weight (the order of
            GPTQ's `desc_act`).
    """

    is_code = True

    data: Concrete
    scale: "Concrete | QTensor"
    zero: Concrete | None = None
    offset: "Concrete | QTensor | None" = None
    perm: Concrete | None = None
    form: Form = dataclasses.field(kw_only=True)

    @classmethod
    def of(cls, arrays: Mapping[str, Any], form: Form) -> "QTensor":
        """Returns the weight of its arrays by their names, those of quantised scales or offsets a
        mapping inside of it."""
        inner = {x: of for x in ("scale", "offset") if (of := getattr(form, x)) is not None}
        made = {name: cls.of(arrays[name], of) for name, of in inner.items()}
        return cls(**{**arrays, **made}, form=form)

    @property
    def shape(self) -> Shape:
        return self.form.logical(self.data.shape)

    @property
    def stored(self) -> Shape:
        """The shape of its numbers as they are stored, unpacked."""
        return self.form.stored(self.data.shape)

    @property
    def dtype(self) -> np.dtype:
        return self.form.dtype

    @property
    def held_as(self) -> str:
        return self.form.codes

    def astype(self, dtype: jax.typing.DTypeLike) -> "QTensor":
        """Returns the same codes and scales, of another logical dtype; of a floating-point one."""
        return self.with_form(dtype=parse_dtype(dtype))

    def with_form(self, **changes: Any) -> "QTensor":
        """Returns the same arrays, with some of the form changed."""
        return dataclasses.replace(self, form=dataclasses.replace(self.form, **changes))

    def dense(self, dtype: jax.typing.DTypeLike | None = None) -> Any:
        """Returns the array that it stands for: of NumPy if its arrays are, else of JAX."""
        values = self.values()
        if self.perm is not None:
            xp = module_of(values)
            order = xp.expand_dims(xp.argsort(self.perm, -1), -2)
            values = xp.take_along_axis(values, order, -1)
        values = values.astype(self.dtype if dtype is None else dtype)
        return values.swapaxes(-1, -2) if self.form.turned else values

    def values(self) -> Concrete:
        """Returns its numbers in float32, as they are stored."""
        form = self.form
        codes = unpack(self.data, codes_of(form.codes).bits, -1)
        return self.scaled(decode(codes, form.codes), form.block)

    def scaled(self, numbers: Concrete, block: tuple[int, int]) -> Concrete:
        """Returns what numbers of its codes stand for, with scales for blocks of `block`."""
        shape = numbers.shape
        if self.zero is not None:
            numbers = numbers - spread(self.zero.astype(np.float32), block, shape)
        numbers = numbers * spread(in_float32(self.scale), block, shape)
        if self.form.factor != 1:
            numbers = numbers * np.float32(self.form.factor)
        if self.offset is not None:
            numbers = numbers - spread(in_float32(self.offset), block, shape)
        return numbers


jax.tree_util.register_dataclass(QTensor, [*FIELDS], ["form"])


def in_float32(scale: Concrete | QTensor) -> Concrete:
    """Returns scales as numbers, whether or not they are quantised."""
    return scale.dense(np.float32) if isinstance(scale, QTensor) else scale.astype(np.float32)


def spread(scale: Concrete, block: tuple[int, int], shape: Shape) -> Concrete:
    """Returns scales for numbers of `shape`: each as often as its block has numbers, and along an
    axis of one block as it is, to broadcast."""
    xp = module_of(scale)
    for axis, size in zip((-2, -1), block, strict=True):
        if size in (1, -1) or scale.shape[axis] == 1:
            continue
        # A broadcast, not a gather: XLA computes it in the loop that uses it.
        here = axis % scale.ndim
        front, count, back = scale.shape[:here], scale.shape[here], scale.shape[here + 1 :]
        repeated = xp.broadcast_to(
            xp.expand_dims(scale, here + 1), (*front, count, size, *back)
        ).reshape(*front, count * size, *back)
        scale = repeated[(*(slice(None),) * here, slice(shape[axis]))]
    return scale


def misfits(form: Form, fields: Mapping[str, Any], of: str) -> Iterator[tuple[str, str]]:
    """Yields (field, what is wrong with it) of arrays that do not fit each other.

    Args:
        fields: of `FIELDS`, those that there are: arrays, or tensors of a file.
        of: the weight, for the problem.
    """
    codes, data = codes_of(form.codes), fields["data"]
    if data.dtype != codes.stored:
        yield "data", f"has dtype {data.dtype}, and {form.codes} is stored as {codes.stored}"
    if len(data.shape) < 2:
        yield "data", f"has shape {data.shape}; expected rows and columns"
        return
    if data.shape[-1] * 8 % codes.bits:
        yield (
            "data",
            f"has shape {data.shape}: rows of {data.shape[-1]} bytes are no whole runs of "
            f"{codes.group} numbers of {codes.bits} bits",
        )
    stored = form.stored(data.shape)
    blocks = f"numbers {stored} in blocks of {form.block}: check the size of groups"
    shapes = dict.fromkeys(("scale", "zero", "offset"), form.blocks(stored))
    for name, expected in (shapes | {"perm": (*stored[:-2], stored[-1])}).items():
        if (field := fields.get(name)) is None:
            continue
        role = f"{name} of {of}"
        kind = jnp.integer if name in ("zero", "perm") else jnp.floating
        if field.shape != expected:
            yield name, f"has shape {field.shape} as {role}, expected {expected} for {blocks}"
        if not jnp.issubdtype(field.dtype, kind):
            yield name, f"has dtype {field.dtype} as {role}; expected {kind.__name__} numbers"
    if "scale" not in fields:
        yield "data", f"is codes {form.codes} without a scale"
    if form.activations and fields.keys() & {"zero", "offset"}:
        yield "data", "has zeros or offsets, and activations of 8 bits are for codes about 0 alone"


def check(tensor: QTensor, where: str) -> None:
    """Raises `ValueError` if the arrays of a quantised weight do not fit each other."""
    fields = {name: x for name in FIELDS if (x := getattr(tensor, name)) is not None}
    for name, problem in misfits(tensor.form, fields, where):
        raise ValueError(f"{where}: {name} {problem}")

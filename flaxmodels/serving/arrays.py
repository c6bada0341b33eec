"""Arrays that programs take: described, as "int32[batch, length]", and checked in a call."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ..calls.known_values import first_outside, known
from ..params.errors import quoted, some
from ..params.tree.cast import DtypeLike
from .errors import ServingError

Arrays: TypeAlias = dict[str, jax.Array]

NAME = re.compile(r"[A-Za-z_]\w*")
_TEXT = re.compile(r"\s*(\w+)\s*\[([^\[\]]*)\]\s*")
_OPERATORS = ("floordiv", "max", "min", "mod", "non_negative")
"""Names that `jax.export.symbolic_shape` reads as operations."""


class Described(Protocol):
    """What has a shape, whose sizes may be symbols, and a dtype."""

    @property
    def shape(self) -> Sequence[int | object]: ...

    @property
    def dtype(self) -> np.dtype: ...


@dataclasses.dataclass(frozen=True)
class Spec:
    """An array that a signature takes or gives.

    Attributes:
        dtype: its name.
        dims: a size, or the name of one that every call may choose: ("batch", "length").
    """

    dtype: str
    dims: tuple[int | str, ...]

    @classmethod
    def of(cls, given: "Spec | str | Described") -> "Spec":
        """Reads "int32[batch, length]", anything with a shape and a dtype, or a `Spec`.

        Raises:
            ServingError: another text, or a dtype that JAX does not compute with.
        """
        if isinstance(given, Spec):
            return given
        if isinstance(given, str):
            return cls._of_text(given)
        if hasattr(given, "shape") and hasattr(given, "dtype"):
            return cls(_dtype_name(given.dtype), tuple(map(_dim, given.shape)))
        raise ServingError(
            f"a signature's input is {quoted(given)}; expected a text such as "
            '"int32[batch, length]", or a jax.ShapeDtypeStruct'
        )

    @classmethod
    def _of_text(cls, text: str) -> "Spec":
        if not (found := _TEXT.fullmatch(text)):
            raise ServingError(
                f'a signature\'s input is {quoted(text)}; expected "dtype[dims]", as '
                '"int32[batch, length]"'
            )
        dims = [dim.strip() for dim in found[2].split(",")] if found[2].strip() else []
        if odd := [dim for dim in dims if not (dim.isdecimal() or NAME.fullmatch(dim))]:
            raise ServingError(
                f"{quoted(text)}: the dimension {quoted(odd[0])} is neither a number nor a name"
            )
        if odd := [dim for dim in dims if dim in _OPERATORS]:
            raise ServingError(
                f"{quoted(text)}: {odd[0]} is an operation on dimensions: give another name"
            )
        return cls(
            _dtype_name(found[1]), tuple(int(dim) if dim.isdecimal() else dim for dim in dims)
        )

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.dims))}]"


Inputs: TypeAlias = Mapping[str, Spec | str | Described]
"""{name: what `Spec.of` reads}."""


def named_dims(specs: Mapping[str, Spec]) -> tuple[str, ...]:
    """Returns the names of dimensions of arrays, each once, in their order."""
    dims = (dim for spec in specs.values() for dim in spec.dims if isinstance(dim, str))
    return tuple(dict.fromkeys(dims))


def _dim(size: object) -> int | str:
    return int(size) if isinstance(size, int | np.integer) else str(size)


def _dtype_name(given: DtypeLike) -> str:
    try:
        dtype = jnp.dtype(given)
    except TypeError:
        dtype = None
    if dtype is None or not (jnp.issubdtype(dtype, jnp.number) or dtype.kind == "b"):
        raise ServingError(f"a signature's array has the unknown dtype {quoted(given)}")
    return str(dtype)


def checked_inputs(
    name: str,
    specs: Mapping[str, Spec],
    given: Mapping[str, object],
    bounds: Mapping[str, int],
    limits: Mapping[str, int],
) -> dict[str, jax.Array | np.ndarray]:
    """Returns a call's inputs as arrays of the signature's dtypes, in its order.

    Args:
        name: of the signature, for errors.
        bounds: {name of a dimension: the most that it may be}.
        limits: {input: how many values there are for it, from 0 on}.

    Raises:
        ServingError: inputs missing or too many, of another dtype or rank, of sizes that differ
            where the signature has one name, or are too large; values outside of the limits.
    """
    if not isinstance(given, Mapping):
        raise ServingError(f"{name}: inputs are a mapping of arrays by name, got {quoted(given)}")
    if odd := [*(specs.keys() - given.keys())] or [*(given.keys() - specs.keys())]:
        what = "misses" if odd[0] in specs else "has no input"
        raise ServingError(
            f"{name} {what} {some(sorted(map(quoted, odd)))}: it takes "
            + ", ".join(f"{key} {spec}" for key, spec in specs.items())
        )
    sizes: dict[str, int] = {}
    found = {}
    for key, spec in specs.items():
        array = _array(f"{name}: {key}", given[key], spec)
        _check_shape(f"{name}: {key}", array.shape, spec, sizes, bounds)
        if key in limits and (odd := first_outside(array, limits[key])):
            raise ServingError(
                f"{name}: {key}{odd[0]} is {odd[1]}; the model has 0 to {limits[key] - 1}"
            )
        found[key] = array
    return found


def _array(where: str, given: object, spec: Spec) -> jax.Array | np.ndarray:
    """Returns an array of the dtype; integers of another width are taken where their values fit,
    and Python's numbers, which have no width, as any of their kind."""
    if isinstance(given, np.ma.MaskedArray):
        raise ServingError(f"{where} is a masked array, whose mask nothing reads: give x.filled()")
    if isinstance(given, jax.Array) and not isinstance(given, Tracer) and given.is_deleted():
        raise ServingError(f"{where} was deleted, or donated to a function: keep what it returned")
    try:
        array = given if isinstance(given, jax.Array) else np.asarray(given)
    except (ValueError, TypeError, RuntimeError) as error:  # as of a tensor that has gradients
        ragged = isinstance(given, list | tuple) and isinstance(error, ValueError)
        what = "has rows of different lengths" if ragged else f"is no array ({error})"
        raise ServingError(f"{where} {what}; expected {spec}") from None
    dtype = jnp.dtype(spec.dtype)
    if array.dtype == dtype:
        return array
    if isinstance(given, list | tuple | float) and array.dtype.kind in "iuf":
        if jnp.issubdtype(dtype, jnp.floating):
            return array.astype(dtype)
    integers = jnp.issubdtype(array.dtype, jnp.integer) or array.dtype == bool
    if not (integers and jnp.issubdtype(dtype, jnp.integer)):
        raise ServingError(f"{where} is {array.dtype}; expected {spec}")
    limits, values = jnp.iinfo(dtype), known(array)
    if values is not None and values.size:
        if values.min() < limits.min or values.max() > limits.max:
            odd = values.max() if values.max() > limits.max else values.min()
            raise ServingError(f"{where} holds numbers that {dtype} cannot: {odd}")
    return array.astype(dtype)


def _check_shape(
    where: str,
    shape: Sequence[int],
    spec: Spec,
    sizes: dict[str, int],
    bounds: Mapping[str, int],
) -> None:
    if len(shape) != len(spec.dims):
        hint = "; a single row is x[None]" if len(shape) == len(spec.dims) - 1 else ""
        raise ServingError(f"{where} has shape {tuple(shape)}; expected {spec}{hint}")
    for dim, size in zip(spec.dims, shape, strict=True):
        expected = sizes.setdefault(dim, size) if isinstance(dim, str) else dim
        if size != expected or size == 0:
            known = {name: n for name, n in sizes.items() if name in spec.dims}
            said = ", ".join(f"{name} = {n}" for name, n in known.items())
            raise ServingError(
                f"{where} has shape {tuple(shape)}; expected {spec}, nothing of it empty"
                + (f", where {said}" if size != expected and said else "")
            )
        if isinstance(dim, str) and size > bounds.get(dim, size):
            raise ServingError(
                f"{where} has shape {tuple(shape)}: {dim} is {size}, and was exported for at most "
                f"{bounds[dim]}; cut what it is given, or export with a greater max_length or "
                "max_batch"
            )

"""Signatures: the named functions of an export, and the arrays that each takes."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from ..calls.concrete import known
from ..core.model import Model
from ..params.errors import quoted, some
from ..params.tree.cast import DtypeLike
from ..params.types import Params, PyTree
from .errors import ServingError

DEFAULT = "serving_default"
"""The signature that a call without a name runs, as in TensorFlow."""

_TEXT = re.compile(r"\s*(\w+)\s*\[([^\[\]]*)\]\s*")
_NAME = re.compile(r"[A-Za-z_]\w*")
_OPERATORS = ("floordiv", "max", "min", "mod", "non_negative")
"""Names that `jax.export.symbolic_shape` reads as operations."""

Arrays: TypeAlias = dict[str, jax.Array]
Function: TypeAlias = Callable[[Params, Arrays], PyTree]
"""(params, {name: array}) -> an output, made flat by `serving_output`."""


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
        if odd := [dim for dim in dims if not (dim.isdecimal() or _NAME.fullmatch(dim))]:
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


@dataclasses.dataclass(frozen=True)
class Signature:
    """A function to export.

    Attributes:
        inputs: {name: `Spec`}, of what `Spec.of` reads.
        function: (params, {name: array}) -> output; what `model.serving()` returns if None.
    """

    inputs: Mapping[str, Spec]
    function: Function | None = None

    def __init__(self, inputs: Inputs, function: Function | None = None):
        """Reads the inputs.

        Raises:
            ServingError: no mapping of names, or no array that a call may give.
        """
        if not isinstance(inputs, Mapping):
            raise ServingError(
                'the inputs of a signature are a mapping such as {"input_ids": '
                f'"int32[batch, length]"}}, got {quoted(inputs)}'
            )
        if function is not None and not callable(function):
            raise ServingError(
                f"the function of a signature is {quoted(function)}; expected one of "
                "(params, {name: array}), or None for that of the model"
            )
        specs = {name: _input(name, given) for name, given in inputs.items()}
        object.__setattr__(self, "inputs", specs)
        object.__setattr__(self, "function", function)

    @property
    def dims(self) -> tuple[str, ...]:
        """The names of sizes that a call may choose."""
        return named_dims(self.inputs)


def _input(name: object, given: Spec | str | Described) -> Spec:
    """Reads an input that a caller describes."""
    if not isinstance(name, str):
        raise ServingError(f"an input of a signature is called {quoted(name)}; expected a text")
    spec = Spec.of(given)
    if 0 in spec.dims:
        raise ServingError(f"{name} is {spec}: a dimension of size 0 holds nothing")
    if (here := jax.dtypes.canonicalize_dtype(spec.dtype)) != jnp.dtype(spec.dtype):
        raise ServingError(
            f"{name} is {spec}, and JAX makes {here} of it unless jax_enable_x64 is set: give that"
        )
    return spec


def named_dims(specs: Mapping[str, Spec]) -> tuple[str, ...]:
    """Returns the names of dimensions of arrays, each once, in their order."""
    dims = (dim for spec in specs.values() for dim in spec.dims if isinstance(dim, str))
    return tuple(dict.fromkeys(dims))


def signatures_of(
    model: Model, given: Mapping[str, Signature | Inputs] | None
) -> dict[str, Signature]:
    """Returns the signatures that a caller asks for: `Signature`s, or their inputs alone; the
    model's own forward pass if None.

    Raises:
        ServingError: none at all, or a name that is no name.
    """
    if given is None:
        return {DEFAULT: forward_signature(model)}
    if not isinstance(given, Mapping) or not given:
        raise ServingError(
            'signatures is a mapping such as {"serving_default": {"input_ids": '
            f'"int32[batch, length]"}}}}, got {quoted(given)}'
        )
    if odd := [name for name in given if not isinstance(name, str) or not _NAME.fullmatch(name)]:
        raise ServingError(
            f"a signature is called {quoted(odd[0])}: give letters, digits and _, not a digit first"
        )
    return {
        name: each if isinstance(each, Signature) else Signature(each)
        for name, each in given.items()
    }


def forward_signature(model: Model) -> Signature:
    """Returns the signature of a forward pass: the inputs that the model needs (`dummy_inputs`),
    the masks of its tokens, and token types where the family has them: int32, of any batch and
    length."""
    inputs: dict[str, Spec] = {}
    for name, array in model.dummy_inputs().items():
        if jnp.issubdtype(array.dtype, jnp.integer):
            half = "decoder_" if name.startswith("decoder_") else ""
            length = "length" if model.decoder_is_as_long else f"{half}length"
            choices = ("choices",) if array.ndim == 3 else ()  # [B, C, T]
            spec = Spec("int32", ("batch", *choices, length))
            inputs |= {name: spec, f"{half}attention_mask": spec}
        else:  # [B, S, De], the states of an encoder
            dims = ("batch", "encoder_length", *array.shape[2:])
            inputs |= {
                name: Spec(str(array.dtype), dims),
                "encoder_attention_mask": Spec("int32", dims[:2]),
            }
    if reads_token_types(model):
        inputs["token_type_ids"] = inputs[model.main_input_name]
    return Signature(inputs)


def reads_token_types(model: Model) -> bool:
    """Tells whether a model has a table of token types, all of the first where none are given."""
    backbone: Any = getattr(model, "backbone", None)
    base = model if backbone is None else backbone(parent=None, **model.shared_fields)
    if "token_type_ids" in getattr(base, "not_taken", ()) or not hasattr(base, "token_types"):
        return False
    return base.token_types is not None and "type_vocab_size" in model.config.names()


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
    name: str, specs: Mapping[str, Spec], given: Mapping[str, object], bounds: Mapping[str, int]
) -> dict[str, jax.Array | np.ndarray]:
    """Returns a call's inputs as arrays of the signature's dtypes, in its order.

    Args:
        name: of the signature, for errors.
        bounds: {name of a dimension: the most that it may be}.

    Raises:
        ServingError: inputs missing or too many, of another dtype or rank, of sizes that differ
            where the signature has one name, or are too large.
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
        found[key] = array
    return found


def _array(where: str, given: object, spec: Spec) -> jax.Array | np.ndarray:
    """Returns an array of the dtype; integers of another width are taken where their values fit,
    and Python's numbers, which have no width, as any of their kind."""
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

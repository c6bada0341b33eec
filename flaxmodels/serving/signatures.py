"""Signatures: the named functions of an export, and the arrays that each takes."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from ..core.model import Model
from ..params.errors import quoted
from ..params.types import Params, PyTree
from .arrays import NAME, Arrays, Described, Inputs, Spec, named_dims
from .errors import ServingError

DEFAULT = "serving_default"
"""The signature that a call without a name runs, as in TensorFlow."""

Function: TypeAlias = Callable[[Params, Arrays], PyTree]
"""(params, {name: array}) -> an output, made flat by `serving_output`."""


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
    if any(isinstance(dim, int) and dim >= 1 << 31 for dim in spec.dims):
        raise ServingError(f"{name} is {spec}: no dimension has a size of 2**31 or more")
    if (here := jax.dtypes.canonicalize_dtype(spec.dtype)) != jnp.dtype(spec.dtype):
        raise ServingError(
            f"{name} is {spec}, and JAX makes {here} of it unless jax_enable_x64 is set: give that"
        )
    return spec


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
    if odd := [name for name in given if not isinstance(name, str) or not NAME.fullmatch(name)]:
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
    if _token_types(model) is not None:
        inputs["token_type_ids"] = inputs[model.main_input_name]
    return Signature(inputs)


def limits_of(model: Model) -> dict[str, int]:
    """Returns how many values, from 0 on, the model has for each of its inputs: ids, and masks."""
    decoder: Any = getattr(model, "decoder_alone", model)
    tokens = getattr(decoder.config.text, "vocab_size", None)
    read = getattr(model, "prompt_vocab_size", tokens)
    sizes = {"input_ids": read, "decoder_input_ids": tokens, "token": tokens}
    sizes |= {"attention_mask": 2, "decoder_attention_mask": 2, "encoder_attention_mask": 2}
    sizes["token_type_ids"] = _token_types(model)
    return {name: size for name, size in sizes.items() if size is not None}


def _token_types(model: Model) -> int | None:
    """Returns how many token types a model has a table of; None for one without."""
    backbone: Any = getattr(model, "backbone", None)
    base = model if backbone is None else backbone(parent=None, **model.shared_fields)
    if "token_type_ids" in getattr(base, "not_taken", ()):
        return None
    has_table = "type_vocab_size" in model.config.names()
    return getattr(base, "token_types", None) if has_table else None

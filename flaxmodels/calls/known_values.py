"""Concrete values: those that are known now, where a trace knows shape and dtype alone."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


def is_traced(*trees: object) -> bool:
    """Tells whether a computation on these arrays is recorded (`jit`, `vmap`, ...) instead of run.

    Under `jit` that is so for arrays that are known, too.
    """
    return any(isinstance(x, Tracer) for x in (jnp.zeros(()), *jax.tree.leaves(trees)))


def known(x: object) -> np.ndarray | None:
    """Returns the values of an array-like in host memory; None if a trace, or another process, has
    them.

    Those of an accelerator are waited for and copied.
    """
    if isinstance(x, Tracer | jax.ShapeDtypeStruct):
        return None
    if isinstance(x, jax.Array):
        return np.asarray(jax.device_get(x)) if x.is_fully_addressable else None
    return np.asarray(x)


def is_deleted(x: object) -> bool:
    """Tells whether the memory of an array was given up: by `delete()`, or to a function."""
    return isinstance(x, jax.Array) and not isinstance(x, Tracer) and x.is_deleted()


def exceeds(length: int, limit: int, why: str) -> bool:
    """Tells whether a length is above a limit; `why` says what depends on it.

    Raises:
        ValueError: a symbolic length (`jax.export.symbolic_shape`) of which that is not known.
    """
    try:
        return bool(length > limit)
    except jax.errors.InconclusiveDimensionOperation:
        raise ValueError(
            f"{why}, and the symbolic length {length} may be above or below: bound it by {limit}, "
            "or give a number"
        ) from None


def check_token_ids(ids: object, vocab_size: int | None, name: str = "input_ids") -> None:
    """Refuses ids that a vocabulary does not have: JAX would read other rows of the table, or NaN.

    Their dtype is always checked, their values where they are known: outside of `jit`, and the
    constants of a traced program. The cost is two passes over them in host memory; ids on an
    accelerator are copied first, 4 bytes each, which is little beside the pass that reads them.

    Args:
        ids: integers of any shape.
        vocab_size: how many tokens there are; None if that is not known.

    Raises:
        TypeError: not integers.
        ValueError: an id below 0, or at or above `vocab_size`; the message says where.
    """
    dtype = getattr(ids, "dtype", None)
    dtype = np.asarray(ids).dtype if dtype is None else dtype
    if not jnp.issubdtype(dtype, jnp.integer):
        raise TypeError(f"{name} must be integers, the numbers of tokens; got {dtype}")
    if vocab_size is None or (odd := first_outside(ids, vocab_size)) is None:
        return
    raise ValueError(
        f"{name}{odd[0]} is {odd[1]}, and the model has the tokens 0 to "
        f"{vocab_size - 1}; if the tokenizer knows more, see resize_token_embeddings"
    )


def first_outside(ids: object, limit: float) -> tuple[list[int], int] | None:
    """Returns (place, id) of the first id that is not from 0 to `limit` - 1; None if there is none,
    or the ids are not known."""
    values = known(ids)
    if values is None or not values.size or (0 <= values.min() and values.max() < limit):
        return None
    place = np.argwhere((values < 0) | (values >= limit))[0].tolist()
    return place, int(values[tuple(place)])

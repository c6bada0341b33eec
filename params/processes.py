"""Runs of several processes: leaves that each holds a part of, and errors that all must see."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.core import Tracer
from jax.experimental import multihost_utils

from .errors import CheckpointError

T = TypeVar("T")


def is_spread(leaf: Any) -> bool:
    """Whether other processes hold a part of the leaf, so that to read it all must take part."""
    if not isinstance(leaf, jax.Array) or isinstance(leaf, Tracer):
        return False
    return not leaf.is_fully_addressable


def gather(leaf: Any) -> Any:
    """The whole leaf where it is spread over processes, in host memory of each of them."""
    return multihost_utils.process_allgather(leaf, tiled=True) if is_spread(leaf) else leaf


def join(part: np.ndarray) -> np.ndarray:
    """One array of what each process has a part of, and zeros elsewhere. Bits are joined, not
    numbers added: every NaN and every sign of a zero stays."""
    bits = part.reshape(-1).view(np.uint8)
    joined = np.bitwise_or.reduce(multihost_utils.process_allgather(bits))
    return joined.view(part.dtype).reshape(part.shape)


def together(action: Callable[[], T], *, alone: bool) -> T:
    """`action()`, whose error on one process is raised by all, unless each is `alone`."""
    if alone:
        return action()
    result: Any = None
    error = None
    try:
        result = action()
    except Exception as raised:
        error = raised
    failed = multihost_utils.process_allgather(np.asarray(error is not None))
    if error is not None:
        raise error
    if failed.any():
        raise CheckpointError(f"process {failed.argmax()} failed, see its error")
    return result


def said_by_one(text: str | None) -> str:
    """The text that one process gives and the others, with None, get to know."""
    given = np.frombuffer((text or "").encode(), np.uint8)
    size = int(multihost_utils.process_allgather(np.asarray(given.size)).max())
    padded = np.pad(given, (0, size - given.size)) if given.size else np.zeros(size, np.uint8)
    return multihost_utils.process_allgather(padded).max(axis=0).astype(np.uint8).tobytes().decode()


def told_by_first(find: Callable[[], str]) -> str:
    """What `find()` gives on process 0, told to all; its error there is raised by all."""
    said, error = None, None
    if jax.process_index() == 0:
        try:
            said = find()
        except Exception as raised:
            error = raised
    told = said_by_one(said)
    if error is not None:
        raise error
    if not told:
        raise CheckpointError("process 0 failed, see its error")
    return told

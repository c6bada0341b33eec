"""Runs of several processes: leaves that each holds a part of, and errors that all must see."""

from collections.abc import Callable, Sequence
from typing import TypeGuard, TypeVar

import jax
import numpy as np
from jax.core import Tracer
from jax.experimental import multihost_utils

from . import peers
from .errors import CheckpointError, printable, some

T = TypeVar("T")
_LONGEST = 600  # characters of another process's error
_FOUND = "found: "


def is_spread(leaf: object) -> TypeGuard[jax.Array]:
    """Tells whether other processes hold a part of the leaf, so that to read it all must take
    part."""
    if not isinstance(leaf, jax.Array) or isinstance(leaf, Tracer):
        return False
    return not leaf.is_fully_addressable


def any_spread(tree: object) -> bool:
    """Tells whether other processes hold a part of any leaf of a tree."""
    return any(map(is_spread, jax.tree.leaves(tree)))


def gather(leaf: T) -> T | np.ndarray:
    """Returns the whole leaf where it is spread over processes, in host memory of each of them."""
    return _all(leaf, tiled=True) if is_spread(leaf) else leaf


def join(part: np.ndarray) -> np.ndarray:
    """Returns one array of what each process has a part of, and zeros elsewhere. Bits are joined,
    not numbers added: every NaN and every sign of a zero stays."""
    bits = part.reshape(-1).view(np.uint8)
    joined = np.bitwise_or.reduce(_all(bits, tiled=False))
    return joined.view(part.dtype).reshape(part.shape)


def named(processes: Sequence[int], most: int = 10) -> str:
    """Returns what processes are called in a text: "process 3", "processes 0, 2"."""
    return f"process{'es' if len(processes) > 1 else ''} {some(processes, most)}"


def run_on_all_processes(action: Callable[[], T], what: str, *, alone: bool) -> T:
    """Runs `action()`, whose error on one process is raised by all, unless each is `alone`.

    Args:
        what: what it does, for the error of a process that the others wait for.

    Raises:
        peers.PeerLost: a process died, or did not get to the end of its action in time.
    """
    if alone or jax.process_count() == 1:
        return action()
    with peers.watched():
        results, error = _attempted(action)
        said = exchange(f"the end of {what}", _text_of(error))
    if error is not None:
        raise error
    for process, text in enumerate(said):
        if text:
            raise CheckpointError(f"process {process} failed: {text}")
    return results[0]


def broadcast(what: str, find: Callable[[], str] | None) -> str:
    """Returns the text that one process finds and the others, with None, get to know; "" where all
    have None. An error of `find()` is raised by all."""
    found, error = ([], None) if find is None else _attempted(find)
    said = f"{_FOUND}{found[0]}" if found else _text_of(error)
    texts = exchange(what, said) if jax.process_count() > 1 else [said]
    if error is not None:
        raise error
    givers = [process for process, text in enumerate(texts) if text]
    if len(givers) > 1:
        raise CheckpointError(
            f"{what}: processes {some(givers)} want to give it; is_main_process=True is for one"
        )
    for process in givers:
        if not texts[process].startswith(_FOUND):
            raise CheckpointError(f"process {process} failed: {texts[process]}")
        return texts[process].removeprefix(_FOUND)
    return ""


def broadcast_from_process_0(what: str, find: Callable[[], str]) -> str:
    """Returns what `find()` gives on process 0, told to all; its error there is raised by all."""
    return broadcast(what, find if jax.process_index() == 0 else None)


def _attempted(action: Callable[[], T]) -> tuple[list[T], Exception | None]:
    """Returns ([what an action gives], None), or ([], its error): the others wait for either."""
    try:
        return [action()], None
    except peers.PeerLost:
        raise
    except Exception as error:
        return [], error


def _text_of(error: Exception | None) -> str:
    """Returns what other processes say of an error; "" if there is none."""
    return "" if error is None else printable(f"{type(error).__name__}: {error}", _LONGEST)


def exchange(what: str, text: str) -> list[str]:
    """Returns the texts of all processes."""
    if peers.have_coordinator():
        return peers.exchange(what, text)
    given = np.frombuffer(text.encode(), np.uint8)
    sizes = _all(np.asarray(given.size), tiled=False).reshape(-1)
    texts = _all(np.pad(given, (0, sizes.max() - given.size)), tiled=False)
    return [row[:size].tobytes().decode() for row, size in zip(texts, sizes, strict=True)]


def _all(array: object, *, tiled: bool) -> np.ndarray:
    """Returns what every process has, in host memory of each of them."""
    try:
        return np.asarray(multihost_utils.process_allgather(array, tiled=tiled))
    except (ValueError, jax.errors.JaxRuntimeError) as error:
        raise peers.explained(error) from error

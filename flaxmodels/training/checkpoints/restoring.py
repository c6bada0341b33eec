"""Reads checkpoints of a run: the newest that can be read, as a state or as params alone."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from ... import params as fp
from ...params.errors import CheckpointError, some, warn
from ...params.multihost import run_on_all_processes
from ...params.peers import PeerLost
from ...params.process_agreement import agree
from ...params.scalars import whole
from ...params.types import PyTree
from .leaves import LeafRecord, check_same, from_stored, leaves_of, rebuilt
from .stored_steps import RunRecord, read_arrays, read_record, steps_in, unfinished_in

if TYPE_CHECKING:
    from etils import epath

T = TypeVar("T")
TRAINED, FROZEN, AVERAGED = "trained", "frozen", "ema"


class Unfit(CheckpointError):
    """A checkpoint that is whole, and not what was asked for: an older one would not be either."""


def newest(
    folder: "epath.Path", read: Callable[[int, RunRecord], T], step: int | None
) -> tuple[int, T] | None:
    """Reads the newest step that can be read, or a certain one -> (step, what `read` made of it).

    Returns None where there is no whole step, with a warning if there is the rest of one.

    Raises:
        CheckpointError: none can be read, or not the one that was asked for; `Unfit` of `read`.
    """
    step = None if step is None else whole("step", step, 0)
    there = steps_in(folder)
    agree("Checkpoints.restore", {"folder": str(folder), "steps": str(there), "step": str(step)})
    if step is not None and step not in there:
        raise CheckpointError(f"{folder}: there is no step {step}, but {some(there) or 'none'}")
    if not there:
        if rest := unfinished_in(folder):
            warn(f"{folder}: no save was finished; the rest of one is there: {some(rest)}")
        return None
    failures: list[str] = []
    for number in [step] if step is not None else reversed(there):

        def attempt(number: int = number) -> T:
            return read(number, read_record(folder, number))

        try:
            found = run_on_all_processes(attempt, f"reading step {number}", alone=False)
        except (Unfit, PeerLost):
            raise
        except CheckpointError as error:
            failures.append(str(error))
            continue
        if failures:
            warn(f"{'; '.join(failures)}; step {number} is taken, the last that can be read")
        return number, found
    if step is None:
        failures.append(f"{folder}: none of the steps {some(there)} can be read")
    raise CheckpointError("; ".join(failures))


def filled(
    folder: "epath.Path",
    step: int,
    record: RunRecord,
    state: T,
    fields: Sequence[str] | None = None,
) -> T:
    """Returns a state with the arrays of a step in their places, or those of some of its fields.

    Raises:
        Unfit: the step is of another state.
        CheckpointError: an array cannot be read.
    """
    where = f"{folder / str(step)}"
    given, stored = leaves_of(state, record.left_out), dict(record.leaves)
    if fields is not None:
        given = {path: x for path, x in given.items() if _field(path) in fields}
        stored = {path: x for path, x in stored.items() if _field(path) in fields}
    if said := check_same(stored, {path: LeafRecord.of(leaf) for path, leaf in given.items()}):
        raise Unfit(f"{where} is of another state: {said}")
    if record.left_out is not None and fields != (AVERAGED,):
        _check_real(where, state, record.left_out)
    read = read_arrays(folder, step, given, record)
    arrays = {
        path: from_stored(f"{where}: {path}", leaf, record.leaves[path], read.get(path))
        for path, leaf in given.items()
    }
    return rebuilt(state, arrays)


def _check_real(where: str, state: PyTree, field: str) -> None:
    """Raises `Unfit` if what a step was saved without is abstract in the state."""
    if any(isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves(getattr(state, field))):
        raise Unfit(
            f"{where} was saved without `{field}`, which stays as it is in the state: give one "
            "that has it, steps.init(params), and not an abstract one"
        )


def params_of(
    folder: "epath.Path", step: int, record: RunRecord, state: PyTree | None, averaged: bool
) -> fp.Params:
    """Returns the params of a step: as `state` is put together, or NumPy's if it is None."""
    first = AVERAGED if averaged else TRAINED
    if first not in (there := sorted({_field(path) for path in record.leaves})):
        raise Unfit(f"{folder / str(step)}: has no {first}, but {some(there)}")
    if state is None:
        return _plain_params(folder, step, record, first)
    fields = (TRAINED, FROZEN, *([AVERAGED] if averaged else []))
    found: PyTree = filled(folder, step, record, state, fields)
    return found.averaged().params if averaged else found.params


def _plain_params(folder: "epath.Path", step: int, record: RunRecord, first: str) -> fp.Params:
    where = f"{folder / str(step)}"
    if odd := [path for path in record.weights if _field(path) in (TRAINED, FROZEN)]:
        raise Unfit(
            f"{where}: {odd[0]} is quantised or has adapters; give the state that it is to be put "
            "together in: params(steps.abstract_state(params))"
        )
    if record.left_out is not None:
        raise Unfit(f"{where} was saved without `{record.left_out}`; give params(state) a state")
    own = {path: x for path, x in record.leaves.items() if _field(path) in (first, FROZEN)}
    # without memory: a record may say any shape
    blank = {path: np.empty((), jnp.dtype(x.dtype)) for path, x in own.items()}
    templates = {path: np.broadcast_to(blank[path], x.shape) for path, x in own.items()}
    arrays = read_arrays(folder, step, templates, record)
    found = {
        path.partition("/")[2]: from_stored(f"{where}: {path}", leaf, own[path], arrays.get(path))
        for path, leaf in templates.items()
    }
    return fp.unflatten(found)


def _field(path: str) -> str:
    return path.partition("/")[0]

"""Writes the steps of a run, by orbax's manager."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import jax
from jax.typing import ArrayLike

from ...params.errors import CheckpointError, some, warn
from ...params.peers import PeerLost
from ...params.process_agreement import agree, digest
from ...params.strict_json import Json
from ...params.types import PyTree
from .arguments import means_of
from .leaves import LeafRecord, check_storable, leaves_of, to_store, weights_of
from .stored_steps import RUN, STATE, RunRecord, steps_in

if TYPE_CHECKING:
    import orbax.checkpoint as ocp
    from etils import epath

_ASIDE = "aside"


@dataclasses.dataclass
class Writer:
    """Writes the steps of one run into its folder.

    Attributes:
        keep, best, async_: as of `Checkpoints`.
        left_out: the field of a state that is not saved.
        last: the step that the run is saved up to, or went on from.
    """

    folder: "epath.Path"
    keep: int | None
    best: tuple[str, str] | None
    async_: bool
    left_out: str | None
    last: int | None = None
    _manager: "ocp.CheckpointManager | None" = None
    _writing: int | None = None

    def write(
        self, number: int, state: PyTree, data: Json, metrics: Mapping[str, ArrayLike] | None
    ) -> None:
        """Begins to write a step; an earlier one is waited for. Errors as of `Checkpoints.save`."""
        import orbax.checkpoint as ocp

        leaves = leaves_of(state, self.left_out)
        check_storable(leaves)
        values = means_of(metrics)
        if self.best is not None and metrics is not None and self.best[0] not in values:
            raise ValueError(f"best is {self.best[0]!r}; metrics have {some(values)}")
        records = {path: LeafRecord.of(leaf) for path, leaf in leaves.items()}
        record = RunRecord(
            records, data, values, weights_of(state, self.left_out), self.left_out
        ).to_json()
        named = {"step": str(number), "data": digest(record["data"]), "folder": str(self.folder)}
        agree("Checkpoints.save", named)
        self.wait()
        items = {STATE: ocp.args.PyTreeSave(to_store(leaves)), RUN: ocp.args.JsonSave(record)}
        manager = self._open(number)
        self._writing = number
        try:
            manager.save(
                number, args=ocp.args.Composite(**items), metrics=values or None, force=True
            )
        except Exception as error:
            self._failed(error)
        self.last = number
        if not self.async_:
            self.wait()

    def _open(self, number: int) -> "ocp.CheckpointManager":
        """Opens the manager; raises `CheckpointError` for a folder with steps that this run does
        not go on from, and where none can be made."""
        if self._manager is None:
            there = steps_in(self.folder)
            if there and self.last is None:
                raise CheckpointError(
                    f"{self.folder}: there are checkpoints of steps {some(there)}, and this run "
                    "was not restored from them; call restore() before save(), or give another "
                    "folder"
                )
            if later := [step for step in there if self.last is not None and step > self.last]:
                _set_aside(self.folder, later)
            try:
                self._manager = _manager_of(self.folder, self.keep, self.best, self.async_)
            except OSError as error:
                raise CheckpointError(f"{self.folder}: cannot be written: {error}") from error
        if self.last is not None and number < self.last:
            raise CheckpointError(
                f"{self.folder}: the state is of step {number}, and this run has come to step "
                f"{self.last}; to go on from an earlier one, restore(..., step=)"
            )
        return self._manager

    def wait(self) -> None:
        """Waits until what was begun is on disk; errors as of `Checkpoints.wait`."""
        if self._manager is None:
            return
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            self._failed(error)
        self._writing = None

    def close(self) -> None:
        """Waits, and lets go of the folder."""
        self.wait()
        if self._manager is not None:
            self._manager.close()
            self._manager = None

    def _failed(self, error: Exception) -> None:
        """Says that a save failed; the next one opens the folder anew, and cleans it up."""
        number, self._writing, self._manager = self._writing, None, None
        there = steps_in(self.folder)
        self.last = max(there, default=None)
        if isinstance(error, PeerLost):
            raise error
        raise CheckpointError(
            f"{self.folder}: step {number} was not saved: {type(error).__name__}: {error}; "
            f"steps that are there: {some(there) or 'none'}"
        ) from error


def _set_aside(folder: "epath.Path", steps: Iterable[int]) -> None:
    """Renames steps, so that none is taken for a part of a run that goes on from before them."""
    moved = []
    for step in steps:
        names = (f"{step}.{_ASIDE}{'' if n == 1 else f'-{n}'}" for n in range(1, 1 << 30))
        name = next(name for name in names if not (folder / name).exists())
        if jax.process_index() == 0:
            (folder / str(step)).rename(folder / name)
        moved.append(name)
    warn(
        f"{folder}: this run goes on from an earlier step, so that later ones are renamed and not "
        f"looked at again: {some(moved)}"
    )


def _manager_of(
    folder: "epath.Path", keep: int | None, best: tuple[str, str] | None, async_: bool
) -> "ocp.CheckpointManager":
    """Opens orbax's manager, which removes what ended saves have left."""
    import orbax.checkpoint as ocp
    from orbax.checkpoint import checkpoint_managers as managers

    best_fn: Callable[[Mapping[str, float]], float] | None = None
    policies: list[managers.PreservationPolicy] = [managers.LatestN(keep)]
    if best is not None:
        name, mode = best
        worst = float("inf" if mode == "min" else "-inf")

        def quality(metrics: Mapping[str, float]) -> float:
            value = metrics.get(name, worst)
            return worst if value != value else value  # NaN would be in no order

        best_fn = quality
        policies.append(
            managers.BestN(
                get_metric_fn=quality,
                reverse=mode == "min",
                n=1,
                keep_checkpoints_without_metrics=False,
            )
        )
    # Uncompressed: bits of trained floats hardly shrink (by 8%), for twice the CPU time.
    handlers = ocp.handlers.DefaultCheckpointHandlerRegistry()
    handlers.add(STATE, ocp.args.PyTreeSave, ocp.PyTreeCheckpointHandler(use_compression=False))
    return ocp.CheckpointManager(
        folder,
        handler_registry=handlers,
        options=ocp.CheckpointManagerOptions(
            preservation_policy=managers.AnyPreservationPolicy(policies),
            cleanup_tmp_directories=True,
            enable_async_checkpointing=async_,
            save_root_metadata=False,
            best_fn=best_fn,
            best_mode="max" if best is None else best[1],
        ),
    )

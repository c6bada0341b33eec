"""Checkpoints of a training run: its state, its position in the data, and when to stop."""

import functools
import os
import sys
from collections.abc import Mapping
from typing import TypeVar

from jax.typing import ArrayLike

from ... import params as fp
from ...params.errors import CheckpointError
from ...params.scalars import flag, whole
from ...params.strict_json import Json
from ...params.types import PyTree
from .arguments import check_best, path_of, step_of
from .leaves import check_untraced, leaves_of
from .preemption import EXIT_STATUS, Preemption
from .restoring import FROZEN, filled, newest, params_of
from .stored_steps import check_folder, read_record, steps_in
from .writing import Writer

T = TypeVar("T")


class Checkpoints:
    """Saves a run into a folder, and takes it up again.

        with fm.training.Checkpoints("run", every=500, keep=3) as checkpoints:
            found = checkpoints.restore(steps.abstract_state())
            state, data = found or (steps.init(jax.random.key(0)), None)
            if data is not None:
                batches.restore(data)
            for batch in batches:
                state, metrics = steps.train_step(state, batch)
                checkpoints.save(state, batches.state())
                if checkpoints.should_stop:
                    break

    A state is any pytree of arrays: sharded, quantised, with adapters, with `jax.random.key`s. It
    is written under the paths of its arrays, so that no class is in the file and none is made of
    it. Each step is a folder that gets its name when it is whole; what is killed before leaves the
    earlier ones as they were, and so does a full disk.

    Within `with`, SIGTERM on one host, or the notice of pre-emption on a pod, makes the next `save`
    save in any case and `should_stop` True; the loop ends, and leaving the context raises
    `SystemExit(143)`. Of Ctrl-C, and of any other exception, the end of `with` only waits for the
    write that is under way.

    All processes of a run must make the same calls.

    Attributes:
        folder: where the checkpoints are.
        should_stop: whether the run is about to be ended and its state is on disk.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        every: int = 1,
        keep: int | None = 3,
        best: tuple[str, str] | None = None,
        async_: bool = True,
        frozen: bool = True,
        exit_status: int | None = EXIT_STATUS,
    ) -> None:
        """Args:
            folder: is made by the first save; may be what `epath` opens, such as gs://bucket/run.
            every: of so many calls of `save`, one for each step, one saves.
            keep: how many of the newest stay; None for all.
            best: (metric, "min" or "max"); the best step stays as well.
            async_: whether files are written while training goes on. The copy to host memory is
                waited for in any case, so that the next step may donate the state.
            frozen: whether `state.frozen` is saved. If False, as for adapters of a large model,
                `restore` needs a state that has it.
            exit_status: of the SystemExit at the end of a run that was told to stop; None raises
                none.

        Raises:
            ValueError: a number below 1, or a `best` that is no such pair.
            CheckpointError: a file, or a folder that is one checkpoint itself.
        """
        whole("every", every)
        whole("keep", 1 if keep is None else keep)
        check_best(best)
        if exit_status is not None:
            whole("exit_status", exit_status, 0, 255)
        self.folder = path_of(folder)
        check_folder(self.folder)
        self.should_stop = False
        self._every, self._best, self._exit_status = every, best, exit_status
        left_out = None if flag("frozen", frozen) else FROZEN
        self._writer = Writer(self.folder, keep, best, flag("async_", async_), left_out)
        self._preemption = Preemption()
        self._count: int | None = None  # of calls of `save`, beginning with the state's step

    def __enter__(self) -> "Checkpoints":
        self._preemption.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            self.close()
        finally:
            self._preemption.stop(acted_on=self.should_stop)
        if self.should_stop and error is None and self._exit_status is not None:
            sys.exit(self._exit_status)

    # --- saving ---

    def save(
        self,
        state: PyTree,
        data: Json = None,
        metrics: Mapping[str, ArrayLike] | None = None,
        *,
        step: int | None = None,
        force: bool = False,
    ) -> bool:
        """Saves if it is time to, or if the run is about to be ended; call it after each step.

        Where nothing is due nothing waits for the device: calls are counted. Where a save is due,
        the state is copied to host memory before the call returns; an earlier save that is still
        writing is waited for. Of a run that is about to be ended the write is waited for too.

        Args:
            state: a `TrainState`, or any pytree of arrays.
            data: the position in the data, as JSON: `batches.state()`.
            metrics: scalars; needed of `best`.
            step: the number of the step. If None it is `state.step`, the number of updates made.
            force: saves in any case, as after the last step.

        Returns:
            Whether a save was begun: False where none is due, or this step is saved already.

        Raises:
            CheckpointError: this save or the last one failed; what was there before still is. Or
                the folder is of another run.
            ValueError: metrics without that of `best`, or that are no numbers; no number of the
                step; a state that was donated.
            TypeError: a state with what is no array, or that is traced; data that is no JSON.
        """
        calls = self._counted(state, step)
        ending = self._preemption.reached(calls)
        if not (force or ending or calls % self._every == 0):
            return False
        number = step_of(state, step)
        saved = number != self._writer.last
        if saved:
            self._writer.write(number, state, data, metrics)
        if ending:
            self.wait()
            self.should_stop = True
        return saved

    def _counted(self, state: PyTree, step: int | None) -> int:
        """Counts a call, without waiting for the device but at the first."""
        if step is None and self._count is not None and hasattr(state, "step"):
            self._count += 1
        else:
            self._count = step_of(state, step)
        return self._count

    def wait(self) -> None:
        """Waits until what was saved is on disk.

        Raises:
            CheckpointError: it could not be written.
        """
        self._writer.wait()

    def close(self) -> None:
        """Waits as `wait` does, and lets go of the folder."""
        self._writer.close()

    # --- reading ---

    @property
    def steps(self) -> list[int]:
        """The steps that are on disk, in order."""
        return steps_in(self.folder)

    @property
    def best_step(self) -> int | None:
        """The step with the best metric on disk, None if none has it.

        Raises:
            ValueError: no `best` was given.
        """
        if self._best is None:
            raise ValueError('no best was given: Checkpoints(..., best=("eval_loss", "min"))')
        name, mode = self._best
        found = {step: read_record(self.folder, step).metrics.get(name) for step in self.steps}
        values = {step: x for step, x in found.items() if x is not None and x == x}
        choose = min if mode == "min" else max
        return choose(values, key=lambda step: values[step]) if values else None

    def restore(self, state: T, *, step: int | None = None) -> tuple[T, Json] | None:
        """Reads the newest checkpoint -> (state, position in the data), or None if there is none.

        Each array comes in the sharding of its place in `state`, whatever mesh it was saved from.
        If the newest cannot be read, the next older is, with a warning.

        Args:
            state: what the checkpoint is to become: `steps.abstract_state()`, or a state, which is
                left as it is.
            step: a certain one.

        Raises:
            CheckpointError: of another model, optimizer or adapters, with the leaves that differ;
                none can be read; there is no such step.
        """
        for path, leaf in leaves_of(state).items():
            check_untraced(path, leaf)
        self.wait()
        read = lambda number, record: (filled(self.folder, number, record, state), record.data)  # noqa: E731
        if (found := newest(self.folder, read, step)) is None:
            return None
        self.close()  # what is later goes out of the way when the folder is opened again
        self._writer.last = self._count = found[0]
        return found[1]

    def params(
        self, state: PyTree | None = None, *, step: int | None = None, averaged: bool = False
    ) -> fp.Params:
        """Reads the params of a checkpoint alone, as to save them with `model.save_pretrained`.

        Args:
            state: a `TrainState`, abstract or not, that says where each array is put, and how
                quantised weights and adapters are put together. If None they are NumPy's, of plain
                weights.
            step: the newest that can be read if None.
            averaged: takes the moving average for what is trained; float32 without a state.

        Raises:
            CheckpointError: there is no checkpoint; it has no params, or not these; quantised
                weights or adapters, and no state.
        """
        flag("averaged", averaged)
        self.wait()
        read = functools.partial(params_of, self.folder, state=state, averaged=averaged)
        if (found := newest(self.folder, read, step)) is None:
            raise CheckpointError(f"{self.folder}: there is no checkpoint")
        return found[1]

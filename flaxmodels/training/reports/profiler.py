"""A window of steps in the profiler: some are skipped, some are traced."""

import os

import jax

from ...params.types import PyTree


class ProfilerWindow:
    """Traces some steps after others that are skipped, counted in this process: the first ones
    compile.

    `jax.profiler` writes into `folder`, for TensorBoard's profile plugin and Perfetto. The device
    is waited for where the window begins and where it ends, and nowhere else.
    """

    def __init__(self, folder: str | os.PathLike[str], window: tuple[int, int]):
        match window:
            case (int(skip), int(steps)) if skip >= 0 and steps >= 1:
                pass
            case _:
                raise ValueError(f"profile={window}; expected (steps to skip, to trace >= 1)")
        self._folder, self._begin, self._end = os.fspath(folder), skip, skip + steps
        self._done, self._traces = 0, False
        self._begin_if_due()

    def after_step(self, outputs: PyTree) -> None:
        """Says that a step was given to the device, and what it will return."""
        self._done += 1
        if self._done in (self._begin, self._end):
            jax.block_until_ready(outputs)
        if self._done == self._end:
            self.close()
        self._begin_if_due()

    def close(self) -> None:
        """Ends the trace, if it is under way."""
        if self._traces:
            self._traces = False
            jax.profiler.stop_trace()

    def _begin_if_due(self) -> None:
        if self._done == self._begin and not self._traces:
            self._traces = True
            jax.profiler.start_trace(self._folder)

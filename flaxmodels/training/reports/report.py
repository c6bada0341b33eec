"""The report of a run: metrics of steps, fetched late, to whoever writes them."""

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

import jax
import numpy as np
from jax.core import Tracer

from ... import params as fp
from ...params.scalars import flag, whole
from ..argument_checks import number
from .curve import Curve
from .flops import peak_flops
from .lines import JsonLines, Values
from .profiler import ProfilerWindow
from .table import Table
from .tensorboard import TensorBoard


class Sink(Protocol):
    """Takes the values of a report: numbers of Python."""

    def write(self, step: int, values: Values) -> None: ...

    def close(self) -> None: ...


class Report:
    """Reports the metrics of training steps.

        with fm.training.Report("run", every=10) as report:
            for step, batch in enumerate(batches, 1):
                state, metrics = steps.train_step(state, batch)
                report(step, metrics, tokens=batch["input_ids"].size)

    The first step of a process is reported, and then one of `every`. Its metrics are copied to the
    host when the next step has been given: by then the device has work, and waits for nobody.
    Beside them stand `tokens/s` and, where the peak of the devices is known, `MFU`, of the time
    between two reports (a pause for evaluation or a save is in it). Process 0 of a run writes; the
    others do nothing.

    Args:
        folder: gets `metrics.jsonl`, a line a report (a run that goes on replaces the lines of
            steps that it repeats), `loss.png` when the report is closed, `events/` and `profile/`.
            None: only the table.
        every: steps from one report to the next.
        table: print a row a report.
        jsonl: write `metrics.jsonl`.
        tensorboard: write events; needs `flaxmodels[tensorboard]`.
        curve: draw `loss.png`.
        flops_per_token: of a step, as `fm.training.flops_per_token` estimates them, for `MFU`.
        devices: those that train; `jax.devices()` if None.
        profile: (steps to skip, steps to trace) by `jax.profiler`; None for no trace.
        sinks: further objects with `write(step, values)` and `close()`.

    Raises:
        ValueError: `tensorboard` or `profile` without a folder, or a folder that is a file; what is
            no count, no number or no sink.
        ImportError: tensorboardX is not installed.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        every: int = 10,
        table: bool = True,
        jsonl: bool = True,
        tensorboard: bool = False,
        curve: bool = True,
        flops_per_token: float | None = None,
        devices: Sequence[jax.Device] | None = None,
        profile: tuple[int, int] | None = None,
        sinks: Sequence[Sink] = (),
    ):
        if folder is None and (tensorboard or profile is not None):
            raise ValueError("tensorboard and profile are written into a folder: give one")
        if folder is not None and os.path.exists(folder) and not os.path.isdir(folder):
            raise ValueError(f"{os.fspath(folder)}: a file; expected a folder for the report")
        chosen = {"jsonl": jsonl, "tensorboard": tensorboard, "curve": curve}
        for name, value in {"table": table, **chosen}.items():
            flag(name, value)
        for sink in sinks:
            if not callable(getattr(sink, "write", None)) or not hasattr(sink, "close"):
                raise ValueError(f"sinks: {sink!r:.80} has no write(step, values) and close()")
        self._every, self._flops = whole("every", every), None
        if flops_per_token is not None:
            self._flops = number("flops_per_token", flops_per_token, exclusive=True)
        self._writes = jax.process_index() == 0
        self._sinks: list[Sink] = []
        self._window = None
        if self._writes:
            self._sinks = [*([Table()] if table else []), *_in_folder(folder, **chosen), *sinks]
            if folder is not None and profile is not None:
                self._window = ProfilerWindow(os.path.join(folder, "profile"), profile)
        self._peak = _peak_of(jax.devices() if devices is None else devices)
        self._pending: tuple[int, Mapping[str, object], float] | None = None
        self._tokens = 0.0
        self._last: tuple[float, float] | None = None
        self._step: int | None = None
        self._is_closed = False

    def __call__(self, step: int, metrics: Mapping[str, object], *, tokens: float = 0) -> None:
        """Takes the metrics of a step, as the step returned them.

        Args:
            step: the number of the step, from 1, or of the last of several in one execution. One
                before the last that was given is that of a run that went back.
            metrics: scalars in a dict (of dicts), or [K] of K steps in one execution, of which the
                last is reported.
            tokens: how many the step had, or the K steps together, in the batch of all processes.

        Raises:
            ValueError: no number of a step or of tokens; a report that is closed; a metric that is
                no number, when it is fetched.
        """
        step, tokens = whole("step", step, 0), number("tokens", tokens)
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(metrics)):
            raise ValueError("metrics are traced: call the report outside of jax.jit")
        if not self._writes:
            return
        self._flush()
        self._tokens += tokens
        before, self._step = self._step, step
        is_due = before is None or step < before or before // self._every < step // self._every
        if is_due:
            for leaf in jax.tree.leaves(metrics):
                if isinstance(leaf, jax.Array):
                    leaf.copy_to_host_async()
            self._pending = step, metrics, self._tokens
        if self._window is not None:
            self._window.after_step(metrics)

    def held_out(self, step: int, metrics: Mapping[str, object]) -> None:
        """Reports what was measured after a step on other data, at once: names get "held_out_"."""
        if not self._writes:
            return
        self._flush()
        values = {f"held_out_{name}": value for name, value in _numbers(metrics).items()}
        self._write(whole("step", step, 0), values)

    def close(self) -> None:
        """Reports what is left, and closes files, whatever of it fails."""
        if self._is_closed:
            return
        with contextlib.ExitStack() as stack:
            for sink in reversed(self._sinks):
                stack.callback(sink.close)
            if self._window is not None:
                stack.callback(self._window.close)
            try:
                self._flush()
            finally:
                self._is_closed = True

    def __enter__(self) -> "Report":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _flush(self) -> None:
        if self._is_closed:
            raise ValueError("the report is closed: what it is given now would be lost")
        if self._pending is None:
            return
        (step, metrics, tokens), self._pending = self._pending, None
        values = _numbers(metrics)  # waits until the step is done
        now = time.perf_counter()
        if self._last is not None and tokens > self._last[1]:
            rate = (tokens - self._last[1]) / (now - self._last[0])
            values["tokens/s"] = rate
            if self._flops is not None and self._peak is not None:
                values["MFU"] = rate * self._flops / self._peak
        self._last = now, tokens
        self._write(step, values)

    def _write(self, step: int, values: Values) -> None:
        for sink in self._sinks:
            sink.write(step, values)


def _in_folder(
    folder: str | os.PathLike[str] | None, *, jsonl: bool, tensorboard: bool, curve: bool
) -> list[Sink]:
    if folder is None:
        return []
    lines = os.path.join(folder, "metrics.jsonl")
    made: list[Sink] = [JsonLines(lines)] if jsonl else []
    if tensorboard:
        made.append(TensorBoard(os.path.join(folder, "events")))
    if curve:  # behind the lines, which it draws
        made.append(Curve(os.path.join(folder, "loss.png"), lines if jsonl else None))
    return made


def _peak_of(devices: Sequence[jax.Device]) -> float | None:
    peaks = [peak for device in devices if (peak := peak_flops(device)) is not None]
    return sum(peaks) if peaks and len(peaks) == len(devices) else None


def _numbers(metrics: Mapping[str, object]) -> dict[str, float | int | bool]:
    """Fetches scalars, or the last of [K] -> numbers of Python, by their paths."""
    numbers = {}
    if not isinstance(metrics, Mapping):
        raise ValueError(f"metrics are a {type(metrics).__name__}; expected {{name: scalar}}")
    for path, value in fp.flatten(jax.device_get(metrics)).items():
        array = np.asarray(value)
        if array.ndim > 1 or array.size == 0:
            raise ValueError(f"metric {path!r} has the shape {array.shape}; expected a scalar, [K]")
        if path == "step" or array.dtype.kind not in "biufV":  # V: bfloat16
            raise ValueError(f"metric {path!r} is {value!r:.80}; expected a number")
        is_exact = array.dtype.kind in "biu"
        numbers[path] = (array if is_exact else array.astype(np.float64)).reshape(-1)[-1].item()
    return numbers

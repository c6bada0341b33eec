"""Pre-emption: noticing that this run is about to be ended, so that it saves before."""

import signal
import threading
from collections.abc import Callable
from types import FrameType

import jax
from jax.experimental import multihost_utils

from ...params.errors import warn_once

EXIT_STATUS = 128 + signal.SIGTERM
"""What a program ends with that was pre-empted and saved: 143, as of one that SIGTERM ended."""


class Preemption:
    """Notices SIGTERM between `start` and `stop`.

    One process has a handler of its own, which only remembers that the signal came. Of several,
    JAX's pre-emption service has one in each process, and lets them agree on the step at which all
    save; there this class sets none.
    """

    def __init__(self) -> None:
        self._came = threading.Event()
        self._before: Callable[[int, FrameType | None], object] | int | None = None
        self._is_set = False

    def start(self) -> None:
        """Sets the handler; outside of the main thread, where Python allows none, it does not."""
        self._came.clear()
        if jax.process_count() > 1 or threading.current_thread() is not threading.main_thread():
            return
        self._before = signal.signal(signal.SIGTERM, lambda *_: self._came.set())
        self._is_set = True

    def stop(self, *, acted_on: bool) -> None:
        """Restores the handler that there was, and gives it a signal that came and was not acted
        on."""
        if not self._is_set:
            return
        self._is_set = False
        signal.signal(signal.SIGTERM, self._before or signal.SIG_DFL)  # None: not of Python's
        if self._came.is_set() and not acted_on:
            signal.raise_signal(signal.SIGTERM)

    def reached(self, step: int) -> bool:
        """Tells whether to save now; of several processes, each must ask at every step."""
        if jax.process_count() == 1:
            return self._came.is_set()
        try:
            return multihost_utils.reached_preemption_sync_point(step)
        except RuntimeError:  # the service is off
            warn_once(
                "JAX's pre-emption service is off (jax_enable_preemption_service): this run does "
                "not notice that it is about to be ended, and saves only as `every` says"
            )
            return False

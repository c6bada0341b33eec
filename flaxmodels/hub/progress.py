"""The progress bar of downloads, and what huggingface_hub reports to it."""

import threading
from collections.abc import Callable

from tqdm import tqdm

from .cancellation import Cancellation


class ProgressBar:
    """One bar in bytes for several files, each in a thread. It closes when all files that were
    expected so far have come; a file that is expected later has a bar of its own."""

    def __init__(self, shown: bool, cancellation: Cancellation):
        self._shown, self._cancellation = shown, cancellation
        self._lock = threading.Lock()
        self._bar: tqdm | None = None
        self._expected: set[str] = set()
        self._finished: set[str] = set()

    def expect(self, name: str, size: int) -> None:
        """Adds a file to the total, once."""
        with self._lock:
            if name in self._expected:
                return
            if self._bar is None:
                disable = not self._shown
                self._bar = tqdm(
                    total=0, unit="B", unit_scale=True, delay=1, disable=disable, desc="download"
                )
            self._expected.add(name)
            self._bar.total += size
            self._count_files()

    def finish(self, name: str) -> None:
        """Counts a file as whole."""
        with self._lock:
            self._finished.add(name)
            self._count_files()
            is_last = self._finished == self._expected
        if is_last:
            self.close()

    def add(self, count: float) -> None:
        """Adds bytes; raises CancelledError once downloads are cancelled."""
        self._cancellation.check()
        with self._lock:
            if self._bar is not None:
                self._bar.update(count)

    def close(self) -> None:
        with self._lock:
            if self._bar is not None:
                self._bar.close()
                self._bar = None
            self._expected, self._finished = set(), set()

    def report(self, size: int) -> type:
        """Makes what huggingface_hub takes for the tqdm class of one file, and instantiates for
        each try at it."""
        return type("Report", (_Report,), {"bar": self, "counted": [0.0], "size": size})

    def _count_files(self) -> None:
        if self._bar is not None and not self._bar.disable:
            text = f"{len(self._finished)} of {len(self._expected)} files"
            self._bar.set_postfix_str(text, refresh=False)


class _Report:
    bar: ProgressBar
    counted: list[float]  # bytes, over all tries
    size: int  # of the file
    n = total = 0  # the client looks at them where Xet reports

    def __init__(self, *_: object, desc: str | None = None, initial: int = 0, **__: object):
        # Xet also shows what comes over the wire, which is not what there is of the file.
        self._is_file = "downloading bytes" not in (desc or "")
        if self._is_file:
            self.update(initial - self.counted[0])

    def __enter__(self) -> "_Report":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __getattr__(self, name: str) -> Callable[..., None]:  # of a bar: refresh, close, ...
        return lambda *_, **__: None

    def update(self, count: float | None = 1) -> None:
        if self._is_file and count:
            self.counted[0] += count
            if self.counted[0] > self.size:
                raise OSError(f"more than its {self.size} bytes came")
            self.bar.add(count)

"""The bar of downloads, and what one file tells it."""

import threading
from typing import Any

from tqdm import tqdm

from .cancellation import Stop


class Bar:
    """One bar for all files of a store, in bytes; told by threads."""

    def __init__(self, shown: bool, stopped: Stop):
        self._shown, self._stopped = shown, stopped
        self._lock = threading.Lock()
        self._bar: tqdm | None = None
        self._files = self._arrived = 0

    def expect(self, size: int) -> None:
        with self._lock:
            if self._bar is None:
                disable = not self._shown
                self._bar = tqdm(
                    total=0, unit="B", unit_scale=True, delay=1, disable=disable, desc="download"
                )
            self._files += 1
            self._bar.total += size
            self._say()

    def arrived(self) -> None:
        with self._lock:
            self._arrived += 1
            self._say()
            whole = self._arrived == self._files
        if whole:
            self.close()

    def add(self, count: float) -> None:
        self._stopped.check()
        with self._lock:
            if self._bar is not None:
                self._bar.update(count)

    def report(self, size: int) -> type:
        """What huggingface_hub takes for the bar of one file; another try at it starts anew."""
        return type("Report", (_Report,), {"bar": self, "told": [0.0], "size": size})

    def close(self) -> None:
        with self._lock:
            if self._bar is not None:
                self._bar.close()
                self._bar = None
            self._files = self._arrived = 0

    def _say(self) -> None:
        if self._bar is not None and not self._bar.disable:
            self._bar.set_postfix_str(f"{self._arrived} of {self._files} files", refresh=False)


class _Report:
    bar: Bar
    told: list[float]  # bytes, over all tries
    size: int  # of the file
    n = total = 0  # the client looks at them where Xet tells it

    def __init__(self, *_: Any, desc: str | None = None, initial: int = 0, **__: Any):
        # Xet shows what comes over the wire as well, which is not what there is of the file.
        self._counts = "downloading bytes" not in (desc or "")
        if self._counts:
            self.update(initial - self.told[0])

    def __enter__(self) -> "_Report":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __getattr__(self, name: str) -> Any:  # of a bar: refresh, set_description, close, ...
        return lambda *_, **__: None

    def update(self, count: float | None = 1) -> None:
        if self._counts and count:
            self.told[0] += count
            if self.told[0] > self.size:
                raise OSError(f"more than its {self.size} bytes came")
            self.bar.add(count)

"""Metrics as TensorBoard's event files, written by tensorboardX."""

import importlib.util
import os
from typing import TYPE_CHECKING

from .lines import Values

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter


class TensorBoard:
    """Writes scalars into a folder. Where a run goes on, its first step purges what the one before
    had written from there on."""

    def __init__(self, folder: str | os.PathLike[str]):
        if importlib.util.find_spec("tensorboardX") is None:
            raise ImportError(
                "Report(tensorboard=True) needs tensorboardX, which is not installed: "
                "pip install flaxmodels[tensorboard]"
            )
        self._folder = os.fspath(folder)
        self._writer: SummaryWriter | None = None

    def write(self, step: int, values: Values) -> None:
        """Adds a scalar for each value."""
        writer = self._writer
        if writer is None:
            from tensorboardX import SummaryWriter

            # Files are named by whole seconds; two of one second must differ.
            writer = SummaryWriter(self._folder, purge_step=step, filename_suffix=f".{step}")
            self._writer = writer
        for name, value in values.items():
            writer.add_scalar(name, float(value), step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

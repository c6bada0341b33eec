"""PyTorch's own files (`torch.save`): a pickled dict of tensors, whose bytes lie in the
file plainly. Nothing of a pickle is ever run: see `pickles`."""

from ...errors import CheckpointError
from ..files import File
from ..source import Tensor
from . import archive, legacy
from .state_dict import read_tensors

_ZIP = b"PK\3\4"
_TAR = b"ustar"
_TAR_AT = 257


def read_index(file: File, *, weights_only: bool = True) -> dict[str, Tensor]:
    """Reads a state dict -> {name: lazy tensor}.

    Args:
        weights_only: refuse a file that holds anything but tensors. Else all the rest is left out,
            and of a training's file the one dict that has tensors is entered, or all of several
            are, under names that begin with theirs. In neither case is anything executed.

    Raises:
        CheckpointError: anything that is not as `torch.save` writes it, or refused.
    """
    if file.size == 0:
        raise CheckpointError(f"{file.path}: the file is empty")
    file.reject_lookalikes()
    start = file.read(0, min(file.size, _TAR_AT + len(_TAR)))
    if start[_TAR_AT:] == _TAR:
        raise CheckpointError(
            f"{file.path}: the .tar format of PyTorch before 0.1.10 is not read; save it anew"
        )
    saved = archive.load(file) if start.startswith(_ZIP) else legacy.load(file)
    return read_tensors(file, saved, weights_only=weights_only)

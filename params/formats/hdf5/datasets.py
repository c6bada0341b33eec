"""Keras H5: HDF5 files of contiguous arrays, as Keras and Transformers write them.

The HDF5 library follows links to other files, loads filters, and can be made to crash or to hang by
a bad file. It is therefore run in a process of its own, within limits, only to tell where the
arrays are (`_walk.py`); what it says is checked, and the bytes are read here. That costs 0.3 s a
file. Chunked, compressed, external and virtual arrays are refused; `save_weights`, `save` and
`save_pretrained` write none.
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
from importlib import resources

import numpy as np

from ... import strict_json
from ...errors import CheckpointError, quoted
from ..files import File
from ..source import Tensor, tensor_at

_WALK = resources.files(__name__.rpartition(".")[0]) / "_walk.py"
_SECONDS = 60
_LONGEST_NAME = 4096
_DTYPES = "float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool".split()


def read_index(file: File) -> dict[str, Tensor]:
    """Returns name -> lazy tensor of every variable that Keras lists, or of every dataset without a
    list.

    Raises:
        CheckpointError: not HDF5, arrays in another form than Keras writes, or no h5py here.
    """
    if importlib.util.find_spec("h5py") is None:
        raise CheckpointError(
            f"{file.path}: reading it needs h5py, which is not installed: "
            "pip install flaxmodels[h5]"
        )
    file.reject_lookalikes()
    answer = _walk(file)
    if not isinstance(answer, list):
        text = (c if c.isprintable() else repr(c)[1:-1] for c in str(answer)[:1000])
        raise CheckpointError(f"{file.path}: {''.join(text)}")
    tensors = [_tensor(file, row) for row in answer]
    return {tensor.name: tensor for tensor in tensors}


def _walk(file: File) -> strict_json.Json:
    """Runs the other process -> its answer."""
    # No filters from shared libraries; no threads, whose stacks count as memory.
    settings = {"HDF5_PLUGIN_PRELOAD": "::", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        with (
            resources.as_file(_WALK) as program,
            tempfile.TemporaryFile() as output,
            tempfile.TemporaryFile() as errors,
        ):
            code = subprocess.call(
                [sys.executable, "-I", "-S", program, file.path, *filter(None, sys.path)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                env=os.environ | settings,
                timeout=_SECONDS,
            )
            output.seek(0)
            errors.seek(0)
            if code == 0:
                return strict_json.loads(output.read())
            died = f"died, signal {-code}" if code < 0 else f"failed: {errors.read()[-500:]!r}"
    # Temporary files that have no room, too many open ones, a path with a NUL, no JSON.
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise CheckpointError(f"{file.path}: the HDF5 reader process: {error}") from None
    raise CheckpointError(f"{file.path}: the HDF5 reader process {died}")


def _tensor(file: File, row: object) -> Tensor:
    """Returns the tensor of one line of the answer, which is not to be trusted more than the
    file."""
    match row:
        case [str(name), [*shape], str(dtype), int(offset), int(size)] if (
            len(name) <= _LONGEST_NAME
            and dtype in _DTYPES
            and all(type(n) is int and n >= 0 for n in shape)
        ):
            return tensor_at(file, name, shape, np.dtype(dtype), offset, size)
    raise CheckpointError(f"{file.path}: no description of a dataset: {quoted(row)}")

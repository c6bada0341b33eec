"""`save_pretrained(saved_model=...)`: a model's programs beside its checkpoint."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from .. import params as fp
from ..checkpoints.save_options import SaveOptions
from ..core.model import Model
from ..params.errors import quoted
from . import tensorflow
from .arrays import Inputs
from .exporting import prepare, target_of
from .request import Request
from .signatures import Signature

FOLDER = "saved_model"
"""Where `save_pretrained` writes exports, as TensorFlow's classes of Transformers do."""


def saved_model_of(
    model: Model,
    params: fp.PyTree,
    folder: str | os.PathLike,
    asked: bool | str,
    version: int | None,
    signatures: Mapping[str, Signature | Inputs] | None,
) -> Callable[[], object] | None:
    """Returns what writes `folder/saved_model/<version>/`; None if nothing is asked for. What can
    fail without a disk has been done by then.

    Args:
        asked: True for `fm.serving.export`'s format, "tensorflow" for TensorFlow's.

    Raises:
        TypeError: another format, or a version or signatures of nothing.
        ServingError: see `export`.
        ImportError: TensorFlow is asked for, and not installed.
    """
    if asked is False or asked is None:
        for name, value in {"version": version, "signatures": signatures}.items():
            if value is not None:
                raise TypeError(f"{name} is of a saved model: give saved_model=True as well")
        return None
    if asked not in (True, "tensorflow"):
        raise TypeError(
            f'saved_model is {quoted(asked)}; expected True, "tensorflow", or False for none'
        )
    target = target_of(Path(folder, FOLDER), 1 if version is None else version, overwrite=True)
    request = Request.of(model, signatures=signatures)
    if asked == "tensorflow":
        return tensorflow.prepare(model, params, target, request)
    prepared = prepare(model, params, target, request)
    return lambda: prepared.write(SaveOptions(progress=False))

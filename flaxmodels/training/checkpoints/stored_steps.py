"""A folder of training checkpoints: what is in its steps, and how they are read.

`<folder>/<step>/state` is a tree of arrays, `run` is JSON: what the arrays are, the position in the
data, and metrics. A step has its name once it is whole; before, it is called a temporary one.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import jax

from ... import params as fp
from ...params.errors import CheckpointError, quoted, some
from ...params.peers import PeerLost
from ...params.strict_json import Json, loads
from .leaves import LeafRecord, StateLeaf, template_of

if TYPE_CHECKING:
    from etils import epath

STATE, RUN = "state", "run"
_VERSION = 1
_TOP_OF_ONE = ("_METADATA", "_CHECKPOINT_METADATA", "manifest.ocdbt")
_UNFINISHED = ".orbax-checkpoint-tmp"


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """What a checkpoint says beside its arrays.

    Attributes:
        leaves: every array of the state.
        data: the position in the data; None if none was given.
        metrics: of the step.
        weights: paths of the weights that are several arrays.
        left_out: the field of the state that was not saved, if one was not.
    """

    leaves: Mapping[str, LeafRecord]
    data: Json
    metrics: Mapping[str, float]
    weights: list[str]
    left_out: str | None

    def to_json(self) -> dict[str, Json]:
        """Returns it as JSON, as `read` takes it; raises `TypeError` for data that is no JSON."""
        try:
            data = loads(json.dumps(self.data).encode(), constants=float)
            if _has_other_names(self.data):
                raise TypeError("names in JSON are texts, as which others would come back")
        except (TypeError, ValueError, RecursionError) as error:
            raise TypeError(
                f"data is {self.data!r:.200}, expected what JSON holds, such as batches.state(): "
                f"{error}"
            ) from None
        return {
            "version": _VERSION,
            "leaves": {path: leaf.to_json() for path, leaf in self.leaves.items()},
            "data": data,
            "metrics": dict(self.metrics),
            "weights": self.weights,
            "left_out": self.left_out,
        }

    @classmethod
    def read(cls, where: str, value: Json) -> "RunRecord":
        """Reads what `to_json` made; raises `CheckpointError` for something else, or another
        version."""
        if not isinstance(value, dict) or value.get("version") != _VERSION:
            found = value.get("version") if isinstance(value, dict) else value
            raise CheckpointError(f"{where}: version {quoted(found)}, expected {_VERSION}")
        match value:
            case {
                "leaves": dict(leaves),
                "data": data,
                "metrics": dict(metrics),
                "weights": list(weights),
                "left_out": None | "frozen" as left_out,
            } if all(type(x) in (int, float) for x in metrics.values()):
                read = {path: LeafRecord.read(where, entry) for path, entry in leaves.items()}
                return cls(read, data, metrics, [str(path) for path in weights], left_out)
        raise CheckpointError(f"{where}: no record of a run, but {some(sorted(value))}")


def _has_other_names(data: Json) -> bool:
    """Tells whether a mapping in data has a name that is no text."""
    if isinstance(data, Mapping):
        return any(not isinstance(k, str) or _has_other_names(x) for k, x in data.items())
    return isinstance(data, list | tuple) and any(map(_has_other_names, data))


def check_folder(folder: "epath.Path") -> None:
    """Raises `CheckpointError` for a file, and for a folder that is itself one checkpoint."""
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{folder}: a file; expected a folder of checkpoints")
    if found := [name for name in _TOP_OF_ONE if (folder / name).exists()]:
        raise CheckpointError(
            f"{folder}: itself an orbax checkpoint, it has {found[0]}; give the folder that its "
            "steps are in"
        )


def steps_in(folder: "epath.Path") -> list[int]:
    """Lists the steps of a folder that are whole, in order."""
    from orbax.checkpoint import utils

    return sorted(utils.checkpoint_steps(folder)) if folder.exists() else []


def unfinished_in(folder: "epath.Path") -> list[str]:
    """Lists what saves that were ended have left."""
    if not folder.exists():
        return []
    return sorted(entry.name for entry in folder.iterdir() if _UNFINISHED in entry.name)


def read_record(folder: "epath.Path", step: int) -> RunRecord:
    """Reads what a step says of its arrays; raises `CheckpointError` for one that cannot be read,
    or is not of ours."""
    where = folder / str(step)
    file = where / RUN / "metadata"
    if not file.exists():
        there = sorted(entry.name for entry in where.iterdir()) if where.exists() else []
        raise CheckpointError(
            f"{where}: no checkpoint of fm.training.Checkpoints, which has {STATE} and {RUN}; "
            f"found {some(there) or 'nothing'}"
        )
    try:
        value = loads(file.read_bytes(), constants=float)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file}: cannot be read: {error}") from error
    return RunRecord.read(str(file), value)


def read_arrays(
    folder: "epath.Path", step: int, templates: Mapping[str, StateLeaf], record: RunRecord
) -> dict[str, object]:
    """Reads arrays of a step, each in the sharding of its template; a device reads its part alone.

    Args:
        templates: {path: array, abstract or not}. One without a sharding is read as NumPy's.

    Raises:
        CheckpointError: an array cannot be read.
    """
    import numpy as np
    import orbax.checkpoint as ocp

    items, arguments = {}, {}
    for path, leaf in templates.items():
        shape, dtype, sharding = template_of(leaf, record.leaves[path])
        if record.leaves[path].is_empty:
            continue
        items[path] = jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
        arguments[path] = (
            ocp.RestoreArgs(restore_type=np.ndarray, dtype=dtype)
            if sharding is None
            else ocp.ArrayRestoreArgs(sharding=sharding, global_shape=shape, dtype=dtype)
        )
    if not items:
        return {}
    request = ocp.args.PyTreeRestore(
        fp.unflatten(items), restore_args=fp.unflatten(arguments), partial_restore=True
    )
    where = folder / str(step) / STATE
    try:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
            tree = reader.restore(where, args=request)
    except (PeerLost, MemoryError, jax.errors.JaxRuntimeError):
        raise  # nothing that an older checkpoint would mend
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"{where}: cannot be read: {said}") from error
    return fp.flatten(tree)

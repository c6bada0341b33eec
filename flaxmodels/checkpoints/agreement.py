"""What the processes of a run compare before a load or a save that they do together."""

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from .. import params as fp
from ..core.model import Model
from ..hub import Location
from ..params.agreement import digest
from ..params.checkpoint.plan import LoadPlan
from ..params.sizes import format_size
from .request import NameOrPath

_OURS = ("config", "generation_config", "parent", "name")


def record_of_name(call: str, name_or_path: NameOrPath | None) -> dict[str, str]:
    """Returns what is compared of a checkpoint before it is looked for: a folder that one process
    does not see is else asked for on the Hub, by that process alone."""
    if name_or_path is None or isinstance(name_or_path, Location):
        return {"call": call, "name_or_path": "none" if name_or_path is None else "a location"}
    path = os.fspath(name_or_path)
    kind = "folder" if os.path.isdir(path) else "file" if os.path.exists(path) else ""
    here = f"a {kind} on its disk" if kind else f"{path!r}, which is not on its disk"
    return {"call": call, "name_or_path": here}


def record_of_load(
    model: Model, plan: LoadPlan, location: Location | None, options: Any
) -> dict[str, str]:
    """Returns what is compared before weights are read.

    Args:
        options: the `PlanOptions` of the load.
    """
    leaves = {leaf.path: leaf for leaf in plan.leaves}
    return {
        **_of_model(model),
        "commit": (location and location.revision) or "none",
        "files": _of_source(plan.match.source),
        "param_dtype": _dtypes(options.param_dtype),
        "mesh": _of_mesh(options.mesh),
        "max_host_memory": format_size(plan.max_host_memory),  # it says how leaves are cut
        "leaves": _of_leaves(leaves),
        "shardings": digest([(path, _place(leaf.sharding)) for path, leaf in leaves.items()]),
        "ways of loading": digest([(path, leaf.route) for path, leaf in leaves.items()]),
    }


def record_of_save(
    model: Model, params: fp.PyTree, folder: Path, options: Any, selected: Any
) -> dict[str, str]:
    """Returns what is compared before anything is written.

    Args:
        options: the `SaveOptions` of the save.
        selected: the params that `options.select` leaves.
    """
    leaves = fp.flatten(selected)
    names = ("weights_format", "max_shard_size", "variant", "checksums")
    return {
        **_of_model(model),
        "folder": os.path.abspath(folder),
        **{name: str(getattr(options, name)) for name in names},
        "leaves": _of_leaves(leaves),
        "shardings": digest(
            [(path, _place(getattr(leaf, "sharding", None))) for path, leaf in leaves.items()]
        ),
    }


def _of_model(model: Model) -> dict[str, str]:
    """Returns the class, its fields, and those of its configuration, one by one."""
    fields = [field.name for field in dataclasses.fields(model) if field.compare]
    config = {
        f"config.{name}": json.dumps(value, sort_keys=True, default=str)
        for name, value in model.config.to_dict().items()
    }
    own = {name: _dtypes(getattr(model, name)) for name in fields if name not in _OURS}
    return {"class": type(model).__name__, **config, **own}


def _of_source(source: fp.Source) -> str:
    """Returns how many files there are, their bytes, and a digest of names, sizes and headers."""
    files = source.files
    table = [
        (name, tensor.shape, str(tensor.dtype))
        + tuple((os.path.basename(s.file.path), s.offset, s.length) for s in tensor.spans)
        for name, tensor in sorted(source.tensors.items())
    ]
    sizes = sorted((os.path.basename(file.path), file.size) for file in files)
    size = format_size(sum(file.size for file in files))
    said = digest((sizes, table, sorted(source.metadata.items())))
    return f"{len(files)} files of {size} with headers {said}"


def _of_mesh(mesh: Any) -> str:
    if mesh is None:
        return "none"
    axes = " x ".join(f"{name} {size}" for name, size in mesh.shape.items())
    devices: Any = np.ravel(mesh.devices)
    return f"{axes} of devices {digest([device.id for device in devices])}"


def _of_leaves(leaves: Mapping[str, Any]) -> str:
    """Returns how many leaves there are of each dtype, and a digest of paths, shapes and dtypes."""
    count = Counter(str(leaf.dtype) for leaf in leaves.values())
    of = ", ".join(f"{number} {dtype}" for dtype, number in sorted(count.items()))
    return f"{of} ({digest([(p, tuple(x.shape), str(x.dtype)) for p, x in leaves.items()])})"


def _place(sharding: Any) -> str:
    """Returns a sharding without its devices, which processes print differently."""
    spec = getattr(sharding, "spec", None)
    return str(spec) if spec is not None else type(sharding).__name__


def _dtypes(value: Any) -> str:
    """Returns the text of a value; of a dtype, however it is given, its name."""
    if isinstance(value, Mapping):
        return str({key: _dtypes(each) for key, each in value.items()})
    if isinstance(value, type) or isinstance(value, np.dtype):
        try:
            return jax.numpy.dtype(value).name
        except TypeError:
            return str(value)
    return str(value)

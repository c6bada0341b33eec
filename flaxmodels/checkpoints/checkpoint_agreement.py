"""What the processes of a run compare before a load or a save that they do together."""

import os
from pathlib import Path

from jax.sharding import AbstractMesh, Mesh

from .. import params as fp
from ..core.model import Model
from ..core.records import record_of_model, text_of, text_of_leaves, text_of_places
from ..hub import Location
from ..params.checkpoint.load_plan import LoadPlan
from ..params.process_agreement import digest
from ..params.sizes import format_size
from .model_plan import PlanOptions
from .request import NameOrPath


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
    model: Model, plan: LoadPlan, location: Location | None, options: PlanOptions
) -> dict[str, str]:
    """Returns what is compared before weights are read."""
    leaves = {leaf.path: leaf for leaf in plan.leaves}
    return {
        **record_of_model(model),
        "commit": (location and location.revision) or "none",
        "files": _of_source(plan.match.source),
        "param_dtype": text_of(options.param_dtype),
        "mesh": _of_mesh(options.mesh),
        "max_host_memory": format_size(plan.max_host_memory),  # it says how leaves are cut
        "leaves": text_of_leaves(leaves),
        "shardings": text_of_places(leaves),
        "quantised": digest(sorted((path, repr(form)) for path, form in plan.packed.items())),
        "ways of loading": digest([(path, leaf.route) for path, leaf in leaves.items()]),
    }


def record_of_save(
    model: Model, params: fp.PyTree, folder: Path, options: object, selected: fp.PyTree
) -> dict[str, str]:
    """Returns what is compared before anything is written.

    Args:
        options: the `SaveOptions` of the save.
        selected: the params that `options.select` leaves.
    """
    leaves = fp.flatten(selected)
    names = ("weights_format", "max_shard_size", "variant", "checksums")
    return {
        **record_of_model(model),
        "folder": os.path.abspath(folder),
        **{name: str(getattr(options, name)) for name in names},
        "leaves": text_of_leaves(leaves),
        "shardings": text_of_places(leaves),
    }


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


def _of_mesh(mesh: Mesh | AbstractMesh | None) -> str:
    if not isinstance(mesh, Mesh):
        return "none"
    axes = " x ".join(f"{name} {size}" for name, size in mesh.shape.items())
    return f"{axes} of devices {digest([device.id for device in mesh.devices.flat])}"

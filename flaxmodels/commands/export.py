"""`flaxmodels export`: an export made again, or made of a saved checkpoint."""

import os
from pathlib import Path
from typing import Any

from .. import serving
from ..checkpoints.classes import named_class
from ..checkpoints.load import load
from ..checkpoints.request import Request
from ..documents.json_values import Json
from ..params.errors import some
from ..serving.generating import PREFILL, STEP
from ..serving.manifest import NAME, Manifest, read_manifest
from ..serving.saved_model import FOLDER
from ..serving.weights import ADAPTERS


def run(source: str, version: int, *, to: str | None = None, **options: Any) -> Path:
    """Makes `source/<version>` again where it is an export, of its own configuration and weights;
    else exports the checkpoint at `source`, into `to`, or `source/saved_model`.

    Args:
        options: as `fm.serving.export`; of an export that is there, what it was made with if they
            are None.

    Raises:
        ServingError: an export of a caller's functions or with adapters, which only a script has.
    """
    given = {name: value for name, value in options.items() if value is not None}
    there = Path(source, str(version))
    if to is None and os.path.lexists(there / NAME):
        return _again(there, given)
    if to is None and not os.path.isdir(source):
        raise serving.ServingError(f"{source}: no folder here; say with --to where to export it")
    model, params = _loaded(source, {})
    folder = Path(source, FOLDER) if to is None else Path(to)
    return serving.export(model, params, folder, version, **given)


def _again(there: Path, given: dict[str, Json]) -> Path:
    manifest = read_manifest(there)
    if odd := [name for name, each in manifest.programs.items() if each.is_custom]:
        raise serving.ServingError(
            f"{there}: {some(odd)} runs a function of the script that exported it: run that again"
        )
    if manifest.weights.adapted:
        raise serving.ServingError(
            f"{there}: its weights have adapters, in {ADAPTERS}/, whose methods an export does not "
            "say: run the script that exported it again"
        )
    names = manifest.programs.keys() - {PREFILL, STEP}
    told = {
        "signatures": {name: manifest.programs[name].inputs for name in sorted(names)},
        "generation": manifest.slots is not None,
        "platforms": manifest.platforms,
        "max_length": _longest(manifest),
        "max_batch": manifest.bounds.get("batch"),
        "overwrite": True,
    }
    fields = {name: manifest.model[name] for name in ("dtype", "scan_layers")}
    model, params = _loaded(os.fspath(there), fields)
    return serving.export(model, params, there.parent, int(there.name), **told | given)


def _longest(manifest: Manifest) -> int | None:
    if manifest.slots is not None:
        return manifest.slots
    return max((most for dim, most in manifest.bounds.items() if dim != "batch"), default=None)


def _loaded(source: str, fields: dict[str, Any]) -> tuple[Any, Any]:
    """Loads a checkpoint, by the class that its configuration names."""
    loaded: Any = load(Request.of("flaxmodels export", source, (), fields), named_class)
    return loaded

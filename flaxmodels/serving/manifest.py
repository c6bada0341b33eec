"""The manifest of a version folder, `export.json`: what was exported, from what, and until when."""

import dataclasses
import datetime
import importlib.metadata
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..documents.json_files import read_json, text_of
from ..documents.json_values import ConfigError, Json
from ..params.errors import quoted, some
from ..params.scalars import whole
from .arrays import Spec
from .errors import ServingError, checked
from .generating import Facts
from .weights import LeafOrigin, Weights, json_of_place, place_of_json

NAME = "export.json"
FORMAT = "flaxmodels.serving"
VERSION = 1
DAYS = 180
"""For how long JAX promises that later versions read what this one has serialised: six months
(JAX's documentation, "Compatibility guarantees for export")."""
PROGRAM = ".jax_export"
"""How the files of serialised programs end."""
_LIBRARIES = ("jax", "jaxlib", "flax", "numpy", "safetensors")


@dataclasses.dataclass(frozen=True)
class Program:
    """A serialised program.

    Attributes:
        file: its name in the version folder.
        sha256: of the file.
        inputs, outputs: {name: dtype and dims}.
        is_custom: its function was a caller's: `flaxmodels export` cannot make it again.
        limits: {input of ids, or mask: how many values it may have, from 0 on}; in the program an
            id that is too large would read another row.
    """

    file: str
    sha256: str
    inputs: Mapping[str, Spec]
    outputs: Mapping[str, Spec]
    is_custom: bool = False
    limits: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a version folder says of itself.

    Attributes:
        model: {"class": its name, "dtype": what it computes in, "scan_layers": whether it does}.
        exported, expires: dates.
        libraries: {name: version} that it was made with.
        calling_convention: of `jax.export`.
        platforms: that its programs run on.
        bounds: {name of a dimension: the most that it may be}.
        programs: {signature: program}.
        weights: of the arguments of all programs.
        generation: of `generate`; None without signatures that generate.
        command: what makes the export again.
    """

    model: Mapping[str, Json]
    exported: datetime.date
    expires: datetime.date
    libraries: Mapping[str, str]
    calling_convention: int
    platforms: tuple[str, ...]
    bounds: Mapping[str, int]
    programs: Mapping[str, Program]
    weights: Weights
    generation: Facts | None
    command: str

    @property
    def slots(self) -> int | None:
        """Tokens that caches have room for; None without signatures that generate."""
        return None if self.generation is None else self.generation.slots

    def write(self, folder: Path) -> None:
        """Writes `export.json`."""
        values = {
            "format": FORMAT,
            "format_version": VERSION,
            "model": dict(self.model),
            "exported": self.exported.isoformat(),
            "expires": self.expires.isoformat(),
            "libraries": dict(self.libraries),
            "calling_convention": self.calling_convention,
            "platforms": [*self.platforms],
            "bounds": dict(self.bounds),
            "signatures": {name: _json_of(each) for name, each in self.programs.items()},
            "slots": self.slots,
            "generation": {} if self.generation is None else self.generation.json(),
            "command": self.command,
            "params": {path: str(spec) for path, spec in self.weights.arrays.items()},
            "adapted": [*self.weights.adapted],
            "weights": {
                path: {
                    "array": str(leaf.spec),
                    "axes": [*leaf.axes],
                    "from": [json_of_place(place) for place in leaf.places],
                }
                for path, leaf in self.weights.leaves.items()
            },
        }
        (folder / NAME).write_text(text_of(values), encoding="utf-8")


def read_manifest(folder: str | os.PathLike) -> Manifest:
    """Reads `export.json` of a version folder.

    Raises:
        ServingError: none there, another format or version of it, or not what it should be.
    """
    path = os.path.join(folder, NAME)
    if not os.path.lexists(path):
        raise ServingError(
            f"{path}: No such file; a folder that fm.serving.export wrote has one: this one is of "
            "something else, or half copied"
        )
    try:
        values = read_json(path)
    except ConfigError as error:
        raise ServingError(error) from None
    if values.get("format") != FORMAT:
        raise ServingError(
            f"{path}: no export of flaxmodels: format {quoted(values.get('format'))}"
        )
    if values.get("format_version") != VERSION:
        raise ServingError(
            f"{path}: format_version is {quoted(values.get('format_version'))}, and this "
            f"flaxmodels reads {VERSION}; update it, or export again"
        )
    try:
        return _manifest_of(values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ServingError(f"{path}: not what an export has there: {what}") from None


def version_folder(folder: str | os.PathLike, version: int | None) -> Path:
    """Returns `folder/<version>`, the newest if None.

    Raises:
        ServingError: there is none.
    """
    if not isinstance(folder, str | os.PathLike):
        raise TypeError(f"folder is {folder!r:.80}; expected a folder of versions")
    if version is not None:
        version = checked(whole, "version", version)
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise ServingError(f"{os.fspath(folder)}: {error.strerror}") from None
    versions = sorted(int(name) for name in names if re.fullmatch("[1-9][0-9]{0,8}", name))
    if version is None and versions:
        version = versions[-1]
    if version not in versions:
        has = f"versions {', '.join(map(str, versions))}" if versions else "no version folders"
        has += ", and is a version itself: give the folder that it is in" if NAME in names else ""
        what = "an export" if version is None else f"version {version}"
        raise ServingError(f"{os.fspath(folder)}: {what} is not there; it has {has}")
    return Path(folder, str(version))


def _manifest_of(values: Mapping[str, Json]) -> Manifest:
    slots, platforms = values["slots"], values["platforms"]
    if not isinstance(platforms, list):
        raise ValueError(f"platforms is {quoted(platforms)}; expected a list")
    leaves = {
        str(path): LeafOrigin(
            _whole(leaf["array"]), tuple(leaf["axes"]), tuple(map(place_of_json, leaf["from"]))
        )
        for path, leaf in values["weights"].items()
    }
    for path, leaf in leaves.items():
        leaf.check(path)
    return Manifest(
        model=dict(values["model"]),
        exported=datetime.date.fromisoformat(values["exported"]),
        expires=datetime.date.fromisoformat(values["expires"]),
        libraries=dict(values["libraries"]),
        calling_convention=int(values["calling_convention"]),
        platforms=tuple(map(str, platforms)),
        bounds={str(name): int(most) for name, most in values["bounds"].items()},
        programs={name: _program_of(name, each) for name, each in values["signatures"].items()},
        weights=Weights(
            _specs_of(values["params"].items()), leaves, tuple(map(str, values["adapted"]))
        ),
        generation=None if slots is None else Facts.of_json(slots, values["generation"]),
        command=str(values["command"]),
    )


def _whole(text: object) -> Spec:
    """Reads an array of known sizes."""
    spec = Spec.of(str(text))
    if odd := [dim for dim in spec.dims if isinstance(dim, str)]:
        raise ValueError(f"a size that is no number: {some(odd)}")
    return spec


def _specs_of(pairs: Iterable[tuple[object, object]]) -> dict[str, Spec]:
    return {str(name): Spec.of(str(spec)) for name, spec in pairs}


def _json_of(program: Program) -> dict[str, Json]:
    # Lists: the order of arguments is theirs, and JSON's objects are written with sorted keys.
    return {
        "file": program.file,
        "sha256": program.sha256,
        "custom": program.is_custom,
        "limits": dict(program.limits),
        "inputs": [[name, str(spec)] for name, spec in program.inputs.items()],
        "outputs": [[name, str(spec)] for name, spec in program.outputs.items()],
    }


def _program_of(name: str, value: Mapping[str, Json]) -> Program:
    file = str(value["file"])
    if file != f"{name}{PROGRAM}" or os.path.basename(file) != file:
        raise ValueError(f"signature {quoted(name)} is in the file {quoted(file)}")
    inputs, outputs = _specs_of(value["inputs"]), _specs_of(value["outputs"])
    limits = {key: whole(f"the limit of {key}", n) for key, n in value.get("limits", {}).items()}
    return Program(file, str(value["sha256"]), inputs, outputs, bool(value["custom"]), limits)


def library_versions() -> dict[str, str]:
    """Returns the versions of the libraries that an export depends on."""
    from .. import __version__

    found = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {"flaxmodels": __version__, **found}

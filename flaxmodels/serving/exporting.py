"""Exporting: a model and its params -> a version folder, which runs without the model's code."""

import datetime
import hashlib
import os
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
from jax import export as jax_export

from .. import params as fp
from ..checkpoints.save import Beside, save
from ..checkpoints.save_options import SaveOptions
from ..core.model import Model
from ..generation.passes import Passes
from ..params.adapters.attach import adapter_names
from ..params.errors import quoted, some
from ..params.multihost import is_spread
from ..params.save.saveable import saveable
from ..params.save.target import checked_folder
from ..params.scalars import flag, whole
from ..params.tree.paths import flatten_arrays
from .arrays import Inputs, Spec, named_dims
from .errors import ServingError, checked
from .generating import PREFILL, STEP, Facts, Generation
from .lowering import lower, outputs_of, portable
from .manifest import DAYS, NAME, PROGRAM, Manifest, Program, library_versions
from .request import PLATFORMS, Request
from .signatures import Signature, limits_of
from .weights import ADAPTERS, Weights, write_adapters


class Lowered(NamedTuple):
    """A program that is made.

    Attributes:
        inputs: {name: dtype and dims}, in the order of its arguments.
        exported: itself.
        is_custom: whether a caller gave its function.
    """

    inputs: Mapping[str, Spec]
    exported: jax_export.Exported
    is_custom: bool


def export(
    model: Model,
    params: fp.PyTree,
    folder: str | os.PathLike,
    version: int = 1,
    *,
    signatures: Mapping[str, Signature | Inputs] | None = None,
    generation: bool | None = None,
    platforms: Iterable[str] = PLATFORMS,
    max_length: int | None = None,
    max_batch: int | None = None,
    overwrite: bool = False,
    max_shard_size: int | str = "5GB",
    progress: bool = True,
) -> Path:
    """Writes `folder/<version>/`: the model's programs by `jax.export`, and its checkpoint, as
    `save_pretrained` writes it; returns its path. `load` runs it without the code of the model.

    The params are arguments of the programs. Batch and length are any up to the bounds, without a
    new export. JAX promises to read what it has exported for six months (`export.json` has the
    date); `flaxmodels export FOLDER --version N` makes it again.

    Args:
        params: the model's tree; quantised weights stay so, and adapters stay apart.
        folder: has the versions 1/, 2/ ... beside each other.
        signatures: {name: {input: "int32[batch, length]"}}, or {name: `Signature`}; a dimension
            with a name may have any size, one with a number that one. "serving_default", the
            forward pass, if None.
        generation: also export `prefill` and `step`, by which `Served.generate` runs; if None where
            the model can generate and no signatures are given.
        platforms: of "cpu", "cuda", "rocm" and "tpu": that the programs are to run on.
        max_length: the most tokens, of a prompt and its continuation together where there is a
            cache; the model's positions, and at most 2048, if None.
        max_batch: the most rows; no bound if None.
        overwrite: replace a version that is there, at once.
        max_shard_size, progress: as `save_pretrained`.

    Raises:
        ServingError: a version that is there; a program that cannot be exported for any size, or
            for a platform, with the reason. Nothing was written.
        TypeError: what is no model.
        fp.CheckpointError: params that are not this model's, or the disk's own error.
        ImportError: `flatbuffers` is missing: `pip install "flaxmodels[serving]"`.
    """
    request = Request.of(
        model,
        signatures=signatures,
        generation=generation,
        platforms=platforms,
        max_length=max_length,
        max_batch=max_batch,
    )
    prepared = prepare(model, params, target_of(folder, version, overwrite), request)
    return prepared.write(SaveOptions(max_shard_size=max_shard_size, progress=progress))


class Prepared(NamedTuple):
    """An export that is made and not yet written.

    Attributes:
        target: the version folder.
        serialised: {signature: its program}.
    """

    model: Model
    params: fp.PyTree
    target: Path
    manifest: Manifest
    serialised: Mapping[str, bytes]

    def write(self, options: SaveOptions) -> Path:
        """Writes the version folder, all of it or nothing; returns its path."""
        there = os.listdir(self.target) if self.target.exists() else []
        ours = {NAME, ADAPTERS, *(name for name in there if name.endswith(PROGRAM))}
        ours |= {program.file for program in self.manifest.programs.values()}
        base = fp.without_adapters(self.params)
        save(self.model, base, self.target, options, Beside(self._write, frozenset(ours)))
        return self.target

    def _write(self, place: Path) -> None:
        """Writes all but the checkpoint."""
        for name, raw in self.serialised.items():
            (place / self.manifest.programs[name].file).write_bytes(raw)
        write_adapters(self.params, place)
        self.manifest.write(place)


def prepare(model: Model, params: fp.PyTree, target: Path, request: Request) -> Prepared:
    """Does all of `export` but writing; `target` is the version folder."""
    _check_flatbuffers()
    template = model.abstract_params()
    params = model.cut(saveable(params, template))
    if lost := sorted(fp.flatten(template).keys() - fp.flatten(params).keys()):
        raise ServingError(f"params have no {some(map(quoted, lost), 3)}, which the model reads")
    for path, array in flatten_arrays(params).items():
        if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
            raise ServingError(
                f"{path} is {array.dtype}, which JAX computes with under jax_enable_x64 alone: "
                "cast the params first"
            )
    if adapter_names(params) and any(map(is_spread, jax.tree.leaves(params))):
        raise ServingError(
            "params with adapters that are spread over processes are not exported: give them whole "
            "on one, or fp.merge_adapters(params)"
        )
    made = programs(model, params, request)
    serialised = {name: bytes(each.exported.serialize()) for name, each in made.items()}
    manifest = _manifest(model, params, made, serialised, request, _command(target, params, made))
    return Prepared(model, params, target, manifest, serialised)


def programs(model: Model, params: fp.PyTree, request: Request) -> dict[str, Lowered]:
    """Lowers every signature: {name: its program}."""
    model = portable(model)

    def lowered(name: str, each: Signature, is_custom: bool = False) -> Lowered:
        exported = lower(model, params, name, each, request.bounds, request.platforms)
        return Lowered(each.inputs, exported, is_custom)

    made = {
        name: lowered(name, each, each.function is not None)
        for name, each in request.signatures.items()
    }
    if request.generates:
        assert isinstance(model, Passes)
        generation = Generation(model, request.slots)
        made[PREFILL] = lowered(PREFILL, generation.prefill)
        made[STEP] = lowered(STEP, generation.step(outputs_of(made[PREFILL].exported)))
    return made


def target_of(folder: str | os.PathLike, version: int, overwrite: bool) -> Path:
    """Returns the folder to write; refuses one that is there."""
    number = checked(whole, "version", version, 1, 10**9 - 1)
    replaces = checked(flag, "overwrite", overwrite)
    target = checked_folder(folder) / str(number)
    if os.path.lexists(target) and not replaces:
        raise ServingError(
            f"{target}: version {number} is there; give another version, or overwrite=True"
        )
    return target


def _check_flatbuffers() -> None:
    try:
        import flatbuffers  # noqa: F401  JAX serialises by it, and does not bring it along
    except ImportError:
        raise ImportError(
            'an export is serialised by flatbuffers: pip install "flaxmodels[serving]"'
        ) from None


def _command(target: Path, params: fp.PyTree, made: Mapping[str, Lowered]) -> str:
    """Returns what makes the export again."""
    if adapter_names(params) or any(each.is_custom for each in made.values()):
        return "fm.serving.export, in the script that called it"
    return f"flaxmodels export {shlex.quote(str(target.parent))} --version {target.name}"


def _manifest(
    model: Model,
    params: fp.PyTree,
    made: Mapping[str, Lowered],
    serialised: Mapping[str, bytes],
    request: Request,
    command: str,
) -> Manifest:
    today = datetime.datetime.now(datetime.UTC).date()
    first = next(iter(made.values())).exported
    limits = limits_of(model)
    used = {dim for each in made.values() for dim in named_dims(each.inputs)}
    return Manifest(
        model={
            "class": type(model).__name__,
            "dtype": str(model.dtype),
            "scan_layers": model.scan_layers,
        },
        exported=today,
        expires=today + datetime.timedelta(DAYS),
        libraries=library_versions(),
        calling_convention=first.calling_convention_version,
        platforms=first.platforms,
        bounds={dim: most for dim, most in request.bounds.items() if dim in used},
        programs={
            name: Program(
                f"{name}{PROGRAM}",
                hashlib.sha256(serialised[name]).hexdigest(),
                each.inputs,
                outputs_of(each.exported),
                each.is_custom,
                {} if each.is_custom else {k: n for k, n in limits.items() if k in each.inputs},
            )
            for name, each in made.items()
        },
        weights=Weights.of(model, params),
        generation=Facts.of(model, request.slots) if request.generates else None,
        command=command,
    )

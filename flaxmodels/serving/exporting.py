"""Exporting: a model and its params -> a version folder, which runs without the model's code."""

import datetime
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax import export as jax_export

from .. import params as fp
from ..checkpoints.save import Beside, SaveOptions, checked_folder, save
from ..config.config import Config
from ..core.model import Model
from ..params.adapters.attach import adapter_names
from ..params.errors import quoted
from ..params.multihost import is_spread
from ..params.save.saveable import saveable
from .errors import ServingError
from .generating import PREFILL, STEP, generating_signatures, keeps_cache, settings_of
from .lowering import PLATFORMS, lower, outputs_of, portable
from .manifest import DAYS, NAME, PROGRAM, Manifest, Program, library_versions
from .signatures import Signature, signatures_of
from .weights import ADAPTERS, Weights, write_adapters

LONGEST = 2048
"""The most tokens that an export takes if nothing is said: caches are as long from the start."""

_LENGTHS = ("length", "decoder_length", "encoder_length")
_Made = dict[str, tuple[Signature, jax_export.Exported, bool]]


def export(
    model: Model,
    params: fp.PyTree,
    folder: str | os.PathLike,
    version: int = 1,
    *,
    signatures: Mapping[str, Any] | None = None,
    generation: bool | None = None,
    platforms: Sequence[str] = PLATFORMS,
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
        fp.CheckpointError: params that are not this model's, or the disk's own error.
        ImportError: `flatbuffers` is missing: `pip install "flaxmodels[serving]"`.
    """
    prepared = prepare(
        model,
        params,
        folder,
        version,
        signatures=signatures,
        generation=generation,
        platforms=platforms,
        max_length=max_length,
        max_batch=max_batch,
        overwrite=overwrite,
    )
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


def prepare(
    model: Model,
    params: fp.PyTree,
    folder: str | os.PathLike,
    version: int,
    *,
    signatures: Mapping[str, Any] | None = None,
    generation: bool | None = None,
    platforms: Sequence[str] = PLATFORMS,
    max_length: int | None = None,
    max_batch: int | None = None,
    overwrite: bool = False,
) -> Prepared:
    """Does all of `export` but writing."""
    _check_flatbuffers()
    target = target_of(folder, version, overwrite)
    params = model.cut(saveable(params, model.abstract_params()))
    if adapter_names(params) and any(map(is_spread, jax.tree.leaves(params))):
        raise ServingError(
            "params with adapters that are spread over processes are not exported: give them whole "
            "on one, or fp.merge_adapters(params)"
        )
    slots = longest(model, max_length)
    bounds = dict.fromkeys(_LENGTHS, slots) | ({"batch": max_batch} if max_batch else {})
    made = programs(model, params, signatures, generation, platforms, bounds)
    serialised = {name: bytes(each.serialize()) for name, (_, each, _) in made.items()}
    used = {dim for signature, _, _ in made.values() for dim in signature.dims}
    manifest = _manifest(
        model,
        params,
        made,
        serialised,
        {dim: most for dim, most in bounds.items() if dim in used},
        slots=slots if PREFILL in made else None,
        command=_command(folder, version, any(x for *_, x in made.values()), params),
    )
    return Prepared(model, params, target, manifest, serialised)


def programs(
    model: Model,
    params: fp.PyTree,
    signatures: Mapping[str, Any] | None,
    generation: bool | None,
    platforms: Sequence[str],
    bounds: Mapping[str, int],
) -> _Made:
    """Lowers every signature: {name: (signature, program, whether a caller gave its function)}; the
    arguments are those of `export`."""
    model, settled = portable(model), signatures_of(model, signatures)
    custom = {name for name, each in settled.items() if each.function is not None}
    if generation or (generation is None and signatures is None and keeps_cache(model)):
        if not keeps_cache(model):
            raise ServingError(
                f"{type(model).__name__} does not generate: it has no head over the vocabulary, or "
                "no cache; leave out generation"
            )
        if clash := settled.keys() & {PREFILL, STEP}:
            raise ServingError(f"signatures: {min(clash)} is the name of one of generation's own")
        settled |= generating_signatures(model, params, bounds, bounds["length"])
    return {
        name: (each, lower(model, params, name, each, bounds, platforms), name in custom)
        for name, each in settled.items()
    }


def target_of(folder: str | os.PathLike, version: int, overwrite: bool) -> Path:
    """Returns the folder to write; refuses one that is there."""
    if type(version) is not int or not 1 <= version < 10**9:
        raise ServingError(f"version is {quoted(version)}; expected a number from 1")
    target = checked_folder(folder) / str(version)
    if os.path.lexists(target) and not overwrite:
        raise ServingError(
            f"{target}: version {version} is there; give another version, or overwrite=True"
        )
    return target


def longest(model: Model, asked: int | None = None) -> int:
    """Returns the most tokens, as `export` says.

    Raises:
        ServingError: more than the model has positions, or none.
    """
    limit = _positions(model.config)
    if asked is None:
        known = limit or getattr(model.config.text, "max_position_embeddings", None)
        return min(known or LONGEST, LONGEST)
    if type(asked) is not int or asked < 1 or (limit is not None and asked > limit):
        has = "" if limit is None else f" to {limit}, the model's positions"
        raise ServingError(f"max_length is {quoted(asked)}; expected a number from 1{has}")
    return asked


def _positions(config: Config) -> int | None:
    """Returns the most positions that all parts of a model have; None without a limit."""
    parts = [getattr(config, name) for name in config.sub_configs]
    limits = [config.position_limit, *(_positions(part) for part in parts if part is not None)]
    return min((limit for limit in limits if limit is not None), default=None)


def _check_flatbuffers() -> None:
    try:
        import flatbuffers  # noqa: F401  JAX serialises by it, and does not bring it along
    except ImportError:
        raise ImportError(
            'an export is serialised by flatbuffers: pip install "flaxmodels[serving]"'
        ) from None


def _command(folder: str | os.PathLike, version: int, is_custom: bool, params: fp.PyTree) -> str:
    """Returns what makes the export again."""
    if is_custom or adapter_names(params):
        return "fm.serving.export, in the script that called it"
    return f"flaxmodels export {os.fspath(folder)} --version {version}"


def _manifest(
    model: Model,
    params: fp.PyTree,
    made: _Made,
    serialised: Mapping[str, bytes],
    bounds: Mapping[str, int],
    *,
    slots: int | None,
    command: str,
) -> Manifest:
    today = datetime.datetime.now(datetime.UTC).date()
    _, first, _ = next(iter(made.values()))
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
        bounds=bounds,
        programs={
            name: Program(
                f"{name}{PROGRAM}",
                hashlib.sha256(serialised[name]).hexdigest(),
                signature.inputs,
                outputs_of(exported),
                is_custom,
            )
            for name, (signature, exported, is_custom) in made.items()
        },
        weights=Weights.of(model, params),
        slots=slots,
        generation={} if slots is None else settings_of(model),
        command=command,
    )

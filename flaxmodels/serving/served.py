"""Served models: exported programs and their weights, read and called without the model's code."""

import datetime
import functools
import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import jax
import numpy as np
from jax import export as jax_export
from jax.sharding import Mesh

from .. import sharding as fs
from ..params.atomic.replace import settled
from ..params.errors import quoted, warn
from ..params.scalars import flag
from .arrays import Arrays, Spec, checked_inputs
from .errors import ServingError
from .generating import CACHE_MASK, PREFILL, STEP, ServedPasses
from .loop import Continuation, Half, Ids, continued
from .lowering import outputs_of
from .manifest import Manifest, Program, read_manifest, version_folder
from .signatures import DEFAULT
from .weights import read_params

Given: TypeAlias = dict[str, jax.Array | np.ndarray]


def load(
    folder: str | os.PathLike,
    version: int | None = None,
    *,
    mesh: Mesh | None = None,
    rules: fs.Rules | str | None = None,
    device: jax.Device | None = None,
    progress: bool = True,
) -> "Served":
    """Reads an export that `export` wrote; no module of a model or a family is imported.

    Args:
        folder: has the version folders.
        version: the newest if None.
        mesh: spread the weights over it, by `rules` on their logical axes (`fs.DEFAULT_RULES` if
            None); inputs are whole on each device, or where the caller has put them.
        device: instead of `mesh`: where weights are; the default device if None.
        progress: show a bar if it takes longer than a second.

    Warns:
        of an export that has expired, and can be read all the same.

    Raises:
        ServingError: no export, half of one, or one that was changed; one that this JAX cannot
            read or whose platforms are others: with what makes it again.
        fp.CheckpointError: weights that cannot be read.
    """
    if mesh is not None and device is not None:
        raise TypeError("give mesh or device, not both")
    if rules is not None and mesh is None:
        raise TypeError("rules are those of a mesh, which is not given")
    if not isinstance(device, jax.Device | None):
        raise TypeError(f"device is {device!r:.80}; expected one of jax.devices()")
    if mesh is not None:
        fs.check_mesh(mesh)
    progress = flag("progress", progress)
    path = version_folder(folder, version)
    manifest, raw = settled(path, lambda: _read(path))
    programs = {name: _deserialised(path, manifest, name, raw[name]) for name in raw}
    if datetime.datetime.now(datetime.UTC).date() > manifest.expires:
        warn(
            f"{path}: this export expired on {manifest.expires}: JAX promises to read one for six "
            f"months. It could be read; make it again: {manifest.command}"
        )
    placed = None if device is None else jax.sharding.SingleDeviceSharding(device)
    _check_platform(path, manifest, mesh, device)
    params = read_params(
        path, manifest.weights, mesh=mesh, rules=rules, sharding=placed, progress=progress
    )
    return Served(path, manifest, programs, params, mesh)


class Served:
    """An exported model with its weights; `served(input_ids=..., ...)` runs it.

    A program is compiled for each shape that it is called with; inputs padded to a few shapes
    compile a few times.

    Attributes:
        folder: the version folder.
        manifest: what `export.json` says.
        params: {path: array}, the arguments of all programs.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        programs: Mapping[str, jax_export.Exported],
        params: dict[str, jax.Array],
        mesh: Mesh | None = None,
    ):
        self.folder, self.manifest, self.params = folder, manifest, params
        self._programs, self._mesh = dict(programs), mesh
        self._calls: dict[str, Callable[[Arrays, Given], Arrays]] = {}

    @property
    def signatures(self) -> Mapping[str, Program]:
        """{name: what it takes and gives}."""
        return self.manifest.programs

    def __call__(self, **inputs: object) -> dict[str, jax.Array]:
        """Runs "serving_default", or the one signature that there is, on arrays by name.

        Raises:
            ServingError: inputs that are not the signature's, with what they should be.
        """
        return self.run(
            next(iter(self.signatures)) if len(self.signatures) == 1 else DEFAULT, inputs
        )

    def run(self, signature: str, inputs: Mapping[str, object]) -> Arrays:
        """Runs a signature on {name: array}; see `__call__`."""
        if not isinstance(signature, str) or signature not in self.signatures:
            raise ServingError(
                f"{self.folder}: no signature {quoted(signature)}; there are "
                f"{', '.join(self.signatures)}"
            )
        program, bounds = self.signatures[signature], self.manifest.bounds
        given = checked_inputs(signature, program.inputs, inputs, bounds, program.limits)
        if signature not in self._calls:
            self._calls[signature] = jax.jit(self._programs[signature].call)
        try:
            return self._calls[signature](self.params, self._placed(given))
        except (NotImplementedError, ValueError) as error:
            if "call_exported" in str(error) or "No VJP" in str(error):
                raise ServingError(
                    f"{signature} is an exported program, which has no gradient and is not mapped "
                    f"by vmap: give it a larger batch, or use the model ({error})"
                ) from error
            if "incompatible devices" in str(error):
                raise ServingError(
                    f"{signature}: the inputs and the weights must be on the same devices; leave "
                    f"inputs to NumPy, or jax.device_put them ({error})"
                ) from error
            raise

    def generate(
        self,
        input_ids: Ids,
        attention_mask: Ids | None = None,
        *,
        decoder_input_ids: Ids | None = None,
        decoder_attention_mask: Ids | None = None,
        key: jax.Array | None = None,
        **settings: object,
    ) -> Continuation:
        """Continues prompts as the model's `generate` does, by the programs `prefill` and `step` in
        one compiled loop; the same arguments and settings act.

        Raises:
            ServingError: an export without these programs; a prompt and new tokens that are more
                than its caches hold.
            ValueError, TypeError: as the model's `generate`.
        """
        return continued(
            self._passes,
            self.manifest,
            self.params,
            Half(input_ids, attention_mask),
            Half(decoder_input_ids, decoder_attention_mask),
            key,
            settings,
        )

    @functools.cached_property
    def _passes(self) -> ServedPasses:
        if self.manifest.slots is None or not {PREFILL, STEP} <= self._programs.keys():
            raise ServingError(
                f"{self.folder}: it was exported without prefill and step, by which generate runs: "
                "export with generation=True"
            )
        return ServedPasses(self._programs[PREFILL], self._programs[STEP])

    def _placed(self, arrays: Given) -> Given:
        """Puts arrays of the host on the devices of the weights."""
        if self._mesh is not None:
            whole = jax.sharding.NamedSharding(self._mesh, jax.sharding.PartitionSpec())
            return {
                name: x if _is_on(x, self._mesh) else jax.device_put(x, whole)
                for name, x in arrays.items()
            }
        return arrays

    def __repr__(self) -> str:
        said = ", ".join(self.signatures)
        return f"Served({str(self.folder)!r}: {self.manifest.model.get('class')}, {said})"


def _is_on(x: jax.Array | np.ndarray, mesh: Mesh) -> bool:
    return isinstance(x, jax.Array) and x.sharding.device_set == {*mesh.devices.flat}


def _read(path: Path) -> tuple[Manifest, dict[str, bytes]]:
    manifest, raw = read_manifest(path), {}
    for name, program in manifest.programs.items():
        file = path / program.file
        try:
            raw[name] = file.read_bytes()
        except OSError as error:
            raise ServingError(f"{file}: {error.strerror}; the version is half copied") from None
        found = hashlib.sha256(raw[name]).hexdigest()
        if found != program.sha256:
            raise ServingError(
                f"{file}: sha256 {found}, and the export says {program.sha256}: it is truncated or "
                "was changed; get it again"
            )
    return manifest, raw


def _deserialised(path: Path, manifest: Manifest, name: str, raw: bytes) -> jax_export.Exported:
    """Reads a program, whose arguments must be what the manifest says."""
    convention = manifest.calling_convention
    least = jax_export.minimum_supported_calling_convention_version
    most = jax_export.maximum_supported_calling_convention_version
    made = f"exported on {manifest.exported} with jax {manifest.libraries.get('jax')}"
    if not least <= convention <= most:
        raise ServingError(
            f"{path}: calling convention {convention}, and jax {jax.__version__} reads {least} to "
            f"{most}; {made}. Make it again: {manifest.command}"
        )
    try:
        exported = jax_export.deserialize(bytearray(raw))
        exported.mlir_module()  # else StableHLO would be read by the first call
    except ImportError:
        raise
    except Exception as error:  # flatbuffers and MLIR raise what they like
        raise ServingError(
            f"{path / manifest.programs[name].file}: jax {jax.__version__} cannot read it "
            f"({type(error).__name__}: {str(error)[:200]}); {made}, and promised for versions "
            f"from there until {manifest.expires}. Make it again: {manifest.command}"
        ) from error
    _check_program(path, manifest, name, exported)
    return exported


def _check_program(
    path: Path, manifest: Manifest, name: str, exported: jax_export.Exported
) -> None:
    program = manifest.programs[name]
    expected = {f"params/{key}": spec for key, spec in manifest.weights.arrays.items()}
    expected |= {f"inputs/{key}": spec for key, spec in program.inputs.items()}
    expected |= {f"outputs/{key}": spec for key, spec in program.outputs.items()}
    if name == STEP and CACHE_MASK in program.inputs:
        expected[f"inputs/{CACHE_MASK}"] = Spec("bool", ("batch", manifest.slots or 0))
    tree = exported.in_tree
    try:
        (arrays, inputs), _ = jax.tree.unflatten(tree, [*range(tree.num_leaves)])
        found = {f"params/{key}": i for key, i in arrays.items()}
        found |= {f"inputs/{key}": i for key, i in inputs.items()}
        specs = {key: Spec.of(exported.in_avals[i]) for key, i in found.items()}
        specs |= {f"outputs/{key}": spec for key, spec in outputs_of(exported).items()}
    except (ValueError, TypeError, AttributeError):
        specs = {}
    if specs != expected:
        odd = min(key for key, _ in specs.items() ^ expected.items())
        raise ServingError(
            f"{path / program.file}: its program has {specs.get(odd)} for {quoted(odd)}, "
            f"and export.json says {expected.get(odd)}: they are of two exports; get both again"
        )


def _check_platform(
    path: Path, manifest: Manifest, mesh: Mesh | None, device: jax.Device | None
) -> None:
    devices = jax.devices() if mesh is None else [*mesh.devices.flat]
    here = (devices[0] if device is None else device).platform
    here = jax_export.default_export_platform() if here == "gpu" else here
    if here not in manifest.platforms:
        raise ServingError(
            f"{path}: exported for {', '.join(manifest.platforms)}, and this device is of "
            f"{here!r}: export with platforms={[*manifest.platforms, here]}"
        )

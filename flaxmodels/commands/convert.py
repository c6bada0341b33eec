"""Converting: a checkpoint of one format -> the same of another, one tensor in memory at a time.

Every tensor of the source is in the result, or an error names those that have no place. Afterwards
the source is compared with what a reader finds in the result.
"""

import dataclasses
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from .. import gguf, registration
from .. import params as fp
from ..checkpoints.save import Beside, save, staging
from ..checkpoints.save_options import SaveOptions
from ..config.generation_config import GENERATION_CONFIG_NAME
from ..documents.config_keys import QUANTISED
from ..documents.json_files import CONFIG_NAME, read_json, text_of
from ..documents.json_values import ConfigError, is_finite
from ..documents.remote_code import without_code
from ..hub import HubOptions, companions, copy_companion, fetched, resolve
from ..params.checkpoint.leaf_plan import LeafPlan
from ..params.checkpoint.make_plan import make_plan
from ..params.checkpoint.match import identity_match
from ..params.errors import quoted, some, warn
from ..params.formats import FolderFile
from ..params.formats.checksums import write_checksums
from ..params.save.options import WriteOptions
from ..params.save.target import checked_folder
from ..params.save.write import write_checkpoint
from ..params.scalars import flag
from ..params.tree.cast import DtypeLike, check_patterns, dtype_for
from ..params.tree.naming import PATHS
from .lossless import Account, account, accounts, bytes_of, without

Dtypes = DtypeLike | Mapping[str, DtypeLike]


def convert(
    name_or_path: str | os.PathLike,
    folder: str | os.PathLike,
    *,
    format: str = "safetensors",
    dtype: Dtypes = "auto",
    max_shard_size: int | str = "5GB",
    variant: str | None = None,
    checksums: bool = False,
    verify: bool = True,
    progress: bool = True,
    weights: Mapping[str, object] | None = None,
    drop: str | Sequence[str] = (),
) -> int:
    """Writes the checkpoint at `name_or_path` into `folder` in another format -> bytes of weights.

    With a `config.json` the tensors get the names and layouts that the format's readers expect.
    Without one, or with one of a family that is not known here, they keep their names, which only
    works where both formats use the same. Files that travel with weights (a tokenizer's, a licence)
    come along; those that are there already stay.

    A tensor that has no place in the class that `config.json` names decides for a class of the
    family that has one. The second of two tied tensors is left out where it is the same byte for
    byte; buffers, which follow from the configuration, are left out with a warning.

    Args:
        name_or_path: a folder, a weights file, or a repository, as `from_pretrained` takes it.
        format: "safetensors", "msgpack" or "orbax".
        dtype: what the tensors are cast to: "auto" (as stored), a dtype, or {pattern: dtype}.
        max_shard_size, checksums: as `save_pretrained`.
        variant: to write; the one to read is part of `weights`.
        verify: read what was written and compare the sha256 of each tensor with the source's.
        weights: which to read, as `fp.open_checkpoint` takes it.
        drop: regular expressions; tensors in whose names one is found are left out.

    Raises:
        fp.CheckpointError: a source that cannot be read, tensors that have no place in the result,
            a companion that is a link out of the folder, or a result that is not the source.
        ValueError: a pattern of `dtype` that no leaf matches.
    """
    folder = checked_folder(folder)
    options = SaveOptions(
        format=format,
        max_shard_size=max_shard_size,
        variant=variant,
        checksums=checksums,
        progress=progress,
    )
    verify = flag("verify", verify)
    source, near = _opened(name_or_path, weights, drop, progress)
    travelling, whole = _checked_companions(near), _account(near, source, format)

    leaves = _write(whole, source, near, folder, options, dtype, _replaced(travelling))
    for file in travelling:
        if not os.path.lexists(Path(folder, file.name)):
            copy_companion(file, folder)
    if verify:
        written = fp.open_checkpoint(folder, variant=variant, framework=_FRAMEWORK[format])
        _compare(leaves, _written_leaves(whole, written))
    return sum(leaf.nbytes for leaf in leaves.values())


def _replaced(travelling: Sequence[FolderFile]) -> Beside:
    """Returns what a save replaces, to be copied as part of it: the source may be replaced."""

    def copy(place: Path) -> None:
        for file in travelling:
            if file.name == GENERATION_CONFIG_NAME:
                copy_companion(file, place)

    return Beside(copy)


def _opened(
    name_or_path: str | os.PathLike,
    weights: Mapping[str, object] | None,
    drop: str | Sequence[str],
    progress: bool,
) -> tuple[fp.Source, str]:
    """Returns what is converted, and the folder that it lies in."""
    if not isinstance(weights, Mapping | None):
        raise TypeError(
            f'weights is {weights!r:.80}; expected a map, such as {{"variant": "fp16"}}'
        )
    location = fetched(resolve(name_or_path, HubOptions(progress=progress)), weights)
    if location.path.endswith(gguf.ENDING):
        raise fp.CheckpointError(
            f"{location.path}: a file of GGUF is not converted tensor by tensor; write model, "
            f"params = AutoModelForCausalLM.from_pretrained({quoted(location.path)}, "
            "dequantize=True), and save that"
        )
    return without(location.open(**(weights or {})), drop), location.folder


_FRAMEWORK = {"safetensors": None, "msgpack": "flax", "orbax": "flax"}


def _cast(leaves: Sequence[LeafPlan], dtype: Dtypes) -> dict[str, LeafPlan]:
    """Returns leaves by path, cast as `convert` says; never narrowed as JAX would."""
    return {
        leaf.path: dataclasses.replace(leaf, dtype=dtype_for(dtype, leaf.path, leaf.stored))
        for leaf in leaves
    }


def _account(near: str, source: fp.Source, format: str) -> Account | None:
    """Finds out what becomes of each tensor in the model that a folder describes; None where the
    tensors keep their names, because nothing is known of them."""
    keeps_names = WriteOptions(format=format).names == source.layout
    if not os.path.lexists(os.path.join(near, CONFIG_NAME)):
        if not keeps_names:
            raise fp.CheckpointError(
                f"{source.where}: no {CONFIG_NAME} beside it, so it is not known what {format} "
                "calls its tensors; put the model's there"
            )
        return None
    values = read_json(os.path.join(near, CONFIG_NAME))
    try:
        whole = accounts(near, source)
    except ConfigError as error:
        if not keeps_names or registration.is_known(values.get("model_type")):
            raise
        warn(f"{error}; its tensors keep their names, and {CONFIG_NAME} is copied")
        return None
    if values.get(QUANTISED):
        raise fp.CheckpointError(
            f"{source.where}: its weights are quantised, and those are not converted file by file; "
            "load them and save them: model, params = fm.AutoModelForCausalLM.from_pretrained("
            f"folder); model.save_pretrained(params, other, format={format!r})"
        )
    if whole.buffers:
        warn(
            f"{source.where}: not converted, buffers that follow from the configuration, or layers "
            f"that the model does not have: {some(map(quoted, whole.buffers))}"
        )
    return whole


def _write(
    whole: Account | None,
    source: fp.Source,
    near: str,
    folder: str | os.PathLike,
    options: SaveOptions,
    dtype: Dtypes,
    beside: Beside,
) -> dict[str, LeafPlan]:
    """Writes the tensors of a source; returns what was written, by path."""
    if source.passed_over:
        warn(
            f"{source.where}: not converted, the state of a training: "
            f"{some(map(quoted, source.passed_over))}"
        )
    leaves = _cast(_plain_leaves(source) if whole is None else whole.leaves, dtype)
    check_patterns("dtype", dtype, leaves)
    if whole is None:
        _write_plain(source, near, folder, leaves, options, beside)
        return leaves
    # The pooler of a backbone and its like may be missing.
    if len(leaves) < len(fp.flatten(whole.model.abstract_params())):
        options = dataclasses.replace(options, select=True)
    save(whole.model, fp.unflatten(leaves), folder, options, beside)
    return leaves


def _plain_leaves(source: fp.Source) -> Sequence[LeafPlan]:
    return make_plan(identity_match(source), dict(source.tensors)).leaves


def _write_plain(
    source: fp.Source,
    near: str,
    folder: str | os.PathLike,
    leaves: Mapping[str, LeafPlan],
    options: SaveOptions,
    beside: Beside,
) -> None:
    """Writes tensors under their own names, and copies the configuration."""
    try:
        tree = leaves if options.format == "safetensors" else fp.unflatten(leaves)
    except ValueError as error:
        raise fp.CheckpointError(
            f"{source.where}: {error}: such names cannot be those of a tree, which "
            f"{options.format} holds"
        ) from None
    with staging(folder, options.variant) as place:
        written = options.of_weights(layout=PATHS, tag=place.tag)
        write_checkpoint(place.path, tree, tree, options=written, progress=options.progress)
        if os.path.lexists(os.path.join(near, CONFIG_NAME)):
            (place.path / CONFIG_NAME).write_text(_config(near, leaves), encoding="utf-8")
        beside.write(place.path)
        if options.checksums:
            write_checksums(place.path)


def _config(near: str, leaves: Mapping[str, LeafPlan]) -> str:
    """Returns the configuration of a family that is not known, with the dtype of the result, and
    without what names code or is no JSON."""
    path = os.path.join(near, CONFIG_NAME)
    values, code = without_code(read_json(path))
    if code:
        warn(f"{path}: {some(code)}: names code, and is left out of the copy")
    if odd := [name for name in values if not is_finite(values[name])]:
        warn(
            f"{path}: {some(map(quoted, odd))}: Infinity or NaN, which is no JSON, and is "
            "left out of the copy"
        )
    values = {name: value for name, value in values.items() if name not in odd}
    dtypes = {str(leaf.dtype) for leaf in leaves.values() if leaf.dtype.kind not in "iub"}
    for name in ("dtype", "torch_dtype"):
        if name in values and len(dtypes) == 1:
            values[name] = min(dtypes)
    return text_of(values)


def _written_leaves(whole: Account | None, written: fp.Source) -> dict[str, LeafPlan]:
    """Returns the leaves that a reader finds in the result, by path."""
    if whole is None:
        return _cast(_plain_leaves(written), "auto")
    again = account(whole.model, written)
    if again.left or again.missing:
        raise fp.CheckpointError(
            f"{written.where}: {some([*again.left, *again.missing])}: not what was to be written"
        )
    return _cast(again.leaves, "auto")


def _compare(leaves: Mapping[str, LeafPlan], written: Mapping[str, LeafPlan]) -> None:
    """Raises unless the result has the leaves of the source, and no others, bit for bit."""
    if odd := sorted(leaves.keys() ^ written.keys()):
        raise fp.CheckpointError(f"{some(odd)}: in the source or the result, and not in both")
    for path, leaf in leaves.items():
        expected, found = _digest(leaf), _digest(written[path])
        if expected != found:
            tensor = written[path].pieces[0].tensor
            file = tensor.spans[0].file.path if tensor.spans else path
            raise fp.CheckpointError(
                f"{file}: {quoted(tensor.name)} has sha256 {found}, its source {expected}: it "
                "was not written as it was read; check the disk and the memory of this machine"
            )


def _digest(leaf: LeafPlan) -> str:
    digest = hashlib.sha256(f"{leaf.dtype} {tuple(leaf.shape)} ".encode())
    digest.update(bytes_of(leaf.read()).data)
    return digest.hexdigest()


def _checked_companions(folder: str) -> list[FolderFile]:
    """Lists the files that come along, all of which may be copied. The configurations are written
    anew, with the content of the old ones."""
    files = companions(folder)
    for file in (*files, FolderFile(folder, CONFIG_NAME)):
        if os.path.lexists(file.path):
            file.check()
    return files

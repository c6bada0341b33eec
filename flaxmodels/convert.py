"""Converting: a checkpoint of one format -> the same of another, one tensor in memory at a time."""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from . import params as fp
from .auto import architecture
from .config import CONFIG_NAME
from .hub import companions, fetched, resolve
from .planning import build, plan_load
from .saving import save, staging


def convert(
    name_or_path: str | os.PathLike,
    folder: str | os.PathLike,
    *,
    format: str = "safetensors",
    dtype: Any = "auto",
    max_shard_size: int | str = "5GB",
    variant: str | None = None,
    checksums: bool = False,
    verify: bool = True,
    progress: bool = True,
    how: dict[str, Any] | None = None,
) -> int:
    """Writes the checkpoint at `name_or_path` into `folder` in another format -> bytes of weights.

    With a `config.json` the tensors get the names and layouts that the format's readers expect.
    Without one they keep their names, which only works where both formats use the same.

    Args:
        name_or_path: a folder, a weights file, or a repository, as `from_pretrained` takes it.
        format: "safetensors", "msgpack" or "orbax".
        dtype: what the tensors are cast to: "auto" (as stored), a dtype, or {pattern: dtype}.
        max_shard_size, checksums: as `save_pretrained`.
        variant: to write; which one to read is said in `how`.
        verify: read back what was written and compare the sha256 of each tensor with the source's.
        how: which weights to read, as `fp.open_checkpoint` takes it.

    Raises:
        fp.CheckpointError: a source that cannot be read, or that what was written is not it.
    """
    found = fetched(resolve(name_or_path, progress=progress), how)
    source, near = found.open(**(how or {})), found.folder
    along = _companions(near)
    options = {
        "format": format,
        "max_shard_size": max_shard_size,
        "variant": variant,
        "progress": progress,
    }
    if os.path.exists(os.path.join(near, CONFIG_NAME)):
        model = build(architecture(near), near)
        template, naming = model.abstract_params(), model.naming
        layout = fp.layout_for(format)
        params = _lazy(plan_load(model, source, param_dtype=dtype))
        save(model, params, folder, checksums=checksums, **options)
    else:
        template, naming = fp.unflatten(source.tensors), fp.Naming()
        layout = fp.PATHS
        if fp.layout_for(format) != source.layout:
            raise fp.CheckpointError(
                f"{source.where}: no {CONFIG_NAME} beside it, so it is not known what {format} "
                "calls its tensors; put the model's there"
            )
        params = _lazy(fp.make_plan(fp.as_it_is(source), template, dtype=dtype))
        with staging(folder, variant) as place:
            fp.write_checkpoint(
                place.path, params, template, layout=layout, tag=place.tag, **options
            )
            if checksums:
                fp.write_checksums(place.path)
    for file in along:
        if not os.path.lexists(Path(folder, file.name)):  # what is there stays
            file.copy(folder)
    made = fp.entries(params, template, naming, layout)
    if verify:
        _compare(made, fp.open_checkpoint(folder, variant=variant, framework=_FRAMEWORK[format]))
    return sum(entry.nbytes for entry in made)


_FRAMEWORK = {"safetensors": None, "msgpack": "flax", "orbax": "flax"}


class StoredLeaf:
    """A leaf that is still in its files."""

    def __init__(self, plan: fp.LeafPlan):
        self.plan = plan
        self.shape = plan.shape
        self.dtype = plan.dtype

    def read(self) -> np.ndarray:
        """The leaf in host memory; a view of what is in the file where no cast is needed."""
        if len(self.plan.pieces) == 1 and not self.plan.pieces[0].index:
            return self._read(self.plan.pieces[0])
        leaf = np.empty(self.shape, self.dtype)
        for piece in self.plan.pieces:
            leaf[piece.index] = self._read(piece)
        return leaf

    def _read(self, piece: fp.Piece) -> np.ndarray:
        return piece.tensor.read().transpose(piece.permutation).astype(self.dtype, copy=False)


def _lazy(plan: fp.LoadPlan) -> Any:
    return fp.unflatten({leaf.path: StoredLeaf(leaf) for leaf in plan.leaves})


def _compare(made: list[fp.Entry], written: fp.Source) -> None:
    for entry in made:
        expected, found = _digest(entry.read()), _digest(written[entry.name].read())
        if expected != found:
            raise fp.CheckpointError(
                f"{written.where}: {entry.name} has sha256 {found}, its source {expected}: it was "
                "not written as it was read; check the disk and the memory of this machine"
            )


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(fp.contiguous(array).reshape(-1).view(np.uint8).data).hexdigest()


def _companions(folder: str) -> list[fp.FolderFile]:
    """The files that come along, all of which may be copied. The configurations are written anew,
    with what the old ones say."""
    along = companions(folder)
    for file in (*along, fp.FolderFile(folder, CONFIG_NAME)):
        if os.path.lexists(file.path):
            file.check()
    return along

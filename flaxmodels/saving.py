"""Saving: config and weights into a folder; a save that fails leaves the folder as it was."""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from . import params as fp
from .config import CONFIG_NAME

if TYPE_CHECKING:
    from .base import PretrainedModel


def save(
    model: "PretrainedModel",
    params: Any,
    folder: str | os.PathLike,
    *,
    safe_serialization: bool = True,
    max_shard_size: int | str = "5GB",
    is_main_process: bool | None = None,
    progress: bool = True,
) -> None:
    """Writes `config.json` and weights, so that `from_pretrained` and Transformers can read them.

    Everything is written beside `folder` and moved in when it is whole; other files in the folder
    stay, weights of an earlier save go.

    Args:
        params: the model's tree, looped or stacked as the model is; sharded leaves are gathered
            one at a time.
        folder: made if absent.
        safe_serialization: safetensors under PyTorch names (opens in Transformers and vLLM); else
            flax msgpack under the names of old Flax checkpoints.
        max_shard_size: bytes, or a string such as "5GB"; a larger leaf is a file of its own.
        is_main_process: whether this process writes; process 0 does if None.

    Raises:
        fp.CheckpointError: params that are not this model's; nothing was written.
        OSError: the disk's own error; the folder is as it was.
    """
    if is_main_process is None:
        is_main_process = jax.process_index() == 0
    if not is_main_process:
        return
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder}: a file, expected a folder to save into")
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}.tmp-", dir=folder.parent))
    try:
        weights = fp.write_checkpoint(
            staging,
            params,
            model.abstract_params(),
            model.naming,
            safe_serialization=safe_serialization,
            max_shard_size=max_shard_size,
            progress=progress,
        )
        config = _written_config(model, params)
        (staging / CONFIG_NAME).write_text(config, encoding="utf-8")
        names = [CONFIG_NAME]
        if model.can_generate() and model.generation_config is not None:
            model.generation_config.save_pretrained(staging)
            names += [path.name for path in staging.glob("generation_config.json")]
        _publish(staging, folder, [*weights[:-1], *names, weights[-1]])
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _written_config(model: "PretrainedModel", params: Any) -> str:
    dtypes = {str(leaf.dtype) for leaf in jax.tree.leaves(params)}
    values = model.config.to_dict() | {"architectures": [type(model).__name__]}
    values.pop("torch_dtype", None)
    values.pop("dtype", None)
    if len(dtypes) == 1:
        (dtype,) = dtypes
        values |= {"dtype": dtype, "torch_dtype": dtype}  # Transformers 5 and 4
    return json.dumps(values, indent=2, sort_keys=True) + "\n"


def _publish(staging: Path, folder: Path, names: list[str]) -> None:
    """Moves the files in, the one that makes them a checkpoint last, then removes stale weights."""
    if not folder.exists():
        staging.chmod(0o777 & ~_umask())
        staging.rename(folder)
        return
    for name in names:
        os.replace(staging / name, folder / name)
    for path in folder.iterdir():
        is_weights = path.name.startswith(("model", "flax_model")) and path.name.endswith(
            (".safetensors", ".msgpack", ".safetensors.index.json", ".msgpack.index.json")
        )
        if is_weights and path.name not in names:
            path.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

"""The Hub: from the name of a repository to a folder."""

import os
from typing import Any

from . import params as fp
from .params import CheckpointError

_SMALL = ("config.json", "generation_config.json", "tokenizer*", "vocab*", "merges.txt", "special*")


def bundled_checkpoint(*, msgpack: bool = False) -> str:
    """The folder of the small byte-level Llama that comes with the package, as sharded safetensors
    or as sharded msgpack; its tokens are the bytes of a text."""
    name = "tiny-llama-msgpack" if msgpack else "tiny-llama"
    return os.path.join(os.path.dirname(__file__), "checkpoints", name)


def resolve(
    name_or_path: str | os.PathLike,
    *,
    subfolder: str = "",
    revision: str = "main",
    token: str | bool | None = None,
    cache_dir: str | os.PathLike | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
    weights: bool = True,
    **how: Any,
) -> str:
    """The folder (or file) that holds a checkpoint: itself, or the local copy of a repository's.

    Only the configuration and one format's weights are downloaded, all from one commit.

    Args:
        force_download: fetch again what is in the cache.
        weights: whether they are wanted.
        **how: which weights, as `fp.open_checkpoint`.

    Raises:
        CheckpointError: neither a folder nor a repository that can be reached.
    """
    path = os.path.join(os.fspath(name_or_path), subfolder) if subfolder else name_or_path
    path = os.fspath(path)
    if os.path.exists(path) or os.path.exists(f"{path}.index"):  # of a TensorFlow checkpoint
        return path
    if "://" in path:
        raise CheckpointError(f"{path}: an address; download it, and give the file")
    name = os.fspath(name_or_path)
    if os.path.exists(name) or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise CheckpointError(f"{path}: no such folder or file")
    import huggingface_hub as hub
    from huggingface_hub import constants

    common = {"revision": revision, "token": token, "cache_dir": cache_dir}
    common["force_download"] = force_download
    try:
        if local_files_only or constants.HF_HUB_OFFLINE:
            root = hub.snapshot_download(name, local_files_only=True, **common)
        else:
            info = hub.HfApi(token=token).model_info(name, revision=revision)
            common["revision"] = info.sha or revision
            files = [file.rfilename for file in info.siblings or []]
            inside = f"{subfolder}/" if subfolder else ""
            found = _weights(files, inside, **how) if weights else []
            wanted = [inside + pattern for pattern in (*_SMALL, *found)]
            root = hub.snapshot_download(name, allow_patterns=wanted, **common)
    except Exception as error:  # the client's transport raises errors of its own, of no common base
        raise CheckpointError(
            f"{name}: no such folder, and not to be had from the Hub: {error}"
        ) from error
    return os.path.join(root, subfolder) if subfolder else root


def commit_of(folder: str) -> str | None:
    """The commit that a folder of the Hub's cache is a copy of."""
    names = os.path.abspath(folder).split(os.sep)
    return names[names.index("snapshots") + 1] if "snapshots" in names[:-1] else None


def _weights(files: list[str], inside: str, weights_only: bool = True, **how: Any) -> list[str]:
    """Patterns of the weights to download: of the first format that the repository has."""
    for name, format in fp.heads(**how).items():
        if format.is_folder and any(file.startswith(f"{inside}{name}/") for file in files):
            return [f"{name}/*"]
        if inside + name in files:
            many = name.endswith((".json", ".index"))  # of shards, or of TensorFlow's data files
            return [f"{name.partition('.')[0]}*"] if many else [name]
    return []

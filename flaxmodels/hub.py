"""The Hub: from the name of a repository to a folder."""

import os

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
    use_safetensors: bool | None = None,
) -> str:
    """The folder that holds a checkpoint: itself, or the local copy of a repository's files.

    Only the configuration and one format's weights are downloaded, all from one commit.

    Raises:
        CheckpointError: neither a folder nor a repository that can be reached.
    """
    path = os.path.join(os.fspath(name_or_path), subfolder) if subfolder else name_or_path
    path = os.fspath(path)
    if os.path.isdir(path):
        return path
    name = os.fspath(name_or_path)
    if os.path.exists(name) or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise CheckpointError(f"{path}: no such folder")
    import huggingface_hub as hub
    from huggingface_hub import constants

    common = {"revision": revision, "token": token, "cache_dir": cache_dir}
    try:
        if local_files_only or constants.HF_HUB_OFFLINE:
            root = hub.snapshot_download(name, local_files_only=True, **common)
        else:
            info = hub.HfApi(token=token).model_info(name, revision=revision)
            common["revision"] = info.sha or revision
            files = [file.rfilename for file in info.siblings or []]
            inside = f"{subfolder}/" if subfolder else ""
            wanted = [inside + pattern for pattern in (*_SMALL, *_weights(files, use_safetensors))]
            root = hub.snapshot_download(name, allow_patterns=wanted, **common)
    except Exception as error:  # the client's transport raises errors of its own, of no common base
        raise CheckpointError(
            f"{name}: no such folder, and not to be had from the Hub: {error}"
        ) from error
    return os.path.join(root, subfolder) if subfolder else root


def _weights(files: list[str], use_safetensors: bool | None) -> tuple[str, ...]:
    """Patterns of the weights to download, of one format."""
    safe = any(
        os.path.basename(file).startswith("model") and ".safetensors" in file for file in files
    )
    if use_safetensors or (safe and use_safetensors is None):
        return ("model*.safetensors", "model.safetensors.index.json")
    return ("flax_model*.msgpack", "flax_model.msgpack.index.json")

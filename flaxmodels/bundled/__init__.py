"""The checkpoint that comes with the package."""

import os


def bundled_checkpoint(*, msgpack: bool = False) -> str:
    """Returns the folder of the small byte-level Llama that comes with the package, as sharded
    safetensors or as sharded msgpack; its tokens are the bytes of a text.

    Raises:
        FileNotFoundError: flaxmodels was imported from a zip, where there are no folders.
    """
    name = "tiny-llama-msgpack" if msgpack else "tiny-llama"
    folder = os.path.join(os.path.dirname(__file__), name)
    if not os.path.isdir(folder):
        raise FileNotFoundError(
            f"{folder}: no such folder; weights are read from a disk, and flaxmodels was imported "
            "from a zip or without its checkpoints: unpack it, or install it with pip"
        )
    return folder

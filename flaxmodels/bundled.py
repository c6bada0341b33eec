"""The checkpoint that comes with the package."""

import os


def bundled_checkpoint(*, msgpack: bool = False) -> str:
    """The folder of the small byte-level Llama that comes with the package, as sharded safetensors
    or as sharded msgpack; its tokens are the bytes of a text."""
    name = "tiny-llama-msgpack" if msgpack else "tiny-llama"
    return os.path.join(os.path.dirname(__file__), "checkpoints", name)

"""Folders of sentence-transformers, put together of the goldens that it wrote."""

import json
import shutil

from _paths import GOLDENS
from _weights import weights
from safetensors.numpy import load_file, save_file

GOLDEN = json.loads((GOLDENS / "embeddings" / "embeddings.json").read_text())
ARRAYS = load_file(GOLDENS / "embeddings" / "embeddings.safetensors")


def write(folder, entry, tokenizer, settings=None):
    """Writes an encoder as sentence-transformers saved it, its weights drawn by their rule."""
    for name, values in entry["files"].items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(values))
    for place, shapes in entry["tensors"].items():
        start = "" if place == "." else f"{place}."
        drawn = weights({start + name: shape for name, shape in shapes.items()})
        tensors = {name: drawn[start + name] for name in shapes}
        save_file(tensors, folder / place / "model.safetensors")
    for path in (GOLDENS / "tokenizers" / tokenizer).glob("tokenizer*.json"):
        shutil.copy(path, folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | (settings or {})))
    return folder

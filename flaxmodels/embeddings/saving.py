"""Saving: the files of sentence-transformers beside a model's."""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from .. import params as fp
from ..checkpoints.options import SaveKeywords
from ..core.model import Model
from ..hub import copy_companion, tokenizer_files
from ..hub.companions import is_tokenizer_file
from ..params.host.durable import sync, sync_folder
from ..params.save.write import write_checkpoint
from ..text import Tokenizer
from .embedder import MODEL, Embedder
from .folder import MODULES, OLD_MODES
from .layers import Dense, Layer, LayerNorm, activation_class
from .pooling import Pooling

_PACKAGE = "sentence_transformers.models"
Tree = dict[str, Any]


def save_encoder(
    embedder: Embedder,
    params: fp.Params,
    folder: Path,
    files: Mapping[str, Any],
    tokenizer: Tokenizer,
    options: SaveKeywords,
) -> None:
    """Writes an encoder; see `SentenceEncoder.save_pretrained`.

    Args:
        files: {name: content} of JSON files beside those of the modules.
    """
    layers = dict(embedder.layers)
    leaves = {name: params.get(name, {}) for name in layers}
    for name, layer in layers.items():
        _check_leaves(name, layer, leaves[name])
    embedder.model.save_pretrained(params[MODEL], folder, **options)
    if jax.process_index() != 0:
        return
    paths = ["", "1_Pooling", *layers]
    kinds = ["Transformer", "Pooling", *(type(layer).__name__ for layer in layers.values())]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"{_PACKAGE}.{kind}"}
        for i, (path, kind) in enumerate(zip(paths, kinds, strict=True))
    ]
    described = {name: layer for name, layer in layers.items() if leaves[name]}
    written: dict[str, Any] = {
        **{f"{name}/config.json": _layer_values(layer) for name, layer in described.items()},
        "1_Pooling/config.json": _pooling_values(embedder.pooling, embedder.model),
        **files,
        MODULES: modules,  # last: by it a reader finds the others
    }
    weights = {name: _tensors(layer, leaves[name]) for name, layer in described.items()}
    write_beside(folder, written, weights, tokenizer)


def write_beside(
    folder: Path,
    files: Mapping[str, Any],
    weights: Mapping[str, Tree],
    tokenizer: Tokenizer,
) -> None:
    """Writes JSON files, in their order, weights and a tokenizer's files into a folder of a model.
    Each takes its place by one step when all are on the disk.

    Args:
        weights: {folder: tree of tensors under the names that they have in the file}.

    Raises:
        CheckpointError: the disk's own error.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=".saving-", dir=folder) as made:
            staging = Path(made)
            for name, tree in weights.items():
                (staging / name).mkdir(parents=True)
                write_checkpoint(staging / name, tree, tree, progress=False)
            if tokenizer.folder:
                for file in tokenizer_files(tokenizer.folder):
                    if is_tokenizer_file(file.name) and not file.name[0].isdigit():
                        copy_companion(file, staging)
            for name, values in files.items():
                (staging / name).parent.mkdir(parents=True, exist_ok=True)
                (staging / name).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
            sync(staging)
            found = {str(path.relative_to(staging)) for path in staging.rglob("*")}
            found = {name for name in found if (staging / name).is_file()}
            for name in [*sorted(found - files.keys()), *files]:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(staging / name, folder / name)
        sync_folder(folder)
    except OSError as error:
        raise fp.CheckpointError(f"{error.filename or folder}: {error.strerror}") from error


def text_values(max_length: int | None, tokenizer: Tokenizer) -> dict[str, Any]:
    """Returns the content of `sentence_bert_config.json`."""
    return {"max_seq_length": max_length, "do_lower_case": tokenizer.is_lowercasing}


def _pooling_values(pooling: Pooling, model: Model) -> dict[str, Any]:
    width = {"word_embedding_dimension": model.config.hidden_size}
    prompt = {"include_prompt": pooling.include_prompt}
    ordered = tuple(mode for mode in OLD_MODES.values() if mode in pooling.modes)
    if ordered != pooling.modes:  # flags, which every version reads, have no order
        return width | {"pooling_mode": list(pooling.modes)} | prompt
    return width | {flag: mode in pooling.modes for flag, mode in OLD_MODES.items()} | prompt


def _layer_values(layer: Layer) -> dict[str, Any]:
    if isinstance(layer, LayerNorm):
        return {"dimension": layer.features}
    assert isinstance(layer, Dense)
    return {
        "in_features": layer.in_features,
        "out_features": layer.out_features,
        "bias": layer.use_bias,
        "activation_function": activation_class(layer.act),
    }


def _tensors(layer: Layer, leaves: Mapping[str, Any]) -> Tree:
    """Returns the tensors as PyTorch has them; `write_checkpoint` transposes kernels."""
    module = "norm" if isinstance(layer, LayerNorm) else "linear"
    return {module: {name: np.asarray(leaf) for name, leaf in leaves.items()}}


def _check_leaves(name: str, layer: Layer, leaves: Mapping[str, Any]) -> None:
    shapes = getattr(layer, "shapes", {})
    found = {leaf: np.shape(x) for leaf, x in leaves.items()}
    if found != shapes:
        raise fp.CheckpointError(f"params of {name} are {found}; this encoder has {shapes}")

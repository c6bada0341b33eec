"""Saving: the files of sentence-transformers beside a model's."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .. import params as fp
from ..calls.signature import value_of
from ..checkpoints.save import Beside, save
from ..checkpoints.save_options import SaveOptions
from ..core.model import Model
from ..documents.json_values import Json
from ..hub import copy_companion, tokenizer_files
from ..hub.companions import is_tokenizer_file
from ..params.save.write import write_checkpoint
from ..text import Tokenizer
from .embedder import MODEL, Embedder
from .folder import BERT_CONFIG, MODULES, OLD_MODES, SETTINGS
from .layers import Dense, Layer, LayerNorm, activation_class
from .pooling import Pooling

_PACKAGE = "sentence_transformers.models"
_FOLDER = re.compile(r"[0-9]+_(Pooling|Dense|LayerNorm|Normalize|Dropout)")
Tree = dict[str, Json]


def save_encoder(
    embedder: Embedder,
    params: fp.Params,
    folder: str | os.PathLike,
    files: Mapping[str, object],
    tokenizer: Tokenizer,
    options: Mapping[str, object],
) -> None:
    """Writes an encoder; see `SentenceEncoder.save_pretrained`.

    Args:
        files: {name: content} of JSON files beside those of the modules.
    """
    layers = dict(embedder.layers)
    leaves = {name: params.get(name, {}) for name in layers}
    for name, layer in layers.items():
        shapes = getattr(layer, "shapes", {})
        found = {leaf: np.shape(x) for leaf, x in leaves[name].items()}
        if found != shapes:
            raise fp.CheckpointError(f"params of {name} are {found}; this encoder has {shapes}")
    paths = ["", "1_Pooling", *layers]
    kinds = ["Transformer", "Pooling", *(type(layer).__name__ for layer in layers.values())]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"{_PACKAGE}.{kind}"}
        for i, (path, kind) in enumerate(zip(paths, kinds, strict=True))
    ]
    described = {name: layer for name, layer in layers.items() if leaves[name]}
    written: dict[str, Json] = {
        MODULES: modules,
        "1_Pooling/config.json": _pooling_values(embedder.pooling, embedder.model),
        **{f"{name}/config.json": _layer_values(layer) for name, layer in described.items()},
        **files,
    }
    weights = {name: _tensors(layer, leaves[name]) for name, layer in described.items()}
    save_with(embedder.model, params[MODEL], folder, written, weights, tokenizer, options)


def save_with(
    model: Model,
    params: fp.Params,
    folder: str | os.PathLike,
    files: Mapping[str, object],
    weights: Mapping[str, Tree],
    tokenizer: Tokenizer,
    options: Mapping[str, object],
) -> None:
    """Saves a model with JSON files, more weights and a tokenizer's files as one checkpoint.

    Args:
        files: {name: content}.
        weights: {folder: tree of tensors under the names that they have in the file}.
        options: of the model's `save_pretrained`; the files of `tokenizer_from` come instead of
            the tokenizer's own.

    Raises:
        CheckpointError: params that are not the model's, or the disk's own error; the folder is
            unchanged.
    """
    how = value_of(SaveOptions, options, "save_pretrained")
    has_tokenizer = how.tokenizer_from is not None or bool(tokenizer.folder)

    def write(place: Path) -> None:
        try:
            for name, tree in weights.items():
                (place / name).mkdir(parents=True)
                write_checkpoint(place / name, tree, tree, progress=False)
            for name, values in files.items():
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                (place / name).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise fp.CheckpointError(f"{error.filename or place}: {error.strerror}") from error
        if tokenizer.folder and how.tokenizer_from is None:
            for file in tokenizer_files(tokenizer.folder):
                if is_tokenizer_file(file.name) and not file.name[0].isdigit():
                    copy_companion(file, place)

    save(model, params, folder, how, Beside(write, _written_before(folder, has_tokenizer)))


def _written_before(folder: str | os.PathLike, has_tokenizer: bool) -> frozenset[str]:
    """Lists what an earlier save of an encoder wrote into a folder, beside the model.

    Args:
        has_tokenizer: whether this save brings one; the old one stays if not.
    """
    try:
        entries = list(os.scandir(folder))
    except (OSError, ValueError):  # not there yet, or the save says why not
        return frozenset()
    found = {entry.name for entry in entries if entry.is_dir() and _FOLDER.fullmatch(entry.name)}
    for entry in entries:
        is_ours = entry.name in (MODULES, SETTINGS, BERT_CONFIG)
        if entry.is_file() and (is_ours or has_tokenizer and is_tokenizer_file(entry.name)):
            found.add(entry.name)
    return frozenset(found)


def text_values(max_length: int | None, tokenizer: Tokenizer) -> dict[str, Json]:
    """Returns the content of `sentence_bert_config.json`."""
    return {"max_seq_length": max_length, "do_lower_case": tokenizer.is_lowercasing}


def _pooling_values(pooling: Pooling, model: Model) -> dict[str, Json]:
    width = {"word_embedding_dimension": model.config.hidden_size}
    prompt = {"include_prompt": pooling.include_prompt}
    ordered = tuple(mode for mode in OLD_MODES.values() if mode in pooling.modes)
    if ordered != pooling.modes:  # flags, which every version reads, have no order
        return width | {"pooling_mode": list(pooling.modes)} | prompt
    return width | {flag: mode in pooling.modes for flag, mode in OLD_MODES.items()} | prompt


def _layer_values(layer: Layer) -> dict[str, Json]:
    if isinstance(layer, LayerNorm):
        return {"dimension": layer.features}
    assert isinstance(layer, Dense)
    return {
        "in_features": layer.in_features,
        "out_features": layer.out_features,
        "bias": layer.use_bias,
        "activation_function": activation_class(layer.act),
    }


def _tensors(layer: Layer, leaves: Mapping[str, object]) -> Tree:
    """Returns the tensors as PyTorch has them; `write_checkpoint` transposes kernels."""
    module = "norm" if isinstance(layer, LayerNorm) else "linear"
    return {module: {name: np.asarray(leaf) for name, leaf in leaves.items()}}

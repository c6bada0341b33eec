"""Diagnosis: what a folder or a file is that holds no checkpoint of the kinds that are read here,
and what to do with it. Errors would otherwise say only what is missing."""

import os
import re
from collections.abc import Sequence

from ..errors import CheckpointError, quoted, some
from .files import LocalFile
from .orbax import layout
from .registry import (
    BERT_CHECKPOINT,
    FORMATS,
    GGUF,
    TF_CHECKPOINT,
    format_of,
    is_weights_file,
    main_files,
)
from .store import LOCAL, Store

_ADAPTER = "adapter_config.json"
_OTHERS = {  # how a file's name ends: what it is, and what to do
    ending: text
    for endings, text in {
        ".ggml": "GGML, which came before GGUF: load the repository that it was made of",
        ".onnx": "ONNX, a graph for inference: load the checkpoint that it was exported from",
        ".tflite": "TensorFlow Lite, for inference: load the checkpoint that it was exported from",
        ".mlmodel .mlpackage": "Core ML, for inference: load the checkpoint that it was exported "
        "from",
        ".mar": "a TorchServe archive: unpack it (it is a zip) and load the weights in it",
        ".nemo": "a NeMo archive: export it to Hugging Face's layout with NeMo first",
        ".ckpt": "a PyTorch checkpoint of Lightning or its like: rename it to .pt, and load it as "
        "a file with config= and weights_only=False",
        ".keras": "a Keras 3 archive: save the model's weights as tf_model.h5 with Transformers",
        ".pb": "a TensorFlow SavedModel: load the checkpoint that it was exported from",
        ".npz .npy": "NumPy arrays: load them with np.load and pass them as state_dict=",
        ".pkl .pickle .joblib": "a pickle, which may run code and is not read: save arrays as "
        "safetensors",
        ".ot": "weights for Rust: load the repository's safetensors or pytorch_model.bin",
        ".pdparams": "PaddlePaddle's: convert it to safetensors first",
        ".engine": "a TensorRT engine: load the checkpoint that it was built from",
        ".zip .tar .tgz": "an archive: unpack it first",
        ".gz .zst": "compressed: unpack it first",
    }.items()
    for ending in endings.split()
}
_STARTS = {  # the first bytes of a file of any name
    b"GGUF": "GGUF, of llama.cpp: give it a name that ends in .gguf",
    b"\x89HDF\r\n\x1a\n": "HDF5: call it tf_model.h5",
    b"PK\x03\x04": "a zip archive: of PyTorch, call it pytorch_model.bin; else unpack it first",
    b"\x1f\x8b": "compressed (gzip): unpack it first",
    b"\x28\xb5\x2f\xfd": "compressed (zstd): unpack it first",
    b"\x80\x02": "a pickle: of PyTorch, call it pytorch_model.bin",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself: run git lfs pull",
}
_QUANTISED = (
    "quantize_config.json says that it is quantised, by a tool of old: put what it says into "
    "config.json, as quantization_config with a quant_method, and name the weights file itself"
)
_LAYOUTS = {  # a file that gives a layout away: what it is, and what to do
    "model_index.json": "this is a pipeline of diffusers: give subfolder= of one of its "
    "parts{parts}",
    "modules.json": "this is a model of sentence-transformers: give subfolder= of its "
    "weights{parts}",
    "quantize_config.json": _QUANTISED,
    "quant_config.json": _QUANTISED,
    "bert_config.json": "bert_config.json is the configuration of Google's own download: give it "
    "as config= ({path}) to the class itself, such as BertForPreTraining",
    "saved_model.pb": f"this is {_OTHERS['.pb']}",
}
_STEP = re.compile(r"checkpoint[-_][0-9]+")  # of Transformers, of Flax
_SHARD = re.compile(r"-\d{5}-of-(?!00001)\d{5}\.")
_PARTS = re.compile(r"(?P<stem>[^.]+)\.(?P<variant>[\w-]+?)(-\d{5}-of-\d{5})?\.(?P<ending>\w+)")


def of_folder(folder: str, store: Store = LOCAL) -> str:
    """Makes the sentence about a folder; "" if nothing is known of it."""
    try:
        names = store.names(folder)
    except CheckpointError:
        return ""
    found = _known(folder, {*names}, store) or _variants(names) or _left_out(names)
    return found or _apart(folder, names, store) or _files(names)


def without_config(folder: str, store: Store = LOCAL) -> str:
    """Makes the sentence about a folder that has no `config.json`."""
    if not store.is_folder(folder):
        return "there is no such folder"
    try:
        names = store.names(folder)
    except CheckpointError:
        return "the folder cannot be read"
    if not names:
        return "the folder is empty"
    give = "give config= (a configuration, or the folder or repository of one)"
    if text := _known(folder, {*names}, store):
        return text
    if not main_files().keys().isdisjoint(names):
        return f"there are weights without their configuration: {give}"
    if layout.may_be(names) and store is LOCAL and layout.is_folder(folder):
        return f"this is a checkpoint of orbax, which keeps no configuration: {give}"
    text = _variants(names) or _apart(folder, names, store) or _files(names)
    return f"{text}; the folder holds {some(names)}" if text else f"the folder holds {some(names)}"


def of_file(path: str, store: Store = LOCAL) -> str:
    """Makes the sentence about a file whose name is of no format; "" if nothing is known of it."""
    name = os.path.basename(path)
    if text := _OTHERS.get(_ending(name)):
        return f"it is {text}"
    if store is not LOCAL or not os.path.isfile(path):
        return ""
    try:
        file = LocalFile(path)
        start = file.read(0, min(64, file.size))
    except CheckpointError:
        return ""
    found = (text for mark, text in _STARTS.items() if start.startswith(mark))
    if text := next(found, ""):
        return f"it is {text}"
    is_map = start[:1] in (b"\xde", b"\xdf") or b"\x81" <= start[:1] <= b"\x8f"
    return "if Flax wrote it, give it a name that ends in .msgpack" if is_map else ""


def of_shard(path: str) -> str:
    """Makes the sentence about a file that is one of several of a checkpoint, by its name; "" if it
    is none."""
    is_shard = _SHARD.search(os.path.basename(path))
    return "it is one shard of several: give their folder, or their .index.json" if is_shard else ""


def adapter(folder: str, store: Store = LOCAL) -> str:
    """Makes the sentence about an adapter that lies in a folder; "" if there is none."""
    path = os.path.join(folder, _ADAPTER)
    if not store.exists(path):
        return ""
    base = ""
    try:
        values = store.open(path, 1 << 20).json("the configuration of an adapter")
        if isinstance(values, dict) and isinstance(values.get("base_model_name_or_path"), str):
            base = f", made for {quoted(values['base_model_name_or_path'])}"
    except CheckpointError:
        pass
    return (
        f"{_ADAPTER} is that of an adapter (PEFT){base}: from_pretrained of a model puts it onto "
        "its base, and model.load_adapter onto params that are there"
    )


def _known(folder: str, names: set[str], store: Store) -> str:
    """Makes the sentence about a layout that a file or two give away."""
    originals = sorted(name for name in names if re.fullmatch(r"consolidated\..+", name))
    if originals or {"params.json", "tokenizer.model"} <= names:
        whose = "Mistral's" if any(n.endswith(".safetensors") for n in originals) else "Meta's"
        return (
            f"this is the layout of {whose} own download ({some(originals or ['params.json'], 2)}, "
            "params.json): load the repository itself, of which it is the folder 'original', or "
            "convert it with the script of Transformers for its family (convert_*_weights_to_hf.py)"
        )
    if _ADAPTER in names:
        return adapter(folder, store)
    if {"blobs", "snapshots"} <= names:
        return (
            "this is what the Hub's cache has of a repository: give the repository's name, or one "
            f"of the folders in {quoted(os.path.join(folder, 'snapshots'))}"
        )
    for name, text in _LAYOUTS.items():
        if name in names:
            has = [n for n in sorted(names) if store.exists(os.path.join(folder, n, "config.json"))]
            parts = f" ({some(map(quoted, has), 5)})" if has else ""
            return text.format(parts=parts, path=quoted(os.path.join(folder, name)))
    return ""


def _variants(names: Sequence[str]) -> str:
    """Makes the sentence about weights that `variant=` would find."""
    found = set()
    for format in FORMATS:
        if format in (TF_CHECKPOINT, BERT_CHECKPOINT):
            continue
        index = re.compile(rf"{re.escape(format.file_name)}\.index\.([\w-]+)\.json")
        for name in names:
            parts = _PARTS.fullmatch(name)
            if parts and (parts["stem"], parts["ending"]) == (format.stem(), format.ending):
                found.add(parts["variant"])
            elif match := index.fullmatch(name):
                found.add(match[1])
    if not found:
        return ""
    return f"there are weights of a variant: give variant={some(map(quoted, sorted(found)), 3)}"


def _left_out(names: Sequence[str]) -> str:
    """Makes the sentence about a checkpoint under its usual name in a folder where what the caller
    asks for was not found."""
    there = [name for name in main_files() if name in names]
    if not there:
        return ""
    return (
        f"{some(map(quoted, there), 3)} is there, and is not what was asked for: leave out "
        "use_safetensors=, framework= or variant="
    )


def _apart(folder: str, names: Sequence[str], store: Store) -> str:
    """Makes the sentence about checkpoints in the folders of a folder."""
    steps = [name for name in names if _STEP.fullmatch(name)]
    if steps:
        last = max(steps, key=lambda name: (len(name), name))
        return (
            f"this is the folder of a training run: give {quoted(os.path.join(folder, last))}, or "
            f"subfolder={quoted(last)}"
        )
    for name in names[:50]:
        inside = os.path.join(folder, name)
        if store.is_folder(inside) and any(store.exists(f"{inside}/{n}") for n in main_files()):
            return f"a checkpoint is in the folder {quoted(name)}: give subfolder={quoted(name)}"
    return ""


def _files(names: Sequence[str]) -> str:
    """Makes the sentence about weights under names of their own, or of formats that are not
    read."""
    own = [name for name in names if is_weights_file(name)]
    if own and all(format_of(name) is GGUF for name in own):
        return f"there are files of GGUF: give gguf_file={quoted(own[0])}"
    if shards := [name for name in own if of_shard(name)]:
        return f"{quoted(shards[0])} is a shard, and the .index.json of all is not here: get it too"
    if own:
        return (
            f"there are weights under other names: give the path of {quoted(own[0])}, and config="
        )
    tables = [name for name in names if re.search(r"\.data-\d{5}-of-\d{5}$", name)]
    if tables:
        return f"{quoted(tables[0])} is TensorFlow's, and the .index that belongs to it is not here"
    for name in names:
        if text := _OTHERS.get(_ending(name)):
            return f"{quoted(name)} is {text}"
    if "config.json" in names:
        return "there is a configuration and no weights"
    return ""


def _ending(name: str) -> str:
    return os.path.splitext(name.lower())[1]

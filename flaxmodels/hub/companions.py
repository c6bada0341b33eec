"""Companions: the one list of the files that travel with weights, of a tokenizer, of a processor,
of what comes after the model, and of licences."""

import os
import re
from fnmatch import fnmatchcase
from pathlib import Path

from .. import params as fp
from ..documents.json_files import MAX_CONFIG_BYTES
from ..documents.json_values import ConfigError
from ..documents.remote_code import content_without_code
from ..params.errors import some, warn
from ..params.formats import LOCAL, FolderFile, Reads, Store

_TOKENIZER = (
    "tokenizer*",
    "vocab*",
    "merges*",
    "special_tokens*",
    "added_tokens*",
    "spiece.*",
    "sentencepiece*",
    "*.spm",
    "spm.*",
    "bpe.*",
    "*.bpe",
    "*.tiktoken",
    "tekken.json",
    "encoder.json",
    "normalizer.json",
    "chat_template*",
    "preprocessor_config*",
    "processor_config*",
    "video_preprocessor_config*",
    "image_processor*",
    "feature_extractor*",
)
_OTHERS = (
    "generation_config*",
    "modules.json",  # of sentence-transformers, as the next two
    "sentence_*_config.json",
    "config_sentence_transformers.json",
    "license*",
    "licence*",
    "copying*",
    "notice*",
    "use_policy*",
)
# What Transformers looks into for code to run. Keys of a vocabulary are tokens, and no code.
_CONFIGURATIONS = ("*config*.json", "image_processor*.json", "feature_extractor*.json")
_CODE = ("*.py", "*.pyc", "*.so", "*.sh")
# Folders whose files come along. Old sentence-transformers keep the model in 0_Transformer.
_FOLDERS = re.compile(r"additional_chat_templates|[0-9]+_(?!Transformer$)[A-Za-z]\w*")
_DEEPEST = 4  # folders


def is_companion(name: str) -> bool:
    """Tells whether a file of this name in a folder of weights ("1_Pooling/config.json") travels
    with them."""
    top, _, inside = name.partition("/")
    if _is_one_of(_CODE, name):
        return False
    return bool(_FOLDERS.fullmatch(top)) if inside else _is_one_of(_TOKENIZER + _OTHERS, name)


def is_tokenizer_file(name: str) -> bool:
    """Tells whether a companion is a tokenizer's or a processor's."""
    return is_companion(name) and ("/" in name or _is_one_of(_TOKENIZER, name))


def companions(folder: str, store: Store = LOCAL) -> list[FolderFile]:
    """Lists the companions that a folder holds, once they are on the disk."""
    names: list[str] = []
    for name in store.names(folder):
        if _FOLDERS.fullmatch(name) and store.is_folder(f"{folder}/{name}"):
            names += filter(is_companion, _below(folder, name, store))
        elif is_companion(name) and not store.is_folder(f"{folder}/{name}"):
            names.append(name)
    found = [FolderFile(folder, name) for name in names]
    store.expect([file.path for file in found], Reads.PATH)
    return found


def copy_companion(file: FolderFile, folder: str | os.PathLike) -> Path:
    """Copies a companion into another folder, a configuration without the keys that name code, so
    that converting or saving hands on no stranger's code. One without such keys is copied
    byte for byte.

    Raises:
        CheckpointError: as `FolderFile.copy`; or a configuration that cannot be looked into.
    """
    if not is_configuration(file.name):
        return file.copy(folder)
    content, code = _looked_into(file)
    if code:
        warn(f"{file.path}: {some(code)}: names code, and is left out of the copy")
    return file.copy(folder, content)


def code_named(file: FolderFile) -> list[str]:
    """Lists the keys of a configuration that name code; none of any other file. Raises as
    `copy_companion`."""
    return _looked_into(file)[1] if is_configuration(file.name) else []


def is_configuration(name: str) -> bool:
    """Tells whether a file of this name is one that Transformers looks into for code."""
    return _is_one_of(_CONFIGURATIONS, name.rpartition("/")[2])


def _looked_into(file: FolderFile) -> tuple[bytes, list[str]]:
    try:
        return content_without_code(file.read(MAX_CONFIG_BYTES))
    except ConfigError as error:
        raise fp.CheckpointError(f"{file.path}: {error}") from None


def _below(folder: str, name: str, store: Store) -> list[str]:
    """Lists the files below `folder`/`name`, by their names in `folder`."""
    if not store.is_folder(f"{folder}/{name}"):
        return [name]
    if name.count("/") >= _DEEPEST:
        raise fp.CheckpointError(f"{folder}/{name}: more than {_DEEPEST} folders deep")
    inside = store.names(f"{folder}/{name}")
    return [file for part in inside for file in _below(folder, f"{name}/{part}", store)]


def _is_one_of(patterns: tuple[str, ...], name: str) -> bool:
    return any(fnmatchcase(name.lower(), pattern) for pattern in patterns)

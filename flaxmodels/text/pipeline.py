"""The pipeline of a tokenizer (normalise, split, look up, add special tokens) out of its files."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from .. import params as fp
from ..params.errors import quoted, some, warn
from .files import Files
from .language_mixin import find_languages, set_template
from .settings import Settings, Token
from .vocabularies.sentencepiece import NAMES, read_sentencepiece
from .vocabularies.translation import M2M_MODEL, SOURCE, TARGET, read_m2m, read_marian
from .vocabularies.translation import VOCAB as VOCABULARY
from .vocabularies.words_and_bytes import BYTES, MERGES, VOCAB, read_bytes, read_words

if TYPE_CHECKING:
    import tokenizers

    from .vocabularies.words_and_bytes import Read

WHOLE = "tokenizer.json"
_OTHERS = {  # files of tokenizers that are not read -> what would do
    "tekken.json": "convert it with mistral-common, or take tokenizer.json of a repository in "
    "Transformers' format",
    "tiktoken.model": "save_pretrained of Transformers writes tokenizer.json",
}


def check_library() -> None:
    """Raises `ImportError` where the library tokenizers is not installed."""
    if importlib.util.find_spec("tokenizers") is None:
        raise ImportError(
            "a tokenizer needs the library tokenizers, which is not installed: "
            "pip install flaxmodels[tokenizers]"
        )


@contextlib.contextmanager
def reading(path: str) -> Iterator[None]:
    """Turns what the library raises for a bad file into `CheckpointError`, panics of its Rust code
    among it."""
    try:
        yield
    except fp.CheckpointError:
        raise
    except BaseException as error:
        if not of_library(error):
            raise
        raise fp.CheckpointError(f"{path}: no tokenizer: {error}") from None


def of_library(error: BaseException) -> bool:
    """Tells whether the library may have raised an error: its own are plain Exceptions, and a panic
    of its Rust code is pyo3's PanicException, a BaseException."""
    if isinstance(error, Exception):
        return not isinstance(error, Warning)  # of ours, where warnings are errors
    return type(error).__name__ == "PanicException"


def read_pipeline(files: Files, settings: Settings) -> Read:
    """Reads the pipeline, and adds the tokens of `settings` -> (pipeline, settings, with what the
    vocabulary itself says).

    Raises:
        CheckpointError: files that are damaged, or of a kind that is not read, with what would do.
    """
    path, read = _reader(files)
    with reading(path):
        pipeline, settings = read(files, settings)
        pipeline.no_truncation()
        pipeline.no_padding()
        _add(pipeline, settings, path)
        pipeline.encode_special_tokens = settings.split_special_tokens
        if languages := find_languages(pipeline, settings):
            settings = dataclasses.replace(settings.with_all_named(), languages=languages)
            set_template(pipeline, settings)
    return pipeline, settings


def read_target(files: Files, settings: Settings) -> Read | None:
    """Reads the pipeline of what texts are to become, where it is another; raises as
    `read_pipeline`."""
    if WHOLE in files or TARGET not in files:
        return None
    with reading(files.path(TARGET)):
        pipeline, settings = read_marian(files, settings, TARGET)
        _add(pipeline, settings, files.path(TARGET))
    return pipeline, settings


def _reader(files: Files) -> tuple[str, Callable[[Files, Settings], Read]]:
    """Returns the file that has the vocabulary, and what reads it."""
    if WHOLE in files:
        return files.path(WHOLE), _whole
    if SOURCE in files:
        return files.path(SOURCE), read_marian
    if M2M_MODEL in files and VOCABULARY in files:
        return files.path(M2M_MODEL), read_m2m
    for name in NAMES:
        if name in files:
            read = functools.partial(read_sentencepiece, name=name)
            return files.path(name), read
    if BYTES in files and MERGES in files:
        return files.path(BYTES), read_bytes
    if VOCAB in files:
        return files.path(VOCAB), read_words
    raise fp.CheckpointError(_unreadable(files))


def _whole(files: Files, settings: Settings) -> Read:
    import tokenizers

    return tokenizers.Tokenizer.from_buffer(files.content(WHOLE)), settings


def _add(pipeline: tokenizers.Tokenizer, settings: Settings, path: str) -> None:
    """Adds the tokens that the files list. A token that is there already keeps its id, and takes
    the flags that the settings give it: they are read after `tokenizer.json`."""
    from tokenizers import AddedToken

    special = {token.content for token in settings.named.values()}
    there = {token.content for token in pipeline.get_added_tokens_decoder().values()}
    known = there | {token.content for token in settings.added}
    named = [*settings.named.values(), *settings.extra]
    tokens = [
        AddedToken(x.content, **({**x.flags, "special": True} if x.content in special else x.flags))
        for x in settings.added
    ]
    pipeline.add_tokens(
        tokens + [_as_special(token) for token in named if token.content not in known]
    )
    pipeline.add_special_tokens([_as_special(token) for token in named if token.content in there])
    wrong = [
        f"{quoted(token.content)} is {pipeline.token_to_id(token.content)}, not {token.id}"
        for token in settings.added
        if token.id is not None and pipeline.token_to_id(token.content) != token.id
    ]
    if wrong:
        warn(f"{path}: ids of added tokens are others than the settings say: {some(wrong, 3)}")


def _as_special(token: Token):
    from tokenizers import AddedToken

    return AddedToken(token.content, **{"normalized": False, **token.flags, "special": True})


def _unreadable(files: Files) -> str:
    names = sorted(name for name in files.names if "/" not in name)
    for name, instead in _OTHERS.items():
        if name in names:
            return f"{files.path(name)}: a tokenizer in a form that is not read: {instead}"
    return (
        f"{files.folder}: no {WHOLE}, nor another vocabulary that is read (vocab.txt, vocab.json "
        f"with merges.txt, a model of SentencePiece); there are {some(names)}"
    )

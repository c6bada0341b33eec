"""Pipelines of models of SentencePiece whose ids stand in a vocabulary beside them: Marian's
(`source.spm`, `target.spm`) and M2M-100's.

A piece that the vocabulary lacks is the unknown token, as in Transformers. It still takes part in
the search for the best split: it gets an id after all others, and `Settings.known` says from which
number on an id means the unknown token.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ... import params as fp
from ...params.errors import quoted
from ..files import Files
from ..languages.codes import M2M_100, WMT_21
from ..settings import Settings, Token
from . import sentencepiece_model as spm
from .sentencepiece import pipeline_of
from .sentencepiece_model import Model, Piece, parse_model

if TYPE_CHECKING:
    from .words_and_bytes import Read

SOURCE, TARGET = "source.spm", "target.spm"
M2M_MODEL, VOCAB = "sentencepiece.bpe.model", "vocab.json"
_TARGET_VOCAB = "target_vocab.json"


def read_marian(files: Files, settings: Settings, name: str = SOURCE) -> Read:
    """Reads one of Marian's two models, and the vocabulary that they share, or, with
    `separate_vocabs`, each its own.

    Raises:
        CheckpointError: files that are not there, damaged, or do not fit each other.
    """
    settings = dataclasses.replace(settings, cls="Marian").with_all_named()
    is_apart = name == TARGET and settings.values.get("separate_vocabs")
    vocab = files.vocabulary(_TARGET_VOCAB if is_apart else VOCAB)
    return _read(files, settings, name, vocab, ())


def read_m2m(files: Files, settings: Settings) -> Read:
    """Reads M2M-100's model and vocabulary; its languages come after the vocabulary.

    Raises:
        CheckpointError: as `read_marian`.
    """
    settings = dataclasses.replace(settings, cls="M2M100").with_all_named()
    codes = WMT_21 if settings.values.get("language_codes") == "wmt21" else M2M_100
    last = [f"__{code}__" for code in codes]
    settings = dataclasses.replace(settings, extra=(*settings.extra, *map(Token, last)))
    return _read(files, settings, M2M_MODEL, files.vocabulary(VOCAB), last)


def _read(
    files: Files, settings: Settings, name: str, vocab: Mapping[str, int], last: Sequence[str]
) -> Read:
    if name not in files:
        raise fp.CheckpointError(f"{files.path(name)}: No such file")
    model = parse_model(files.content(name), files.path(name))
    named = {token.content for token in settings.named.values()}
    pieces = [*_in_order(vocab, model, named, files.path(VOCAB))]
    unknown = settings.named["unk_token"].content
    if unknown not in vocab:
        raise fp.CheckpointError(f"{files.path(VOCAB)}: no unknown token {quoted(unknown)}")
    pieces += [Piece(token, 0.0, spm.UNUSED) for token in last if token not in vocab]
    known = len(pieces)
    pieces += [
        p for p in model.pieces if p.text not in vocab and p.kind in (spm.NORMAL, spm.DEFINED)
    ]
    pipeline = pipeline_of(model, pieces, vocab[unknown], settings)
    marks = [text for text in vocab if text.startswith(">>") and text.endswith("<<")]
    added = tuple(Token(text, {"special": False, "normalized": False}) for text in marks)
    return pipeline, dataclasses.replace(settings, known=known, added=(*settings.added, *added))


def _in_order(vocab: Mapping[str, int], model: Model, named: set[str], path: str):
    """Yields the pieces by their ids: the model's scores, and none for what it lacks."""
    texts = sorted(vocab, key=vocab.__getitem__)
    if [vocab[text] for text in texts] != list(range(len(texts))):
        raise fp.CheckpointError(f"{path}: its ids are not 0, 1, ... up to the number of tokens")
    found = {piece.text: piece for piece in model.pieces}
    for text in texts:
        piece = found.get(text)
        if text in named:
            is_unknown = piece is not None and piece.kind == spm.UNKNOWN
            yield Piece(text, 0.0, spm.UNKNOWN if is_unknown else spm.CONTROL)
        elif piece is None or piece.kind not in (spm.NORMAL, spm.DEFINED):
            yield Piece(text, 0.0, spm.UNUSED)
        else:
            yield piece

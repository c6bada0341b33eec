"""Pipelines out of models of SentencePiece.

What SentencePiece does to a text is put together of parts of the library tokenizers so that ids are
SentencePiece's own; tests compare them with that library's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

from ... import params as fp
from ...params.errors import quoted
from ..files import Files
from ..languages.codes import MBART, MBART_50, NLLB
from ..settings import Settings, Token
from . import sentencepiece_model as spm
from .sentencepiece_model import Model, Piece, parse_model
from .words_and_bytes import add_template, of_class

if TYPE_CHECKING:
    import tokenizers
    import tokenizers.normalizers

    from .words_and_bytes import Read

NAMES = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
_SPACE = "\u2581"
_NEVER = -1000.0  # a score of what SentencePiece does not look for in a text


class _Layout(NamedTuple):
    """What a class makes of a model.

    Attributes:
        template: which special tokens are added to a text (`add_template`); "" where its language
            says so.
        first: tokens in the place of the model's first `replaced`.
        replaced: how many.
        last: tokens after the model's.
        always: every part of a text between special tokens begins with a space, not only the first.
    """

    template: str
    first: tuple[str, ...] = ()
    replaced: int = 0
    last: tuple[str, ...] = ()
    always: bool = True


_FAIRSEQ = ("<s>", "<pad>", "</s>", "<unk>")
_LAYOUTS = {
    **dict.fromkeys(("", "CodeLlama", "Gemma", "Llama"), _Layout("flags", always=False)),
    "Albert": _Layout("bert"),
    "GPTSw3": _Layout("flags"),
    "MBart": _Layout("", _FAIRSEQ, 3, (*MBART, "<mask>")),
    "MBart50": _Layout("", _FAIRSEQ, 3, (*MBART_50, "<mask>")),
    "Nllb": _Layout("", _FAIRSEQ, 3, (*NLLB, "<mask>")),
    "T5": _Layout("end"),
    "XGLM": _Layout("begin", _FAIRSEQ, 3, tuple(f"<madeupword{i}>" for i in range(7))),
    "XLMRoberta": _Layout("roberta", _FAIRSEQ, 3, ("<mask>",)),
}


def read_sentencepiece(files: Files, settings: Settings, name: str) -> Read:
    """Reads the pipeline of a model of SentencePiece.

    Raises:
        CheckpointError: no such model, or one of words or characters; a class that makes more of
            it than is known.
    """
    path = files.path(name)
    layout = of_class(_LAYOUTS, settings.cls, path, "has ids of its own beside those of the model")
    model = parse_model(files.content(name), path)
    if not settings.cls:
        settings = dataclasses.replace(settings, taken_for_granted=model.named)
        layout = layout._replace(always=model.kind == spm.UNIGRAM)
    settings = settings.with_all_named()
    if settings.cls == "T5":
        layout = layout._replace(last=_sentinels(settings))
    pieces, unknown = _laid_out(model, layout)
    pipeline = pipeline_of(model, pieces, unknown, settings, always=layout.always)
    if layout.template:
        add_template(pipeline, settings, layout.template)
    control = tuple(Token(piece.text) for piece in pieces if piece.kind == spm.CONTROL)
    return pipeline, dataclasses.replace(settings, extra=(*settings.extra, *control))


def pipeline_of(
    model: Model, pieces: list[Piece], unknown: int, settings: Settings, *, always: bool = True
) -> tokenizers.Tokenizer:
    """Makes the pipeline of a model.

    Args:
        pieces: in the order of their ids.
        unknown: the id of the unknown token.
        always: see `_Layout`.
    """
    make = _bpe if model.kind == spm.BPE else _unigram
    pipeline = make(model, pieces, unknown)
    _set_spaces(pipeline, model, always, settings)
    _add_pieces(pipeline, pieces, model.kind)
    return pipeline


def _sentinels(settings: Settings) -> tuple[str, ...]:
    count = settings.values.get("extra_ids", 100)
    if type(count) is not int or not 0 <= count <= 10_000:
        raise fp.CheckpointError(f"extra_ids is {quoted(count)}; expected a number of tokens")
    return tuple(f"<extra_id_{i}>" for i in range(count - 1, -1, -1))


def _laid_out(model: Model, layout: _Layout) -> tuple[list[Piece], int]:
    """Returns the pieces in the order of a class's ids, and the id of the unknown token."""
    first = [Piece(text, 0.0, spm.CONTROL) for text in layout.first]
    last = [Piece(text, 0.0, spm.CONTROL) for text in layout.last]
    pieces = [*first, *model.pieces[layout.replaced :], *last]
    unknown = layout.first.index("<unk>") if layout.first else model.unknown
    return pieces, unknown


def _unigram(model: Model, pieces: list[Piece], unknown: int) -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer, models

    best = max((p.score for p in pieces if p.kind == spm.NORMAL), default=0.0)
    scores = {
        spm.NORMAL: lambda piece: piece.score,
        # So high that it is always chosen, as `EncodeOptimized` of unigram_model.cc does.
        spm.DEFINED: lambda piece: len(piece.text.encode()) * best - 0.1,
        spm.CONTROL: lambda piece: 0.0,
        spm.UNKNOWN: lambda piece: 0.0,
    }
    scored = [(p.text, scores.get(p.kind, lambda piece: _NEVER)(p)) for p in pieces]
    return Tokenizer(models.Unigram(scored, unknown, model.byte_fallback))


def _bpe(model: Model, pieces: list[Piece], unknown: int) -> tokenizers.Tokenizer:
    """Makes BPE: a piece's score says when the two halves that it is made of are joined."""
    from tokenizers import Tokenizer, models

    vocab = {piece.text: number for number, piece in enumerate(pieces)}
    joined = {piece.text: piece.score for piece in pieces if piece.kind == spm.NORMAL}
    merges = []
    for text, score in joined.items():
        halves = ((text[:i], text[i:]) for i in range(1, len(text)))
        found = [(left, right) for left, right in halves if left in joined and right in joined]
        found.sort(key=lambda pair: (vocab[pair[0]], vocab[pair[1]]))
        merges += [(-score, pair) for pair in found]
    merges.sort(key=lambda merge: merge[0])
    return Tokenizer(
        models.BPE(
            vocab,
            [pair for _, pair in merges],
            unk_token=pieces[unknown].text,
            fuse_unk=True,
            byte_fallback=model.byte_fallback,
        )
    )


def _set_spaces(
    pipeline: tokenizers.Tokenizer, model: Model, always: bool, settings: Settings
) -> None:
    """Sets what is done to characters and spaces before a text is split, and undone after."""
    from tokenizers import Regex, decoders, normalizers, pre_tokenizers

    before = {"Albert": _albert, "GPTSw3": _gpt_sw3}.get(settings.cls)
    steps = before(settings.values) if before else []
    if model.charsmap:
        steps.append(normalizers.Precompiled(model.charsmap))
    if model.remove_extra_whitespaces:
        steps.append(normalizers.Replace(Regex(r"\A +| +\z"), ""))
        steps.append(normalizers.Replace(Regex(" {2,}"), " "))
    steps.append(normalizers.Replace(" ", _SPACE))
    pipeline.normalizer = normalizers.Sequence(steps)
    undo = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if model.add_dummy_prefix:
        # Metaspace puts no space before a text that begins with one, and SentencePiece does. So
        # the first one looks for plain spaces, of which there are none any more; the second turns
        # into a token's what the first put there.
        scheme: Literal["always", "first"] = "always" if always else "first"
        pipeline.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Metaspace(replacement=" ", prepend_scheme=scheme, split=False),
                pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="never", split=False),
            ]
        )
        undo.append(decoders.Strip(" ", 1, 0))
    pipeline.decoder = decoders.Sequence(undo)


def _albert(values: Mapping[str, object]) -> list[tokenizers.normalizers.Normalizer]:
    from tokenizers import normalizers

    steps: list[tokenizers.normalizers.Normalizer] = [
        normalizers.Replace("``", '"'),
        normalizers.Replace("''", '"'),
    ]
    if not values.get("keep_accents", False):
        steps += [normalizers.NFKD(), normalizers.StripAccents()]
    return [*steps, normalizers.Lowercase()] if values.get("do_lower_case", True) else steps


def _gpt_sw3(values: Mapping[str, object]) -> list[tokenizers.normalizers.Normalizer]:
    """Takes out what is not printed, and makes spaces of many kinds plain."""
    from tokenizers import Regex, normalizers

    hidden = r"[\x{0}-\x{8}\x{b}-\x{1f}\x{7f}-\x{a0}\x{ad}\x{200b}]"
    spaces = r"[\x{2002}\x{2003}\x{2005}\x{2008}-\x{200a}\x{202f}\x{3000}\x{fffc}]"
    return [
        normalizers.Replace(Regex(hidden), ""),
        normalizers.Replace(Regex(spaces), " "),
        normalizers.NFC(),
    ]


def _add_pieces(pipeline: tokenizers.Tokenizer, pieces: list[Piece], kind: int) -> None:
    """Adds the tokens that are found in a text before it is split: those of control, and for BPE
    those of a user, which it would come upon by no merge."""
    from tokenizers import AddedToken

    kinds = [spm.CONTROL, spm.UNKNOWN] + ([spm.DEFINED] if kind == spm.BPE else [])
    pipeline.add_tokens(
        [
            AddedToken(piece.text, normalized=False, special=piece.kind != spm.DEFINED)
            for piece in pieces
            if piece.kind in kinds
        ]
    )

"""Pipelines of folders without tokenizer.json: WordPiece from `vocab.txt`, byte-level BPE from
`vocab.json` and `merges.txt`. What each does around the vocabulary is its class's, as in
Transformers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ... import params as fp
from ..files import Files
from ..settings import Settings

if TYPE_CHECKING:
    import tokenizers

    Pipeline = tokenizers.Tokenizer
    Read = tuple[Pipeline, Settings]
    """A pipeline, and the settings with what its vocabulary adds to them."""

VOCAB, BYTES, MERGES = "vocab.txt", "vocab.json", "merges.txt"
_MOST_TOKENS = 2_000_000
_SPLITS = "splits texts in a way of its own"
T = TypeVar("T")

_WORDS = {  # classes that read vocab.txt -> a kind of `_TEMPLATES`
    **dict.fromkeys(("", "Bert", "DistilBert", "Electra", "MobileBert"), "bert"),
    "Esm": "residues",
    "MPNet": "roberta",
}


class _Bytes(NamedTuple):
    """What a class does around byte-level BPE.

    Attributes:
        template: which special tokens are added.
        split: a regular expression of words; GPT-2's own if None.
        form: a Unicode normal form.
    """

    template: str
    split: str | None = None
    form: str | None = None


_QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_BYTES = {  # classes that read vocab.json and merges.txt
    "": _Bytes("flags"),
    "GPT2": _Bytes("flags"),
    "GPTNeoX": _Bytes("flags", form="NFC"),
    **dict.fromkeys(("Roberta", "Bart", "LED", "Longformer"), _Bytes("roberta")),
    "Qwen2": _Bytes("flags", _QWEN_WORDS, "NFC"),
}


def read_words(files: Files, settings: Settings) -> Read:
    """Reads WordPiece, or the residues of ESM, from `vocab.txt`: a token a line, its id the number
    of the line.

    Raises:
        CheckpointError: no UTF-8, or too long; a class whose texts are split otherwise.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    path, settings = files.path(VOCAB), settings.with_all_named()
    template = of_class(_WORDS, settings.cls, path)
    lines = files.text(VOCAB).replace("\r\n", "\n").removesuffix("\n").split("\n")
    if len(lines) > _MOST_TOKENS:
        raise fp.CheckpointError(f"{path}: more than {_MOST_TOKENS} lines")
    vocab = {line: number for number, line in enumerate(lines)}
    unknown = token_of(settings, "unk_token") or "[UNK]"
    if template == "residues":
        pipeline = _residues({line.strip(): number for line, number in vocab.items()}, unknown)
        add_template(pipeline, settings, template)
        return pipeline, settings
    pipeline = Tokenizer(models.WordPiece(vocab, unk_token=unknown))
    values = settings.values
    pipeline.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=values.get("tokenize_chinese_chars", True),
        strip_accents=values.get("strip_accents"),
        lowercase=values.get("do_lower_case", True),
    )
    pipeline.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    pipeline.decoder = decoders.WordPiece(prefix="##")
    add_template(pipeline, settings, template)
    return pipeline, settings


def _residues(vocab: dict[str, int], unknown: str) -> Pipeline:
    """Makes the pipeline of ESM: tokens are found wherever they stand, the longest first, and what
    is left between them and spaces is unknown."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    tokens = sorted((re.escape(token) for token in vocab if token), key=len, reverse=True)
    pipeline = Tokenizer(models.WordLevel(vocab, unk_token=unknown))
    pipeline.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex("|".join(tokens)), "isolated"),
            pre_tokenizers.WhitespaceSplit(),
        ]
    )
    return pipeline


def read_bytes(files: Files, settings: Settings) -> Read:
    """Reads byte-level BPE from `vocab.json` and `merges.txt`.

    Raises:
        CheckpointError: files that are damaged, or do not fit each other; a class whose texts are
            split otherwise.
    """
    from tokenizers import Regex, decoders, normalizers, pre_tokenizers

    settings = settings.with_all_named()
    if settings.cls == "CLIP":
        return _read_clip(files, settings)
    kind = of_class(_BYTES, settings.cls, files.path(BYTES))
    pipeline = _bpe(files)
    prefix = bool(settings.values.get("add_prefix_space", False))
    if kind.form is not None:
        pipeline.normalizer = getattr(normalizers, kind.form)()
    if kind.split is None:
        pipeline.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    else:
        words = pre_tokenizers.Split(Regex(kind.split), "isolated")
        as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=False)
        pipeline.pre_tokenizer = pre_tokenizers.Sequence([words, as_bytes])
    pipeline.decoder = decoders.ByteLevel()
    add_template(pipeline, settings, kind.template)
    return pipeline, settings


def _read_clip(files: Files, settings: Settings) -> Read:
    """Reads CLIP's BPE: lower case, and words end with "</w>"."""
    from tokenizers import Regex, decoders, normalizers, pre_tokenizers

    pipeline = _bpe(files, "</w>", unk_token=token_of(settings, "unk_token") or "<|endoftext|>")
    pipeline.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = (
        r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]"
        r"|[^\s\p{L}\p{N}]+"
    )
    pipeline.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    pipeline.decoder = decoders.Sequence(
        [
            decoders.ByteLevel(),
            decoders.Replace(Regex(r"^\s+|(</w>|\s)+$"), ""),
            decoders.Replace("</w>", " "),
        ]
    )
    add_template(pipeline, settings, "clip")
    return pipeline, settings


def _bpe(files: Files, end_of_word: str = "", **options: str) -> Pipeline:
    from tokenizers import Tokenizer, models

    vocab, merges = files.vocabulary(BYTES), read_merges(files)
    model = models.BPE(
        vocab, merges, continuing_subword_prefix="", end_of_word_suffix=end_of_word, **options
    )
    return Tokenizer(model)


def read_merges(files: Files) -> list[tuple[str, str]]:
    """Reads `merges.txt`: a pair of tokens a line, after a line of the version; raises
    `CheckpointError` for a line that is no pair."""
    merges = []
    for number, line in enumerate(files.text(MERGES).split("\n"), 1):
        line = line.removesuffix("\r")
        if not line or line.startswith("#version"):
            continue
        left, _, right = line.partition(" ")
        if not left or not right or " " in right:
            raise fp.CheckpointError(
                f"{files.path(MERGES)}, line {number}: expected two tokens and a space between"
            )
        merges.append((left, right))
    return merges


def token_of(settings: Settings, name: str) -> str | None:
    given = settings.named.get(name)
    return given.content if given else None


_TEMPLATES = {  # kind -> the tokens "first" and "last", and a pair; a text alone is "first A last"
    "bert": ("cls_token", "sep_token", "first A last B:1 last:1"),
    "roberta": ("cls_token", "sep_token", "first A last last B last"),
    "clip": ("bos_token", "eos_token", "first A last last B last"),
    "residues": ("cls_token", "eos_token", "first A last B last"),
    "end": ("", "eos_token", "A last B last"),
    "begin": ("eos_token", "", "first A first first B"),
    "flags": ("bos_token", "eos_token", "first A last first:1 B:1 last:1"),
}


def add_template(pipeline: Pipeline, settings: Settings, kind: str) -> None:
    """Sets which special tokens are added to a text or a pair.

    Args:
        kind: of `_TEMPLATES`; the tokens of "flags" are added as `add_bos_token` and
            `add_eos_token` of the settings say.

    Raises:
        CheckpointError: a token that no file names, or that the vocabulary lacks.
    """
    from tokenizers import processors

    *names, pair = _TEMPLATES[kind]
    if kind == "flags":
        values, begins = settings.values, settings.cls in ("Llama", "CodeLlama", "Gemma")
        flags = values.get("add_bos_token", begins), values.get("add_eos_token")
        names = [name if flag else "" for name, flag in zip(names, flags, strict=True)]
    first, last = (token_of(settings, name) for name in names)
    for name, token in zip(names, (first, last), strict=True):
        if name and not token and kind != "flags":
            raise fp.CheckpointError(f"no file names the {name}, which each text is given")
    there = {token: pipeline.token_to_id(token) for token in (first, last) if token}
    if missing := [token for token, number in there.items() if number is None]:
        raise fp.CheckpointError(f"the vocabulary lacks {missing[0]!r}, which each text is given")
    spelled = {"A": "$A", "B": "$B", "first": first, "last": last}

    def pieces(template: str) -> list[str]:
        parts = (part.partition(":") for part in template.split())
        return [f"{spelled[name]}:{kind or 0}" for name, _, kind in parts if spelled[name]]

    pipeline.post_processor = processors.TemplateProcessing(
        single=pieces("first A last"), pair=pieces(pair), special_tokens=[*there.items()]
    )


def of_class(table: Mapping[str, T], cls: str, path: str, does: str = _SPLITS) -> T:
    """Returns what a table has for a class of tokenizers; raises CheckpointError for a class that
    `does` what is not known."""
    if cls not in table:
        known = ", ".join(f"{name}Tokenizer" for name in table if name)
        raise fp.CheckpointError(
            f"{path}: {cls}Tokenizer {does}; known from such files are {known}; tokenizer.json has "
            "the whole of it, and save_pretrained of Transformers' tokenizer writes it"
        )
    return table[cls]

"""Trains models of SentencePiece, each in the folder of a tokenizer, as they are published."""

import io
import json
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, NamedTuple

import sentencepiece
import transformers
from _nasty import TEXTS

SIZE = 420
CORPUS = [text for name, text in sorted(topics.items())][:40] + [t for t in TEXTS if len(t) < 200]


def put(folder: Path, name: str, value: Any) -> None:
    text = value if isinstance(value, str) else json.dumps(value, indent=1, ensure_ascii=False)
    (folder / name).write_text(text, encoding="utf-8")


def sentencepiece_model(kind: str, size: int = SIZE, **options: Any) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for text in CORPUS for line in text.split("\n") if line]),
        model_writer=model,
        model_type=kind,
        vocab_size=size + 320 if options.get("byte_fallback") else size,
        hard_vocab_limit=False,
        character_coverage=0.98,
        num_threads=1,
        minloglevel=2,
        **options,
    )
    return model.getvalue()


def pieces_of(model: bytes) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Returns the vocabulary of a BPE model, and its merges in the order of their scores."""
    spm = sentencepiece.SentencePieceProcessor(model_proto=model)
    vocab = {spm.id_to_piece(i): i for i in range(len(spm))}
    merges = []
    for piece, number in vocab.items():
        if spm.is_control(number) or spm.is_unknown(number) or spm.is_byte(number):
            continue
        splits = [(piece[:i], piece[i:]) for i in range(1, len(piece))]
        pairs = [pair for pair in splits if pair[0] in vocab and pair[1] in vocab]
        merges += [
            (number, *pair) for pair in sorted(pairs, key=lambda p: (vocab[p[0]], vocab[p[1]]))
        ]
    return vocab, [(left, right) for _, left, right in sorted(merges, key=lambda merge: merge[0])]


class Model(NamedTuple):
    """A model, and the files of a tokenizer that are made of it.

    Attributes:
        file: that the model is in.
        settings: of tokenizer_config.json; None for none.
        kind, options: of the trainer.
        config: of config.json; None for none.
    """

    file: str
    settings: dict[str, Any] | None
    kind: str
    options: dict[str, Any] = {}
    config: dict[str, Any] | None = None


IDENTITY = {"normalization_rule_name": "identity"}
BYTES = IDENTITY | {"byte_fallback": True, "remove_extra_whitespaces": False}
DIGITS = BYTES | {"split_digits": True, "allow_whitespace_only_pieces": True}
MODELS = {
    "llama-model": Model(  # Llama 2 and Mistral: tokenizer.model alone
        "tokenizer.model",
        {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True},
        "bpe",
        DIGITS,
    ),
    "gemma-model": Model(
        "tokenizer.model",
        {"tokenizer_class": "GemmaTokenizer", "add_bos_token": True},
        "bpe",
        DIGITS
        | {"pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3, "add_dummy_prefix": False}
        | {"bos_piece": "<bos>", "eos_piece": "<eos>"}
        | {"user_defined_symbols": ["<start_of_turn>", "<end_of_turn>", "\n\n", "\t"]},
    ),
    "t5-model": Model(
        "spiece.model",
        {"tokenizer_class": "T5Tokenizer", "extra_ids": 4},
        "unigram",
        {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1},
    ),
    "xlm-roberta-model": Model(
        "sentencepiece.bpe.model", {"tokenizer_class": "XLMRobertaTokenizer"}, "unigram", IDENTITY
    ),
    "albert-model": Model(
        "spiece.model",
        {"tokenizer_class": "AlbertTokenizer", "do_lower_case": True},
        "unigram",
        IDENTITY
        | {"pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1}
        | {"control_symbols": ["[CLS]", "[SEP]"], "user_defined_symbols": ["(", ")", "[MASK]"]},
    ),
    "xglm-model": Model(
        "sentencepiece.bpe.model",
        {"tokenizer_class": "XGLMTokenizer"},
        "unigram",
        IDENTITY,
        {"model_type": "xglm"},
    ),
    "gpt-sw3-model": Model(
        "spiece.model",
        {"tokenizer_class": "GPTSw3Tokenizer"},
        "bpe",
        BYTES
        | {"pad_id": 0, "unk_id": 1, "bos_id": 2, "eos_id": 3, "eos_piece": "<|endoftext|>"}
        | {"user_defined_symbols": ["<|javascript|>", "<|python|>"]},
    ),
    # of no class that is known: the file says all
    "plain-model": Model("tokenizer.model", None, "unigram", IDENTITY | {"byte_fallback": True}),
    "mbart-model": Model(
        "sentencepiece.bpe.model", {"tokenizer_class": "MBartTokenizer"}, "unigram", IDENTITY
    ),
}


def write_model(folder: Path, row: Model) -> bytes:
    """Trains a model, and writes the folder of its tokenizer."""
    model = sentencepiece_model(row.kind, **row.options)
    (folder / row.file).write_bytes(model)
    for name, value in (("config", row.config), ("tokenizer_config", row.settings)):
        if value is not None:
            put(folder, f"{name}.json", value)
    return model


def translation_vocab(pieces: list[str], first: list[str], last: list[str]) -> dict[str, int]:
    """Makes a vocabulary in an order of its own, which lacks some of the pieces."""
    named = {*first, *last, "<s>", "</s>", "<unk>", "<pad>"}
    kept = [text for i, text in enumerate(pieces) if text not in named and i % 11]
    return {text: i for i, text in enumerate([*first, *kept[::2], *kept[1::2], *last])}


def marian_model(folder: Path) -> None:
    """opus-mt's form with several target languages: two models, and one vocabulary for both."""
    texts = []
    for name, size in (("source", SIZE), ("target", SIZE - 100)):
        model = sentencepiece_model("unigram", size, normalization_rule_name="identity")
        (folder / f"{name}.spm").write_bytes(model)
        spm = sentencepiece.SentencePieceProcessor(model_proto=model)
        texts += [spm.id_to_piece(i) for i in range(len(spm))]
    last = [">>fra<<", ">>deu<<", "<pad>"]
    vocab = translation_vocab([*dict.fromkeys(texts)], ["</s>", "<unk>"], last)
    put(folder, "vocab.json", vocab)
    config = {"source_lang": "en", "target_lang": "mul", "model_max_length": 512}
    put(folder, "tokenizer_config.json", config | {"separate_vocabs": False})
    put(folder, "config.json", {"model_type": "marian"})


def m2m_model(folder: Path) -> None:
    model = sentencepiece_model("bpe", normalization_rule_name="identity")
    (folder / "sentencepiece.bpe.model").write_bytes(model)
    spm = sentencepiece.SentencePieceProcessor(model_proto=model)
    pieces = [spm.id_to_piece(i) for i in range(len(spm))]
    put(folder, "vocab.json", translation_vocab(pieces, ["<s>", "<pad>", "</s>", "<unk>"], []))
    codes = transformers.models.m2m_100.tokenization_m2m_100.FAIRSEQ_LANGUAGE_CODES["m2m100"]
    tokens = [f"__{code}__" for code in codes]
    put(folder, "special_tokens_map.json", {"additional_special_tokens": tokens})
    put(folder, "tokenizer_config.json", {"tokenizer_class": "M2M100Tokenizer"})

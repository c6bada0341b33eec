"""Trains models of SentencePiece, each in the folder of a tokenizer, as they are published."""

import io
import json
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

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


def llama_model(folder: Path) -> bytes:
    """Llama 2 and Mistral: tokenizer.model alone."""
    model = sentencepiece_model(
        "bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        allow_whitespace_only_pieces=True,
    )
    (folder / "tokenizer.model").write_bytes(model)
    put(
        folder,
        "tokenizer_config.json",
        {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True},
    )
    return model


def gemma_model(folder: Path) -> bytes:
    model = sentencepiece_model(
        "bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=False,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        bos_piece="<bos>",
        eos_piece="<eos>",
        user_defined_symbols=["<start_of_turn>", "<end_of_turn>", "\n\n", "\t"],
    )
    (folder / "tokenizer.model").write_bytes(model)
    put(
        folder,
        "tokenizer_config.json",
        {"tokenizer_class": "GemmaTokenizer", "add_bos_token": True},
    )
    return model


def t5_model(folder: Path) -> bytes:
    model = sentencepiece_model("unigram", pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    (folder / "spiece.model").write_bytes(model)
    put(folder, "tokenizer_config.json", {"tokenizer_class": "T5Tokenizer", "extra_ids": 4})
    return model


def xlm_roberta_model(folder: Path) -> bytes:
    model = sentencepiece_model("unigram", normalization_rule_name="identity")
    (folder / "sentencepiece.bpe.model").write_bytes(model)
    put(folder, "tokenizer_config.json", {"tokenizer_class": "XLMRobertaTokenizer"})
    return model


def albert_model(folder: Path) -> bytes:
    model = sentencepiece_model(
        "unigram",
        normalization_rule_name="identity",
        pad_id=0,
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        control_symbols=["[CLS]", "[SEP]"],
        user_defined_symbols=["(", ")", "[MASK]"],
    )
    (folder / "spiece.model").write_bytes(model)
    config = {"tokenizer_class": "AlbertTokenizer", "do_lower_case": True}
    put(folder, "tokenizer_config.json", config)
    return model


def xglm_model(folder: Path) -> bytes:
    model = sentencepiece_model("unigram", normalization_rule_name="identity")
    (folder / "sentencepiece.bpe.model").write_bytes(model)
    put(folder, "config.json", {"model_type": "xglm"})
    put(folder, "tokenizer_config.json", {"tokenizer_class": "XGLMTokenizer"})
    return model


def gpt_sw3_model(folder: Path) -> bytes:
    model = sentencepiece_model(
        "bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        pad_id=0,
        unk_id=1,
        bos_id=2,
        eos_id=3,
        eos_piece="<|endoftext|>",
        user_defined_symbols=["<|javascript|>", "<|python|>"],
    )
    (folder / "spiece.model").write_bytes(model)
    put(folder, "tokenizer_config.json", {"tokenizer_class": "GPTSw3Tokenizer"})
    return model


def plain_model(folder: Path) -> bytes:
    """Trains a model of no class that is known, of which the file says all."""
    model = sentencepiece_model("unigram", byte_fallback=True, normalization_rule_name="identity")
    (folder / "tokenizer.model").write_bytes(model)
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


def mbart_model(folder: Path) -> bytes:
    model = sentencepiece_model("unigram", normalization_rule_name="identity")
    (folder / "sentencepiece.bpe.model").write_bytes(model)
    put(folder, "tokenizer_config.json", {"tokenizer_class": "MBartTokenizer"})
    return model

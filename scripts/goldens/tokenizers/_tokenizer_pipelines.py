"""Trains pipelines of the library tokenizers, and writes each as `tokenizer.json`, or as the files
of a vocabulary that older folders have."""

import json
from pathlib import Path
from typing import Any

import tokenizers
from _sentencepiece_models import CORPUS, SIZE, pieces_of, put, sentencepiece_model
from _templates import CHATML, INST
from tokenizers import (
    AddedToken,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def trained(model: Any, trainer: Any, **parts: Any) -> tokenizers.Tokenizer:
    tok = tokenizers.Tokenizer(model)
    for name, part in parts.items():
        setattr(tok, name, part)
    tok.train_from_iterator(CORPUS, trainer)
    return tok


def wordpiece_pipeline(**options: Any) -> tokenizers.Tokenizer:
    tok = trained(
        models.WordPiece(unk_token="[UNK]"),
        trainers.WordPieceTrainer(vocab_size=700, special_tokens=BERT, show_progress=False),
        normalizer=normalizers.BertNormalizer(**options),
        pre_tokenizer=pre_tokenizers.BertPreTokenizer(),
        decoder=decoders.WordPiece(),
    )
    tok.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tok


def wordpiece(folder: Path) -> None:
    tok = wordpiece_pipeline(lowercase=True)
    tok.enable_truncation(16)
    tok.enable_padding(pad_token="[PAD]", length=16)
    tok.save(str(folder / "tokenizer.json"), pretty=False)
    named = {"unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "cls": "[CLS]", "mask": "[MASK]"}
    config = {f"{name}_token": token for name, token in named.items()}
    config |= {"tokenizer_class": "BertTokenizer", "model_max_length": 64}
    config |= {"clean_up_tokenization_spaces": True, "do_lower_case": True}
    put(folder, "tokenizer_config.json", config)


def wordpiece_vocab(folder: Path) -> None:
    """BERT as it was published first: vocab.txt, cased."""
    tok = wordpiece_pipeline(lowercase=False, strip_accents=False)
    ids = sorted(tok.get_vocab().items(), key=lambda item: item[1])
    put(folder, "vocab.txt", "".join(f"{token}\n" for token, _ in ids))
    put(folder, "tokenizer_config.json", {"do_lower_case": False, "model_max_length": 512})
    put(folder, "config.json", {"model_type": "bert"})


def byte_bpe_pipeline(special: list[str], **parts: Any) -> tokenizers.Tokenizer:
    return trained(
        models.BPE(),
        trainers.BpeTrainer(
            vocab_size=SIZE,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
        **{
            "pre_tokenizer": pre_tokenizers.ByteLevel(add_prefix_space=False),
            "decoder": decoders.ByteLevel(),
            **parts,
        },
    )


def byte_bpe_chat(folder: Path) -> None:
    """Llama 3's and Qwen's form: added tokens in tokenizer_config.json, templates in files."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tok = byte_bpe_pipeline(special)
    tok.add_tokens(["<tool_call>", "</tool_call>", "<think>", "</think>"])
    tok.save(str(folder / "tokenizer.json"), pretty=False)
    added = {
        str(number): {
            "content": token.content,
            "lstrip": token.content == "<think>",
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": token.special,
        }
        for number, token in tok.get_added_tokens_decoder().items()
    }
    number = len(added) + SIZE - len(special)
    added[str(number)] = {"content": "<|vision|>", "special": True, "normalized": False}
    put(
        folder,
        "tokenizer_config.json",
        {
            "added_tokens_decoder": added,
            "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
            "bos_token": None,
            "eos_token": "<|im_end|>",
            "image_token": "<|vision|>",
            "model_max_length": 1000000000000000019884624838656,
            "pad_token": "<|endoftext|>",
            "padding_side": "left",
            "tokenizer_class": "PreTrainedTokenizerFast",
        },
    )
    put(folder, "chat_template.jinja", CHATML)
    put(folder, "config.json", {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"})


def byte_bpe_old_added(folder: Path) -> None:
    """Old files: special_tokens_map.json and added_tokens.json beside tokenizer.json."""
    tok = byte_bpe_pipeline(["<|endoftext|>"])
    tok.save(str(folder / "tokenizer.json"), pretty=False)
    size = tok.get_vocab_size()
    put(folder, "added_tokens.json", {"<extra>": size + 1, "<sep>": size})
    special = {
        "eos_token": "<|endoftext|>",
        "sep_token": {"content": "<sep>", "lstrip": True, "normalized": False, "rstrip": False},
        "additional_special_tokens": ["<one>"],
    }
    put(folder, "special_tokens_map.json", special)
    put(folder, "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})


def bpe_files(folder: Path, tok: tokenizers.Tokenizer) -> None:
    model = json.loads(tok.to_str())["model"]
    put(folder, "vocab.json", model["vocab"])
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    put(folder, "merges.txt", "\n".join(["#version: 0.2", *merges]) + "\n")


def gpt2_files(folder: Path) -> None:
    bpe_files(folder, byte_bpe_pipeline(["<|endoftext|>"]))
    put(folder, "config.json", {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"})


def opt_files(folder: Path) -> None:
    bpe_files(folder, byte_bpe_pipeline(ROBERTA))
    config = {"add_bos_token": True, "tokenizer_class": "GPT2Tokenizer", "pad_token": "<pad>"}
    config |= {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>"}
    put(folder, "tokenizer_config.json", config)


def roberta_files(folder: Path) -> None:
    bpe_files(folder, byte_bpe_pipeline(ROBERTA))
    put(folder, "tokenizer_config.json", {"tokenizer_class": "RobertaTokenizer"})


def qwen2_files(folder: Path) -> None:
    bpe_files(folder, byte_bpe_pipeline([], normalizer=normalizers.NFC()))
    added = {
        str(SIZE + i): {"content": token, "special": True, "normalized": False}
        for i, token in enumerate(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    }
    config = {"tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": added}
    config |= {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "bos_token": None}
    put(folder, "tokenizer_config.json", config)


def clip_files(folder: Path) -> None:
    tok = trained(
        models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"),
        trainers.BpeTrainer(
            vocab_size=SIZE + 256,
            special_tokens=["<|startoftext|>", "<|endoftext|>"],
            end_of_word_suffix="</w>",
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
        normalizer=normalizers.Lowercase(),
        pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False),
    )
    bpe_files(folder, tok)
    put(folder, "tokenizer_config.json", {"tokenizer_class": "CLIPTokenizer"})


def fallback_bpe(folder: Path) -> None:
    """Llama 2's tokenizer.json: BPE with byte fallback, spaces by a normalizer."""
    spm = sentencepiece_model("bpe", byte_fallback=True, normalization_rule_name="identity")
    vocab, merges = pieces_of(spm)
    tok = tokenizers.Tokenizer(
        models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tok.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tok.decoder = decoders.Sequence([*parts, decoders.Strip(" ", 1, 0)])
    tok.add_special_tokens([AddedToken(t, normalized=False) for t in ("<unk>", "<s>", "</s>")])
    tok.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A <s>:1 $B:1", [("<s>", 1)])
    tok.save(str(folder / "tokenizer.json"), pretty=False)
    config = {"tokenizer_class": "LlamaTokenizer", "unk_token": "<unk>", "legacy": True}
    config |= {"bos_token": "<s>", "eos_token": "</s>"}
    config["chat_template"] = [
        {"name": "default", "template": INST},
        {"name": "tool_use", "template": "{{ tools | tojson }}" + INST},
    ]
    put(folder, "tokenizer_config.json", config)


def unigram(folder: Path) -> None:
    """Unigram with Metaspace, as XLM-R's tokenizer.json."""
    unigram_metaspace(folder, "always", True)


def unigram_first(folder: Path) -> None:
    unigram_metaspace(folder, "first", False)


def bpe_never(folder: Path) -> None:
    """BPE with Metaspace that prepends nothing, and the other side of padding."""
    space = pre_tokenizers.Metaspace(prepend_scheme="never", split=True)
    tok = trained(
        models.BPE(unk_token="<unk>", fuse_unk=True),
        trainers.BpeTrainer(vocab_size=SIZE, special_tokens=ROBERTA, show_progress=False),
        pre_tokenizer=space,
        decoder=decoders.Metaspace(prepend_scheme="never"),
    )
    tok.save(str(folder / "tokenizer.json"), pretty=False)
    config = {"unk_token": "<unk>", "pad_token": "<pad>", "padding_side": "left"}
    put(folder, "tokenizer_config.json", config | {"truncation_side": "left"})


def unigram_metaspace(folder: Path, scheme: str, split: bool) -> None:
    space = {"prepend_scheme": scheme, "split": split}
    tok = trained(
        models.Unigram(),
        trainers.UnigramTrainer(
            vocab_size=SIZE, special_tokens=ROBERTA, unk_token="<unk>", show_progress=False
        ),
        normalizer=normalizers.Sequence(
            [
                normalizers.Nmt(),
                normalizers.NFKC(),
                normalizers.Replace(tokenizers.Regex(" {2,}"), " "),
            ]
        ),
        pre_tokenizer=pre_tokenizers.Metaspace(**space),
        decoder=decoders.Metaspace(**space),
    )
    tok.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    tok.save(str(folder / "tokenizer.json"), pretty=False)
    names = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
    tokens = ("<s>", "</s>", "<unk>", "</s>", "<pad>", "<s>", "<mask>")
    config: dict[str, Any] = {f"{n}_token": t for n, t in zip(names, tokens, strict=True)}
    put(folder, "tokenizer_config.json", config)


def nllb_file(folder: Path) -> None:
    """tokenizer.json, whose languages stand in another file's list."""
    space = pre_tokenizers.Metaspace(prepend_scheme="always")
    tok = trained(
        models.BPE(unk_token="<unk>", fuse_unk=True),
        trainers.BpeTrainer(vocab_size=SIZE, special_tokens=ROBERTA[:-1], show_progress=False),
        pre_tokenizer=space,
        decoder=decoders.Metaspace(prepend_scheme="always"),
    )
    codes = ["eng_Latn", "deu_Latn", "fra_Latn"]
    tok.add_special_tokens([AddedToken(code, normalized=False) for code in [*codes, "<mask>"]])
    tok.save(str(folder / "tokenizer.json"), pretty=False)
    config = {"tokenizer_class": "NllbTokenizer", "additional_special_tokens": codes}
    put(folder, "tokenizer_config.json", config | {"src_lang": "eng_Latn"})


def esm_residues(folder: Path) -> None:
    """ESM: a residue is a token, and whatever else is found in vocab.txt."""
    tokens = [
        "<cls>",
        "<pad>",
        "<eos>",
        "<unk>",
        *"LAGVSERTIDPKQNFYMHWCXBUZO.-",
        "<null_1>",
        "<mask>",
    ]
    put(folder, "vocab.txt", "\n".join(tokens))
    named = {"cls": "<cls>", "eos": "<eos>", "mask": "<mask>", "pad": "<pad>", "unk": "<unk>"}
    config = {f"{name}_token": token for name, token in named.items()}
    put(folder, "tokenizer_config.json", config | {"tokenizer_class": "EsmTokenizer"})

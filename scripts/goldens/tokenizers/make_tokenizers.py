"""Trains a small tokenizer of every kind, and writes what Transformers makes of texts and chats.

    python scripts/goldens/tokenizers/make_tokenizers.py [FOLDER ...]

Run by hand, with Transformers 5.23.0, tokenizers and sentencepiece. Each folder of
tests/goldens/tokenizers holds the files of a tokenizer as they are published, and expected.json:
what `check_tokenizers.py` asks, answered by Transformers or, for what is a model of SentencePiece
alone, by the library sentencepiece, which made it.
"""

import functools
import json
import shutil
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _sentencepiece_models as models
import _tokenizer_pipelines as pipelines
import sentencepiece
import tokenizers
import transformers
from _nasty import TEXTS
from check_tokenizers import Theirs, everything

GOLDENS = Path(__file__).resolve().parents[3] / "tests" / "goldens" / "tokenizers"
ABOUT_TEXTS = ("text", "decode", "pair", "padded", "size")
LONGEST = 400  # characters of a text whose answers are kept
MAKERS: dict[str, Callable[[Path], bytes | None]] = {
    name: functools.partial(models.write_model, row=row) for name, row in models.MODELS.items()
}
MAKERS |= {
    make.__name__.replace("_", "-"): make
    for make in (
        pipelines.wordpiece,
        pipelines.wordpiece_vocab,
        pipelines.byte_bpe_chat,
        pipelines.byte_bpe_old_added,
        pipelines.gpt2_files,
        pipelines.opt_files,
        pipelines.roberta_files,
        pipelines.qwen2_files,
        pipelines.clip_files,
        pipelines.esm_residues,
        pipelines.fallback_bpe,
        pipelines.unigram,
        pipelines.unigram_first,
        pipelines.bpe_never,
        models.m2m_model,
        models.marian_model,
        pipelines.nllb_file,
    )
}


def main() -> None:
    for name, make in MAKERS.items():
        folder = GOLDENS / name
        if sys.argv[1:] and folder.name not in sys.argv[1:]:
            continue
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        model = make(folder)
        write(folder, by_sentencepiece(folder, model) if model else {})
    size = sum(path.stat().st_size for path in GOLDENS.rglob("*") if path.is_file())
    print(f"{size:,} bytes")


def write(folder: Path, differing: dict[str, Any]) -> None:
    """Writes expected.json: what Transformers answers, and over it what SentencePiece does."""
    tok = transformers.AutoTokenizer.from_pretrained(folder)
    answers = everything(Theirs(tok))
    if (folder / "tokenizer.json").exists():
        plain = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
        odd = {k for k, v in everything(Theirs(plain)).items() if v != answers[k]}
        answers |= {k: v for k, v in everything(Theirs(plain)).items() if "token" not in k}
        print(f"{folder.name}: {type(tok).__name__} differs from its file in {len(odd)}")
    odd = {key: answers.get(key) for key, value in differing.items() if answers.get(key) != value}
    if differing:
        print(f"{folder.name}: {len(odd)} answers are not SentencePiece's")
        answers.pop("special ids")  # Transformers counts symbols of a user among them
        answers.pop("pair 2")  # the spaces around its texts are what the two differ in
        compared = {key.split(",")[0].replace("text", "decode") for key in differing}
        if len(odd) > len(TEXTS) / 2:  # Transformers reads no such model, or puts no space before
            answers = {k: v for k, v in answers.items() if not k.startswith(ABOUT_TEXTS)}
        elif not isinstance(tok, transformers.PreTrainedTokenizerFast):  # puts spaces around tokens
            answers = {
                k: v
                for k, v in answers.items()
                if not k.startswith("decode") or k.split(",")[0] in compared
            }
        for key in [key for key in odd if key.startswith("text")]:
            number = key.removesuffix(", False")
            answers.pop(f"{number}, True", None)
            for rest in ("", ", skip"):
                answers.pop(number.replace("text", "decode") + rest, None)
    if folder.name.startswith(("marian", "m2m")):  # classes that take off spaces at either end
        answers = {k: v for k, v in answers.items() if "decode" not in k}
    if folder.name == "nllb-file":  # the class's own tokens are added to texts, not the file's
        kept = ("decode", "chat", "size")
        answers = {k: v for k, v in answers.items() if "False" in k or k.startswith(kept)}
    short = {key for key in answers if not key.startswith(("text", "decode"))}
    short |= {key for key in answers if key not in short and len(TEXTS[index_of(key)]) <= LONGEST}
    found = {
        "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__,
        "sentencepiece": sentencepiece.__version__ if differing else None,
        "class": type(tok).__name__,
        "answers": {k: v for k, v in (answers | differing).items() if k in short},
        "transformers differs": {k: v for k, v in odd.items() if k in short},
    }
    if folder.name in SPOKEN:
        found["languages"] = spoken(tok, *SPOKEN[folder.name])
    text = json.dumps(found, ensure_ascii=True, separators=(",", ":"), sort_keys=True)
    (folder / "expected.json").write_text(text.replace('],"', '],\n"') + "\n")


SPOKEN = {
    "m2m-model": ("de", "fr"),
    "marian-model": ("", "fra"),
    "mbart-model": ("de_DE", "ro_RO"),
    "nllb-file": ("deu_Latn", "fra_Latn"),
}
"""{folder: two of its languages}."""


def spoken(tok: Any, source: str, target: str) -> dict[str, Any]:
    """Asks Transformers for the ids of a text in one language, of a pair, of what it is to become
    in another, and for the id of that language."""
    text, pair = "The import statement", "A while loop"
    found: dict[str, Any] = {"codes": [source, target], "texts": [text, pair]}
    if not source:  # Marian: the text itself says what it is to become
        found["source"] = tok(f">>{target}<< {text}")["input_ids"]
        found["pair"] = tok(f">>{target}<< {text}", pair)["input_ids"]
    else:
        tok.src_lang, tok.tgt_lang = source, target
        found["source"] = tok(text)["input_ids"]
        found["pair"] = tok(text, pair)["input_ids"]
    found["target"] = tok(text_target=text)["input_ids"]
    form = {"m2m-model": "__{}__", "marian-model": ">>{}<<"}.get(Path(tok.name_or_path).name, "{}")
    found["id"] = tok.convert_tokens_to_ids(form.format(target))
    return found


def index_of(key: str) -> int:
    return int(key.split()[1].strip(","))


def by_sentencepiece(folder: Path, model: bytes) -> dict[str, Any]:
    """Returns {what was asked: the ids of SentencePiece}, of texts that hold no special token."""
    spm = sentencepiece.SentencePieceProcessor(model_proto=model)
    tok = transformers.AutoTokenizer.from_pretrained(folder)
    offset = 1 if folder.name.startswith(("xlm", "xglm", "mbart", "nllb")) else 0
    control = [i for i in range(len(spm)) if spm.is_control(i) or spm.is_unknown(i)]
    special = {*tok.special_tokens_map.values(), *map(spm.id_to_piece, control)}
    special -= {spm.id_to_piece(i) for i in range(len(spm)) if i not in control}
    found: dict[str, Any] = {}
    for i, text in enumerate(TEXTS):
        if any(token in text for token in special):
            continue
        if folder.name == "albert-model":
            letters = unicodedata.normalize("NFKD", text.replace("``", '"').replace("''", '"'))
            text = "".join(c for c in letters if unicodedata.category(c)[0] != "M").lower()
        if folder.name == "gpt-sw3-model":
            text = tok.preprocess_text(text)
        ids = spm.encode(text)
        if offset:
            ids = [number + offset if number else 3 for number in ids]
        found[f"text {i}, False"] = ids
        if folder.name == "plain-model":
            found[f"decode {i}"] = spm.decode(ids)
    return found


if __name__ == "__main__":
    main()

"""Compares ids, texts and chats with Transformers', on texts on which tokenizers come apart.

Run by hand, in two environments, for folders of real tokenizers:

    cd scripts/goldens/tokenizers
    python check_tokenizers.py reference FILE FOLDER...   # Transformers 5.23.0
    python check_tokenizers.py ours FILE                  # ours: compares, prints the table

The first writes what Transformers does into FILE: with `PreTrainedTokenizerFast`, which runs
`tokenizer.json`, and with the class that `AutoTokenizer` takes, which may build another pipeline
from its vocabulary. The tables of the last run stand in docs/tokenizers.md.
"""

import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _nasty import CHATS, PAIRS, TEXTS

NAMES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
OF_CLASS = ("special ids", *(f"{name} token" for name in NAMES))
"""Answers that a class may take for granted: the class that has no defaults is not asked."""


def main() -> None:
    mode, file, *folders = sys.argv[1:]
    warnings.simplefilter("ignore")
    if mode == "reference":
        Path(file).write_text(json.dumps(reference(folders)))
    else:
        compare(json.loads(Path(file).read_text()))


def reference(folders: list[str]) -> dict[str, Any]:
    """Asks Transformers about each folder, by either class."""
    import transformers

    transformers.logging.set_verbosity_error()
    found: dict[str, Any] = {"version": transformers.__version__, "folders": {}}
    for folder in map(os.path.abspath, folders):
        ways = {"auto": transformers.AutoTokenizer}
        if os.path.exists(os.path.join(folder, "tokenizer.json")):
            ways["file"] = transformers.PreTrainedTokenizerFast
        answers = {}
        for way, cls in ways.items():
            tok = cls.from_pretrained(folder)
            answers[way] = {"class": type(tok).__name__, "found": everything(Theirs(tok))}
        found["folders"][folder] = answers
        print(folder, {way: answer["class"] for way, answer in answers.items()}, flush=True)
    return found


class Theirs:
    """Gives a tokenizer of Transformers the calls of ours."""

    def __init__(self, tok: Any):
        self.tok = tok

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tok, name)

    def __len__(self) -> int:
        return len(self.tok)

    def __call__(self, texts: list[str], **options: Any) -> Any:
        return self.tok(texts, **options)

    def encode(self, text: str, pair: str | None = None, **options: Any) -> list[int]:
        return self.tok(text, pair, **options)["input_ids"]

    def chat(self, messages: Any, **options: Any) -> str:
        return self.tok.apply_chat_template(messages, tokenize=False, **options)


def everything(tok: Any) -> dict[str, Any]:
    """{what was asked: the answer}, of JSON; an error is its kind alone."""
    found: dict[str, Any] = {}
    for i, text in enumerate(TEXTS):
        for special in (True, False):
            ids = tok.encode(text, add_special_tokens=special)
            found[f"text {i}, {special}"] = ids
        found[f"decode {i}"] = tok.decode(ids)
        found[f"decode {i}, skip"] = tok.decode(tok.encode(text), skip_special_tokens=True)
    for i, (text, pair) in enumerate(PAIRS):
        found[f"pair {i}"] = tok.encode(text, pair)
    for name in NAMES:
        found[f"{name} token"] = [
            getattr(tok, f"{name}_token"),
            getattr(tok, f"{name}_token_id") if getattr(tok, f"{name}_token") else None,
        ]
    found["special ids"] = sorted(tok.all_special_ids)
    found["size"] = len(tok)
    if tok.pad_token is not None:
        rows = tok(["a", "a much longer text"], padding=True, padding_side="left")
        found["padded"] = [list(map(int, row)) for row in rows["input_ids"]]
    for name, (messages, options) in CHATS.items():
        found[f"chat, {name}"] = tried(lambda m=messages, o=options: tok.chat(m, **o))
    return found


def tried(call: Callable[[], str]) -> str | None:
    """Renders the chat; None where the template refuses it."""
    try:
        return call()
    except Exception:  # each library has its own for what a template raises
        return None


def compare(expected: dict[str, Any]) -> None:
    """Prints a row for each folder: what was compared, and how much of it differs."""
    import flaxmodels as fm

    rows, examples, wrong = [], [], 0
    for folder, answers in expected["folders"].items():
        found = everything(fm.load_tokenizer(folder))
        chats = sum(1 for key, text in found.items() if key.startswith("chat") and text)
        counts = []
        for way in ("file", "auto"):
            if way not in answers:
                counts.append("-")
                continue
            theirs = answers[way]["found"]
            theirs |= {key: answers["auto"]["found"][key] for key in OF_CLASS}
            keys = found.keys() | theirs.keys()
            odd = sorted(key for key in keys if found.get(key) != theirs.get(key))
            counts.append(f"{len(odd)}")
            wrong += bool(odd) and (way == "file" or "file" not in answers)
            for key in odd[:4]:
                examples.append(f"{Path(folder).name}, {way}, {key}: {of(key)}")
                examples += [
                    f"    ours   {found.get(key)!r:.150}",
                    f"    theirs {theirs.get(key)!r:.150}",
                ]
        name = Path(folder).name
        asked = len(found) - len(CHATS)
        rows.append(
            f"| {name} | {answers['auto']['class']} | {asked} | {chats} | {' | '.join(counts)} |"
        )
    print(f"Transformers {expected['version']}\n")
    print(
        "| folder | class of AutoTokenizer | answers | chats | differences | from AutoTokenizer |"
    )
    print("|---|---|---|---|---|---|")
    print("\n".join([*rows, "", *examples]))
    sys.exit(bool(wrong))


def of(key: str) -> str:
    """Returns the text that an answer is about."""
    kind, _, number = key.partition(" ")
    index = number.partition(",")[0]
    return f"{TEXTS[int(index)]!r:.80}" if kind in ("text", "decode") else ""


if __name__ == "__main__":
    main()

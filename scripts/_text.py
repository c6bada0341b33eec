"""Gathers the text of the bundled checkpoint, which every Python carries; measures bits per byte.

A token is a byte. A share of pydoc's topics, chosen by a hash of their names, is held out; the
other topics, and docstrings of the standard library, are there to train on. Topics quote each
other, so a paragraph of a held-out topic is dropped wherever else it stands.
"""

import ast
import functools
import hashlib
import inspect
import json
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import flaxmodels as fm

WINDOW = 128
"""Bytes that a model sees at once, in training and when it is measured."""

SAMPLE = 768
"""Bytes of the start of every held-out topic that make the sample of the demo."""

Tokens = tuple[Callable[[str], list[int]], Callable[[list[int]], str]]
"""Text -> ids, and ids -> text."""

_START = b"\n\n"  # context for the first byte
_ABSENT = set("distutils lib2to3 tkinter turtle turtledemo idlelib pydoc_data ensurepip".split())
"""Modules that not every Python carries, or that hold no prose."""


def is_held_out(topic: str) -> bool:
    """Says whether a topic is in the eighth that no training sees, by a hash of its name."""
    return hashlib.sha256(topic.encode()).digest()[0] % 8 == 0


def held_out(limit: int | None = None) -> np.ndarray:
    """Returns held-out text, uint8 [N]: the first `limit` bytes of every held-out topic."""
    names = sorted(filter(is_held_out, topics))
    return _bytes(topics[name].encode()[:limit].decode(errors="ignore") for name in names)


def training() -> np.ndarray:
    """Returns text to train on, uint8 [N]: docstrings, and twice the topics, which are measured."""
    names = sorted(name for name in topics if not is_held_out(name))
    prose = [_without_held_out(topics[name]) for name in names]
    code = (text for path in library() for text in docstrings(path))
    return _bytes([*prose, *prose, *map(_without_held_out, code)])


def bits_per_byte(model: Any, params: Any, text: np.ndarray) -> float:
    """-log2 of the probability of a byte, given at least the half window before it; the mean."""
    ids, scored = _windows(text, WINDOW)
    return float(_bits(model, params, ids, scored)) / len(text)


def tokens_of(folder: str, config: Any) -> Tokens:
    """Returns the tokenizer of a checkpoint; bytes, if it has none."""
    size = config.vocab_size
    try:
        tok = fm.load_tokenizer(folder)
    except (ImportError, fm.CheckpointError) as error:
        print(f"no tokenizer: bytes of the prompt, modulo the vocabulary, stand in: {error}")
        return lambda text: [byte % size for byte in text.encode()], lambda ids: f" {ids}"
    if tok.chat_templates:
        return lambda text: tok.encode(said(tok, text), add_special_tokens=False), tok.decode
    return tok.encode, tok.decode


def said(tok: Any, text: str) -> str:
    """Renders a text as a user's turn of a chat, with the beginning of an answer."""
    return tok.chat([{"role": "user", "content": text}])


def write_tokenizer(folder: Path) -> None:
    """Writes the tokenizer whose tokens are the bytes of a text. Byte 0 pads: no text has it."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tok = Tokenizer(models.BPE({byte_name(i): i for i in range(256)}, []))
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens([AddedToken(byte_name(0), normalized=False)])
    tok.save(str(folder / "tokenizer.json"), pretty=False)
    settings = {"pad_token": byte_name(0), "padding_side": "left", "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def byte_name(byte: int) -> str:
    """Returns what byte-level BPE calls a byte: itself if it is printed, else a free character."""
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    if byte == 0:
        return "<pad>"
    others = [i for i in range(256) if i not in printed]
    return chr(byte) if byte in printed else chr(256 + others.index(byte))


def left_padded(rows: list[list[int]], config: Any) -> tuple[np.ndarray, np.ndarray]:
    """Pads rows of ids -> ids and mask int32 [B, T]; of a prompt too long, the last part."""
    longest = min(max(map(len, rows)), (config.position_limit or sys.maxsize) // 2)
    rows = [row[-longest:] for row in rows]
    ids = np.full((len(rows), longest), config.pad_token_id or 0, np.int32)
    mask = np.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, longest - len(row) :], mask[i, longest - len(row) :] = row, 1
    return ids, mask


@functools.partial(jax.jit, static_argnums=0)
def _bits(model: Any, params: Any, ids: jax.Array, scored: jax.Array) -> jax.Array:
    logits = model.apply({"params": params}, ids[:, :-1]).logits.astype(jnp.float32)
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, ids[:, 1:])
    return jnp.sum(nats * scored[:, 1:]) / jnp.log(2)


def _windows(text: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Cuts overlapping windows int32 [W, size], and says which bytes each of them scores."""
    half = size // 2
    data = np.concatenate([np.frombuffer(_START, np.uint8), text])
    count = max(1, -(-(len(data) - half) // half))
    places = np.arange(count)[:, None] * half + np.arange(size)
    first = np.where(np.arange(count) == 0, len(_START), half)
    scored = (np.arange(size) >= first[:, None]) & (places < len(data))
    return data[np.minimum(places, len(data) - 1)].astype(np.int32), scored


def _bytes(documents: Any) -> np.ndarray:
    return np.frombuffer("\n\n".join(map(str.strip, documents)).encode(), np.uint8)


@functools.cache
def _held_out_paragraphs() -> frozenset[str]:
    return frozenset(
        _squeezed(paragraph)
        for name in filter(is_held_out, topics)
        for paragraph in topics[name].split("\n\n")
    )


def _without_held_out(text: str) -> str:
    held = _held_out_paragraphs()
    return "\n\n".join(part for part in text.split("\n\n") if _squeezed(part) not in held)


def _squeezed(paragraph: str) -> str:
    return " ".join(paragraph.split())


def modules(name: str) -> Iterator[Path]:
    """Yields the pure Python files of a module of the standard library, without its tests."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in [root / f"{name}.py", *sorted((root / name).rglob("*.py"))]:
        if path.exists() and "test" not in str(path.relative_to(root)):
            yield path


def docstrings(path: Path) -> Iterator[str]:
    """Yields those of a file: of the module, of its classes and functions."""
    return (inspect.cleandoc(str(node.value)) for node in _docstring_nodes(path))


def _docstring_nodes(path: Path) -> Iterator[ast.Constant]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd escapes in the source
        tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            match node.body:
                case [ast.Expr(ast.Constant(str()) as docstring), *_]:
                    yield docstring


def library() -> Iterator[Path]:
    """Yields the pure Python files of all of the standard library, by the names of modules."""
    for name in sorted(sys.stdlib_module_names - _ABSENT):
        yield from modules(name)

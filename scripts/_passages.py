"""Passages of docstrings, labelled by the standard-library package that they come from.

A passage is up to 31 words of a docstring that stands in one split, by a hash of its text. Word
vectors are made from the library's code without its docstrings, so that they have seen no passage.
"""

import collections
import functools
import hashlib
import re
from collections.abc import Iterator
from typing import NamedTuple

import _text
import numpy as np

PACKAGES = (
    *("asyncio", "collections", "email", "encodings", "http", "importlib"),
    *("logging", "multiprocessing", "urllib", "wsgiref", "xml", "xmlrpc"),
)
SPLITS = {"training": range(5), "validation": range(5, 8), "held out": range(8, 16)}
"""Sixteenths of the docstrings."""

LENGTH = 32
"""Tokens of a passage: [CLS] and up to 31 words."""

PAD, UNKNOWN, CLS = range(3)
VOCABULARY = 6000
_LEAST = 5  # words that a passage must have
_WINDOW = 6  # words on either side that count as a word's context


class Passages(NamedTuple):
    """Words of every passage, and labels int32 [N]: places in `PACKAGES`."""

    words: list[list[str]]
    labels: np.ndarray


def passages(split: str) -> Passages:
    """Those of one of `SPLITS`; no docstring stands twice."""
    words, labels = [], []
    for text, label in _docstrings():
        if hashlib.sha256(text.encode()).digest()[0] % 16 in SPLITS[split]:
            found = list(_cut(_words(text)))
            words += found
            labels += [label] * len(found)
    return Passages(words, np.array(labels, np.int32))


@functools.cache
def _docstrings() -> list[tuple[str, int]]:
    """Lists the docstrings of `PACKAGES`, none twice, with the place of the first that has it."""
    found: dict[str, int] = {}
    for label, package in enumerate(PACKAGES):
        for path in _text.modules(package):
            for text in _text.docstrings(path):
                found.setdefault(text, label)
    return list(found.items())


class Vectors(NamedTuple):
    """Word -> row, and the rows, float32 [V, D], of standard deviation 1; those of PAD, UNKNOWN and
    CLS are zero."""

    rows: dict[str, int]
    table: np.ndarray

    def ids(self, passages: Passages) -> np.ndarray:
        """Token ids, int32 [N, LENGTH]."""
        ids = np.full((len(passages.words), LENGTH), PAD, np.int32)
        ids[:, 0] = CLS
        for row, words in zip(ids, passages.words, strict=True):
            row[1 : 1 + len(words)] = [self.rows.get(word, UNKNOWN) for word in words]
        return ids


@functools.cache
def vectors(width: int) -> Vectors:
    """Of the commonest words: positive pointwise mutual information with the words around them,
    its largest singular values (Levy et al. 2015, https://aclanthology.org/Q15-1016)."""
    text = [word for path in _text.library() for word in _words(_text.without_docstrings(path))]
    common = collections.Counter(text).most_common(VOCABULARY - CLS - 1)
    rows = {word: CLS + 1 + i for i, (word, _) in enumerate(common)}
    counts = _neighbours(np.array([rows.get(word, UNKNOWN) for word in text]))[CLS + 1 :, CLS + 1 :]
    contexts = counts.sum(0) ** 0.75
    expected = counts.sum(1, keepdims=True) * (contexts / contexts.sum())
    counts = np.log(np.maximum(counts / np.maximum(expected, 1e-9), 1))  # positive, and sparse
    table = np.zeros((VOCABULARY, width), np.float32)
    table[CLS + 1 : CLS + 1 + len(counts)] = _reduced(counts, width)
    return Vectors(rows, table / table.std())


def _neighbours(ids: np.ndarray) -> np.ndarray:
    """How often one stands near another, float32 [V, V]."""
    codes = [ids[:-step] * VOCABULARY + ids[step:] for step in range(1, _WINDOW + 1)]
    counts = sum(np.bincount(code, minlength=VOCABULARY**2).astype(np.float32) for code in codes)
    counts = np.asarray(counts).reshape(VOCABULARY, VOCABULARY)
    return counts + counts.T


def _reduced(matrix: np.ndarray, width: int) -> np.ndarray:
    """A symmetric matrix's largest eigenvectors times the roots of their values, by subspace
    iteration."""
    basis = np.random.default_rng(0).standard_normal((len(matrix), width + 32), np.float32)
    for _ in range(8):
        basis, _ = np.linalg.qr(matrix @ basis)
    values, inner = np.linalg.eigh(basis.T @ matrix @ basis)
    largest = np.argsort(-np.abs(values))[:width]
    return basis @ inner[:, largest] * np.sqrt(np.abs(values[largest]))


def _words(text: str) -> list[str]:
    """Lower-case words and numbers, of names in either style too.

    >>> _words("An HTTPServer's read_line(), 2 lines")
    ['an', 'http', 'server', 's', 'read', 'line', '2', 'lines']
    """
    return [x.lower() for x in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", text)]


def _cut(words: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(words), LENGTH - 1):
        if len(passage := words[start : start + LENGTH - 1]) >= _LEAST:
            yield passage

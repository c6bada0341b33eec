"""Datasets with the protocols of Hugging Face's and grain's, and models to prepare them for."""

import numpy as np
from _drawn import tiny_llama

import flaxmodels as fm

SIZES = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
SIZES |= {"num_attention_heads": 2, "max_position_embeddings": 64}


def llama(**fields):
    """A causal LM without a limit of positions."""
    return fm.LlamaForCausalLM(tiny_llama(pad_token_id=0, **fields))


def bert(name="ForSequenceClassification", **fields):
    return getattr(fm, f"Bert{name}")(fm.BertConfig(**SIZES | {"pad_token_id": 0} | fields))


def rows_of(count, longest=30, seed=0):
    """Rows of 3 to `longest` tokens, 1 to 63; the first is the row's number."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, longest + 1, count)
    return [
        {"input_ids": [1 + i % 63, *rng.integers(1, 64, length - 1).tolist()]}
        for i, length in enumerate(lengths)
    ]


def same(one, other):
    """Asserts that two lists of batches are equal, bit for bit."""
    assert len(one) == len(other)
    for x, y in zip(one, other, strict=True):
        assert x.keys() == y.keys()
        for name in x:
            assert x[name].dtype == y[name].dtype
            np.testing.assert_array_equal(np.asarray(x[name]), np.asarray(y[name]))


class Table:
    """As `datasets.Dataset`: rows by a list of numbers come as columns."""

    def __init__(self, columns):
        self.columns = columns

    @property
    def column_names(self):
        return list(self.columns)

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def __getitem__(self, indices):
        assert isinstance(indices, list) and all(type(i) is int for i in indices)
        return {name: [x[i] for i in indices] for name, x in self.columns.items()}

    def select_columns(self, names):
        return Table({name: self.columns[name] for name in names})


class Iterating:
    """As `datasets.IterableDataset`: rows one after another, in an order of each epoch."""

    def __init__(self, rows):
        self.rows, self.epochs = rows, []

    def set_epoch(self, epoch):
        self.epochs.append(epoch)

    def __iter__(self):
        return iter(self.rows)


class Mapped:
    """As `grain.MapDataset`: a length, a row by its number, None for one that was filtered."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


def words(texts, pairs=None):
    """A tokenizer: the length of each word; 63 before a second text."""
    seconds = [None] * len(texts) if pairs is None else pairs
    ids = lambda text: [] if text is None else [len(word) for word in text.split()]  # noqa: E731
    return [
        ids(text) + ([63] if pair is not None else []) + ids(pair)
        for text, pair in zip(texts, seconds, strict=True)
    ]

"""Masked language modelling: which tokens of a row are hidden, and what stands in their place.

Source: Devlin et al. 2019, arXiv:1810.04805, section 3.1.
"""

import dataclasses
from collections.abc import Sequence, Sized

import numpy as np

from ..collate import IGNORED
from .draws import mixed, uniform
from .sources import Row


@dataclasses.dataclass(frozen=True)
class Masking:
    """Chooses tokens that are not special, and of these turns 80% into the mask, 10% into any token
    of the vocabulary, and leaves 10% as they are; `labels` are the chosen tokens, and -100
    elsewhere.

    What is drawn follows from the keys of an epoch and the row's place in the dataset.

    Attributes:
        probability: of a token to be chosen.
        mask_id: the mask.
        vocab_size: how many tokens there are.
        special_ids: tokens that are never chosen.
    """

    probability: float
    mask_id: int
    vocab_size: int
    special_ids: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: object, probability: float, vocab_size: int) -> "Masking":
        """Makes one for a tokenizer, with the special tokens that it names.

        Raises:
            ValueError: a tokenizer without a mask.
        """
        mask = getattr(tokenizer, "mask_token_id", None)
        if mask is None:
            raise ValueError(
                "a masked language model, and the tokenizer has no mask token: load it with "
                "mask_token=, give a column of labels, or mlm_probability=0 for no labels"
            )
        special = tuple(getattr(tokenizer, "all_special_ids", (mask,)))
        words = min(vocab_size, len(tokenizer)) if isinstance(tokenizer, Sized) else vocab_size
        return cls(probability, mask, words, special)

    def masked(
        self, rows: Sequence[Row], keys: tuple[int, ...], indices: Sequence[int]
    ) -> list[Row]:
        """Returns rows with tokens hidden, and `labels`; those that have labels as they are."""
        found = [i for i, row in enumerate(rows) if not {"labels", "label_ids"} & row.keys()]
        made = [dict(row) for row in rows]
        if not found:
            return made
        ids = [np.asarray(rows[i]["input_ids"]) for i in found]
        free = np.concatenate([_ordinary(made[i], x) for i, x in zip(found, ids, strict=True)])
        sizes = np.array([x.size for x in ids])
        ends = np.cumsum(sizes)
        numbers = np.repeat(np.array([indices[i] for i in found]), sizes)
        places = np.arange(ends[-1]) - np.repeat(ends - sizes, sizes)
        flat = np.concatenate([x.ravel() for x in ids])
        new, labels = self._drawn(flat, free, mixed(*keys, numbers, places))
        for i, x, end in zip(found, ids, ends, strict=True):
            part = slice(end - x.size, end)
            made[i]["input_ids"] = new[part].reshape(x.shape)
            made[i]["labels"] = labels[part].reshape(x.shape)
        return made

    def _drawn(
        self, ids: np.ndarray, free: np.ndarray, keys: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns what is read, and the labels, of tokens [T] with keys of their own, of which
        those that are `free` may be chosen."""
        chosen = free & (uniform(keys, 0) < self.probability) & ~np.isin(ids, self.special_ids)
        kind = uniform(keys, 1)
        words = (mixed(keys, 2) % np.uint64(self.vocab_size)).astype(ids.dtype)
        hidden = np.where(kind < 0.8, self.mask_id, np.where(kind < 0.9, words, ids))
        return np.where(chosen, hidden, ids).astype(ids.dtype), np.where(chosen, ids, IGNORED)


def _ordinary(row: Row, ids: np.ndarray) -> np.ndarray:
    """Tells which tokens of a row are neither padding nor special, by its masks, bool [T]; takes
    the mask of special ones out of it."""
    free = np.ones(ids.size, bool)
    if (mask := row.get("attention_mask")) is not None:
        free &= np.asarray(mask).ravel() != 0
    if (special := row.pop("special_tokens_mask", None)) is not None:
        free &= np.asarray(special).ravel() == 0
    return free

"""Masked language modelling: which tokens of a row are hidden, and what stands in their place.

Source: Devlin et al. 2019, arXiv:1810.04805, section 3.1.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

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
    def of(cls, tokenizer: Any, probability: float, vocab_size: int) -> "Masking":
        """Makes one for a tokenizer, with the special tokens that it names.

        Raises:
            ValueError: a tokenizer without a mask, or no probability.
        """
        if not 0 < probability <= 1:
            raise ValueError(f"mlm_probability={probability!r}; expected more than 0, at most 1")
        mask = getattr(tokenizer, "mask_token_id", None)
        if mask is None:
            raise ValueError(
                "a masked language model, and the tokenizer has no mask token: load it with "
                "mask_token=, give a column of labels, or mlm_probability=0 for no labels"
            )
        special = tuple(getattr(tokenizer, "all_special_ids", (mask,)))
        return cls(probability, mask, vocab_size, special)

    def masked(
        self, rows: Sequence[Row], keys: tuple[int, ...], indices: Sequence[int]
    ) -> list[Row]:
        """Returns rows with tokens hidden, and `labels`; those that have labels as they are."""
        return [
            row if "labels" in row or "label_ids" in row else self._masked(row, (*keys, int(index)))
            for row, index in zip(rows, indices, strict=True)
        ]

    def _masked(self, row: Row, keys: tuple[int, ...]) -> Row:
        row = dict(row)
        ids = np.asarray(row["input_ids"])
        draws = uniform(*keys, np.arange(ids.size), np.arange(2)[:, None])
        chosen, kind = (draw.reshape(ids.shape) for draw in draws)
        chosen = (chosen < self.probability) & ~np.isin(ids, self.special_ids)
        if (mask := row.get("attention_mask")) is not None:
            chosen &= np.asarray(mask) != 0
        if (special := row.pop("special_tokens_mask", None)) is not None:
            chosen &= np.asarray(special) == 0
        words = mixed(*keys, np.arange(ids.size), 2) % np.uint64(self.vocab_size)
        words = words.reshape(ids.shape).astype(ids.dtype)
        hidden = np.where(kind < 0.8, self.mask_id, np.where(kind < 0.9, words, ids))
        new = np.where(chosen, hidden, ids).astype(ids.dtype)
        return row | {"input_ids": new, "labels": np.where(chosen, ids, IGNORED)}

"""Decoding: ids to texts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from ..params.errors import printable
from ..params.scalars import flag
from .batches import listed
from .pipeline import of_library
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    from .vocabulary import Ids

_CLEANED = (  # pairs of what `decode` replaces, in this order: English before its punctuation
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)


class Decodes(Vocabulary):
    """Adds texts of ids to a vocabulary."""

    def decode(
        self,
        ids: int | Ids,
        *,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
    ) -> str:
        """Turns the ids of one text into the text.

        Args:
            ids: int [T]; ids that the vocabulary does not have are left out.
            skip_special_tokens: leave out special tokens.
            clean_up_tokenization_spaces: take out spaces before English punctuation; None as the
                files say. BPE has no such spaces, and nothing is taken out.

        Raises:
            TypeError: ids that are no whole numbers.
            ValueError: a batch, or negative ids.
        """
        numbers = listed([ids] if isinstance(ids, int | np.integer) else ids)
        skip = flag("skip_special_tokens", skip_special_tokens)
        with self._speaking("decoded"):
            text = self._pipeline.decode(numbers, skip_special_tokens=skip)
        clean = self._settings.clean_up
        if clean_up_tokenization_spaces is not None:
            clean = flag("clean_up_tokenization_spaces", clean_up_tokenization_spaces)
        is_bpe = type(self._pipeline.model).__name__ == "BPE"
        if clean and not is_bpe:
            for spaced, joined in _CLEANED:
                text = text.replace(spaced, joined)
        return text

    def batch_decode(
        self,
        rows: Iterable[Ids],
        *,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
    ) -> list[str]:
        """Turns rows of ids, int [B, T] or a list of [T], into their texts, each as `decode`."""
        clean = clean_up_tokenization_spaces
        return [
            self.decode(
                row, skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=clean
            )
            for row in rows
        ]

    @contextlib.contextmanager
    def _speaking(self, what: str) -> Iterator[None]:
        """Turns what the library raises into `ValueError`."""
        try:
            yield
        except BaseException as error:
            if not of_library(error):
                raise
            if "TextEncodeInput" in str(error):
                error = "a text holds half of a surrogate pair, which is no character"
            raise ValueError(f"{self.folder}: could not be {what}: {printable(error)}") from None

"""`Tokenizer`: texts to arrays of ids and back, special tokens, chats."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self

import numpy as np

from ..params.errors import quoted
from ..params.scalars import flag
from .batches import common_length, filled, length_of, text_of, texts_of
from .chat_mixin import Chats
from .chat_templates import Template
from .decoding import Decodes
from .language_mixin import Speaks, copied
from .settings import Settings

if TYPE_CHECKING:
    import tokenizers

    from .vocabularies.words_and_bytes import Read

    Rows = list[str] | list[tuple[str, str]]

_TRUNCATIONS = ("longest_first", "only_first", "only_second")


class Tokenizer(Speaks, Chats, Decodes):
    """Turns texts into ids and back as the files of a folder say; see `load_tokenizer`.

    It may be used by several threads. `tok(texts)` gives arrays for a model, `tok.encode(text)` a
    list, and `tok.chat(messages)` the text, or the arrays, of a chat.

    Attributes:
        special_tokens: {name: token}, "eos_token" and others.
        padding_side: "left" or "right"; what the files say, or left for a decoder.
        truncation_side: "left" or "right".
        model_max_length: tokens that the model takes; None where the files do not say.
        chat_templates: {name: template}.
    """

    def __init__(
        self,
        pipeline: tokenizers.Tokenizer,
        settings: Settings,
        templates: Mapping[str, Template],
        folder: str = "",
        target: Read | None = None,
    ):
        super().__init__(pipeline, settings, templates, folder)
        self._lock = threading.Lock()  # truncation is a state of the pipeline
        self.padding_side = settings.padding_side
        self.truncation_side = settings.truncation_side
        self.model_max_length = settings.model_max_length
        if target is not None:
            self._target = self._remade(*target)

    def __getstate__(self) -> dict[str, object]:
        """Leaves out the lock, so that a tokenizer can be sent to another process."""
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state, _lock=threading.Lock())

    def __repr__(self) -> str:
        return f"Tokenizer({self._folder!r}, {len(self)} tokens, pads {self.padding_side})"

    @property
    def gives_token_types(self) -> bool:
        """Whether the files say that the model reads which text of a pair a token is of."""
        return self._settings.token_type_ids

    @property
    def is_lowercasing(self) -> bool:
        """Whether `lowercasing` made it."""
        return self._settings.lowercasing

    def lowercasing(self) -> Self:
        """Returns a tokenizer that makes texts lower case before anything else."""
        from tokenizers import normalizers

        pipeline = copied(self._pipeline)
        steps = [normalizers.Lowercase(), *filter(None, [pipeline.normalizer])]
        pipeline.normalizer = normalizers.Sequence(steps)
        settings = dataclasses.replace(self._settings, lowercasing=True)
        return self._remade(pipeline, settings)

    def tokenize(self, text: str, *, add_special_tokens: bool = False) -> list[str]:
        """Splits a text into tokens."""
        return self._encode([text_of(text)], add_special_tokens)[0].tokens

    def encode(
        self, text: str, pair: str | None = None, *, add_special_tokens: bool = True
    ) -> list[int]:
        """Turns a text, or a pair of them, into ids, neither padded nor cut."""
        rows = self._inputs([text], None if pair is None else [pair])
        return self._ids(self._encode(rows, add_special_tokens)[0])

    def encode_rows(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        *,
        max_length: int | None = None,
        add_special_tokens: bool = True,
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Turns texts, or pairs of them, into rows that are not padded, for batches of one's own
        -> ids int32 [T] of each, and which text of a pair each token is of.

        Args:
            max_length: cut a row to this many tokens, special tokens among them, a pair where it
                is longest.
        """
        cut = length_of("max_length", max_length)
        rows = self._encode(self._inputs(texts, pairs), add_special_tokens, cut)
        return [
            (np.array(self._ids(row), np.int32), np.array(row.type_ids, np.int32)) for row in rows
        ]

    def __call__(
        self,
        texts: str | Sequence[str],
        pairs: str | Sequence[str] | None = None,
        *,
        padding: bool | str = True,
        pad_to: int | None = None,
        max_length: int | None = None,
        truncation: bool | str | None = None,
        add_special_tokens: bool = True,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_token_type_ids: bool | None = None,
    ) -> dict[str, np.ndarray]:
        """Turns texts into arrays for a model.

        Args:
            texts: a text (one row) or a list of them.
            pairs: a second text for each.
            padding: True or "longest" (to the longest row), "max_length" (to `max_length`, or to
                what the model takes), or False: then rows must be of one length.
            pad_to: pad to this many tokens, so that a program is compiled once; a longer row is an
                error, unless it is cut.
            max_length: cut rows to this many tokens, special tokens among them.
            truncation: True or "longest_first", "only_first", "only_second": which text of a pair
                is cut; without `max_length`, to what the model takes. False cuts nothing, and
                `max_length` is then for `padding` alone. None is True where there is a
                `max_length`.
            add_special_tokens: those of the file, as [CLS] and [SEP], or <s>.
            pad_to_multiple_of: round the length up.
            padding_side: "left" or "right", instead of the tokenizer's.
            return_token_type_ids: also give which text of a pair a token is of; None where the
                files say that the model reads it.

        Returns:
            int32 [B, T]: input_ids, attention_mask (0 for padding), and maybe token_type_ids.

        Raises:
            TypeError: texts that are none.
            ValueError: rows of several lengths and no padding token; a row longer than `pad_to`;
                arguments that contradict each other, or lengths that are none.
        """
        inputs = self._inputs(texts, pairs)
        max_length, pad_to = length_of("max_length", max_length), length_of("pad_to", pad_to)
        multiple = length_of("pad_to_multiple_of", pad_to_multiple_of)
        truncation = _how_to_cut(truncation, max_length, padding)
        cut = (max_length or self._longest("truncation")) if truncation else None
        encodings = self._encode(inputs, add_special_tokens, cut, truncation)
        rows = [*map(self._ids, encodings)]
        to_longest = padding == "max_length" and pad_to is None
        longest = (max_length or self._longest('padding="max_length"')) if to_longest else None
        length = common_length(rows, padding, pad_to, multiple, longest)
        side = self.padding_side if padding_side is None else padding_side
        ids, mask = filled(rows, length, side, self._pad(rows, length))
        result = {"input_ids": ids, "attention_mask": mask}
        wanted = return_token_type_ids
        if self.gives_token_types if wanted is None else flag("return_token_type_ids", wanted):
            kinds = [encoding.type_ids for encoding in encodings]
            result["token_type_ids"], _ = filled(kinds, length, side, 0)
        return result

    def _inputs(self, texts: object, pairs: object) -> Rows:
        if isinstance(texts, str):
            texts, pairs = [texts], None if pairs is None else [pairs]
        firsts = texts_of(texts)
        if pairs is None:
            return firsts
        seconds = [pairs] if isinstance(pairs, str) else texts_of(pairs, "pairs")
        if len(seconds) != len(firsts):
            raise ValueError(f"{len(firsts)} texts, and {len(seconds)} pairs: one for each")
        return [*zip(firsts, seconds, strict=True)]

    def _ids(self, encoding: tokenizers.Encoding) -> list[int]:
        known, unknown = self._settings.known, self.unk_token_id
        if known is None or unknown is None:
            return encoding.ids
        return [number if number < known else unknown for number in encoding.ids]

    def _longest(self, for_what: str) -> int:
        if self.model_max_length is None:
            raise ValueError(
                f"{for_what} without max_length: the files do not say how many tokens the model "
                "takes; give max_length"
            )
        return length_of("model_max_length", self.model_max_length) or 0

    def _encode(
        self, rows: Rows, special: bool, cut: int | None = None, how: bool | str = True
    ) -> list[tokenizers.Encoding]:
        if self._settings.languages is not None:
            for row in rows:
                self._settings.languages.check_mark(row if isinstance(row, str) else row[0])
        special = flag("add_special_tokens", special)
        strategy = how if isinstance(how, str) else "longest_first"
        with self._lock:
            if cut is None:
                self._pipeline.no_truncation()
            else:
                self._pipeline.enable_truncation(
                    cut, strategy=strategy, direction=self.truncation_side
                )
            with self._speaking("encoded"):
                encodings = self._pipeline.encode_batch(rows, add_special_tokens=special)
        if cut is not None and any(len(encoding) > cut for encoding in encodings):
            raise ValueError(f"max_length={cut} has no room for the special tokens alone")
        return encodings

    def _pad(self, rows: list[list[int]], length: int) -> int:
        """Returns the id that pads rows to a length; raises `ValueError` where one is needed, and
        there is none."""
        if self.pad_token_id is None and any(len(row) < length for row in rows):
            raise ValueError(
                "rows are to be padded, and the tokenizer has no padding token: load it with "
                f"pad_token={quoted(self.eos_token or 'one of its tokens')}; which one does not "
                "matter, since attention_mask is 0 there"
            )
        return self.pad_token_id or 0


def _how_to_cut(how: bool | str | None, max_length: int | None, padding: bool | str) -> bool | str:
    """Returns how rows are cut; raises ValueError for what contradicts the other arguments."""
    if how is None:
        return max_length is not None
    if how not in (True, False, *_TRUNCATIONS):
        raise ValueError(f"truncation={how!r}; expected True, False, {', '.join(_TRUNCATIONS)}")
    if how is False and max_length is not None and padding != "max_length":
        raise ValueError(
            "truncation=False, and max_length is what rows are cut to: give one of them, or "
            'padding="max_length"'
        )
    return how

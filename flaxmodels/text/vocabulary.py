"""Tokens and ids: what a vocabulary has, and which of its tokens are special."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self, overload

import numpy as np

from .batches import listed, texts_of
from .settings import Settings

if TYPE_CHECKING:
    import jax
    import tokenizers

    from .chat_templates import Template

    Ids = Sequence[int] | np.ndarray | jax.Array


def _token(name: str) -> property:
    return property(
        lambda self: self.special_tokens.get(name), doc=f"The {name}, or None where there is none."
    )


def _token_id(name: str) -> property:
    return property(
        lambda self: self._id_of_named(name), doc=f"The id of the {name}, or None without one."
    )


class Vocabulary:
    """A pipeline and its tokens: the base of what a tokenizer does with them.

    Attributes:
        special_tokens: {name: token}, "eos_token" and others.
        chat_templates: {name: template}.
    """

    def __init__(
        self,
        pipeline: tokenizers.Tokenizer,
        settings: Settings,
        templates: Mapping[str, Template],
        folder: str = "",
    ):
        self._pipeline, self._settings, self._folder = pipeline, settings, folder
        self.chat_templates = dict(templates)
        granted = {
            name: token
            for name, token in settings.taken_for_granted.items()
            if pipeline.token_to_id(token) is not None
        }
        named = {name: token.content for name, token in settings.named.items()}
        self.special_tokens: dict[str, str] = {**granted, **named}

    def _remade(self, pipeline: tokenizers.Tokenizer, settings: Settings) -> Self:
        """Returns a tokenizer of another pipeline, and else like this one."""
        return type(self)(pipeline, settings, self.chat_templates, self._folder)

    @property
    def folder(self) -> str:
        """Where its files are; "" for one without."""
        return self._folder

    bos_token, bos_token_id = _token("bos_token"), _token_id("bos_token")
    eos_token, eos_token_id = _token("eos_token"), _token_id("eos_token")
    unk_token, unk_token_id = _token("unk_token"), _token_id("unk_token")
    sep_token, sep_token_id = _token("sep_token"), _token_id("sep_token")
    pad_token, pad_token_id = _token("pad_token"), _token_id("pad_token")
    cls_token, cls_token_id = _token("cls_token"), _token_id("cls_token")
    mask_token, mask_token_id = _token("mask_token"), _token_id("mask_token")

    def _id_of_named(self, name: str) -> int | None:
        token = self.special_tokens.get(name)
        return None if token is None else self._pipeline.token_to_id(token)

    @property
    def all_special_tokens(self) -> list[str]:
        """The special tokens, each once: those with a name, then the others."""
        extra = (token.content for token in self._settings.extra)
        return [*dict.fromkeys([*self.special_tokens.values(), *extra])]

    @property
    def all_special_ids(self) -> list[int]:
        """The ids of `all_special_tokens`."""
        ids = map(self._pipeline.token_to_id, self.all_special_tokens)
        return [number for number in ids if number is not None]

    @property
    def vocab_size(self) -> int:
        """The number of tokens without those that were added; `len` counts all."""
        size = self._pipeline.get_vocab_size(with_added_tokens=False)
        return size if self._settings.known is None else min(size, self._settings.known)

    def __len__(self) -> int:
        known = self._settings.known
        return self._pipeline.get_vocab_size() if known is None else len(self.get_vocab())

    def __bool__(self) -> bool:
        return True

    def get_vocab(self) -> dict[str, int]:
        """Returns {token: id} of all tokens."""
        found, known = self._pipeline.get_vocab(), self._settings.known
        if known is None:
            return found
        return {token: number for token, number in found.items() if number < known}

    def get_added_vocab(self) -> dict[str, int]:
        """Returns {token: id} of the tokens that are found in a text before it is split."""
        added = self._pipeline.get_added_tokens_decoder()
        return {token.content: number for number, token in sorted(added.items())}

    @overload
    def convert_tokens_to_ids(self, tokens: str) -> int | None: ...

    @overload
    def convert_tokens_to_ids(self, tokens: list[str] | tuple[str, ...]) -> list[int | None]: ...

    def convert_tokens_to_ids(self, tokens: str | Sequence[str]) -> int | None | list[int | None]:
        """Looks up a token, or each of a list; one that is not there gives the unknown token's id,
        or None without one."""
        if not isinstance(tokens, str):
            return [self.convert_tokens_to_ids(token) for token in texts_of(tokens, "tokens")]
        number = self._pipeline.token_to_id(tokens)
        return self.unk_token_id if number is None else number

    @overload
    def convert_ids_to_tokens(self, ids: int) -> str | None: ...

    @overload
    def convert_ids_to_tokens(self, ids: Ids) -> list[str | None]: ...

    def convert_ids_to_tokens(self, ids: int | Ids) -> str | None | list[str | None]:
        """Looks up an id, or each of a list; None for one that is not there."""
        if isinstance(ids, int | np.integer):
            return self._pipeline.id_to_token(*listed([ids]))
        return [self._pipeline.id_to_token(number) for number in listed(ids)]

"""Speaking: the languages of a tokenizer, and the tokens that they add to a text."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Self

from .languages import codes as lists
from .languages.forms import FORMS, MARK, Languages
from .settings import Settings
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    import tokenizers


def find_languages(pipeline: tokenizers.Tokenizer, settings: Settings) -> Languages | None:
    """Finds the languages of a tokenizer; None for a class without any, or a vocabulary."""
    form = FORMS.get(settings.cls)
    if form is None:
        return None
    if form.says_target:
        marks = sorted(filter(MARK.fullmatch, pipeline.get_vocab(with_added_tokens=True)))
        return Languages({mark[2:-2]: mark for mark in marks}, form)
    codes = form.codes
    if settings.values.get("language_codes") == "wmt21":
        codes = lists.WMT_21
    tokens = {code: form.token.format(code) for code in codes}
    if form.token == "{}":  # a fine-tune adds languages as special tokens
        added = (token.content for token in settings.extra)
        tokens |= {text: text for text in added if re.fullmatch(r"[a-z]{2,3}_\w{2,4}", text)}
    tokens = {code: x for code, x in tokens.items() if pipeline.token_to_id(x) is not None}
    source = settings.values.get("src_lang") or form.source
    target = settings.values.get("tgt_lang")
    known = [code if code in tokens else None for code in (source, target)]
    return Languages(tokens, form, *known) if tokens else None


def set_template(
    pipeline: tokenizers.Tokenizer, settings: Settings, *, as_target: bool = False
) -> None:
    """Sets which tokens are added to a text: its language's, and the end of it."""
    from tokenizers import processors

    languages, eos = settings.languages, settings.named["eos_token"].content
    assert languages is not None
    form = languages.form
    if form.says_target:
        code = None if as_target else languages.target
    else:
        code = (languages.target or languages.source) if as_target else languages.source
    said = [] if code is None else [languages.token(code)]
    before, after = ([], [eos, *said]) if form.at_end else (said, [eos])
    special = [(token, pipeline.token_to_id(token)) for token in {eos, *said}]
    pipeline.post_processor = processors.TemplateProcessing(
        single=[*before, "$A", *after], pair=[*before, "$A", "$B", *after], special_tokens=special
    )


class Speaks(Vocabulary):
    """Adds languages to a tokenizer."""

    _target: Speaks | None = None

    @property
    def languages(self) -> tuple[str, ...]:
        """The codes of the languages; () of a tokenizer without."""
        found = self._settings.languages
        return () if found is None else tuple(found.tokens)

    @property
    def src_lang(self) -> str | None:
        """The language of texts; None where nobody said, or there are none."""
        found = self._settings.languages
        return found.source if found else None

    @property
    def tgt_lang(self) -> str | None:
        """The language that texts are to become; None where nobody said, or there are none."""
        found = self._settings.languages
        return found.target if found else None

    def language_id(self, code: str) -> int:
        """Returns the id of a language's token: `forced_bos_token_id` of `generate`.

        Raises:
            ValueError: there is no such language, with the nearest.
        """
        number = self._pipeline.token_to_id(self._known().token(code))
        assert number is not None
        return number

    def with_languages(self, src_lang: str | None = None, tgt_lang: str | None = None) -> Self:
        """Returns a tokenizer of texts in other languages; None leaves one as it is.

        Raises:
            ValueError: there is no such language, with the nearest.
        """
        found = self._known().with_codes(src_lang, tgt_lang)
        settings = dataclasses.replace(self._settings, languages=found)
        made = self._remade(copied(self._pipeline), settings)
        set_template(made._pipeline, settings)
        made._target = self._target
        return made

    def as_target(self) -> Self:
        """Returns the tokenizer of what texts are to become: labels of a model, in `tgt_lang`. Of a
        tokenizer without languages, itself."""
        if self._settings.languages is None:
            return self
        source = self if self._target is None else self._target
        made = self._remade(copied(source._pipeline), self._settings)
        set_template(made._pipeline, self._settings, as_target=True)
        return made

    def _known(self) -> Languages:
        if self._settings.languages is None:
            raise ValueError("the tokenizer has no languages")
        return self._settings.languages


def copied(pipeline: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """Returns a pipeline of its own, of the same parts."""
    from tokenizers import Tokenizer

    copy = Tokenizer.from_str(pipeline.to_str())
    copy.encode_special_tokens = pipeline.encode_special_tokens
    return copy

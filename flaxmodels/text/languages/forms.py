"""How the tokenizers of a class say a language, and the languages that one has."""

import dataclasses
import difflib
import re
from collections.abc import Mapping

from ...params.errors import quoted, some
from . import codes as lists

MARK = re.compile(r">>[^<>]*<<")


@dataclasses.dataclass(frozen=True)
class Form:
    """How a class of tokenizers says a language.

    Attributes:
        codes: what it takes for granted.
        token: of a code, "{}" for itself.
        at_end: the token stands after the end of the text, and not before it.
        source: the language of texts where nobody says one.
        says_target: the token before a source text is that of the language which it is to become.
    """

    codes: tuple[str, ...] = ()
    token: str = "{}"
    at_end: bool = False
    source: str | None = None
    says_target: bool = False


FORMS = {  # {class: form}
    "MBart": Form(lists.MBART, at_end=True, source="en_XX"),
    "MBart50": Form(lists.MBART_50, source="en_XX"),
    "M2M100": Form(lists.M2M_100, "__{}__", source="en"),
    "Marian": Form((), ">>{}<<", says_target=True),
    "Nllb": Form(lists.NLLB, source="eng_Latn"),
}


@dataclasses.dataclass(frozen=True)
class Languages:
    """The languages of a tokenizer.

    Attributes:
        tokens: {code: token}.
        form: where the tokens stand.
        source, target: the codes of the texts; None where nobody said.
    """

    tokens: Mapping[str, str]
    form: Form
    source: str | None = None
    target: str | None = None

    def token(self, code: str) -> str:
        """Returns the token of a language.

        Raises:
            ValueError: there is none, with the nearest that there are.
            TypeError: no text.
        """
        if not isinstance(code, str):
            raise TypeError(
                f"a language is {code!r:.80}; expected its code, such as {[*self.tokens][0]!r}"
            )
        if code in self.tokens:
            return self.tokens[code]
        near = difflib.get_close_matches(code, self.tokens, n=3, cutoff=0.4)
        near += [other for other in self.tokens if other[:2] == code[:2] and other not in near][:3]
        hint = f"; nearest: {some(map(repr, near))}" if near else ""
        raise ValueError(
            f"the tokenizer has no language {quoted(code)}; it has {len(self.tokens)}{hint}"
        )

    def with_codes(self, source: str | None, target: str | None) -> "Languages":
        """Returns the same with other languages of texts; None leaves one as it is."""
        for code in (x for x in (source, target) if x is not None):
            self.token(code)
        return dataclasses.replace(self, source=source or self.source, target=target or self.target)

    def check_mark(self, text: str) -> None:
        """Raises as `token` for a text that begins with a mark, as Marian's do, of a language that
        is not there."""
        if self.form.says_target and self.tokens and (found := MARK.match(text)):
            self.token(found[0][2:-2])

"""Text out of tokens that come one by one."""

from .tokenizer import Tokenizer

_HALF = "\ufffd"  # what decodes to it may be the first bytes of a character
_LONGEST = 8  # tokens that are waited for


class TextStream:
    """Decodes tokens as they come: the pieces that it returns, joined, are the decoded whole.

    A token's text may depend on those before it, and a character may be spread over several tokens.
    So a few tokens are decoded with and without the new ones, and what the new ones add is
    returned once it is whole. WordPiece, which takes out spaces that it has already made, is shown
    with them.
    """

    def __init__(self, tokenizer: Tokenizer, *, skip_special_tokens: bool = True):
        self._tokenizer, self._skip = tokenizer, skip_special_tokens
        self._before: list[int] = []  # tokens whose text was returned, for what comes next
        self._waiting: list[int] = []

    def put(self, token: int) -> str:
        """Takes a token -> the text that is now certain; "" while there is none."""
        self._waiting.append(int(token))
        added = self._added()
        if not added or (added.endswith(_HALF) and len(self._waiting) < _LONGEST):
            return ""
        self._before, self._waiting = self._waiting, []
        return added

    def end(self) -> str:
        """Returns what is left, with half a character as U+FFFD."""
        added, self._before, self._waiting = self._added(), [], []
        return added

    def _added(self) -> str:
        def text(ids: list[int]) -> str:
            return self._tokenizer.decode(ids, skip_special_tokens=self._skip)

        return text([*self._before, *self._waiting])[len(text(self._before)) :]

"""Settings: what a `quantization_config` says, whatever a file has in its place."""

import dataclasses
import math
import re
import warnings
from collections.abc import Collection, Mapping
from typing import NoReturn

from ...errors import CheckpointError, quoted, some
from ...strict_json import Json

_LARGEST = 1 << 24  # numbers of a block
_LONGEST = 4000  # characters of a pattern
_MOST = 1000  # patterns
_WAYS = 50_000_000  # in which repeats may share out a name
_LITERAL = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)  # escaped, or a set
_REPEATS = ("*", "+", "{")


@dataclasses.dataclass(frozen=True)
class Settings:
    """A mapping out of a file.

    Attributes:
        where: the checkpoint, for errors.
        path: the keys that lead to it.
    """

    where: str
    values: Mapping[str, Json]
    path: str = "quantization_config"

    @classmethod
    def of(cls, where: str, values: Json, path: str = "quantization_config") -> "Settings":
        """Makes them of what a file has; it must be a mapping."""
        if not isinstance(values, Mapping):
            raise CheckpointError(f"{where}: {path} is {quoted(values)}; expected a mapping")
        return cls(where, values, path)

    def refuse(self, key: str, expected: str) -> NoReturn:
        """Raises `CheckpointError` about the value of a key."""
        raise CheckpointError(
            f"{self.where}: {self.path}: {key} is {quoted(self.values.get(key))}; expected "
            f"{expected}"
        )

    def inner(self, key: str) -> "Settings | None":
        """Returns the mapping under a key; None where there is none."""
        value = self.values.get(key)
        return None if value is None else Settings.of(self.where, value, f"{self.path}.{key}")

    def number(self, key: str, default: int | None = None, *, least: int = 1) -> int | None:
        """Returns a whole number of at least `least`; None for null."""
        value = self.values.get(key, default)
        if value is None:
            return None
        if type(value) is not int or not least <= value <= _LARGEST:
            self.refuse(key, f"a whole number from {least} to {_LARGEST}")
        return value

    def group_size(self, key: str) -> int:
        """Returns how many numbers of a row have one scale, -1 for all; 128 if nothing says it."""
        if not (size := self.number(key, 128, least=-1)):
            self.refuse(key, "a number above 0, or -1 for all")
        return size

    def pair(self, key: str, default: tuple[int, int] | None = None) -> tuple[int, int] | None:
        """Returns two positive whole numbers; None for null."""
        value = self.values.get(key, default)
        if value is None:
            return None
        is_pair = isinstance(value, list | tuple) and len(value) == 2
        if not is_pair or any(type(n) is not int or not 0 < n <= _LARGEST for n in value):
            self.refuse(key, f"two positive whole numbers up to {_LARGEST}, or null")
        return value[0], value[1]

    def flag(self, key: str, default: bool) -> bool:
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            self.refuse(key, "true or false")
        return value

    def choice(self, key: str, known: Collection[str], default: str | None = None) -> str | None:
        """Returns one of the texts `known`; None for null, where that is the default."""
        value = self.values.get(key, default)
        if value is None and default is None:
            return None
        if not isinstance(value, str) or value not in known:
            self.refuse(key, " or ".join(known))
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Returns a list of texts; () for null."""
        value: Json = self.values.get(key)
        value = [] if value is None else value
        if not isinstance(value, list | tuple) or any(not isinstance(x, str) for x in value):
            self.refuse(key, "a list of texts")
        return tuple(value)


def file_patterns(
    texts: Collection[str], names: Collection[str], where: str
) -> dict[str, re.Pattern[str]]:
    """Compiles the regular expressions out of a file, "re:...", which `names` are compared with
    -> {text: pattern}.

    Python's engine tries again from each place at which a repeat may end: what could take longer
    than a second for the longest of the names is not tried at all.

    Raises:
        CheckpointError: one is none, or could take too long, or there are too many.
    """
    found = {text: text.removeprefix("re:") for text in texts if text.startswith("re:")}
    if len(found) > _MOST:
        raise CheckpointError(f"{where}: {len(found)} patterns; at most {_MOST} are read")
    longest = max(map(len, names), default=0)
    for text in found.values():
        if len(text) > _LONGEST or _is_slow(text, longest):
            raise CheckpointError(
                f"{where}: the pattern {quoted(text)} could take forever: it repeats what repeats, "
                "or has too many repeats; write it with fewer, or with names"
            )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a later Python may read otherwise
            return {key: re.compile(text) for key, text in found.items()}
    except (re.error, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{where}: a pattern is no regular expression: {error}") from None


def _is_slow(text: str, longest: int) -> bool:
    """Tells whether a pattern has a repeated group with a repeat in it, or so many repeats that
    they may share out a name of `longest` characters in too many ways."""
    bare = _LITERAL.sub("x", text)
    repeats, groups = 0, [False]
    for i, character in enumerate(bare):
        if character in _REPEATS:
            repeats, groups[-1] = repeats + 1, True
        elif character == "(":
            groups.append(False)
        elif character == ")" and len(groups) > 1:
            repeats_inside = groups.pop()
            if repeats_inside and bare[i + 1 : i + 2] in _REPEATS:
                return True
            groups[-1] |= repeats_inside
    return math.comb(longest + repeats, repeats) > _WAYS


def unread(where: str, what: str, known: Collection[str]) -> CheckpointError:
    """Makes the error of a scheme that is not read."""
    return CheckpointError(
        f"{where}: {what} is not read; read are: {some(known, 30)}. Dequantise it with the library "
        "that wrote it, or use another checkpoint of the model"
    )

"""Patterns out of adapter configurations: regular expressions of strangers, matched in a time that
is polynomial in the text, whatever they say.

Python's matcher goes back over its choices, so that a pattern as short as `(.+)+x` takes forever.
This one follows all choices at once: it maps the set of places where a match may have got to, item
by item of the pattern as Python parses it. Which of several matches is found does not matter here,
only whether there is one; backreferences and assertions that look around are refused.
"""

import functools
import re
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any, TypeAlias

from ...errors import CheckpointError, quoted

_LONGEST, _MOST_REPEATS = 4000, 64  # of a pattern, which is tried on the name of every module
Places: TypeAlias = frozenset[int]
_REPEATS = (sre.MAX_REPEAT, sre.MIN_REPEAT)
_CATEGORIES = {
    sre.CATEGORY_DIGIT: str.isdecimal,
    sre.CATEGORY_NOT_DIGIT: lambda c: not c.isdecimal(),
    sre.CATEGORY_SPACE: str.isspace,
    sre.CATEGORY_NOT_SPACE: lambda c: not c.isspace(),
    sre.CATEGORY_WORD: lambda c: c.isalnum() or c == "_",
    sre.CATEGORY_NOT_WORD: lambda c: not (c.isalnum() or c == "_"),
}


def fullmatch(pattern: str, text: str) -> bool:
    """Tells whether a pattern matches a whole text, as `re.fullmatch` does.

    Raises:
        CheckpointError: no regular expression, or one that this does not follow.

    >>> fullmatch(r".*layers\\.(0|1)\\..*(q|v)_proj", "model.layers.1.self_attn.v_proj")
    True
    """
    return len(text) in ends(pattern, text, 0)


def ends(pattern: str, text: str, start: int) -> Places:
    """Returns all places of a text where a match that begins at `start` may end."""
    return _after(_parsed(pattern), text, frozenset({start}))


@functools.lru_cache(maxsize=256)
def _parsed(pattern: str) -> Any:
    if len(pattern) > _LONGEST:
        raise CheckpointError(f"a pattern of {len(pattern)} characters; at most {_LONGEST}")
    try:
        parsed = _parser.parse(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise CheckpointError(f"{quoted(pattern)} is no regular expression: {reason}") from None
    if flags := parsed.state.flags & ~re.UNICODE:
        raise CheckpointError(f"{quoted(pattern)}: flags ({re.RegexFlag(flags)}) are not followed")
    if (repeats := _repeats(parsed, pattern)) > _MOST_REPEATS:
        raise CheckpointError(f"{quoted(pattern)} has {repeats} repeats; at most {_MOST_REPEATS}")
    return parsed


def _repeats(items: Any, pattern: str) -> int:
    """Counts repeats; refuses what `_after` does not follow, before anything is matched."""
    count = 0
    for op, value in items:
        if op in _REPEATS:
            count += 1 + _repeats(value[2], pattern)
        elif op is sre.SUBPATTERN and not (value[1] or value[2]):
            count += _repeats(value[3], pattern)
        elif op is sre.BRANCH:
            count += sum(_repeats(branch, pattern) for branch in value[1])
        elif op is sre.AT and value in (sre.AT_BEGINNING, sre.AT_END, *_BOUNDARIES):
            pass
        elif op not in (sre.LITERAL, sre.NOT_LITERAL, sre.ANY, sre.IN):
            raise CheckpointError(
                f"{quoted(pattern)}: {str(op).lower()} is not followed in patterns of adapters; "
                "list the modules instead"
            )
    return count


_BOUNDARIES = (sre.AT_BOUNDARY, sre.AT_NON_BOUNDARY)


def _after(items: Any, text: str, at: Places) -> Places:
    """Maps the places before a sequence of items to those after it."""
    for op, value in items:
        if not at:
            break
        if op in _REPEATS:
            at = _repeated(value, text, at)
        elif op is sre.SUBPATTERN:
            at = _after(value[3], text, at)
        elif op is sre.BRANCH:
            at = frozenset().union(*(_after(branch, text, at) for branch in value[1]))
        elif op is sre.AT:
            at = frozenset(i for i in at if _stands(value, text, i))
        else:
            at = frozenset(i + 1 for i in at if i < len(text) and _is_one(op, value, text[i]))
    return at


def _repeated(value: Any, text: str, at: Places) -> Places:
    least, most, items = value
    for _ in range(least):
        before, at = at, _after(items, text, at)
        if at == before:  # of what may be empty
            break
    found = new = at
    for _ in range(min(int(most) - least, len(text) + 1)):
        new = _after(items, text, new) - found
        if not new:
            break
        found |= new
    return found


def _stands(anchor: Any, text: str, i: int) -> bool:
    if anchor is sre.AT_BEGINNING:
        return i == 0
    if anchor is sre.AT_END:
        return i == len(text)
    word = _CATEGORIES[sre.CATEGORY_WORD]
    is_boundary = (i > 0 and word(text[i - 1])) != (i < len(text) and word(text[i]))
    return is_boundary == (anchor is sre.AT_BOUNDARY)


def _is_one(op: Any, value: Any, character: str) -> bool:
    """Tells whether an item that is one character is this one."""
    if op is sre.LITERAL:
        return ord(character) == value
    if op is sre.NOT_LITERAL:
        return ord(character) != value
    if op is sre.ANY:
        return character != "\n"
    negated = value[0][0] is sre.NEGATE
    return negated != any(_is_among(op, one, character) for op, one in value[negated:])


def _is_among(op: Any, value: Any, character: str) -> bool:
    if op is sre.RANGE:
        return value[0] <= ord(character) <= value[1]
    if op is sre.CATEGORY:
        return _CATEGORIES[value](character)
    return ord(character) == value

"""Patterns out of adapter configurations: regular expressions of strangers, matched in a time that
is polynomial in the text, whatever they say.

Python's matcher goes back over its choices, so that a pattern as short as `(.+)+x` takes forever.
This one follows all choices at once: it maps the set of places where a match may have got to, item
by item of the pattern as Python parses it, which matches what is one character or an anchor. Which
of several matches is found does not matter here, only whether there is one; backreferences and
assertions that look back are refused.
"""

import functools
import re
from collections.abc import Callable
from re import _compiler, _parser  # type: ignore[attr-defined]
from re import _constants as sre  # type: ignore[attr-defined]
from typing import Any, TypeAlias

from ...errors import CheckpointError, quoted

_LONGEST, _MOST_REPEATS = 4000, 64  # of a pattern, which is tried on the name of every module
Places: TypeAlias = frozenset[int]
Step: TypeAlias = Callable[[str, Places], Places]
"""(text, places before an item of a pattern) -> those after it."""
_REPEATS = (sre.MAX_REPEAT, sre.MIN_REPEAT)
_ONE = (sre.LITERAL, sre.NOT_LITERAL, sre.ANY, sre.IN, sre.AT)
_AHEAD = (sre.ASSERT, sre.ASSERT_NOT)


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
    return _step_of(pattern)(text, frozenset({start}))


@functools.lru_cache(maxsize=256)
def _step_of(pattern: str) -> Step:
    """Refuses what is not followed, before anything is matched."""
    if len(pattern) > _LONGEST:
        raise CheckpointError(f"a pattern of {len(pattern)} characters; at most {_LONGEST}")
    try:
        parsed = _parser.parse(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise CheckpointError(f"{quoted(pattern)} is no regular expression: {reason}") from None
    if flags := parsed.state.flags & ~re.UNICODE:
        raise CheckpointError(f"{quoted(pattern)}: flags ({re.RegexFlag(flags)}) are not followed")
    try:
        step, repeats = _all(parsed, ahead=True)
    except NotImplementedError as error:
        raise CheckpointError(
            f"{quoted(pattern)}: {error} is not followed in patterns of adapters; list the modules "
            "instead"
        ) from None
    if repeats > _MOST_REPEATS:
        raise CheckpointError(f"{quoted(pattern)} has {repeats} repeats; at most {_MOST_REPEATS}")
    return step


def _all(items: Any, *, ahead: bool) -> tuple[Step, int]:
    """Returns the step over a sequence of items, and how many repeats are in it. It may look
    `ahead`, but for what does so already: that would take a time that grows with each."""
    each = [_one(item, items.state, ahead=ahead) for item in items]

    def step(text: str, at: Places) -> Places:
        for one, _ in each:
            at = one(text, at) if at else at
        return at

    return step, sum(repeats for _, repeats in each)


def _one(item: Any, state: Any, *, ahead: bool) -> tuple[Step, int]:
    """Returns the step over an item, and how many repeats are in it."""
    op, value = item
    if op in _ONE:
        one = _compiler.compile(_parser.SubPattern(state, [item]))
        return (lambda text, at: frozenset(m.end() for i in at if (m := one.match(text, i)))), 0
    if op in _REPEATS:
        least, most, items = value
        step, repeats = _all(items, ahead=ahead)
        return functools.partial(_repeated, step, least, int(most)), repeats + 1
    if op is sre.SUBPATTERN and not (value[1] or value[2]):
        return _all(value[3], ahead=ahead)
    if op is sre.BRANCH:
        steps, repeats = zip(*(_all(branch, ahead=ahead) for branch in value[1]), strict=True)
        return (lambda text, at: frozenset().union(*(s(text, at) for s in steps))), sum(repeats)
    if op in _AHEAD and value[0] > 0 and ahead:
        step, repeats = _all(value[1], ahead=False)
        found = op is sre.ASSERT
        return (
            lambda text, at: frozenset(i for i in at if bool(step(text, frozenset({i}))) is found)
        ), repeats
    raise NotImplementedError(str(op).lower())


def _repeated(step: Step, least: int, most: int, text: str, at: Places) -> Places:
    for _ in range(least):
        before, at = at, step(text, at)
        if at == before:  # of what may be empty
            break
    found = new = at
    for _ in range(min(most - least, len(text) + 1)):
        new = step(text, new) - found
        if not new:
            break
        found |= new
    return found

"""Readings: what the names of a checkpoint mean, where they are not the ones that a model expects.

A tree may be old Flax's or ours; and one rule may lie between all names and the expected ones: a
prefix (`_orig_mod.`), a level of a tree around the params (a TrainState), a backbone called
otherwise, a segment inside (`_fsdp_wrapped_module`). The rules are derived from the names: each is
paired with the expected one that has its longest ending, and what is left of the two before that
ending is a rule. The work is linear in the characters of the names.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from ..errors import CheckpointError, quoted, some
from .expected import Expected

_MOST_RULES = 16
# Where optimizers keep trees of the params' own names and shapes.
_STATES = frozenset(
    "opt_state opt_states optimizer optimizers optimizer_state optimizer_state_dict optim "
    "optim_state mu nu trace momentum exp_avg exp_avg_sq max_exp_avg_sq".split()
)
_PLAIN_WRAPPERS = ("params", "model/params")  # of linen's variables, and of our own README's


@dataclasses.dataclass(frozen=True)
class Reading:
    """One way to read a source.

    Attributes:
        names: new name -> name in the source.
        under: the level of the tree whose content this is; "" if all is read.
        said: what was done to the names; "" if nothing.
        rule: the same, without what is not read then.
        hint: the rule that explains more of the names than this reading, and not all.
        fits: (whether all of the backbone is there, names found, shapes that fit).
    """

    expected: Expected
    names: dict[str, str]
    under: str
    said: str
    fits: tuple[bool, int, int]
    rule: str = ""
    hint: str = ""


def best_reading(choices: Sequence[Expected], where: str) -> Reading:
    """Finds the reading that fits best. Of equally good ones the first layout wins, and names as
    they are win over names by a rule.

    Raises:
        CheckpointError: two parts of the source fit alike, or two names stand for one leaf.
    """
    choices[0].known(choices[0].names)  # two names of one leaf: an error
    plain = [_reading(choice, choice.names) for choice in choices]
    best = max(plain, key=lambda reading: reading.fits)
    if best.fits[0] and best.fits[2] == len(best.expected.shapes):
        return best
    found = [reading for choice in choices for reading in _by_rules(choice)]
    better = [r for r in found if r.fits[0] and r.fits > best.fits]
    if not better:
        return dataclasses.replace(best, hint=_hint(best, found))
    most = max(reading.fits for reading in better)
    alike = {r.under: r for r in reversed(better) if r.fits == most}
    params = {u: r for u, r in alike.items() if not _STATES.intersection(re.split("[/.]", u))}
    alike = params or alike
    if len(alike) > 1:
        raise _two_fit(where, list(alike.values()))
    return next(iter(alike.values()))


def _hint(best: Reading, found: list[Reading]) -> str:
    """Returns what to say of the rule that explains most names, where it does not explain all."""
    near = max(found, key=lambda reading: reading.fits[1:], default=best)
    if near.fits[1] <= best.fits[1]:
        return ""
    count, of = near.fits[1], len(near.expected.shapes)
    return f"{count} of the model's {of} names would fit if {near.rule}"


def _two_fit(where: str, alike: list[Reading]) -> CheckpointError:
    first, second = sorted(alike, key=lambda r: r.under)[:2]
    separator = first.expected.separator
    return CheckpointError(
        f"{where}: the params under {quoted(first.under)} and those under {quoted(second.under)} "
        f"fit alike; say which are wanted: {_mapping(first.under, '', separator)}"
    )


def _reading(expected: Expected, names: dict[str, str], under: str = "", said: str = "") -> Reading:
    try:
        known = expected.known(names)
    except CheckpointError:  # two of them stand for one
        return Reading(expected, names, under, said, (False, 0, 0))
    here = known.keys() & expected.shapes.keys()
    stored = expected.tensors
    right = sum(stored[known[name]].shape == expected.shapes[name] for name in here)
    whole = all(any(name in known for name in group) for group in expected.needed)
    return Reading(expected, names, under, said, (whole and bool(here), len(here), right))


def _by_rules(expected: Expected) -> list[Reading]:
    names = expected.names
    made = [_renamed(expected, names, *rule) for rule in _rules(expected, names)]
    if any(reading.fits[0] for reading in made):
        return made
    fewer, said = _without_foreign_segments(expected, names)
    if not said:
        return made
    made.append(dataclasses.replace(_reading(expected, fewer, "", said), rule=said))
    return made + [_renamed(expected, fewer, *r, said) for r in _rules(expected, fewer)]


def _rules(expected: Expected, names: Iterable[str]) -> list[tuple[str, str]]:
    """Lists the rules (what names begin with, what expected ones begin with), the most frequent
    first."""
    separator = expected.separator
    endings: dict[str, str | None] = {}
    for name in expected.shapes:
        for ending in _endings(name, separator):
            endings[ending] = None if ending in endings else name
    votes: Counter[tuple[str, str]] = Counter()
    for name in names:
        for ending in _endings(name, separator):
            if (wanted := endings.get(ending)) is not None:
                votes[_before(name, ending), _before(wanted, ending)] += 1
                break
    return [rule for rule, _ in votes.most_common(_MOST_RULES) if any(rule)]


def _endings(name: str, separator: str) -> Iterable[str]:
    """Yields `name`, and what is left of it after each separator."""
    yield name
    at = name.find(separator)
    while at >= 0:
        yield name[at + 1 :]
        at = name.find(separator, at + 1)


def _before(name: str, ending: str) -> str:
    return name[: len(name) - len(ending) - 1] if len(name) > len(ending) else ""


def _renamed(
    expected: Expected, names: dict[str, str], old: str, new: str, said: str = ""
) -> Reading:
    """Reads names under `old` as names under `new`. If `new` is "", `old` is a level around the
    params, and names outside of it are left out."""
    separator = expected.separator
    start, instead = old and old + separator, new and new + separator
    inside = {name for name in names if name.startswith(start)}
    outside = [name for name in names if name not in inside]
    made = {}
    for name in inside:
        moved = instead + name[len(start) :]
        made[moved if not new or moved in expected.shapes else name] = names[name]
    if new:
        made = {name: names[name] for name in outside} | made
    mapping, beside = _mapping(old, new, separator), ""
    if new and old:
        rule = f"names under {quoted(old)} are read as names under {quoted(new)} ({mapping})"
    elif new:
        rule = f"names are read as names under {quoted(new)} ({mapping})"
    else:
        tops = dict.fromkeys(re.split("[/.]", name, maxsplit=1)[0] for name in outside)
        beside = f"; not read: {some(map(quoted, tops), 5)}" if outside else ""
        rule = f"the params are taken from under {quoted(old)} ({mapping})"
        if not outside and not said and old in _PLAIN_WRAPPERS:
            return dataclasses.replace(_reading(expected, made, old, " "), said="")
    rule = f"{said}; {rule}" if said else rule
    reading = _reading(expected, made, "" if new else old, rule + beside)
    return dataclasses.replace(reading, rule=rule)


def _mapping(old: str, new: str, separator: str) -> str:
    pattern = f"^{re.escape(old + separator)}" if old else "^"
    return f"key_mapping={{{pattern!r}: {(new and new + separator)!r}}}"


def _without_foreign_segments(
    expected: Expected, names: dict[str, str]
) -> tuple[dict[str, str], str]:
    """Takes the segments that no expected name has out of names -> (names, what was done); ({}, "")
    if there are none, or two names would become one."""
    separator = expected.separator
    own = {segment for name in expected.shapes for segment in name.split(separator)}
    foreign: dict[str, None] = {}
    made: dict[str, str] = {}
    for name, where in names.items():
        *parents, last = name.split(separator)
        odd = [s for s in parents if s not in own and not s.isdecimal()]
        foreign |= dict.fromkeys(odd)
        short = separator.join([s for s in parents if s not in odd] + [last])
        if short in made:
            return {}, ""
        made[short] = where
    if not foreign:
        return {}, ""
    some_of = "|".join(map(re.escape, list(foreign)[:5]))
    pattern = rf"(^|(?<=\{separator}))({some_of})\{separator}"
    said = f"{some(map(quoted, foreign), 5)} is left out of names (key_mapping={{{pattern!r}: ''}})"
    return made, said

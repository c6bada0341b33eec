"""Peers: what the processes of a run tell each other, by way of the coordinator."""

import contextlib
import itertools
import json
import time
from collections.abc import Callable

import jax

from .process_deaths import POLL, WATCH, PeerLost, asked, client
from .process_deaths import explained as explained
from .process_deaths import have_coordinator as have_coordinator
from .process_deaths import watched as watched

LIMITS = {"agreement": 300.0, "work": 3600.0}
"""Seconds that processes wait for one that does not come: before a load or a save begins, and at
the end of the work that each does alone. `sharding.initialize` sets others."""

_MARGIN = 5.0  # seconds that process 0 has to say who did not come
_SAME = "all processes of a run must make the same calls, in the same order"

_rounds = itertools.count()


def exchange(what: str, text: str, limit: str = "work") -> list[str]:
    """Returns the texts of all processes, in their order; every process must call it.

    Args:
        what: the call that the process is in; all must be in the same.
        limit: which of `LIMITS` says how long one is waited for.

    Raises:
        PeerLost: one died or left meanwhile, did not come in time, or is in another call.
    """
    return json.loads(decide(what, text, json.dumps, limit))


def decide(what: str, text: str, choose: Callable[[list[str]], str], limit: str = "work") -> str:
    """Returns what `choose` makes, on process 0, of the texts of all processes; arguments and
    errors as `exchange`. The coordinator is asked twice by each process, however many there are.
    """
    WATCH.start()
    own, number = jax.process_index(), next(_rounds)
    key, seconds = f"flaxmodels/{number}", _limit(limit)
    try:
        asked(lambda: client().key_value_set(f"{key}/{own}", f"{what}\n{text}"))
        if own == 0:
            told = _collected(key, what, choose, seconds)
            asked(lambda: client().key_value_set(f"{key}/told", told))
            if told[0] != "!" and number:  # all have come here, so nobody reads the one before
                asked(lambda: client().key_value_delete(f"flaxmodels/{number - 1}/"))
        else:
            told = _told(f"{key}/told", 0, seconds + _MARGIN)
            if told is None:  # it comes too late, if it does: it must not find this one
                asked(lambda: client().key_value_delete(f"{key}/{own}"))
                raise PeerLost(_absent([0], what, seconds))
    except jax.errors.JaxRuntimeError as error:
        raise explained(error) from error
    if told[0] == "!":
        raise PeerLost(told[1:])
    return told[1:]


def _collected(key: str, what: str, choose: Callable[[list[str]], str], seconds: float) -> str:
    """Waits, on process 0, for what all say -> "=" and what is made of it, or "!" and the error of
    all."""
    until = time.monotonic() + seconds
    texts: list[str] = []
    absent: list[int] = []
    for number in range(jax.process_count()):
        try:
            said = _told(f"{key}/{number}", number, until - time.monotonic())
        except _Left as left:
            return f"!{left}"
        if said is None:
            absent.append(number)
            continue
        at, _, text = said.partition("\n")
        if at != what:
            return f"!process 0 is in {what}, and process {number} in {at}: {_SAME}"
        texts.append(text)
    return f"!{_absent(absent, what, seconds)}" if absent else f"={choose(texts)}"


class _Left(PeerLost):
    """A process ended that others wait for."""


def _absent(numbers: list[int], what: str, seconds: float) -> str:
    names = " and ".join(map(str, numbers))
    return f"process {names} did not come to {what} within {seconds:g} s; {_SAME}"


def _limit(name: str) -> float:
    """Returns the seconds of one of `LIMITS` in this run."""
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        key = f"flaxmodels/{name} seconds/{jax.process_index()}"
        return float(asked(lambda: client().key_value_try_get(key)))
    return LIMITS[name]


def _told(key: str, number: int, seconds: float) -> str | None:
    """Waits for what another process says under a key; None if that takes longer."""
    until = time.monotonic() + seconds
    while True:
        left = max(1, int(1000 * min(POLL, until - time.monotonic())))
        try:
            return asked(lambda: client().blocking_key_value_get(key, left))  # noqa: B023
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise explained(error) from error
        WATCH.check()
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # it has not
            asked(lambda: client().key_value_try_get(f"flaxmodels/left/{number}"))
            raise _Left(f"process {number} has left this run, and others wait for it: {_SAME}")
        if time.monotonic() >= until:
            return None

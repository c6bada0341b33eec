"""Agreement: the processes of a run compare what they are about to do, before they do any of it."""

import hashlib
import itertools
import json
from collections.abc import Mapping

import jax

from . import peers
from .errors import CheckpointError, printable
from .multihost import exchange, named

_LONGEST = 200  # characters of a value
_MOST_SAID = 5  # differences


class Disagreement(CheckpointError):
    """The processes of a run are about to do different things."""


def agree(call: str, record: Mapping[str, str]) -> None:
    """Compares what the processes of a run are about to do; every process must call it.

    Args:
        call: what it is about, for errors.
        record: {what: its value in this process}; of a long value, a digest is compared.

    Raises:
        Disagreement: on every process, with what differs and who has what.
        peers.PeerLost: a process died, or did not come in time.
    """
    if jax.process_count() == 1:
        return
    given = json.dumps({key: _short(value) for key, value in record.items()})
    what = f"the agreement of {call}"
    with peers.watched():
        if peers.have_coordinator():
            differs = peers.decide(what, given, _differences, "agreement")
        else:
            differs = _differences(exchange(what, given))
    if differs:
        raise Disagreement(f"{call}: {differs}; all processes of a run must ask for the same")


def _differences(records: list[str]) -> str:
    """Returns in what records differ, and which processes have what; "" if they are all equal."""
    if len(set(records)) == 1:
        return ""
    values = [json.loads(record) for record in records]
    said = []
    for key in dict.fromkeys(itertools.chain(*values)):
        holders: dict[str, list[int]] = {}
        for process, record in enumerate(values):
            holders.setdefault(record.get(key, "nothing"), []).append(process)
        if len(holders) > 1:
            said.append(
                f"{key}: {', '.join(f'{named(v[1], 4)} has {v[0]}' for v in holders.items())}"
            )
    return "; ".join(said[:_MOST_SAID])


def digest(value: object) -> str:
    """Returns a digest of what a value's `repr` or text is."""
    return hashlib.sha256(str(value).encode()).hexdigest()[:16]


def _short(value: str) -> str:
    if len(value) <= _LONGEST:
        return printable(value)
    return f"{printable(value[: _LONGEST // 2])}... (sha256 {digest(value)})"

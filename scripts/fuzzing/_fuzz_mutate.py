"""Mutants: of bytes, and of the JSON in them, which blind changes would only make unreadable."""

import json
import random
import struct
from collections.abc import Sequence
from typing import Any

_NUMBERS = (0, 1, -1, 2, 7, 8, 255, 2**16, 2**31 - 1, 2**31, 2**32, 2**53, 2**63, 2**64, 10**40)
_VALUES = (None, True, False, "", "a", "F32", [], {}, [0, 0], 0.0, -0.0, 1.5, 1e308, *_NUMBERS)
_TEXTS = ("\x1b[2J", "\u202e", "../a", "/etc/passwd", "a/../b", "\0", "x" * 300, "\xe9", "0")
_BYTES = b"\0", b"\1", b"\x7f", b"\x80", b"\xff"


def mutated(data: bytes, rng: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """`data` with one to four changes of its bytes."""
    made = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at, count = rng.randint(0, len(made)), rng.choice((1, 1, 2, 4, 8, 40))
        match rng.randint(0, 5):
            case 0:
                made[at : at + 1] = rng.choice((rng.randbytes(1), *_BYTES))
            case 1:
                del made[at : at + count]
            case 2:
                made[at:at] = rng.randbytes(count)
            case 3:
                number = struct.pack("<Q", rng.choice(_NUMBERS) % 2**64)[:count]
                made[at : at + len(number)] = number
            case 4:
                start = rng.randint(0, len(made))
                made[at:at] = made[start : start + count]
            case _ if others:
                other = rng.choice(others)
                start = rng.randint(0, len(other))
                made[at : at + count] = other[start : start + count]
    return bytes(made)


def mutated_json(data: bytes, rng: random.Random, head: int) -> bytes | None:
    """`data` with one to three values of its JSON changed; None if there is no JSON in it.

    Args:
        head: bytes of a length before the JSON; what follows it is kept.
    """
    length = int.from_bytes(data[:head], "little") if head else len(data)
    try:
        value = json.loads(data[head : head + length])
        for _ in range(rng.randint(1, 3)):
            value = _changed(value, rng)
        raw = json.dumps(value).encode()
    except (ValueError, RecursionError):
        return None
    prefix = len(raw).to_bytes(head, "little") if head else b""
    return prefix + raw + data[head + length :]


def _changed(value: Any, rng: random.Random) -> Any:
    """`value` with something in it changed."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.15:
        return _other(value, rng)
    made: Any = dict(value) if isinstance(value, dict) else list(value)
    keys = list(made) if isinstance(made, dict) else range(len(made))
    key, another = rng.choice(keys), rng.choice(keys)
    match rng.randint(0, 9):
        case 0:
            del made[key]
        case 1 if isinstance(made, list):
            made.insert(key, made[another])
        case 1:
            made[str(_other(key, rng))] = made[another]
        case 2:
            made[key], made[another] = made[another], made[key]
        case _:
            made[key] = _changed(made[key], rng)
    return made


def _other(value: Any, rng: random.Random) -> Any:
    if isinstance(value, str) and rng.random() < 0.6:
        return rng.choice(_TEXTS) if rng.random() < 0.5 else value + rng.choice(_TEXTS)
    if type(value) is int and rng.random() < 0.7:
        return value + rng.choice((-8, -1, 1, 8)) if rng.random() < 0.5 else rng.choice(_NUMBERS)
    if rng.random() < 0.1:
        return [value]
    return rng.choice(_VALUES)

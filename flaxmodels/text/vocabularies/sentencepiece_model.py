"""Models of SentencePiece: the protobuf that it writes, parsed.

The fields: https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto.
"""

import dataclasses
import struct
from collections.abc import Mapping
from typing import NamedTuple, TypeVar

from ... import params as fp
from ...params.formats.protobuf import BYTES, FIXED32, VARINT, Messages, signed

T = TypeVar("T")

_MOST_FIELDS = 20_000_000
_MOST_PIECES = 2_000_000
NORMAL, UNKNOWN, CONTROL, DEFINED, UNUSED, BYTE = range(1, 7)
UNIGRAM, BPE = 1, 2
_NAMED = {  # fields of TrainerSpec with ids of special tokens: (name, what it is if not there)
    40: ("unk_token", 0),
    41: ("bos_token", 1),
    42: ("eos_token", 2),
    43: ("pad_token", (1 << 64) - 1),
}


class Piece(NamedTuple):
    """A token: its text, score (of a Unigram model, a log probability), and kind."""

    text: str
    score: float
    kind: int


@dataclasses.dataclass(frozen=True)
class Model:
    """A model of SentencePiece.

    Attributes:
        pieces: the tokens; a number is an id.
        kind: Unigram or BPE.
        byte_fallback: unknown characters become bytes.
        unknown: the id of the unknown token.
        named: {name: token} of the special tokens that it has.
        charsmap: how characters are normalised, compiled; b"" for not.
        add_dummy_prefix: a text begins with a space.
        remove_extra_whitespaces: spaces at the ends go, and one is left of several.
    """

    pieces: list[Piece]
    kind: int
    byte_fallback: bool
    unknown: int
    named: Mapping[str, str]
    charsmap: bytes
    add_dummy_prefix: bool
    remove_extra_whitespaces: bool


def parse_model(content: bytes, path: str) -> Model:
    """Parses the protobuf of a model; raises `CheckpointError` for none."""
    try:
        return _parsed(memoryview(content))
    except (ValueError, struct.error) as error:
        raise fp.CheckpointError(f"{path}: no model of SentencePiece: {error}") from None


def _parsed(data: memoryview) -> Model:
    fields = Messages(_MOST_FIELDS).fields
    top = fields(data, {1: BYTES, 2: BYTES, 3: BYTES})
    if len(top[1]) > _MOST_PIECES:
        raise ValueError(f"{len(top[1])} pieces")
    pieces = []
    for piece in top[1]:
        found = fields(piece, {1: BYTES, 2: FIXED32, 3: VARINT})
        score = struct.unpack("<f", struct.pack("<I", _last(found[2], 0)))[0]
        pieces.append(Piece(bytes(_last(found[1], b"")).decode(), score, _last(found[3], NORMAL)))
    numbers = (3, 24, 35, *_NAMED)
    trainer = fields(_last(top[2], b""), dict.fromkeys(numbers, VARINT))
    names = {2: BYTES, 3: VARINT, 4: VARINT, 5: VARINT}
    normalizer = fields(_last(top[3], b""), names)
    kind = _last(trainer[3], UNIGRAM)
    if kind not in (UNIGRAM, BPE):
        raise ValueError(f"it is of kind {kind}, words or characters; Unigram and BPE are read")
    if _last(trainer[24], 0):
        raise ValueError("spaces are at the ends of its tokens (treat_whitespace_as_suffix)")
    unknown = [number for number, piece in enumerate(pieces) if piece.kind == UNKNOWN]
    if len(unknown) != 1:
        raise ValueError(f"{len(pieces)} pieces, of which {len(unknown)} are the unknown token")
    if len({piece.text for piece in pieces}) != len(pieces):
        raise ValueError("a piece is there twice")
    if not _last(normalizer[5], 1):
        raise ValueError("its spaces are not escaped (escape_whitespaces)")
    return Model(
        pieces=pieces,
        kind=kind,
        byte_fallback=bool(_last(trainer[35], 0)),
        unknown=unknown[0],
        named={
            name: pieces[number].text
            for name, number in (
                (name, signed(_last(trainer[field], default)))
                for field, (name, default) in _NAMED.items()
            )
            if 0 <= number < len(pieces) and pieces[number].kind in (CONTROL, UNKNOWN)
        },
        charsmap=bytes(_last(normalizer[2], b"")),
        add_dummy_prefix=bool(_last(normalizer[3], 1)),
        remove_extra_whitespaces=bool(_last(normalizer[4], 1)),
    )


def _last(values: list[T], default: T) -> T:
    return values[-1] if values else default

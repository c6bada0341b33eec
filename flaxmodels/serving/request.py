"""What a caller asks of an export, checked, as one value."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Self

from ..config.config import Config
from ..core.model import Model
from ..params.errors import quoted, some
from ..params.scalars import flag, whole
from .arrays import Inputs
from .errors import ServingError, checked
from .generating import PREFILL, STEP, keeps_cache
from .signatures import Signature, signatures_of

PLATFORMS = ("cpu", "cuda", "tpu")
LONGEST = 2048
"""The most tokens that an export takes if nothing is said: caches are as long from the start."""

_KNOWN = (*PLATFORMS, "rocm")
_LENGTHS = ("length", "decoder_length", "encoder_length")


@dataclasses.dataclass(frozen=True)
class Request:
    """The programs that an export is to have.

    Attributes:
        signatures: {name: function}, without those of generation.
        generates: whether `prefill` and `step` are beside them.
        platforms: that every program is to run on.
        slots: the most tokens.
        max_batch: the most rows; None without a bound.
    """

    signatures: Mapping[str, Signature]
    generates: bool
    platforms: tuple[str, ...]
    slots: int
    max_batch: int | None

    @classmethod
    def of(
        cls,
        model: Model,
        *,
        signatures: Mapping[str, Signature | Inputs] | None = None,
        generation: bool | None = None,
        platforms: Iterable[str] = PLATFORMS,
        max_length: int | None = None,
        max_batch: int | None = None,
    ) -> Self:
        """Checks the arguments of `export`; raises as it does."""
        if not isinstance(model, Model):
            raise TypeError(f"model is {model!r:.80}; expected a model of this library, an object")
        slots = _longest(model, max_length)
        rows = None if max_batch is None else checked(whole, "max_batch", max_batch)
        asked = None if generation is None else checked(flag, "generation", generation)
        settled = signatures_of(model, signatures)
        generates = _generates(model, settled, asked, by_default=signatures is None)
        return cls(settled, generates, _platforms(platforms), slots, rows)

    @property
    def bounds(self) -> dict[str, int]:
        """{name of a dimension: the most that it may be}."""
        rows = {} if self.max_batch is None else {"batch": self.max_batch}
        return dict.fromkeys(_LENGTHS, self.slots) | rows


def _generates(
    model: Model, signatures: Mapping[str, Signature], asked: bool | None, *, by_default: bool
) -> bool:
    if asked is False or (asked is None and not by_default):
        return False
    if not keeps_cache(model):
        if asked is None:
            return False
        raise ServingError(
            f"{type(model).__name__} does not generate: it has no head over the vocabulary, or "
            "no cache; leave out generation"
        )
    if clash := signatures.keys() & {PREFILL, STEP}:
        raise ServingError(f"signatures: {min(clash)} is the name of one of generation's own")
    return True


def _platforms(given: Iterable[str]) -> tuple[str, ...]:
    is_one = isinstance(given, str) or not isinstance(given, Iterable)
    names: tuple[object, ...] = (given,) if is_one else (*given,)
    odd = [name for name in names if name not in _KNOWN]
    if odd or not names:
        what = some(map(quoted, odd)) if names else "none"
        raise ServingError(
            f"platforms: {what}; expected some of {', '.join(_KNOWN)} (a GPU is cuda or rocm)"
        )
    return tuple(dict.fromkeys(map(str, names)))


def _longest(model: Model, asked: int | None) -> int:
    """Returns the most tokens: as asked, if the model has so many positions; else of its positions
    at most `LONGEST`."""
    limit = _positions(model.config)
    if asked is None:
        known = limit or getattr(model.config.text, "max_position_embeddings", None)
        return min(known or LONGEST, LONGEST)
    return checked(whole, "max_length", asked, 1, limit)


def _positions(config: Config) -> int | None:
    """Returns the most positions that all parts of a model have; None without a limit."""
    parts = [getattr(config, name) for name in config.sub_configs]
    limits = [config.position_limit, *(_positions(part) for part in parts if part is not None)]
    return min((limit for limit in limits if limit is not None), default=None)

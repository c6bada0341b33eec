"""The keywords of `prepare` beyond those of Transformers' `prepare_tf_dataset`."""

import dataclasses
import numbers
from collections.abc import Iterable, Sequence
from typing import Literal, TypedDict

from jax.sharding import Mesh

from ..params.scalars import whole

_MASKED = 0.15  # Devlin et al. 2019, section 3.1


class DataKeywords(TypedDict, total=False):
    """The keywords of `prepare`; see `DataOptions`."""

    seed: int
    mesh: Mesh | None
    rules: object
    text: str | Sequence[str] | None
    target: str | None
    columns: str | Iterable[str]
    lengths: Iterable[int] | None
    pack: bool | Literal["split"]
    max_length: int | None
    mlm_probability: float
    shuffle_buffer: int


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """How batches are made.

    Attributes:
        seed: of all that is drawn, from 0.
        mesh: where batches are put: global arrays whose rows are cut by the rule of "batch". Every
            process gives the same arguments, and its devices have their part. None for NumPy arrays
            of all rows.
        rules: of the mesh; `model.rules` if None.
        text: the column that is tokenised, or two for pairs; "text" if None.
        target: the column of what a decoder is to say, whose ids become `labels`.
        columns: names that are kept though the model does not take them.
        lengths: rows are padded to the smallest that they fit into, and those of a batch to the
            same: there are no more lengths of arrays than these.
        pack: whether several rows share one of the batch, `max_length` long: `segment_ids` tell
            them apart, `position_ids` begin anew in each, and the first token of each is no label
            of a causal LM. With "split" a row that is longer is cut into several, and none of it
            is lost.
        max_length: tokens of a row, at most.
        mlm_probability: of a token of a masked LM to be chosen for masking; 0 for no masking, and
            no labels.
        shuffle_buffer: of a stream, the rows among which the next one is drawn.
    """

    seed: int = 0
    mesh: Mesh | None = None
    rules: object = None
    text: tuple[str, ...] | None = None
    target: str | None = None
    columns: tuple[str, ...] = ()
    lengths: tuple[int, ...] | None = None
    pack: bool | Literal["split"] = False
    max_length: int | None = None
    mlm_probability: float = _MASKED
    shuffle_buffer: int = 1000

    def __post_init__(self) -> None:
        """Checks the values of `DataKeywords`, and makes tuples of what holds several; lengths go
        from short to long.

        Raises:
            TypeError, ValueError: a value that means nothing, or a second one that it needs.
        """
        settled = {
            "seed": whole("seed", self.seed, 0, 2**64 - 1),
            "columns": names_of("columns", self.columns),
            "text": None if self.text is None else names_of("text", self.text),
            "lengths": None if self.lengths is None else _lengths(self.lengths),
            "shuffle_buffer": whole("shuffle_buffer", self.shuffle_buffer),
        }
        if self.max_length is not None:
            settled["max_length"] = whole("max_length", self.max_length)
        for name, value in settled.items():
            object.__setattr__(self, name, value)
        if len(settled["text"] or ("",)) not in (1, 2):
            raise ValueError(f"text={self.text!r}; expected one column, or two for pairs")
        if self.target is not None:
            names_of("target", (self.target,))
        if not isinstance(self.pack, bool | str) or self.pack not in (True, False, "split"):
            raise ValueError(f"pack={self.pack!r:.80}; expected True, False or 'split'")
        if not isinstance(self.mlm_probability, numbers.Real) or self.mlm_probability is True:
            raise TypeError(f"mlm_probability={self.mlm_probability!r:.80}; expected a number")
        if not 0 <= self.mlm_probability <= 1:
            raise ValueError(f"mlm_probability={self.mlm_probability!r}; expected 0 to 1")
        if self.rules is not None and self.mesh is None:
            raise ValueError("rules are those of a mesh, which is not given")

    @property
    def asks_for_masking(self) -> bool:
        """Whether a caller has said how many tokens are masked."""
        return self.mlm_probability not in (0, _MASKED)


def names_of(argument: str, given: str | Iterable[str]) -> tuple[str, ...]:
    """Returns names of columns, of which one may stand alone, as a tuple; raises `TypeError` for
    what is no name."""
    names = (given,) if isinstance(given, str) else given
    names = tuple(names) if isinstance(names, Iterable) else (names,)
    if odd := [name for name in names if not isinstance(name, str) or not name]:
        raise TypeError(f"{argument}: {odd[0]!r:.80} is no name of a column")
    return names


def _lengths(given: Iterable[int]) -> tuple[int, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError(f"lengths={given!r:.80}; expected several, as (64, 128, 256)")
    lengths = sorted({whole("lengths", length) for length in given})
    if not lengths:
        raise ValueError("lengths is empty; expected some, as (64, 128, 256)")
    return tuple(lengths)

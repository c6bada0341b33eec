"""The keywords of `prepare` beyond those of Transformers' `prepare_tf_dataset`."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, TypedDict

from jax.sharding import Mesh


class DataKeywords(TypedDict, total=False):
    """The keywords of `prepare`; see `DataOptions`."""

    seed: int
    mesh: Mesh | None
    rules: object
    text: str | tuple[str, str] | None
    target: str | None
    columns: Sequence[str]
    lengths: Sequence[int] | None
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
    rules: Any = None
    text: str | tuple[str, str] | None = None
    target: str | None = None
    columns: Sequence[str] = ()
    lengths: Sequence[int] | None = None
    pack: bool | Literal["split"] = False
    max_length: int | None = None
    mlm_probability: float = 0.15
    shuffle_buffer: int = 1000

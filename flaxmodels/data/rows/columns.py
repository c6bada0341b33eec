"""Which columns of a dataset a model takes: its inputs, by the signature of its `__call__`, and the
labels of its loss."""

import dataclasses
from collections.abc import Iterable

from ...core.arguments import array_arguments
from ...core.head_kinds import LABELS, kind_of
from ...core.model import Model

COLLATED = ("label", "label_ids")
"""What collators make `labels` of."""


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns that batches of a model have.

    Attributes:
        inputs: arguments of the model that are arrays, and segment_ids of rows that are packed.
        labels: of its loss; all that there are for a model without one.
        more: those that a caller wants to keep.
    """

    inputs: frozenset[str]
    labels: frozenset[str]
    more: frozenset[str] = frozenset()

    def kept(self, names: Iterable[str]) -> tuple[str, ...]:
        """Returns the columns that are kept of those of a dataset, in its order.

        Raises:
            ValueError: none is an input of the model; with both lists.
        """
        names = tuple(names)
        if not self.inputs & set(names):
            raise ValueError(
                f"the dataset has the columns {', '.join(map(str, names)) or '(none)'}, and the "
                f"model takes none of them as an input: it takes {', '.join(sorted(self.inputs))}. "
                "Rename them, or give tokenizer= and text=, the name of the column to be tokenised"
            )
        return tuple(name for name in names if name in self)

    def __contains__(self, name: object) -> bool:
        name = "labels" if name in COLLATED and name not in self.more else name
        return name in self.inputs or name in self.more or name in self.labels


def columns_of(model: Model, more: Iterable[str] = ()) -> Columns:
    """Returns the columns that a model takes, and `more` that a caller wants to keep."""
    labels = LABELS if model.loss_kind is None else kind_of(model).spellings
    return Columns(frozenset(array_arguments(model)) | {"segment_ids"}, labels, frozenset(more))

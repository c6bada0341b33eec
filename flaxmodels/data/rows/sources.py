"""What rows come from: things that have a length and give any row, and streams.

Libraries are known by what their datasets do, and none is imported: Hugging Face datasets by
`column_names`, grain's by their length, or by giving rows one after another.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from jax.core import Tracer

from .files import Lines

Row: TypeAlias = dict[str, Any]
"""Column -> its value."""


class Indexed(Protocol):
    """Rows with numbers."""

    def __len__(self) -> int: ...

    def take(self, indices: Sequence[int]) -> list[Row]: ...


class Arrays:
    """Columns that lie in memory: {name: array or list, a value a row}."""

    def __init__(self, columns: Mapping[str, Any]):
        for name, column in columns.items():
            if hasattr(column, "column_names"):
                splits = ", ".join(map(repr, columns))
                raise TypeError(f"dataset has splits, {splits}: give one, dataset[{name!r}]")
            if isinstance(column, Tracer):
                raise TypeError(f"column {name!r} is traced: batches are made outside of jit")
            no_rows = not hasattr(column, "__len__") or getattr(column, "ndim", 1) == 0
            if no_rows or isinstance(column, str | bytes):
                kind = type(column).__name__
                raise TypeError(f"column {name!r} is a {kind}; expected an array, or a list")
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) > 1:
            said = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise ValueError(f"columns have several lengths: {said}; expected a value for each row")
        self._columns = {
            name: np.asarray(column) if hasattr(column, "__array__") else column
            for name, column in columns.items()
        }
        self._length = next(iter(lengths.values()), 0)

    def __len__(self) -> int:
        return self._length

    def take(self, indices: Sequence[int]) -> list[Row]:
        return [{name: x[i] for name, x in self._columns.items()} for i in indices]

    def only(self, names: Sequence[str]) -> "Arrays":
        """Returns the dataset without other columns."""
        return Arrays({name: self._columns[name] for name in names if name in self._columns})

    @property
    def is_rectangular(self) -> bool:
        """Whether every row has the same shapes."""
        columns = self._columns.values()
        return all(isinstance(x, np.ndarray) and x.dtype.kind in "iufb" for x in columns)


class Numbered(Protocol):
    """What has a length, and gives one of its items by a number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> object: ...


class Items:
    """A sequence of rows: mappings, texts, or objects with attributes."""

    def __init__(self, items: Numbered):
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def take(self, indices: Sequence[int]) -> list[Row]:
        return [as_row(self._item(int(i)), int(i)) for i in indices]

    def _item(self, index: int) -> object:
        try:
            return self._items[index]
        except IndexError as error:
            raise ValueError(
                f"the dataset says that it has {len(self)} rows, and has no row {index}: {error}"
            ) from error


class Table:
    """A `Dataset` of Hugging Face datasets, which reads many rows at once: {name: values}."""

    def __init__(self, dataset: Any):
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def take(self, indices: Sequence[int]) -> list[Row]:
        columns = self._dataset[[int(i) for i in indices]]
        names = list(columns)
        return [
            dict(zip(names, values, strict=True))
            for values in zip(*(columns[name] for name in names), strict=True)
        ]

    def only(self, names: Sequence[str]) -> "Table":
        """Returns the dataset without other columns, which are then not read."""
        select = getattr(self._dataset, "select_columns", None)
        return self if select is None else Table(select(list(names)))


class Stream:
    """Rows one after another, from the first in each pass.

    Attributes:
        once: whether there is a single pass, as of a generator.
    """

    def __init__(self, make: Callable[[int], object], *, once: bool = False):
        self._make, self.once, self._used = make, once, False

    def rows(self, epoch: int) -> Iterator[Row]:
        """Yields the rows of a pass.

        Raises:
            ValueError: a second pass over what gives one.
        """
        if self.once and self._used:
            raise ValueError(
                "the dataset is an iterator, and was used up, or begun, by an earlier pass; for "
                "several give a function that makes it, or a list"
            )
        self._used = True
        items = self._make(epoch)
        if not isinstance(items, Iterable):
            raise TypeError(
                f"the function that makes the dataset gave a {type(items).__name__}; expected rows"
            )
        for index, item in enumerate(items):
            yield as_row(item, index)


def as_row(item: object, index: int) -> Row:
    """Returns a row as a dict; raises `TypeError` for what is no row."""
    if isinstance(item, Mapping):
        return dict(item)
    if isinstance(item, str):
        return {"text": item}
    if item is None:
        raise TypeError(
            f"row {index} is None, as of a grain MapDataset that was filtered: give "
            "dataset.to_iter_dataset()"
        )
    if hasattr(item, "__dict__"):
        return dict(vars(item))
    kind = type(item).__name__
    raise TypeError(f"row {index} is a {kind}; expected a mapping of columns, or a text")


def as_source(dataset: Any) -> Indexed | Stream:
    """Decides how a dataset is read.

    Raises:
        TypeError: it is none.
        ValueError: columns of several lengths, a file of another kind.
    """
    if isinstance(dataset, str | os.PathLike):
        return Lines([dataset])
    if isinstance(dataset, Mapping):
        return Arrays(dataset)
    has_rows = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
    if isinstance(dataset, type):
        raise TypeError(f"dataset is the class {dataset.__name__}; expected one of its objects")
    if isinstance(dataset, bytes) or (has_rows and hasattr(dataset, "ndim")):
        kind = type(dataset).__name__
        raise TypeError(f"dataset is a {kind}; say which column: {{'input_ids': array}}")
    if has_rows and hasattr(dataset, "column_names"):
        return Table(dataset)
    if has_rows:
        if isinstance(dataset, list | tuple) and dataset and isinstance(dataset[0], os.PathLike):
            return Lines(dataset)
        return Items(dataset)
    if callable(dataset) and not hasattr(dataset, "__iter__"):
        make = dataset
        return Stream(lambda epoch: make())
    if not isinstance(dataset, Iterable):
        raise TypeError(
            f"dataset is a {type(dataset).__name__}; expected arrays by name, rows, a path of "
            ".jsonl or .txt, a dataset of Hugging Face or of grain, or an iterable"
        )
    return Stream(lambda epoch: _from(dataset, epoch), once=isinstance(dataset, Iterator))


def _from(dataset: Iterable[object], epoch: int) -> Iterable[object]:
    if (begin := getattr(dataset, "set_epoch", None)) is not None:
        begin(epoch)  # Hugging Face's IterableDataset shuffles by it
    return dataset

"""Collators: rows -> one batch of NumPy arrays, as Transformers' of the same names with
`return_tensors="np"` make it."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
import numpy as np
from numpy.typing import ArrayLike

from ..params.scalars import whole

IGNORED = -100
"""A label of which no loss is made."""

Features: TypeAlias = Sequence[Mapping[str, Any]]
Batch: TypeAlias = dict[str, np.ndarray]
Placed: TypeAlias = Batch | dict[str, jax.Array]
"""A batch as it is given: on a mesh, where there is one."""


class Pads(Protocol):
    """What a collator reads of a tokenizer, which may say more."""

    @property
    def pad_token_id(self) -> int | None: ...

    @property
    def padding_side(self) -> str: ...


class Padding(NamedTuple):
    """What `DataCollatorWithPadding` reads of a tokenizer.

    Attributes:
        pad_token_id: id of padding; None where there is none.
        padding_side: "left" or "right".
        pad_token_type_id: token type of padding.
    """

    pad_token_id: int | None
    padding_side: str = "right"
    pad_token_type_id: int = 0


class DefaultDataCollator:
    """Stacks the columns of rows, which have the same shapes in each.

    `label`, a number, and `label_ids`, a list, become `labels`: int64, or float32 if the first is
    no whole number. Which columns there are the first row says; texts and None are left out.
    """

    def __call__(self, features: Features) -> Batch:
        """Returns {column: array [B, ...]}.

        Raises:
            ValueError: a column of several shapes.
        """
        _check_rows(features)
        rows = [row if isinstance(row, Mapping) else vars(row) for row in features]
        first, batch = rows[0], {}
        for name in ("label_ids", "label"):
            if first.get(name) is not None:
                batch["labels"] = _labels(rows, name)
        for name, value in first.items():
            if name not in ("label", "label_ids") and value is not None:
                if not isinstance(value, str):
                    batch[name] = stacked(name, _column(rows, name))
        return batch


@dataclasses.dataclass(frozen=True)
class DataCollatorWithPadding:
    """Pads rows of tokens to one length, and adds `attention_mask` where rows have none.

    Beside what Transformers' pads (ids, masks and token types), labels of tokens are padded by
    -100, and position ids, decoder ids and their mask as what they are; rows over choices, [C][T],
    become [B, C, T]. `label` and `label_ids` become `labels`.

    Attributes:
        tokenizer: what has `pad_token_id` and `padding_side`.
        padding: True or "longest" (to the longest row), "max_length", or False: none.
        max_length: of "max_length".
        pad_to_multiple_of: what lengths are rounded up to.
    """

    tokenizer: Pads
    padding: bool | str = True
    max_length: int | None = None
    pad_to_multiple_of: int | None = None

    def __post_init__(self) -> None:
        known = (True, False, "longest", "max_length", "do_not_pad")
        if self.padding not in known:
            raise ValueError(f"padding={self.padding!r}; expected one of {known}")
        if self.padding == "max_length" and self.max_length is None:
            raise ValueError('padding="max_length" without max_length')
        for name in ("max_length", "pad_to_multiple_of"):
            if getattr(self, name) is not None:
                whole(name, getattr(self, name))

    def __call__(self, features: Features) -> Batch:
        """Returns {column: array [B, ...]}, whole numbers as int64.

        Raises:
            ValueError: no `input_ids`; rows of several lengths and no padding token; a column of
                several shapes that is none of tokens.
        """
        _check_rows(features)
        if "input_ids" not in features[0]:
            raise ValueError(
                f"rows are padded by their input_ids, and have the columns {', '.join(features[0])}"
            )
        if _is_nested(features[0]["input_ids"]):
            return self._over_choices(features)
        columns = {name: _column(features, name) for name in features[0]}
        counts = [len(ids) for ids in columns["input_ids"]]
        length = self._length(max(counts))
        self._check(counts, length)
        if "attention_mask" not in columns:
            columns["attention_mask"] = [np.ones(count, np.int64) for count in counts]
        batch = {name: self._padded(name, x, counts, length) for name, x in columns.items()}
        for name in ("label", "label_ids"):
            if name in batch:
                batch["labels"] = batch.pop(name)
        return batch

    def _length(self, longest: int) -> int:
        if self.padding == "max_length" and self.max_length is not None:
            longest = max(longest, self.max_length)
        multiple = self.pad_to_multiple_of if self.padding not in (False, "do_not_pad") else None
        return longest if multiple is None else -(-longest // multiple) * multiple

    def _check(self, counts: list[int], length: int) -> None:
        if min(counts) == length:
            return
        if self.padding in (False, "do_not_pad"):
            raise ValueError(f"rows have {sorted(set(counts))} tokens, and padding=False")
        if getattr(self.tokenizer, "pad_token_id", None) is None:
            raise ValueError(
                f"rows have {min(counts)} to {max(counts)} tokens, and there is no padding token: "
                "load the tokenizer with pad_token=, or set config.pad_token_id; which one does "
                "not matter, since attention_mask is 0 there"
            )

    def _padded(self, name: str, rows: list[Any], counts: list[int], length: int) -> np.ndarray:
        value = self._values.get(name)
        is_float = name in LABEL_COLUMNS and np.asarray(rows[0]).dtype.kind == "f"
        if value is None or _size(rows[0]) is None or is_float:
            x = stacked(name, rows)
            return x.astype(np.int64) if x.dtype.kind in "iu" else x
        own = [len(row) for row in rows]
        if own != counts and name not in _OWN_LENGTHS:
            raise ValueError(f"{name} has {own} values, and input_ids {counts}; expected as many")
        if own != counts and name == "label_ids" and len(set(own)) == 1:
            return stacked(name, rows).astype(np.int64)
        if own != counts:  # of a decoder
            length = self._length(max(own))
        return filled(rows, length, value, self.tokenizer.padding_side)

    @property
    def _values(self) -> dict[str, int]:
        pad = self.tokenizer.pad_token_id or 0
        kinds = getattr(self.tokenizer, "pad_token_type_id", 0)
        zero = ("attention_mask", "position_ids", "decoder_attention_mask")
        return {
            "input_ids": pad,
            "decoder_input_ids": pad,
            "token_type_ids": kinds,
            "special_tokens_mask": 1,
            **dict.fromkeys(zero, 0),
            **dict.fromkeys(LABEL_COLUMNS, IGNORED),
        }

    def _over_choices(self, features: Features) -> Batch:
        count = len(features[0]["input_ids"])
        if odd := [len(row["input_ids"]) for row in features if len(row["input_ids"]) != count]:
            raise ValueError(f"rows have {count} and {odd[0]} choices; expected as many in each")
        first = features[0].items()
        nested = [name for name, x in first if name not in LABEL_COLUMNS and _size(x) == count]
        flat = [{name: row[name][c] for name in nested} for row in features for c in range(count)]
        batch = {name: x.reshape(-1, count, *x.shape[1:]) for name, x in self(flat).items()}
        others = [{n: x for n, x in row.items() if n not in nested} for row in features]
        return batch | (DefaultDataCollator()(others) if others[0] else {})


LABEL_COLUMNS = ("labels", "label", "label_ids", "shift_labels")
_OWN_LENGTHS = (*LABEL_COLUMNS, "decoder_input_ids", "decoder_attention_mask")


def filled(rows: Sequence[Any], length: int, value: int, side: str = "right") -> np.ndarray:
    """Puts rows of whole numbers into int64 [B, length], padded with `value` on a side."""
    array = np.full((len(rows), length), value, np.int64)
    for target, row in zip(array, rows, strict=True):
        values = whole_numbers(row, "a row is")
        target[slice(length - len(row), None) if side == "left" else slice(len(row))] = values
    return array


def whole_numbers(values: Any, what: str) -> np.ndarray:
    """Returns whole numbers as int64 [N]; raises `ValueError` for others, texts of digits too."""
    try:
        array = np.asarray(values)
    except ValueError:  # of several lengths
        array = np.array(None)
    if array.ndim == 1 and array.dtype.kind in "biuf":
        whole = array.astype(np.int64)
        if array.dtype.kind != "f" or (whole == array).all():
            return whole
    raise ValueError(f"{what} {values!r:.80}; expected whole numbers")


def stacked(name: str, values: Sequence[ArrayLike] | np.ndarray) -> np.ndarray:
    """Stacks the values of a column -> [B, ...].

    Raises:
        ValueError: they have several shapes.
    """
    if isinstance(values, np.ndarray):
        return values
    try:
        return np.stack(values) if isinstance(values[0], np.ndarray) else np.array(values)
    except ValueError:
        shapes = sorted({_shape(value) for value in values})
        raise ValueError(
            f"column {name!r} has values of shapes {', '.join(map(str, shapes[:5]))}, and none of "
            "them is padded: give tokenizer=, or lengths=, or a collate_fn of your own"
        ) from None


def _check_rows(features: Features) -> None:
    if len(features) == 0:
        raise ValueError("there are no rows to make a batch of")


def _size(value: Any) -> int | None:
    """Returns the length of a sequence; None of what is none."""
    is_one = hasattr(value, "__len__") and getattr(value, "ndim", 1) > 0
    return len(value) if is_one else None


def _is_nested(ids: Any) -> bool:
    return len(ids) > 0 and hasattr(ids[0], "__len__") and not isinstance(ids[0], str | bytes)


def _shape(value: ArrayLike) -> tuple[int, ...] | str:
    try:
        return str(np.shape(value))
    except ValueError:
        return "of several lengths"


def _column(rows: Features, name: str) -> list[Any]:
    try:
        return [row[name] for row in rows]
    except KeyError:
        place = next(i for i, row in enumerate(rows) if name not in row)
        raise ValueError(
            f"row {place} of the batch has no column {name!r}, and the first has: "
            f"{', '.join(rows[0])}; it has {', '.join(rows[place]) or 'none'}"
        ) from None


def _labels(rows: Features, name: str) -> np.ndarray:
    values = _column(rows, name)
    first = values[0]
    if name == "label_ids" and isinstance(first, np.ndarray):
        return stacked(name, values)
    first = first[0] if name == "label_ids" else first
    first = first.item() if isinstance(first, np.ndarray) else first
    whole = isinstance(first, int | np.integer)
    return stacked(name, values).astype(np.int64 if whole else np.float32)

"""`prepare`: from a model and a dataset to batches."""

import dataclasses
import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Unpack

import numpy as np

from ..calls.signature import defaults_of, names_of, shows, value_of
from ..core.head_kinds import kind_of
from ..core.model import Model
from ..params.scalars import flag, whole
from . import defaults
from .batch_pipeline import Form
from .batches import Batches
from .checks import Ranges
from .collate import Batch, DataCollatorWithPadding, DefaultDataCollator, Padding
from .epoch_batches import Rows, Streamed
from .options import DataKeywords, DataOptions
from .placing import Placement
from .rows.columns import Columns, columns_of
from .rows.reading import Reader
from .rows.sources import Indexed, Row, Stream, as_source
from .rows.tokenizing import Texts, Tokenizes

_AHEAD = 2  # batches that are made before they are asked for
_ENDLESS = 1 << 48


@dataclasses.dataclass(frozen=True)
class _Call:
    """The arguments of `prepare` that `DataOptions` has not, checked."""

    batch_size: int
    shuffle: bool
    tokenizer: Tokenizes | None
    collate_fn: Callable[..., Mapping[str, np.ndarray]] | None
    collate_fn_args: Mapping[str, object] | None
    drop_remainder: bool | None
    prefetch: bool

    def __post_init__(self) -> None:
        whole("batch_size", self.batch_size)
        flag("shuffle", self.shuffle)
        flag("prefetch", self.prefetch)
        if self.drop_remainder is not None:
            flag("drop_remainder", self.drop_remainder)
        if self.collate_fn is None and self.collate_fn_args:
            raise ValueError("collate_fn_args are keywords of collate_fn, which is not given")
        if self.collate_fn is not None and not callable(self.collate_fn):
            kind = type(self.collate_fn).__name__
            raise TypeError(f"collate_fn is a {kind}; expected a function of rows")
        if not isinstance(self.collate_fn_args, Mapping | None):
            kind = type(self.collate_fn_args).__name__
            raise TypeError(f"collate_fn_args is a {kind}; expected keywords by name")

    @property
    def drops(self) -> bool:
        """Whether a last batch that is not full is left out."""
        return bool(self.shuffle if self.drop_remainder is None else self.drop_remainder)

    def collate(self, rows: Sequence[Row], length: int | None, *, padding: Padding) -> Batch:
        """Returns arrays of rows, padded to a length if that is given."""
        if self.collate_fn is None:
            if length is not None:
                return DataCollatorWithPadding(padding, "max_length", length)(rows)
            if self.tokenizer is not None:
                return DataCollatorWithPadding(padding)(rows)
            return DefaultDataCollator()(rows)
        made = self.collate_fn(list(rows), **(self.collate_fn_args or {}))
        if not hasattr(made, "keys"):
            raise TypeError(f"collate_fn gave a {type(made).__name__}; expected arrays by name")
        return dict(made)


@shows(defaults_of(DataOptions))
def prepare(
    model: Model,
    dataset: object,
    batch_size: int = 8,
    shuffle: bool = True,
    tokenizer: Tokenizes | None = None,
    collate_fn: Callable[..., Mapping[str, np.ndarray]] | None = None,
    collate_fn_args: Mapping[str, object] | None = None,
    drop_remainder: bool | None = None,
    prefetch: bool = True,
    **options: Unpack[DataKeywords],
) -> Batches:
    """Makes batches of a dataset that a model, and its loss, take: int32 and float32.

    Columns that are neither an input nor a label of the model are dropped; `label` and `label_ids`
    become `labels`. Where there are no labels, those of a causal LM are its `input_ids`, and those
    of a masked LM with a tokenizer are made by masking. Rows longer than `max_length`, than the
    longest of `lengths`, or than the positions of the model are cut at their end.

    Args:
        model: whose `__call__` and `loss_kind` say what is kept.
        dataset: {column: array or list}; a sequence of rows (mappings, or texts); the path of a
            file `.jsonl` or `.txt`, or several; a `Dataset` or `IterableDataset` of Hugging Face; a
            `MapDataset`, `IterDataset` or `DataLoader` of grain; another iterable of rows, or a
            function that makes one for each epoch. An iterator, as of a generator, gives one epoch.
        batch_size: rows of a batch, over all devices and processes.
        shuffle: whether rows come in an order that is drawn for each epoch.
        tokenizer: one of `fm.load_tokenizer`; or a function of a list of texts (and of second
            texts) that returns rows of ids, or {column: rows}. It tokenises the column `text`, and
            pads; with a `collate_fn` it does not pad.
        collate_fn: rows -> {name: array [B, ...]}, instead of `DefaultDataCollator`, or with a
            tokenizer `DataCollatorWithPadding`. Labels are then left to it.
        collate_fn_args: keywords for `collate_fn`.
        drop_remainder: whether a last batch that is not full is left out; `shuffle` if None. If it
            is not, it is short; on a mesh it is filled up by a row whose labels are ignored.
        prefetch: whether a thread makes two batches ahead.
        **options: see `DataOptions`.

    Raises:
        TypeError: no dataset, or arguments of other types.
        ValueError: no column that the model takes, columns of several lengths, an empty dataset, a
            batch that the mesh does not divide, and others. What is in rows is found by iterating.
    """
    if not isinstance(model, Model):
        raise TypeError(f"model is {model!r:.80}; expected a model of this library, an object")
    collation = collate_fn, collate_fn_args
    call = _Call(batch_size, shuffle, tokenizer, *collation, drop_remainder, prefetch)
    asked = value_of(DataOptions, options, "prepare", names_of(_Call))
    return _prepared(model, as_source(dataset), call, asked)


def _prepared(model: Model, source: Indexed | Stream, call: _Call, options: DataOptions) -> Batches:
    bounded, is_ours = bool(options.pack) or options.lengths is not None, call.collate_fn is None
    if not is_ours:
        if bounded:
            raise ValueError("collate_fn makes arrays of its own form: give no lengths and no pack")
        if options.asks_for_masking:
            raise ValueError("collate_fn makes labels, and mlm_probability would have no effect")
        options = dataclasses.replace(options, mlm_probability=0)
    wanted = columns_of(model, options.columns)
    texts = defaults.texts_of(model, call.tokenizer, options)
    source, names = _narrowed(source, wanted, texts)
    limit, padding = defaults.limit_of(model, options), defaults.padding_of(model, call.tokenizer)
    packs = defaults.packs_of(model, padding, limit, options)
    reader = Reader(
        columns=wanted,
        texts=texts,
        limit=None if packs is not None and packs.splits else defaults.text_limit(texts, limit),
        next_tokens=kind_of(model).next_tokens if is_ours else None,
        masking=defaults.masking_of(model, call.tokenizer, options),
        unpads=packs is not None,
        of_decoder=kind_of(model).decodes,
        labels_tokens=is_ours and kind_of(model).packs,
    )
    size, rules = operator.index(call.batch_size), options.rules
    rules = model.rules if rules is None else rules
    form = Form(
        batch_size=size,
        drop_remainder=call.drops,
        collate=functools.partial(call.collate, padding=padding),
        is_by_rows=is_ours,
        columns=wanted,
        ranges=Ranges.of(model),
        lengths=options.lengths,
        packs=packs,
        placement=None if options.mesh is None else Placement(options.mesh, rules, size),
        first_position=defaults.first_position(model, padding),
    )
    if isinstance(source, Stream):
        made = Streamed(source, reader, form, options.shuffle_buffer if call.shuffle else 1)
    else:
        _check_size(len(source), form)
        made = Rows(source, reader, form, bool(call.shuffle))
    ahead = _AHEAD if call.prefetch else 0
    return Batches(made, size, seed=options.seed, ahead=ahead, bounded=bounded, columns=names)


def _narrowed(
    source: Indexed | Stream, wanted: Columns, texts: Texts | None
) -> tuple[Indexed | Stream, tuple[Sequence[str], Sequence[str]]]:
    """Returns a dataset without the columns that nothing reads, and the names that are kept and
    dropped of it; of a stream they are not known before it is read."""
    if isinstance(source, Stream):
        return source, ((), ())
    if len(source) >= _ENDLESS:
        raise ValueError(
            f"the dataset has {len(source)} rows, as one that is repeated without end: give it "
            "without repeat(), since batches may be iterated over again"
        )
    if not len(source):
        raise ValueError("the dataset is empty: it has no rows")
    (first,) = source.take([0])
    read = () if texts is None else texts.read_of(first)
    missing = [name for name in (*read, *(() if read else wanted.more)) if name not in first]
    if missing:
        raise ValueError(
            f"the dataset has no column {missing[0]!r}; it has {', '.join(map(str, first))}. text= "
            "names what is tokenised, columns= what is kept beside what the model takes"
        )
    kept = [name for name in first if name in wanted or name in read]
    kept += [name for name in first if name == "special_tokens_mask"]
    if not read:
        wanted.kept(first)  # raises where there is none
    dropped = [name for name in first if name not in kept]
    only = getattr(source, "only", None)
    return (source if only is None else only(kept)), (kept, dropped)


def _check_size(rows: int, form: Form) -> None:
    if rows < form.batch_size and form.drop_remainder and form.packs is None:
        raise ValueError(
            f"the dataset has {rows} rows, fewer than batch_size={form.batch_size}, and the last "
            "batch is left out: there would be none. Give drop_remainder=False, or a smaller "
            "batch_size"
        )

"""`prepare`: from a model and a dataset to batches."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Unpack

from ..calls.signature import defaults_of, shows, value_of
from ..core.model import Model
from . import defaults
from .batches import Batches
from .checks import Ranges
from .collate import Batch, DataCollatorWithPadding, DefaultDataCollator, Padding
from .defaults import whole
from .forming import Form
from .making import Rows, Streamed
from .options import DataKeywords, DataOptions
from .placing import Placement
from .rows.columns import Columns, columns_of
from .rows.reading import Texts
from .rows.sources import Indexed, Row, Stream, as_source

_AHEAD = 2  # batches that are made before they are asked for
_ENDLESS = 1 << 48


class _Given(NamedTuple):
    """The arguments of `prepare` that `DataOptions` has not, checked."""

    batch_size: int
    shuffle: bool
    tokenizer: Any
    collate_fn: Callable[..., Mapping[str, Any]] | None
    collate_fn_args: Mapping[str, Any] | None
    drop_remainder: bool
    prefetch: bool


@shows(defaults_of(DataOptions))
def prepare(
    model: Model,
    dataset: Any,
    batch_size: int = 8,
    shuffle: bool = True,
    tokenizer: Any = None,
    collate_fn: Callable[..., Mapping[str, Any]] | None = None,
    collate_fn_args: Mapping[str, Any] | None = None,
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
    drop = bool(shuffle if drop_remainder is None else drop_remainder)
    size, collation = whole("batch_size", batch_size, 1), (collate_fn, collate_fn_args)
    given = _Given(size, bool(shuffle), tokenizer, *collation, drop, bool(prefetch))
    return _prepared(model, as_source(dataset), given, value_of(DataOptions, options, "prepare"))


def _prepared(
    model: Model, source: Indexed | Stream, given: _Given, options: DataOptions
) -> Batches:
    seed = whole("seed", options.seed, 0)
    buffer = whole("shuffle_buffer", options.shuffle_buffer, 1)
    bounded, is_ours = bool(options.pack) or options.lengths is not None, given.collate_fn is None
    if bounded and not is_ours:
        raise ValueError("collate_fn makes arrays of its own form: give no lengths and no pack")
    wanted = columns_of(model, options.columns)
    texts = defaults.texts_of(model, given.tokenizer, options.text, options.target)
    source, names = _narrowed(source, wanted, texts)
    limit, lengths = defaults.limits(model, options.lengths, options.max_length)
    padding = defaults.padding_of(model, given.tokenizer)
    probability = options.mlm_probability if is_ours else 0
    masking = defaults.masking_of(model, given.tokenizer, probability)
    told = {"limit": limit, "makes_labels": is_ours, "masking": masking}
    packs = defaults.packs_of(model, padding, limit, options.pack)
    reader = defaults.reader_of(model, wanted, texts, **told, packs=packs)
    rules = model.rules if options.rules is None else options.rules
    mesh, size = options.mesh, given.batch_size
    form = Form(
        batch_size=size,
        drop_remainder=given.drop_remainder,
        collate=_collator(given, padding),
        is_by_rows=is_ours,
        columns=wanted,
        ranges=Ranges.of(model),
        lengths=lengths,
        packs=packs,
        placement=None if mesh is None else Placement(mesh, rules, size),
        first_position=defaults.first_position(model, padding),
    )
    if isinstance(source, Stream):
        made: Rows | Streamed = Streamed(source, reader, form, buffer if given.shuffle else 1)
    else:
        _check_size(len(source), form)
        made = Rows(source, reader, form, given.shuffle)
    ahead = _AHEAD if given.prefetch else 0
    return Batches(made, size, seed=seed, ahead=ahead, bounded=bounded, columns=names)


def _collator(given: _Given, padding: Padding) -> Callable[[Sequence[Row], int | None], Batch]:
    """Returns what makes arrays of rows, padded to a length if that is given."""
    if given.collate_fn is None and given.collate_fn_args:
        raise ValueError("collate_fn_args are keywords of collate_fn, which is not given")

    def collate(rows: Sequence[Row], length: int | None) -> Batch:
        if given.collate_fn is not None:
            return dict(given.collate_fn(list(rows), **(given.collate_fn_args or {})))
        if length is not None:
            return DataCollatorWithPadding(padding, "max_length", length)(rows)
        if given.tokenizer is not None:
            return DataCollatorWithPadding(padding)(rows)
        return DefaultDataCollator()(rows)

    return collate


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
            f"the dataset has no column {missing[0]!r}; it has {', '.join(first)}. text= names "
            "what is tokenised, columns= what is kept beside what the model takes"
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

"""`prepare`: from a model and a dataset to batches."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

from jax.sharding import Mesh

from ..core.model import Model
from . import defaults
from .batches import Batches
from .checks import Ranges
from .collate import Batch, DataCollatorWithPadding, DefaultDataCollator, Padding
from .defaults import whole
from .forming import Form
from .making import Rows, Streamed
from .placing import Placement
from .rows.columns import Columns, columns_of
from .rows.reading import Texts
from .rows.sources import Indexed, Row, Stream, as_source

_AHEAD = 2  # batches that are made before they are asked for


class DataKeywords(TypedDict, total=False):
    """The keywords of `prepare` and of `prepare_dataset`."""

    seed: int
    mesh: Mesh | None
    rules: object
    text: str | tuple[str, str] | None
    target: str | None
    columns: Sequence[str]
    lengths: Sequence[int] | None
    pack: bool
    max_length: int | None
    mlm_probability: float
    shuffle_buffer: int


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
    *,
    seed: int = 0,
    mesh: Mesh | None = None,
    rules: object = None,
    text: str | tuple[str, str] | None = None,
    target: str | None = None,
    columns: Sequence[str] = (),
    lengths: Sequence[int] | None = None,
    pack: bool = False,
    max_length: int | None = None,
    mlm_probability: float = 0.15,
    shuffle_buffer: int = 1000,
) -> Batches:
    """Makes batches of a dataset that a model, and its loss, take.

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
        shuffle: whether rows come in an order that is drawn for each epoch. Of a stream each row is
            drawn from `shuffle_buffer` that wait.
        tokenizer: one of `fm.load_tokenizer`; or a function of a list of texts (and of second
            texts) that returns rows of ids, or {column: rows}. It tokenises the column `text`, and
            pads; see `DataCollatorWithPadding`. With a `collate_fn` it does not pad.
        collate_fn: rows -> {name: array [B, ...]}, instead of `DefaultDataCollator`, or with a
            tokenizer `DataCollatorWithPadding`. Labels are then left to it.
        collate_fn_args: keywords for `collate_fn`.
        drop_remainder: whether a last batch that is not full is left out; `shuffle` if None. If it
            is not, it is short; on a mesh it is filled up with a row whose labels are ignored.
        prefetch: whether a thread makes two batches ahead.
        seed: of all that is drawn, from 0.
        mesh: where batches are put, global arrays whose rows are cut by the rule of "batch"; every
            process gives the same arguments, and its devices have their part. NumPy arrays of all
            rows if None.
        rules: of the mesh; `model.rules` if None.
        text: the column that is tokenised, or two for pairs; "text" if None.
        target: the column of what a decoder is to say, whose ids become `labels`.
        columns: names that are kept though the model does not take them.
        lengths: to the smallest of which rows are padded, so that there are no more shapes than
            these; rows of a batch are of the same one.
        pack: whether several rows share one of the batch, `max_length` long: with `segment_ids`,
            and `position_ids` that begin anew in each. A segment's first token is no label.
        max_length: tokens of a row, at most.
        mlm_probability: of a token to be chosen for masking; 0 for no masking and no labels.
        shuffle_buffer: rows of a stream.

    Returns:
        batches of int32 and float32, which may be iterated over again; see `Batches`.

    Raises:
        TypeError: no dataset, or arguments that are no numbers.
        ValueError: what cannot be: no column that the model takes, columns of several lengths, an
            empty dataset, a batch that the mesh does not divide, and others. What is found in rows
            later is raised by the iteration.
    """
    batch_size = whole("batch_size", batch_size, 1)
    seed, buffer = whole("seed", seed, 0), whole("shuffle_buffer", shuffle_buffer, 1)
    if collate_fn is not None and (lengths is not None or pack):
        raise ValueError("collate_fn makes arrays of its own form: give no lengths and no pack")
    source = as_source(dataset)
    wanted = columns_of(model, columns)
    texts = defaults.texts_of(model, tokenizer, text, target)
    source, (kept, dropped) = _narrowed(source, wanted, texts)
    limit, lengths = defaults.limits(model, lengths, max_length)
    padding = defaults.padding_of(model, tokenizer)
    reader = defaults.reader_of(
        model,
        wanted,
        texts,
        limit=limit,
        makes_labels=collate_fn is None,
        unpads=pack,
        masking=None if collate_fn else defaults.masking_of(model, tokenizer, mlm_probability),
    )
    form = Form(
        batch_size=batch_size,
        drop_remainder=bool(shuffle if drop_remainder is None else drop_remainder),
        collate=_collator(collate_fn, collate_fn_args, tokenizer, padding),
        columns=wanted,
        ranges=Ranges.of(model),
        lengths=lengths,
        packs=defaults.packs_of(model, padding, limit) if pack else None,
        placement=None if mesh is None else Placement(mesh, rules or model.rules, batch_size),
        first_position=defaults.first_position(model, padding),
    )
    if isinstance(source, Stream):
        made: Rows | Streamed = Streamed(source, reader, form, buffer if shuffle else 1)
    else:
        _check_size(len(source), form)
        made = Rows(source, reader, form, bool(shuffle))
    bounded = pack or lengths is not None
    ahead = _AHEAD if prefetch else 0
    names = (kept, dropped)
    return Batches(made, batch_size, seed=seed, ahead=ahead, bounded=bounded, columns=names)


def _collator(
    collate_fn: Callable[..., Mapping[str, Any]] | None,
    arguments: Mapping[str, Any] | None,
    tokenizer: Any,
    padding: Padding,
) -> Callable[[Sequence[Row], int | None], Batch]:
    """Returns what makes arrays of rows, padded to a length if that is given."""
    if collate_fn is None and arguments:
        raise ValueError("collate_fn_args are keywords of collate_fn, which is not given")

    def collate(rows: Sequence[Row], length: int | None) -> Batch:
        if collate_fn is not None:
            return dict(collate_fn(list(rows), **(arguments or {})))
        if length is not None:
            return DataCollatorWithPadding(padding, "max_length", length)(rows)
        return (DefaultDataCollator() if tokenizer is None else DataCollatorWithPadding(padding))(
            rows
        )

    return collate


def _narrowed(
    source: Indexed | Stream, wanted: Columns, texts: Texts | None
) -> tuple[Indexed | Stream, tuple[Sequence[str], Sequence[str]]]:
    """Returns a dataset without the columns that nothing reads, and the names that are kept and
    dropped of it; of a stream they are not known before it is read."""
    if isinstance(source, Stream):
        return source, ((), ())
    if not len(source):
        raise ValueError("the dataset is empty: it has no rows")
    (first,) = source.take([0])
    read = () if texts is None else texts.read_of(first)
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

"""Opening: a folder, a weights file or an index -> a source."""

import dataclasses
import os

from ..errors import CheckpointError, quoted, some, warn
from ..scalars import flag
from ..tree.naming import FLAX, PATHS, TF, TORCH, layout_of, spelling
from . import diagnosis
from .orbax import layout
from .registry import FORMATS, GGUF, ORBAX, SAFETENSORS, Format, format_of, main_files
from .shard_index import read_sharded
from .source import Source, Tensor
from .store import LOCAL, Reads, Store

_WRITER = {TORCH: "pt", TF: "tf", FLAX: "flax", PATHS: "flax"}


def open_checkpoint(
    path: str | os.PathLike,
    *,
    use_safetensors: bool | None = None,
    framework: str | None = None,
    variant: str | None = None,
    weights_only: bool = True,
    store: Store = LOCAL,
    adapted: bool = False,
) -> Source:
    """Opens a checkpoint: a folder, a weights file, or the index of a sharded one; "x/model.ckpt"
    is short for "x/model.ckpt.index".

    Of a folder, the first format of `FORMATS` that is there is taken, and a single file before a
    sharded one; or the folder itself, if orbax wrote it.

    Args:
        use_safetensors: True takes nothing else, False never takes it.
        framework: take only what "pt", "tf" or "flax" writes, its own formats first.
        variant: take `model.<variant>.safetensors` and its like, nothing else.
        weights_only: of PyTorch's own files; False reads the tensors of one that also holds other
            things, which are left out. No code of a file is ever run.
        store: where the path is, if not on this machine's disks.
        adapted: whether the caller sees to an adapter that lies beside the weights; without it,
            there is a warning that these are the base's alone.

    Raises:
        TypeError, ValueError: an argument that is none of these; it is named.
        CheckpointError: nothing there, or something in it that is not as its format says.
    """
    path = os.fspath(path)
    _check_arguments(path, use_safetensors, framework, variant, weights_only)
    flag("adapted", adapted)
    if not store.exists(path) and store.exists(f"{path}.index"):
        path = f"{path}.index"
    if not store.is_folder(path):
        format = _format_of_file(path, variant, use_safetensors, store)
        return _of_framework(_source(path, format, weights_only, store), framework)
    candidates = main_files(use_safetensors=use_safetensors, framework=framework, variant=variant)
    for name, format in candidates.items():
        head = os.path.join(path, name)
        if format.is_folder and not store.exists(head):
            waiting = [there for there in store.names(path) if format.waits(there, variant)]
            head = os.path.join(path, waiting[0]) if len(waiting) == 1 else head
        if store.exists(head):
            source = _source(head, format, weights_only, store)
            if not adapted and (beside := diagnosis.adapter(path, store)):
                warn(f"{path}: {beside}; the base's weights are opened without it")
            return _of_framework(source, framework)
    there = store.names(path)
    if ORBAX in candidates.values() and variant is None and layout.may_be(there):
        store.expect([path], Reads.PATH)
        if layout.is_folder(path):
            return _source(path, ORBAX, weights_only, store)
    text = diagnosis.of_folder(path, store)
    raise CheckpointError(
        f"{path}: no checkpoint: {text + '; ' if text else ''}looked for {', '.join(candidates)}; "
        f"the folder holds {some(there) or 'nothing'}"
    )


def _check_arguments(
    path: object, use_safetensors: object, framework: object, variant: object, weights_only: object
) -> None:
    """Refuses what would count as another value, or as one that finds nothing."""
    if not isinstance(path, str):
        raise TypeError(f"the path of a checkpoint is {path!r:.200}; give a str or a pathlib.Path")
    flag("weights_only", weights_only)
    if use_safetensors is not None:
        flag("use_safetensors", use_safetensors)
    known = sorted({name for format in FORMATS for name in format.frameworks})
    if framework is not None and framework not in known:
        raise ValueError(f"framework={framework!r:.80}; expected one of {', '.join(known)}")
    if variant is not None and (not isinstance(variant, str) or not variant):
        raise ValueError(f'variant={variant!r:.80}; expected a part of file names, such as "fp16"')


def _format_of_file(
    path: str, variant: str | None, use_safetensors: bool | None, store: Store
) -> Format:
    name = os.path.basename(path)
    if variant is not None and f".{variant}." not in name:
        raise CheckpointError(
            f"{path}: variant={variant!r} was asked for, and by its name this file is another"
        )
    format = format_of(name.partition(".index.")[0] if _is_index(name) else name)
    if format is None or format.is_folder:
        files = (format for format in (*FORMATS, GGUF) if not format.is_folder)
        known = ", ".join(dict.fromkeys(end for format in files for end in format.endings))
        text = diagnosis.of_file(path, store)
        raise CheckpointError(
            f"{path}: {text + '; it is ' if text else ''}not a checkpoint folder, a weights file "
            f"({known}), or the .index.json of one"
            f"{'' if store.exists(path) else '; there is no such file or folder'}"
        )
    if use_safetensors not in (None, format is SAFETENSORS):
        raise CheckpointError(
            f"{path}: use_safetensors={use_safetensors} was asked for, and by its name this file "
            f"is {'one' if format is SAFETENSORS else 'none'} of safetensors"
        )
    return format


def _of_framework(source: Source, framework: str | None) -> Source:
    """Returns a source, which must be of the framework that was asked for."""
    if framework not in (None, _WRITER[source.layout]):
        raise CheckpointError(
            f"{source.where}: written by {_WRITER[source.layout]}, and {framework} was asked for"
        )
    return source


def _source(path: str, format: Format, weights_only: bool, store: Store) -> Source:
    if _is_index(os.path.basename(path)):
        (tensors, metadata), absent = read_sharded(path, format, weights_only, store)
    else:
        absent = {}
        store.expect(_parts(path, format, store), format.reads)
        tensors, metadata = format.read(path, weights_only, store)
    layout = PATHS if format is ORBAX else layout_of(tensors, metadata)
    if format is SAFETENSORS:  # the others have one layout each
        layout = _spelled_as(path, tensors, metadata, layout)
    passed_over = tuple(name for name in tensors if spelling(name, layout) is None)
    tensors = _spelled(path, tensors, layout)
    lost = {spelling(name, layout): path for name, path in absent.items()}
    absent = {name: path for name, path in lost.items() if name is not None}
    return Source(path, tensors, layout, metadata, absent, passed_over)


def _spelled_as(
    path: str, tensors: dict[str, Tensor], metadata: dict[str, str], declared: str
) -> str:
    """Returns the layout that a file declares, unless its names are spelled as another's."""
    names = list(tensors)
    leaves = {name.replace("/", ".").rpartition(".")[2] for name in names}
    spelled = declared
    if any(name.endswith(":0") or "_._" in name for name in names):
        spelled = TF
    elif "weight" in leaves and not leaves & {"kernel", "embedding"}:
        spelled = TORCH
    elif "weight" not in leaves and leaves & {"kernel", "embedding"}:
        spelled = FLAX
    if spelled == declared or "format" not in metadata or len(names) < 2:
        return declared
    warn(
        f"{path}: its format says {quoted(metadata['format'])}, and its names are spelled as "
        f"{_WRITER[spelled]!r} has them ({some(map(quoted, names), 2)}): it is read as that"
    )
    return spelled


def _parts(path: str, format: Format, store: Store) -> list[str]:
    """Lists the files that must be there to read a checkpoint without an index of shards."""
    if format.is_folder or format.has_index:
        return [path]
    folder, head = os.path.split(path)  # TensorFlow's table, which is read whole, and its data
    start = f"{head.removesuffix('index')}data-"
    return [os.path.join(folder, name) for name in store.names(folder) if name.startswith(start)]


def _is_index(name: str) -> bool:
    return name.endswith(".json") and ".index." in name


def _spelled(path: str, tensors: dict[str, Tensor], layout: str) -> dict[str, Tensor]:
    """Returns the parameters among `tensors`, by their names in the layout."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        spelled = spelling(name, layout)
        if spelled is None:
            continue
        if spelled in found:
            raise CheckpointError(
                f"{path}: tensors {quoted(found[spelled].name)} and {quoted(name)} both stand for "
                f"{quoted(spelled)}"
            )
        is_row = layout == TF and len(tensor.shape) == 2 and tensor.shape[0] == 1
        if is_row and spelled.endswith(".bias"):  # GPT-2's
            tensor = dataclasses.replace(tensor, shape=tensor.shape[1:])
        found[spelled] = tensor
    return found

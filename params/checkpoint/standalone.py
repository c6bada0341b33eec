"""Checkpoints without a model: trees as they are in their files, or as a template wants them."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ..errors import CheckpointError, quoted, some
from ..formats import Source, Tensor, main_files, open_checkpoint
from ..scalars import flag
from ..tree.cast import DtypeLike
from ..tree.naming import FLAX, PLAIN, Naming
from ..tree.paths import arrays_of, flatten, unflatten
from ..types import Params, PyTree
from . import host_memory
from .make_plan import make_plan
from .match import check_numbers, check_shapes, identity_match
from .reconcile import reconcile
from .stream import stream
from .ties import copies, untied


class LoadResult(NamedTuple):
    """The names that did not fit: of leaves without a tensor, of tensors without a leaf."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def load_flax_sharded_weights(
    shard_files: str | os.PathLike | Iterable[str | os.PathLike],
    *,
    dtype: DtypeLike | Mapping[str, DtypeLike] = "auto",
    shardings: PyTree = None,
    max_host_memory: int | str = host_memory.DEFAULT,
) -> Params:
    """Reads the shards of a flax msgpack checkpoint into one dict, nested as the files are.

    As `flax.serialization.from_bytes`, of several files, streamed: no shard is ever in memory.

    Args:
        shard_files: the shards themselves, in any order, or the one file that there is.
        dtype: "auto" as stored, a dtype, or an ordered {pattern: dtype}.
        shardings: a `jax.sharding.Sharding` for all leaves, or a tree of them.
        max_host_memory: bytes of host memory to use beyond the finished arrays, or "1GiB".

    Raises:
        CheckpointError: a file that is not flax msgpack, or a leaf that two of them hold.
    """
    tensors: dict[str, Tensor] = {}
    if not isinstance(shard_files, str | bytes | os.PathLike | Iterable):
        raise TypeError(f"shard_files is {shard_files!r:.80}; expected a path, or several")
    alone = isinstance(shard_files, str | bytes | os.PathLike)
    files = [shard_files] if alone else list(shard_files)
    for file in files:
        source = open_checkpoint(file)
        if source.layout != FLAX:
            raise CheckpointError(
                f"{os.fspath(file)}: its tensors have {source.layout}'s names, not flax's; "
                "fp.load_sharded_checkpoint(model, folder) reads it into a model's own names"
            )
        for name, tensor in source.tensors.items():
            if name in tensors:
                raise CheckpointError(f"{os.fspath(file)}: {quoted(name)} is in another shard too")
            tensors[name] = tensor
    if not tensors:
        raise CheckpointError("load_flax_sharded_weights: no files, or nothing in them")
    where = os.path.dirname(os.fspath(files[0]))
    try:
        template = unflatten(tensors)
    except ValueError as error:
        raise CheckpointError(f"{where}: {error}") from None
    match = identity_match(Source(where, tensors, FLAX))
    plan = make_plan(
        match, template, dtype=dtype, shardings=shardings, max_host_memory=max_host_memory
    )
    return stream(plan, progress=False)


def load_sharded_checkpoint(
    template: PyTree,
    folder: str | os.PathLike,
    strict: bool = True,
    prefer_safe: bool = True,
    *,
    naming: Naming = PLAIN,
    dtype: DtypeLike | Mapping[str, DtypeLike] = "auto",
    shardings: PyTree = None,
    max_host_memory: int | str = host_memory.DEFAULT,
) -> tuple[Params, LoadResult]:
    """Reads a folder's checkpoint, sharded or not, and returns `(params, LoadResult)`; names are
    compared before any weight is read, and each process reads what its own devices hold.

    Args:
        template: the abstract params (`model.abstract_params()`), or the model itself, which knows
            the names too.
        strict: raise unless leaves and tensors fit one to one; else leaves without a tensor are
            not in the result.
        prefer_safe: take safetensors where there are other formats too; else others first.
        naming: how the checkpoint calls the leaves (`model.naming`).
        dtype, shardings, max_host_memory: as `load_flax_sharded_weights`.

    Raises:
        TypeError: a class in the place of a model, or another argument of the wrong kind.
        ValueError: a leaf of the template that is no array, abstract or not.
        CheckpointError: no checkpoint; names (if strict) or shapes that do not fit; numbers that
            are no floats where the template's are.
    """
    flag("strict", strict)
    flag("prefer_safe", prefer_safe)
    template, naming, prefix, tied = _described(template, naming)
    others = (os.path.join(folder, name) for name in main_files(use_safetensors=False))
    prefer_safe = prefer_safe or not any(map(os.path.lexists, others))
    source = open_checkpoint(folder, use_safetensors=None if prefer_safe else False)
    match = reconcile(template, source, naming, prefix=prefix, tied=tied)
    check_shapes(match)
    check_numbers(match, template)
    # The same table again, under the other name of a tie, is in nobody's way.
    again = set() if match.missing else copies(match.source, match.unexpected, match.found)
    unexpected = [name for name in match.unexpected if name not in again]
    unexpected += [x.other.tensor.name for x in untied(match)]
    result = LoadResult(list(match.missing), unexpected)
    if strict and any(result):
        raise CheckpointError(
            f"{match.source.where}: does not fit the template: missing "
            f"{some(map(quoted, result.missing_keys)) or 'nothing'}; unexpected "
            f"{some(map(quoted, result.unexpected_keys)) or 'nothing'}"
        )
    plan = make_plan(
        match, template, dtype=dtype, shardings=shardings, max_host_memory=max_host_memory
    )
    return stream(plan, progress=False), result


def _described(
    template: PyTree, naming: Naming
) -> tuple[PyTree, Naming, str, Sequence[tuple[str, str]]]:
    """Returns a template, or that of a model, and what is known of its names and ties."""
    prefix, tied = "", ()
    if not isinstance(naming, Naming):
        raise TypeError(f"naming is {naming!r:.80}; expected a Naming, such as model.naming")
    if isinstance(template, type):
        raise TypeError(
            f"template is the class {template.__name__}; give a model, or its abstract_params()"
        )
    if hasattr(template, "abstract_params"):
        naming = template.naming if naming is PLAIN else naming
        prefix, tied = template.base_model_prefix, template.tied
        template = template.abstract_params()
    arrays_of(flatten(template))
    return template, naming, prefix, tied

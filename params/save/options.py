"""Options: what the files of a checkpoint are, and the formats that are written."""

import dataclasses
from collections.abc import Callable, Collection, Mapping

import numpy as np

from ..formats import MSGPACK, ORBAX, SAFETENSORS, Format
from ..formats import msgpack as msgpack_format
from ..formats import safetensors as safetensors_format
from ..formats.orbax import zarr
from ..sizes import parse_size
from ..tree.masks import Mask
from ..tree.naming import FLAX, PATHS, TORCH
from .encode import Parts, msgpack_parts, safetensors_parts
from .file_writer import SaveFunction
from .packed_layouts import OURS, check_method
from .saveable import check_variant
from .tensor_specs import TensorSpec


@dataclasses.dataclass(frozen=True)
class WriteOptions:
    """What the files of a checkpoint are.

    Attributes:
        format: "safetensors" under PyTorch names, "msgpack" in the names and layouts of old Flax
            checkpoints, or "orbax": the tree itself, written by orbax from where it lies.
        layout: of names and kernels, instead of the format's own.
        max_shard_size: bytes, or a string such as "5GB"; a larger tensor is a file of its own.
        variant: part of the files' names: `model.<variant>.safetensors`.
        tag: part of the shards' names, to tell them from those of another save.
        select: which leaves to write; all if None.
        save_function: called with {name: array} and a path for each file, instead of the format.
        save_id: whether the shards of safetensors say which save they are of, so that those of two
            are told apart; without it, the same params make the same files.
        quant_method: the layout of quantised weights, one of `packed_layouts.METHODS`.
    """

    format: str = "safetensors"
    layout: str | None = None
    max_shard_size: int | str = "5GB"
    variant: str | None = None
    tag: str = ""
    select: Mask | None = None
    save_function: SaveFunction | None = None
    save_id: bool = True
    quant_method: str = OURS

    @property
    def names(self) -> str:
        """The layout of names and kernels."""
        return self.layout or written(self.format).layout

    def __post_init__(self) -> None:
        if self.save_function is not None and not callable(self.save_function):
            raise TypeError(
                f"save_function is {self.save_function!r:.80}; expected a function of "
                "({name: array}, the path of a file)"
            )
        parse_size(self.max_shard_size)
        own_size = self.max_shard_size != WriteOptions.max_shard_size
        if own_size and self.format == "orbax" and self.save_function is None:
            raise TypeError("max_shard_size: orbax makes no shards; leave it out")
        check_variant(self.variant)
        written(self.format)
        check_method(self.quant_method, self.names)


@dataclasses.dataclass(frozen=True)
class Written:
    """How a format is written."""

    format: Format
    layout: str
    dtypes: Collection[np.dtype] = ()
    encode: Callable[[list[TensorSpec], Mapping[str, str]], Parts] = safetensors_parts


WRITTEN = {
    "safetensors": Written(SAFETENSORS, TORCH, safetensors_format.NAMES, safetensors_parts),
    "msgpack": Written(MSGPACK, FLAX, set(msgpack_format.DTYPES.values()), msgpack_parts),
    "orbax": Written(ORBAX, PATHS, set(zarr.DTYPES)),
}


def written(format: str) -> Written:
    """Returns how a format is written; raises `ValueError` if it is not."""
    if not isinstance(format, str) or format not in WRITTEN:
        raise ValueError(f"format is {format!r}; what can be written is {', '.join(WRITTEN)}")
    return WRITTEN[format]

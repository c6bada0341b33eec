"""What a save is asked for."""

import dataclasses
import os
from typing import Any

import jax

from .. import params as fp
from ..hub import HubOptions, tokenizer_files
from ..params.formats import FolderFile
from ..params.save.file_writer import SaveFunction
from ..params.save.options import WriteOptions
from ..params.save.packed_layouts import OURS
from ..params.scalars import flag


@dataclasses.dataclass(frozen=True, kw_only=True)
class SaveOptions:
    """The keywords of `save_pretrained` as one value; `PretrainedModel.save_pretrained` says what
    they mean."""

    safe_serialization: bool = True
    format: str | None = None
    max_shard_size: int | str = "5GB"
    variant: str | None = None
    select: fp.Mask | None = None
    checksums: bool = False
    is_main_process: bool | None = None
    save_function: SaveFunction | None = None
    quant_method: str = OURS
    tokenizer_from: str | os.PathLike | None = None
    token: str | bool | None = dataclasses.field(default=None, repr=False)
    progress: bool = True
    save_peft_format: bool = True

    def __post_init__(self) -> None:
        for name in ("safe_serialization", "checksums", "progress", "save_peft_format"):
            flag(name, getattr(self, name))
        if self.is_main_process is not None:
            flag("is_main_process", self.is_main_process)
        if self.format not in (None, "msgpack") and not self.safe_serialization:
            raise ValueError(
                f"format={self.format!r} and safe_serialization=False, which is msgpack; leave "
                "one of them out"
            )

    @property
    def weights_format(self) -> str:
        """The format of the weights: "safetensors", "msgpack" or "orbax"."""
        if self.format is not None:
            return self.format
        return "safetensors" if self.safe_serialization else "msgpack"

    def of_weights(self, **more: Any) -> WriteOptions:
        """Returns what the files of the weights are; `more` are fields of it."""
        return WriteOptions(
            format=self.weights_format,
            max_shard_size=self.max_shard_size,
            variant=self.variant,
            select=self.select,
            save_function=self.save_function,
            quant_method=self.quant_method,
            **more,
        )

    @property
    def writes(self) -> bool:
        """Whether this process writes."""
        return jax.process_index() == 0 if self.is_main_process is None else self.is_main_process

    def companions(self) -> list[FolderFile]:
        """Downloads the files of the tokenizer that is saved along."""
        if self.tokenizer_from is None:
            return []
        return tokenizer_files(self.tokenizer_from, HubOptions(token=self.token))

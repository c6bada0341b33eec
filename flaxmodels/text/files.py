"""The files of a tokenizer: which there are, and their texts, JSON and bytes within limits."""

import dataclasses
import json
import os

from .. import params as fp
from ..documents.json_files import CONFIG_NAME
from ..documents.json_values import Json
from ..hub import Location, tokenizer_files
from ..hub.options import HubOptions
from ..hub.resolve import resolve
from ..params import strict_json
from ..params.formats import LocalFile, check_size

MOST_BYTES = 256 << 20  # of a vocabulary; the largest published have 35 MB
_MOST_JSON = 16 << 20  # of a configuration
_MOST_TEMPLATE = 1 << 20


@dataclasses.dataclass(frozen=True)
class Files:
    """The files of a folder that say what a tokenizer does.

    Attributes:
        folder: where they are, for errors.
        names: those that there are.
    """

    folder: str
    names: frozenset[str]

    @classmethod
    def of(cls, name_or_path: "str | os.PathLike | Location", options: HubOptions) -> "Files":
        """Finds a tokenizer's files, and downloads them where they are on the Hub.

        Raises:
            CheckpointError: as `flaxmodels.hub.resolve`; or there are none.
        """
        location = resolve(name_or_path, options)
        with location.noting():
            names = {file.name for file in tokenizer_files(location)}
        if os.path.isfile(os.path.join(location.folder, CONFIG_NAME)):
            names.add(CONFIG_NAME)
        return cls(location.folder, frozenset(names))

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def path(self, name: str) -> str:
        return os.path.join(self.folder, *name.split("/"))

    def content(self, name: str, most: int = MOST_BYTES) -> bytes:
        """Reads a file.

        Raises:
            CheckpointError: more than `most` bytes; what stands in its place in git; the disk's
                own error.
        """
        file = LocalFile(self.path(name))
        check_size(file.path, file.size, most)
        file.reject_lookalikes()
        return file.read(0, file.size)

    def text(self, name: str, most: int = MOST_BYTES) -> str:
        """Reads a file of UTF-8, as `content`; line ends stay as they are."""
        try:
            return self.content(name, most).decode()
        except UnicodeDecodeError as error:
            raise fp.CheckpointError(f"{self.path(name)}: not UTF-8: {error}") from None

    def template(self, name: str) -> str:
        """Reads a template, as Python reads a text: every line end is a newline."""
        text = self.text(name, _MOST_TEMPLATE)
        return text.replace("\r\n", "\n").replace("\r", "\n")

    def json(self, name: str) -> dict[str, Json]:
        """Reads a configuration; {} if there is none.

        Raises:
            CheckpointError: as `content`; no JSON, or no object.
        """
        if name not in self:
            return {}
        raw = self.content(name, _MOST_JSON)
        try:
            value = strict_json.loads(raw, constants=float)
        except ValueError as error:
            raise fp.CheckpointError(f"{self.path(name)}: {error}") from None
        if not isinstance(value, dict):
            raise fp.CheckpointError(
                f"{self.path(name)}: expected a JSON object, got {type(value).__name__}"
            )
        return value

    def vocabulary(self, name: str) -> dict[str, int]:
        """Reads a JSON object of tokens and their ids.

        Raises:
            CheckpointError: as `json`; or another value than a whole number.
        """
        try:
            value = json.loads(self.text(name))
        except (ValueError, RecursionError) as error:
            raise fp.CheckpointError(f"{self.path(name)}: {error}") from None
        if not isinstance(value, dict) or not all(
            type(number) is int and 0 <= number < 1 << 31 for number in value.values()
        ):
            raise fp.CheckpointError(
                f"{self.path(name)}: expected an object of tokens and their ids"
            )
        return value

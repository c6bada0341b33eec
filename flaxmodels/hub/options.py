"""The keywords that say where in a repository a checkpoint is, and how it is fetched."""

import dataclasses
import os
from collections.abc import Mapping
from types import NoneType
from typing import Any, Self, TypedDict

import numpy as np


class PushKeywords(TypedDict, total=False):
    """Which repository, and which of its branches, a push is to: see `push_files`."""

    private: bool | None
    token: str | bool | None
    create_pr: bool
    revision: str | None


class HubKeywords(TypedDict, total=False):
    """`HubOptions`, as the keywords of a public function."""

    subfolder: str | None
    revision: str | None
    token: str | bool | None
    cache_dir: str | os.PathLike | None
    local_files_only: bool
    force_download: bool
    proxies: Mapping[str, str] | None
    progress: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class HubOptions:
    """Where in a repository a checkpoint is, and how it is fetched.

    Attributes:
        subfolder: of the repository, or of a local folder.
        revision: a branch, a tag, a commit, or refs/pr/N.
        token: None and True are the stored login, False is none.
        cache_dir: huggingface_hub's own cache if None.
        local_files_only: ask nobody; take what is in the cache.
        force_download: fetch again what is in the cache.
        proxies: {"http" | "https" | "http://host": "host:port"}, used by this whole process while
            something is resolved.
        progress: show a bar if a download takes longer than a second.
    """

    subfolder: str = ""
    revision: str = "main"
    token: str | bool | None = dataclasses.field(default=None, repr=False)
    cache_dir: str | os.PathLike | None = None
    local_files_only: bool = False
    force_download: bool = False
    proxies: Mapping[str, str] | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        for name, kinds in _KINDS.items():
            if not isinstance(value := getattr(self, name), kinds):
                said = type(value).__name__ if name == "token" else repr(value)[:80]
                names = {"None" if kind is NoneType else kind.__name__: kind for kind in kinds}
                expected = " or ".join(names)
                raise TypeError(f"{name} is {said}; expected {expected}")
        if isinstance(self.token, np.bool_):
            object.__setattr__(self, "token", bool(self.token))
        self._take_paths()
        for item in (self.proxies or {}).items():
            if not all(isinstance(part, str) and part for part in item):
                raise TypeError("proxies must map schemes to addresses: {'http': 'host:port'}")
            if item[0] not in ("http", "https", "all") and "://" not in item[0]:
                raise ValueError(f"proxies: {item[0]!r} is not http, https, all or http://host")
        if self.local_files_only and self.force_download:
            raise ValueError(
                "local_files_only and force_download contradict; leave one of them out"
            )

    def _take_paths(self) -> None:
        """Makes texts of paths."""
        if self.cache_dir == "":  # would be a cache in the working directory
            raise ValueError("cache_dir is empty; leave it out for the cache of huggingface_hub")
        for name in ("subfolder", "cache_dir"):
            if (given := getattr(self, name)) is not None:
                if not isinstance(path := os.fspath(given), str):
                    raise TypeError(f"{name} is {path!r:.80}; expected a path that is a str")
                object.__setattr__(self, name, path)
        if "\0" in str(self.cache_dir):
            raise ValueError(f"cache_dir is {self.cache_dir!r:.80}; no path has a null character")
        object.__setattr__(self, "subfolder", self.subfolder.rstrip("/"))

    @classmethod
    def take_from(cls, keywords: dict[str, Any]) -> Self:
        """Takes the options out of `keywords`, where all others stay; None is the default."""
        taken = {name: keywords.pop(name) for name in _KEYWORDS & keywords.keys()}
        return cls(**{name: value for name, value in taken.items() if value is not None})


_KEYWORDS = frozenset(HubKeywords.__annotations__)
_FLAG = (bool, np.bool_)
_KINDS: Mapping[str, tuple[type, ...]] = {
    "subfolder": (str, os.PathLike),
    "revision": (str,),
    "token": (str, *_FLAG, NoneType),
    "cache_dir": (str, os.PathLike, NoneType),
    "local_files_only": _FLAG,
    "force_download": _FLAG,
    "proxies": (Mapping, NoneType),
    "progress": _FLAG,
}
DEFAULT_OPTIONS = HubOptions()

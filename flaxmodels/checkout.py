"""Imports from the repository itself, or from a zip of it, where nothing is installed.

`params/` and `sharding/` stand beside this folder there, and a build puts them inside it, by the
table `package-dir` of pyproject.toml. Importing goes by the same table: only the packages that it
names are found, in the places that it names, and nothing else that stands there.
"""

import os
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any


@dataclass(frozen=True)
class Rooms:
    """Finds the packages of flaxmodels that lie outside its folder; stands in `sys.meta_path`."""

    inside: list[str]  # where the package is: the process may import another flaxmodels later
    places: dict[str, str]

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: object = None
    ) -> ModuleSpec | None:
        if name not in self.places or list(path or ()) != self.inside:
            return None
        return PathFinder.find_spec(name, [os.path.dirname(self.places[name])])


def find_rooms(package: str) -> None:
    """Makes the packages that stand beside `package` importable; changes nothing if installed.

    They are looked for before all else: it may be another checkout that is installed.
    """
    module = sys.modules[package]
    root = os.path.dirname(os.path.dirname(module.__file__ or ""))
    places = {
        name: os.path.join(root, place)
        for name, place in _package_dir(root, module.__spec__).items()
        if name.rpartition(".")[0] == package and os.path.basename(place) == name.rpartition(".")[2]
    }
    rooms = Rooms(list(module.__path__), places)
    if places and rooms not in sys.meta_path:
        sys.meta_path.insert(0, rooms)


def _package_dir(root: str, spec: Any) -> dict[str, str]:
    """Reads the table in `root`, on the disk or in a zip; {} where there is none."""
    try:
        text = spec.loader.get_data(os.path.join(root, "pyproject.toml")).decode()
        table = tomllib.loads(text)["tool"]["setuptools"]["package-dir"]
        return {name: place for name, place in table.items() if isinstance(place, str)}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}  # installed, or copied beside the pyproject.toml of somebody else

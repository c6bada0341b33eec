"""Modules at paths: where checkpoints nest their modules differently, the paths are values."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from flax import linen as nn

from ... import blocks
from ... import sharding as fs


class Vector(NamedTuple):
    """A parameter [size].

    Attributes:
        axis: its logical name; None for one that no mesh splits.
        init: draws it.
    """

    size: int
    axis: str | None
    init: fs.Draw = nn.initializers.zeros


Part = Callable[[], nn.Module] | Vector
"""What stands at a path: what makes a module, or a parameter."""


class Branch(nn.Module):
    """Holds modules at paths below its own, "output/dense".

    Attributes:
        parts: {path: what stands there}.
    """

    parts: Mapping[str, Part]

    def setup(self) -> None:
        grow(self, self.parts)

    def at(self, path: str) -> Any:
        """Returns the module, or the array, at a path."""
        return at(self, path)


def grow(module: nn.Module, parts: Mapping[str, Part]) -> None:
    """Makes what stands at paths below a module, in its `setup`."""
    below: dict[str, dict[str, Part]] = {}
    for path, part in parts.items():
        name, _, rest = path.partition("/")
        if rest:
            below.setdefault(name, {})[rest] = part
        elif isinstance(part, Vector):
            value = blocks.parameter(module, name, part.init, (part.size,), (part.axis,))
            setattr(module, name, value)
        else:
            setattr(module, name, part())
    for name, inner in below.items():
        setattr(module, name, Branch(inner))


def grown(module: nn.Module, parts: Mapping[str, Part]) -> Branch:
    """Makes what stands at paths below a module, in its compact method."""
    branch = Branch(parts)
    nn.share_scope(module, branch)
    return branch


def at(module: nn.Module, path: str) -> Any:
    """Returns the module, or the array, at a path below a module."""
    return functools.reduce(getattr, path.split("/"), module)

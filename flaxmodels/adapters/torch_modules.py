"""Modules as PyTorch has them, which adapters of PEFT are of, and the leaves that hold them."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from .. import params as fp
from ..core.model import Model
from ..core.template import template_of
from ..params.adapters.adapter import ALL, LOOKUP, PRODUCT, Adapter
from ..params.multihost import gather, is_spread
from ..params.tree.leaf_places import Place, places
from ..params.tree.naming import TORCH
from ..params.types import Leaf

LINEAR, TABLE, HEAD, CONVOLUTION, OTHER = "linear", "table", "head", "convolution", "other"


class Piece(NamedTuple):
    """What a leaf has of a tensor.

    Attributes:
        path: of the leaf.
        layer: its number in a stacked leaf; None in one that is not.
        place: of the piece in the tensor.
    """

    path: str
    layer: int | None
    place: Place

    @property
    def columns(self) -> slice | np.ndarray:
        """Which outputs of the module the leaf has."""
        part = self.place.part
        if part is None:
            return slice(None)
        run, width = self.place.shape[part.axis] // part.groups, part.stop - part.start
        starts = run * np.arange(part.groups) + part.start
        return (starts[:, None] + np.arange(width)).reshape(-1)


@dataclasses.dataclass(frozen=True)
class Module:
    """A module that has a weight.

    Attributes:
        name: "model.layers.0.self_attn.q_proj".
        kind: `LINEAR`, `TABLE` of embeddings, `HEAD` that is tied to such a table, `CONVOLUTION`,
            or `OTHER`.
        pieces: the leaves that hold its weight: several, where checkpoints have them as one.
        part: which uses of these leaves are the module's: of a table with a tied head, the table's
            own are "lookup", and the head's are "product".
    """

    name: str
    kind: str
    pieces: tuple[Piece, ...]
    part: str = ALL

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of its weight in PyTorch, (out, in, ...); of a table (rows, D)."""
        shape = self.pieces[0].place.shape
        return shape[::-1] if self.is_turned else shape

    @property
    def is_turned(self) -> bool:
        """Whether PyTorch stores its kernel as (in, out)."""
        return self.kind == LINEAR and self.pieces[0].place.permutation == (0, 1)

    @property
    def is_joined(self) -> bool:
        """Whether our trees have several leaves for it."""
        return self.pieces[0].place.part is not None


@dataclasses.dataclass(frozen=True)
class Modules:
    """The modules of a model.

    Attributes:
        modules: by name, those with a weight.
        tensors: name of a tensor of the base -> (the leaves that hold it, which uses of them).
        copies: names of modules that PyTorch has beside another one, whose weight they have: the
            name of that one.
    """

    modules: Mapping[str, Module]
    tensors: Mapping[str, tuple[tuple[Piece, ...], str]]
    copies: Mapping[str, str]


def modules_of(model: Model) -> Modules:
    """Finds the modules of a model, with a head that is tied to a table, by the names that PyTorch
    has for them."""
    leaves = fp.flatten(template_of(model))
    tensors: dict[str, tuple[tuple[Piece, ...], str]] = {}
    for path, where in places(leaves, model.naming, TORCH).items():
        for place in where:
            layer = place.index[0] if place.index else None
            there, part = tensors.get(place.name, ((), ALL))
            tensors[place.name] = ((*there, Piece(path, layer, place)), part)
    kinds = {name: _kind(pieces) for name, (pieces, _) in tensors.items()}
    for head, table in _tied_heads(model, leaves):
        both: fp.Params = dict.fromkeys((table, head), leaves[table])
        (own,), (other,) = places(both, model.naming, TORCH).values()
        tensors[own.name] = (tensors[own.name][0], LOOKUP)
        tensors[other.name] = ((Piece(table, None, other.turned()),), PRODUCT)
        kinds[other.name] = HEAD
    modules = {
        name.removesuffix(".weight"): Module(name.removesuffix(".weight"), kinds[name], *found)
        for name, found in tensors.items()
        if name.endswith(".weight")
    }
    return Modules(modules, tensors, _copies(model, leaves))


def today(name: str, model: Model) -> str:
    """Returns today's name of a module that an older checkpoint may call otherwise."""
    tensor = f"{name}.weight"
    for pattern, replacement in model.naming.aliases:
        tensor = re.sub(pattern, replacement, tensor)
    return tensor.removesuffix(".weight")


def _kind(pieces: tuple[Piece, ...]) -> str:
    """Tells what a tensor is the weight of."""
    leaf = pieces[0].path.rpartition("/")[2]
    rank = len(pieces[0].place.shape)
    if leaf == "embedding":
        return TABLE if rank == 2 else OTHER
    if leaf != "kernel" or rank < 2:
        return OTHER
    return LINEAR if rank == 2 else CONVOLUTION


def _tied_heads(model: Model, leaves: Mapping[str, object]) -> list[tuple[str, str]]:
    """Returns (path that the head's kernel would have, path of the table that serves it)."""
    prefix, found = f"{model.base_model_prefix}/", []
    for head, table in model.tied:
        table = table if table in leaves else table.removeprefix(prefix)
        is_head = head.endswith("/kernel") and model.config.tie_word_embeddings
        if is_head and head not in leaves and table in leaves:
            found.append((head, table))
    return found


def _copies(model: Model, leaves: Mapping[str, fp.PyTree]) -> dict[str, str]:
    """Returns {module whose weight is another's: that one}, of what is no head."""
    pairs = [*model.naming.copies, *((server, other) for other, server in model.tied)]
    found = {}
    for path, copy in pairs:
        if path in leaves and copy not in leaves and copy.endswith("/embedding"):
            both: fp.Params = dict.fromkeys((path, copy), leaves[path])
            (own,), (other,) = places(both, model.naming, TORCH).values()
            found[other.name.removesuffix(".weight")] = own.name.removesuffix(".weight")
    return found


def of_layer(adapter: Adapter | None, piece: Piece, module: Module) -> Any:
    """Returns one layer of an adapter that acts on a module, with arrays on the host."""
    if adapter is None or ALL not in (adapter.part, module.part) and adapter.part != module.part:
        return None
    take = (lambda x: x) if piece.layer is None or not adapter.lead else lambda x: x[piece.layer]
    return jax.tree.map(lambda x: take(host(x)), adapter)


def host(array: Leaf) -> np.ndarray:
    """Returns an array as one of NumPy, put together of those of several processes."""
    return np.asarray(gather(array) if is_spread(array) else array)

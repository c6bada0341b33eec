"""Weights of an export: where the arrays of the params stand in its checkpoint.

A version folder holds an ordinary checkpoint, as `save_pretrained` writes it. The naming rules that
it follows belong to the model, which whoever runs the export does not have: so the export says of
each leaf which tensors make it, and how they are turned.
"""

import dataclasses
import math
import os
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

from .. import params as fp
from .. import sharding as fs
from ..core.model import Model
from ..documents.config_keys import QUANTISED
from ..documents.json_files import CONFIG_NAME, read_json
from ..documents.json_values import Json
from ..params.adapters.attach import adapted_leaves
from ..params.checkpoint.load_plan import LoadPlan
from ..params.checkpoint.make_plan import make_plan
from ..params.checkpoint.match import Match, Piece, identity_match
from ..params.checkpoint.reconcile import piece_at
from ..params.checkpoint.stream import stream
from ..params.errors import quoted, some
from ..params.quantized.readers import read_quantized
from ..params.save.options import WriteOptions
from ..params.save.write import write_checkpoint
from ..params.tree.leaf_places import Part, Place, places
from ..params.tree.naming import PATHS, TORCH
from ..params.tree.paths import flatten_arrays
from ..params.types import PyTree
from .arrays import Described, Spec
from .errors import ServingError

ADAPTERS = "adapters"
"""The folder of the arrays of adapters, which no checkpoint holds together with its weights."""


@dataclasses.dataclass(frozen=True)
class LeafOrigin:
    """A leaf of the base, and the tensors of the checkpoint that make it.

    Attributes:
        spec: its dtype and shape; of a quantised weight those of its numbers.
        axes: the logical names of its dimensions, by which a mesh spreads it.
        places: where its pieces stand.
    """

    spec: Spec
    axes: tuple[str | None, ...]
    places: tuple[Place, ...]

    def check(self, path: str) -> None:
        """Raises `ValueError` unless the pieces make the leaf: each of its numbers once."""
        shape = tuple(map(int, self.spec.dims))
        lead = len(self.places[0].index) if self.places else 0
        count = math.prod(shape[:lead])  # before it is counted: a file may say 10**12
        is_whole = count == len(self.places) and len(self.axes) == len(shape)
        if not is_whole or sorted(x.index for x in self.places) != [*np.ndindex(shape[:lead])]:
            raise ValueError(f"{quoted(path)} of shape {shape} is not made by its pieces")
        if not all(isinstance(axis, str | None) for axis in self.axes):
            raise ValueError(f"{quoted(path)} has the axes {self.axes}; expected names")
        for place in self.places:
            if _piece_shape(place) != shape[lead:]:
                raise ValueError(f"{quoted(place.name)} is no piece of {quoted(path)}, of {shape}")


@dataclasses.dataclass(frozen=True)
class Weights:
    """What the params of an export are, and where they stand.

    Attributes:
        arrays: {path: dtype and shape} of all arrays of the tree, those of quantised weights and of
            adapters each by itself.
        leaves: {path: `LeafOrigin`} of the base.
        adapted: paths of leaves that have adapters.
    """

    arrays: Mapping[str, Spec]
    leaves: Mapping[str, LeafOrigin]
    adapted: tuple[str, ...] = ()

    @classmethod
    def of(cls, model: Model, params: fp.PyTree) -> "Weights":
        """Describes the params of a model."""
        template = fp.flatten(model.abstract_params())
        base = fp.flatten(fp.without_adapters(params))
        where = places(template, model.naming, TORCH)
        leaves = {
            path: LeafOrigin(Spec.of(leaf), tuple(template[path].axes), where[path])
            for path, leaf in base.items()
        }
        arrays = {path: Spec.of(x) for path, x in flatten_arrays(params).items()}
        return cls(arrays, leaves, tuple(adapted_leaves(params)))

    @property
    def in_base(self) -> dict[str, str]:
        """{path of an array: its path in the base alone}."""
        found = {}
        for path in self.arrays:
            owner = next((x for x in self.adapted if path.startswith(f"{x}/")), None)
            if owner is None:
                found[path] = path
            elif path.startswith(f"{owner}/base"):
                found[path] = owner + path.removeprefix(f"{owner}/base")
        return found


def write_adapters(params: fp.PyTree, folder: Path) -> None:
    """Writes the arrays of adapters into `adapters/` of a folder, if there are any."""
    adapted = adapted_leaves(params)
    arrays = {
        f"{path}/{name}": array
        for path, leaf in adapted.items()
        for name, array in flatten_arrays(leaf).items()
        if not name.startswith("base")
    }
    if arrays:
        (folder / ADAPTERS).mkdir()
        options = WriteOptions(layout=PATHS, save_id=False)
        write_checkpoint(folder / ADAPTERS, arrays, arrays, options=options, progress=False)


def read_params(
    folder: str | os.PathLike,
    weights: Weights,
    *,
    mesh: Mesh | None = None,
    rules: fs.Rules | str | None = None,
    sharding: jax.sharding.Sharding | None = None,
    progress: bool = True,
) -> dict[str, jax.Array]:
    """Streams the params of an export: {path: array}.

    Args:
        mesh: what they are spread over, by `rules` (`fs.DEFAULT_RULES` if None).
        sharding: instead of `mesh`: where all of them are; the default device if None.

    Raises:
        ServingError: weights that are not those of the export.
        fp.CheckpointError: a file that cannot be read.
    """
    names = weights.in_base  # {path: name in the plan}
    plans = [(_base_plan(folder, weights, mesh, rules, sharding), names)]
    if others := weights.arrays.keys() - names.keys():
        plans.append((_adapter_plan(folder, mesh, sharding), {path: path for path in others}))
    for plan, names in plans:
        found = flatten_arrays(plan.abstract_params)
        _check({path: found.get(name) for path, name in names.items()}, weights, folder)
    loaded = {}
    for plan, names in plans:
        read = flatten_arrays(stream(plan, progress=progress))
        loaded |= {path: read[name] for path, name in names.items()}
    return loaded


def _base_plan(
    folder: str | os.PathLike,
    weights: Weights,
    mesh: Mesh | None,
    rules: fs.Rules | str | None,
    sharding: jax.sharding.Sharding | None,
) -> LoadPlan:
    source = fp.open_checkpoint(folder)
    if config := read_json(os.path.join(folder, CONFIG_NAME)).get(QUANTISED):
        source = read_quantized(source, config)
    template = {
        path: fs.AbstractParam(leaf.spec.dims, leaf.spec.dtype, axes=leaf.axes)
        for path, leaf in weights.leaves.items()
    }
    names = {place.name for leaf in weights.leaves.values() for place in leaf.places}
    if lost := sorted(names - source.tensors.keys()):
        raise ServingError(
            f"{source.where}: the export was made with {some(map(quoted, lost), 3)}, which is not "
            "among its weights: they were replaced; export again"
        )
    found = {path: _pieces(source, leaf) for path, leaf in weights.leaves.items()}
    where: PyTree = sharding
    if mesh is not None:
        rules = fs.DEFAULT_RULES if rules is None else rules
        where = fs.place(fp.unflatten(template), mesh, rules).unpadded
    match = Match(source, found, (), (), ())
    return make_plan(match, fp.unflatten(template), shardings=where, keep_packed=True)


def _pieces(source: fp.Source, leaf: LeafOrigin) -> tuple[Piece, ...]:
    pieces = []
    for place in leaf.places:
        tensor = source[place.name]
        if tuple(tensor.shape) != place.shape:
            raise ServingError(
                f"{source.where}: {quoted(place.name)} has shape {tuple(tensor.shape)}, and the "
                f"export was made with {place.shape}: its weights were replaced; export again"
            )
        pieces.append(piece_at(tensor, place))
    return tuple(pieces)


def _adapter_plan(
    folder: str | os.PathLike, mesh: Mesh | None, sharding: jax.sharding.Sharding | None
) -> LoadPlan:
    source = fp.open_checkpoint(os.path.join(folder, ADAPTERS))
    if mesh is not None:  # they are small: whole on each device
        sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    match = identity_match(source)
    return make_plan(match, fp.unflatten(dict(source.tensors)), shardings=sharding)


def _check(
    found: Mapping[str, Described | None], weights: Weights, folder: str | os.PathLike
) -> None:
    """Refuses arrays that are not those that the programs take."""
    for path, array in sorted(found.items()):
        expected = weights.arrays[path]
        if array is None or Spec.of(array) != expected:
            got = "nothing" if array is None else str(Spec.of(array))
            raise ServingError(
                f"{os.fspath(folder)}: the weights have {got} for {quoted(path)}, and the export "
                f"takes {expected}: its weights were replaced; export again"
            )


def _piece_shape(place: Place) -> tuple[int, ...] | None:
    """Returns the shape of the piece that a place has; None where it is none."""
    sizes = [*place.shape]
    if sorted(place.permutation) != [*range(len(sizes))]:
        return None
    if (part := place.part) is not None:
        if not (0 <= part.axis < len(sizes) and 0 <= part.start < part.stop and part.groups > 0):
            return None
        if sizes[part.axis] % part.groups or part.stop > sizes[part.axis] // part.groups:
            return None
        sizes[part.axis] = part.groups * (part.stop - part.start)
    return tuple(sizes[axis] for axis in place.permutation)


def place_of_json(value: Mapping[str, Json]) -> Place:
    """Reads a place; raises `TypeError`, `KeyError` or `ValueError` where it is none."""
    part = value.get("part")
    return Place(
        str(value["tensor"]),
        tuple(map(int, value["shape"])),
        tuple(map(int, value["permutation"])),
        tuple(map(int, value.get("index", ()))),
        None if part is None else Part(*(int(part[f.name]) for f in dataclasses.fields(Part))),
    )


def json_of_place(place: Place) -> dict[str, Json]:
    """Returns a place as JSON."""
    found: dict[str, Json] = {
        "tensor": place.name,
        "shape": [*place.shape],
        "permutation": [*place.permutation],
    }
    if place.index:
        found["index"] = [*place.index]
    if place.part is not None:
        found["part"] = dataclasses.asdict(place.part)
    return found

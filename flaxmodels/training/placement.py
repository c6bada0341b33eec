"""Where a state is on a mesh: params by the model's rules, and the optimizer's leaves with them."""

import dataclasses
import functools
import math
from typing import TypeAlias

import jax
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.tree_util import KeyPath, tree_map_with_path

from .. import params as fp
from .. import sharding as fs
from ..core.model import Model
from ..params.tree.paths import path_of
from ..params.tree.weights import Weight
from ..params.types import PyTree, Shaped
from ..sharding.presets import names_of
from ..sharding.reports import parts_of
from .state import TrainState

Entry: TypeAlias = str | tuple[str, ...] | None
"""What a PartitionSpec has of a dimension: mesh axes."""


@dataclasses.dataclass(frozen=True)
class Placement:
    """Says where each array of a state is.

    Attributes:
        mesh: of Auto axes.
        report: where the model's params are, by its rules.
        batch: the sharding of a batch's rows.
        rules: logical axes, or paths -> mesh axes.
        over: the mesh axis over which the optimizer's state is cut once more, ZeRO's first stage
            (Rajbhandari et al. 2020); None without.
    """

    mesh: Mesh
    report: fs.Report
    batch: NamedSharding
    rules: fs.Rules
    over: str | None

    @classmethod
    def of(cls, model: Model, mesh: Mesh, rules: object, over: str | None) -> "Placement":
        """Decides where a model's state is.

        Raises:
            TypeError, ValueError: as `fs.shardings`; an axis `over` that the mesh does not have.
        """
        mesh = fs.check_mesh(mesh)
        rules = fs.as_rules(model.rules if rules is None else rules)
        if over is not None and over not in mesh.axis_names:
            raise ValueError(
                f"shard_optimizer: the mesh has no axis {over!r}, but {', '.join(mesh.axis_names)}"
            )
        report = model.place(model.abstract_params(), mesh, rules)
        spec = fs.partition_spec(("batch",), (math.prod(mesh.shape.values()),), mesh, rules)
        return cls(mesh, report, NamedSharding(mesh, spec), rules, over)

    @property
    def everywhere(self) -> NamedSharding:
        """The sharding of what is whole on each device."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def batch_parts(self) -> int:
        """Into how many parts the mesh cuts the rows of a batch."""
        return math.prod(parts_of(names_of(entry), self.mesh) for entry in self.batch.spec)

    @property
    def stored(self) -> dict[str, tuple[int, ...]]:
        """{path: shape} of the model's params on the mesh, with padding."""
        return {row.path: row.stored for row in self.report.rows}

    def put(self, params: fp.Params) -> fp.Params:
        """Returns params on the mesh, padded where the model's `uneven` says so. Weights that are
        several arrays stay where they are on it, and are whole on each device otherwise."""
        rows = {row.path: row for row in self.report.rows}
        unpadded = fp.flatten(self.report.unpadded)

        def one(path: str, leaf: jax.Array | Weight) -> jax.Array | Weight:
            if isinstance(leaf, Weight):
                return jax.tree.map(lambda x: jax.device_put(x, self._sharding(x)), leaf)
            padded = leaf.shape == rows[path].stored
            return jax.device_put(leaf, rows[path].sharding if padded else unpadded[path])

        placed = {path: one(path, leaf) for path, leaf in fp.flatten(params).items()}
        return self.report.pad(fp.unflatten(placed))

    def abstract(self) -> fp.Params:
        """Returns the model's abstract params as they are on the mesh."""
        rows = self.report.rows
        abstract = (jax.ShapeDtypeStruct(r.stored, r.dtype, sharding=r.sharding) for r in rows)
        return self.report.structure.unflatten(abstract)

    def of_state(self, state: TrainState) -> TrainState:
        """Returns the tree of shardings of a state, abstract or not.

        Params have the report's; arrays of adapters and of weights that are several keep their own.
        A leaf of the optimizer follows the param at whose path its own path ends: in the param's
        sharding, or without the entry of the axis that a factored one lacks. Others, such as
        counts, are whole on each device.
        """
        rows = {row.path: row.sharding for row in self.report.rows}

        def own(key_path: KeyPath, leaf: jax.Array) -> NamedSharding:
            return rows.get(path_of(key_path)) or self._sharding(leaf)

        trained = tree_map_with_path(own, state.trained)
        follow = functools.partial(self.followed, params=state.trained, shardings=trained)
        whole: TrainState = jax.tree.map(lambda _: self.everywhere, state)
        return whole.replace(
            trained=trained,
            frozen=tree_map_with_path(own, state.frozen),
            opt_state=follow(state.opt_state),
            ema=follow(state.ema),
        )

    def followed(self, tree: PyTree, params: fp.Params, shardings: PyTree) -> PyTree:
        """Returns shardings of a tree that embeds one of params, which have shardings."""
        where, leaves = fp.flatten(shardings), fp.flatten(params)

        def one(key_path: KeyPath, leaf: Shaped) -> NamedSharding:
            parts = path_of(key_path).split("/")
            ends = ("/".join(parts[i:]) for i in range(len(parts)))
            found = next((end for end in ends if end in leaves), None)
            if found is None:
                return self.everywhere
            last = "v_row" in parts
            entries = _entries(leaf.shape, leaves[found].shape, where[found], last=last)
            return NamedSharding(self.mesh, PartitionSpec(*self._cut(leaf.shape, entries)))

        return tree_map_with_path(one, tree)

    def _sharding(self, leaf: object) -> NamedSharding:
        where = None if isinstance(leaf, Tracer) else getattr(leaf, "sharding", None)
        if isinstance(where, NamedSharding) and where.mesh == self.mesh:
            return where
        return self.everywhere

    def _cut(self, shape: tuple[int, ...], entries: list[Entry]) -> list[Entry]:
        """Puts the axis `over` onto the largest dimension that it divides, if it is on none yet."""
        if self.over is None or any(self.over in names_of(entry) for entry in entries):
            return entries
        size = self.mesh.shape[self.over]
        fits = [
            (n // parts_of(names_of(entry), self.mesh), i)
            for i, (n, entry) in enumerate(zip(shape, entries, strict=True))
            if n % (parts_of(names_of(entry), self.mesh) * size) == 0
        ]
        if size == 1 or not fits:
            return entries
        i = max(fits, key=lambda fit: (fit[0], -fit[1]))[1]
        return [*entries[:i], (*names_of(entries[i]), self.over), *entries[i + 1 :]]


def _entries(
    shape: tuple[int, ...], whole: tuple[int, ...], sharding: NamedSharding, *, last: bool
) -> list[Entry]:
    """Returns the mesh axes of each dimension of an optimizer's leaf.

    Args:
        whole, sharding: the shape and sharding of its param.
        last: which axis it lacks where several have the same size: the last one of them.
    """
    spec = [*sharding.spec, *[None] * (len(whole) - len(sharding.spec))]
    if shape == whole:
        return spec
    lacks = [i for i in range(len(whole)) if whole[:i] + whole[i + 1 :] == shape]
    if not lacks:
        return [None] * len(shape)
    i = lacks[-1 if last else 0]
    return spec[:i] + spec[i + 1 :]


def put_batch(batch: PyTree, where: NamedSharding | None, lead: int) -> PyTree:
    """Returns a batch with its arrays on the mesh, rows cut over it; those of a trace are left.

    Args:
        where: the sharding of rows; None without a mesh.
        lead: the number of axes before that of the rows.
    """
    if where is None:
        return batch
    spread = NamedSharding(where.mesh, PartitionSpec(*[None] * lead, *where.spec))

    def one(x: jax.Array | jax.ShapeDtypeStruct) -> jax.Array | jax.ShapeDtypeStruct:
        if isinstance(x, jax.ShapeDtypeStruct):
            return x.update(sharding=spread)
        return x if isinstance(x, Tracer) else jax.device_put(x, spread)

    return jax.tree.map(one, batch)

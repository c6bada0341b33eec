"""The outline of a model: its stacks of layers, and the leaves that are read around them."""

from typing import NamedTuple

from .. import blocks
from ..core.model import Model
from ..params.tree.paths import flatten
from .engine import check_looped
from .mixed import Mixed, abstract_array, abstract_leaves
from .programs import Call, Finished, used_paths


class Outline(NamedTuple):
    """The pieces of a call.

    Attributes:
        stacks: (path, number of layers) of each.
        parts: paths of the leaves that are read before the first stack, between, and after the
            last.
    """

    stacks: tuple[tuple[str, int], ...]
    parts: tuple[tuple[str, ...], ...]


def outline_of(model: Model) -> Outline:
    """Traces the model's call -> its pieces; nothing is computed.

    Raises:
        TypeError: a model that cannot be run in stages: scanned, or without layers of ours.
    """
    check_looped(model)
    call = Call(model.clone(generation_config=None))
    leaves = abstract_leaves(flatten(model.abstract_params()))
    given, done = Mixed.of(((), model.dummy_inputs())).abstract, ()
    stacks, parts = [], []
    while True:
        paths, result = used_paths(call, leaves, given, done)
        parts.append(paths)
        reached = result.tree
        if isinstance(reached, Finished):
            break
        stacks.append((reached.path, len(reached.kinds)))
        x, cache = reached.x, reached.context.cache
        assert cache is None  # an outline is of a call without one
        output = blocks.LayersOutput(x, None, (), ())
        done += (abstract_array(x.shape, x.dtype, output),)
    if not stacks:
        raise TypeError(
            f"{type(model).__name__} has no stack of layers that are run one by one, so that its "
            "params have to be on one device: give that as device_map, or a mesh"
        )
    return Outline(tuple(stacks), tuple(parts))

"""How rules of PEFT see a model: the names of its modules in PyTorch, leaf by leaf."""

from collections.abc import Sequence

from .. import params as fp
from ..core.model import Model
from ..core.template import template_of
from ..params.tree.leaf_places import places
from ..params.tree.naming import TORCH

_CLASSIFIERS = ("score", "classifier")


def module_names(model: Model) -> dict[str, str | Sequence[str]]:
    """Returns {path of a leaf: the name of its module in PyTorch}, or names of all layers where the
    model stacks them. What checkpoints have as one module has that one's name for every part."""
    leaves = fp.flatten(template_of(model))
    found: dict[str, str | Sequence[str]] = {}
    for path, pieces in places(leaves, model.naming, TORCH).items():
        names = [piece.name.rpartition(".")[0] for piece in pieces]
        if pieces[0].index == ():
            found[path] = names[0]
        elif len(pieces[0].index) == 1:  # of layers; experts are no linear layers to PEFT either
            found[path] = names
    return found


def tied_tables(model: Model) -> frozenset[str]:
    """Returns the paths of tables that serve as a head too."""
    leaves = fp.flatten(template_of(model))
    return frozenset(table for head, table in model.tied if head not in leaves and table in leaves)


def linear_names(model: Model) -> tuple[str, ...]:
    """Returns the modules that PEFT means by "all-linear": all that multiply by a kernel, but for
    the head of a language model, or else a classifier."""
    leaves = fp.flatten(template_of(model))
    head, found = model.output_embeddings_path, {}
    for path, names in module_names(model).items():
        module, _, leaf = path.rpartition("/")
        is_head = module == head if head else module in _CLASSIFIERS
        is_stacked = not isinstance(names, str)
        if leaf == "kernel" and len(leaves[path].shape) == 2 + is_stacked and not is_head:
            found |= dict.fromkeys(names if is_stacked else [names])
    return tuple(found)

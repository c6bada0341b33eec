"""Accounting for every tensor of a checkpoint: which class has a place for all of them."""

import dataclasses
import os
import re
import warnings
from collections.abc import Iterator, Sequence

import numpy as np

from .. import params as fp
from ..checkpoints.build import build, described
from ..checkpoints.classes import architecture
from ..checkpoints.model_plan import PlanOptions, plan_load
from ..documents.json_files import CONFIG_NAME
from ..documents.json_values import ConfigError, Json
from ..models.base import PretrainedModel
from ..params.checkpoint.leaf_plan import LeafPlan
from ..params.checkpoint.load_plan import LoadPlan
from ..params.errors import quoted, some, warn
from ..params.formats import are_equal
from ..params.host.copies import contiguous
from ..params.tree.naming import canonical
from ..params.tree.paths import matches
from ..registry import FAMILIES, family_class


@dataclasses.dataclass(frozen=True)
class Account:
    """What becomes of every tensor of a source in a model.

    Attributes:
        leaves: what the source has for the model's leaves.
        missing: paths of leaves that it does not have, and that the model cannot do without.
        left: names of tensors that have no place in the model.
        buffers: names of tensors that are no parameters, and follow from the configuration.
    """

    model: PretrainedModel
    leaves: tuple[LeafPlan, ...]
    missing: tuple[str, ...]
    left: tuple[str, ...]
    buffers: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        return not self.missing and not self.left


def account(model: PretrainedModel, source: fp.Source) -> Account:
    """Finds out what becomes of every tensor of a source in a model; reads no weights but of twins.

    Raises:
        CheckpointError: tensors of other shapes than the model's, or nothing that is the model's.
    """
    plan = plan_load(model, source, PlanOptions(strict=False))
    naming = model.naming
    missing = [path for path in plan.match.missing if not matches(naming.optional, path)]
    pieces = (piece.tensor for leaf in plan.leaves for piece in leaf.pieces)
    used = {id(tensor) for piece in pieces for tensor in _with_wholes(piece)}
    computed = {*plan.match.constants}
    rest = [n for n, x in source.tensors.items() if id(x) not in used and n not in computed]
    parameters = {*canonical(source.tensors, naming).values()}
    buffers = [name for name in rest if name not in parameters]
    twins = [name for name in rest if name in parameters and _is_twin(model, source, plan, name)]
    left = [name for name in rest if name not in {*buffers, *twins}]
    return Account(model, plan.leaves, tuple(missing), tuple(left), tuple(buffers))


def accounts(folder: str, source: fp.Source) -> Account:
    """Makes the account of the class that `config.json` names; or of the first other class of its
    family that has a place for every tensor, and a tensor for every leaf.

    Raises:
        CheckpointError: there is no such class; with the tensors that have no place.
        ConfigError: a configuration of no family, or that its family cannot honour.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a class that the configuration does not name
        named = architecture(folder)
    first = account(_built(named, folder), source)
    if first.is_whole:
        return first
    for other in _others(folder, source, first.model):
        if other.is_whole:
            warn(f"{source.where} {_otherwise(first, other)}")
            return other
    raise fp.CheckpointError(f"{source.where}: {_lost(first)}; nothing was written")


def _built(cls: type[PretrainedModel], folder: str, **changes: object) -> PretrainedModel:
    """Builds the model that a folder describes. Its `generation_config.json` is copied later, not
    written anew."""
    if cls.can_generate():
        changes["generation_config"] = None
    _, config = described(lambda *_: cls, os.path.join(folder, CONFIG_NAME))
    return build(cls, config, changes, folder)


def _others(folder: str, source: fp.Source, first: PretrainedModel) -> Iterator[Account]:
    """Makes the accounts of what else the tensors may be: of the other classes of the family, and
    of each class with a head that is not tied."""
    named, tried = type(first), {first}
    family = FAMILIES.get(named.config_class.model_type)
    names = family.models if family else ()
    for cls in (named, *(family_class(name) for name in names if name != named.__name__)):
        changes: dict[str, Json]
        for changes in ({}, {"tie_word_embeddings": False}):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # they were given for the first class
                try:
                    model = _built(cls, folder, **changes)
                    if model in tried:  # nothing is tied
                        continue
                    tried.add(model)
                    found = account(model, source)
                except (ConfigError, fp.CheckpointError):
                    continue
            yield found


def _otherwise(first: Account, other: Account) -> str:
    """Returns how the class that is taken differs from the one of the configuration."""
    names = [type(found.model).__name__ for found in (first, other)]
    if names[0] == names[1]:
        return "has a head of its own, which its configuration says is tied: it is written untied"
    return (
        f"is a {names[1]} by its tensors, and not a {names[0]}, as its configuration says or "
        "leaves open: it is written as that"
    )


def _lost(account: Account) -> str:
    """Returns the reason why no class of the family will do."""
    name = type(account.model).__name__
    if account.left:
        return (
            f"{len(account.left)} tensors have no place in {name}, nor in another class of its "
            f"family: {some(map(quoted, account.left))}; say in config.json (architectures) "
            "which class it is, or leave them out with --drop PATTERN (drop=[...])"
        )
    return (
        f"{len(account.missing)} leaves of {name} are not there, and no other class of its family "
        f"fits: {some(account.missing)}; say in config.json (architectures) which class it is"
    )


def _with_wholes(tensor: fp.Tensor | None) -> Iterator[fp.Tensor]:
    """Yields a tensor, the one that it is a part of, and so on."""
    while tensor is not None:
        yield tensor
        tensor = tensor.whole


def _is_twin(model: PretrainedModel, source: fp.Source, plan: LoadPlan, name: str) -> bool:
    """Tells whether a tensor stands under the other name of a tie, and is the same byte for
    byte."""
    leaves = {leaf.path: leaf for leaf in plan.leaves}
    for absent, serving in model.tied:
        names = (absent, serving)
        if serving in leaves and any(_stands_for(name, n, model.base_model_prefix) for n in names):
            served, own = leaves[serving].pieces[0].tensor, source[name]
            if are_equal(served, own):
                return True
            # Old Flax has the kernel of a head, which is the table's transpose.
            turned = (served.shape, served.dtype) == (own.shape[::-1], own.dtype)
            return turned and bytes_of(served.read().T).tobytes() == bytes_of(own.read()).tobytes()
    return False


def _stands_for(name: str, path: str, prefix: str) -> bool:
    """Tells whether a tensor's name is that of a leaf, in any layout."""
    found, wanted = re.split(r"[./]", name), path.split("/")
    kinds = [parts[-1] == "bias" for parts in (found, wanted)]
    stems = [parts[:-1] for parts in (found, wanted)]
    return kinds[0] == kinds[1] and stems[1] in (stems[0], [prefix, *stems[0]], stems[0][1:])


def bytes_of(array: np.ndarray) -> np.ndarray:
    """Returns the bytes of an array in C order, uint8 [bytes]."""
    return contiguous(array).reshape(-1).view(np.uint8)


def without(source: fp.Source, patterns: str | Sequence[str]) -> fp.Source:
    """Returns `source` without the tensors in whose names one of the regular expressions, or the
    one that is given, is found.

    Raises:
        CheckpointError: one that is found in no name, or is no regular expression.
    """
    kept: dict[str, Json] = dict(source.tensors)
    several = isinstance(patterns, Sequence) and not isinstance(patterns, str)
    for pattern in patterns if several else [patterns]:
        if not isinstance(pattern, str):
            raise TypeError(f"drop is {pattern!r:.80}; expected regular expressions, as text")
        try:
            expression = re.compile(pattern)
        except re.error as error:
            raise fp.CheckpointError(
                f"drop {quoted(pattern)} is no regular expression: {error}"
            ) from None
        found = [
            name
            for name, tensor in source.tensors.items()
            if expression.search(name) or expression.search(tensor.name)
        ]
        if not found and not any(map(expression.search, source.passed_over)):
            raise fp.CheckpointError(
                f"{source.where}: drop {quoted(pattern)} is found in no name; there are "
                f"{some(map(quoted, source.tensors))}"
            )
        kept = {name: tensor for name, tensor in kept.items() if name not in {*found}}
    return dataclasses.replace(source, tensors=kept)

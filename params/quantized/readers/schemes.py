"""Schemes of compressed-tensors: which module is quantised how, by its `config_groups`."""

import dataclasses
import re
from collections.abc import Collection, Mapping

from ...errors import CheckpointError, quoted
from .settings import Settings, file_patterns, unread

PACKED, NVFP4, MXFP4 = "pack-quantized", "nvfp4-pack-quantized", "mxfp4-pack-quantized"
MXFP8 = "mxfp8-quantized"
# {format: {type of numbers: their bits}}
_READ: dict[str, dict[str, Collection[int]]] = {
    PACKED: {"int": range(2, 9)},
    "int-quantized": {"int": range(2, 9)},
    "float-quantized": {"float": (8,)},
    "naive-quantized": {"int": range(2, 9), "float": (8,)},
    MXFP8: {"float": (8,)},
    NVFP4: {"float": (4,)},
    MXFP4: {"float": (4,)},
}
_STRATEGIES = ("tensor", "channel", "group", "block", "tensor_group")
_CLASS = re.compile(r"[A-Z]\w*")


@dataclasses.dataclass(frozen=True)
class Scheme:
    """How the weights of a group are quantised.

    Attributes:
        group: its name.
        format: how they are stored.
        kind: "int" or "float", of `bits`.
        block: how many numbers of the last two axes have one scale, -1 for all of an axis.
        is_symmetric: whether there are no zero points.
    """

    group: str
    format: str
    kind: str
    bits: int
    block: tuple[int, int]
    is_symmetric: bool


@dataclasses.dataclass(frozen=True)
class Schemes:
    """The schemes of a checkpoint, by what they are for.

    Attributes:
        names: of modules.
        patterns: that the names of modules begin with.
        classes: those for a class of modules, such as Linear. Tensors do not say of which class
            their module is.
        ignored: names, and patterns, of modules that are not quantised.
    """

    where: str
    names: Mapping[str, Scheme]
    patterns: tuple[tuple[re.Pattern[str], Scheme], ...]
    classes: tuple[Scheme, ...]
    ignored: tuple[Collection[str], tuple[re.Pattern[str], ...]]

    @classmethod
    def of(cls, settings: Settings, modules: Collection[str]) -> "Schemes":
        """Reads a `quantization_config`; `modules` are the names of those that are quantised."""
        groups = settings.inner("config_groups")
        if groups is None:
            settings.refuse("config_groups", "a mapping of groups")
        targets: dict[str, Scheme] = {}
        for name, value in groups.values.items():
            if isinstance(value, list | tuple):
                groups.refuse(name, "what the preset stands for, written out")
            group = Settings.of(settings.where, value, f"{groups.path}.{name}")
            weights = group.inner("weights")
            if weights is not None:
                form = group.values.get("format") or settings.values.get("format")
                scheme = _scheme(name, form, weights)
                targets |= dict.fromkeys(group.texts("targets"), scheme)
        ignored = settings.texts("ignore")
        where = settings.where
        patterns = file_patterns(targets, modules, where)
        skipped = tuple(file_patterns(ignored, modules, where).values())
        classes = [x for x in sorted(targets) if x not in modules and _CLASS.fullmatch(x)]
        return cls(
            where,
            targets,
            tuple((patterns[x], targets[x]) for x in sorted(patterns)),
            tuple(dict.fromkeys(targets[x] for x in classes)),
            ({*ignored}, skipped),
        )

    def may_be(self, module: str) -> tuple[Scheme, ...]:
        """Returns the scheme of a module: that of its name, else of the first pattern in the order
        of the alphabet, as the library chooses; else those of classes, of which it is one.

        Raises:
            CheckpointError: there is none.
        """
        names, patterns = self.ignored
        if module in names or any(x.match(module) for x in patterns):
            raise CheckpointError(
                f"{self.where}: {quoted(module)} is quantised, and quantization_config has it "
                "under ignore: one of the two is of another checkpoint"
            )
        if module in self.names:
            return (self.names[module],)
        by_pattern = [scheme for pattern, scheme in self.patterns if pattern.match(module)]
        found = tuple(by_pattern[:1]) or self.classes
        if not found:
            raise CheckpointError(
                f"{self.where}: {quoted(module)} is quantised, and no group of "
                "quantization_config.config_groups has it among its targets"
            )
        return found


def _scheme(group: str, form: object, weights: Settings) -> Scheme:
    if not isinstance(form, str) or form not in _READ:
        raise unread(weights.where, f"format {quoted(form)} of {quoted(group)}", _READ)
    known = _READ[form]
    kind = weights.choice("type", known, "int") or "int"
    bits = weights.number("num_bits", 8) or 8
    if bits not in known[kind]:
        numbers = " or ".join(map(str, known[kind]))
        weights.refuse("num_bits", f"{numbers}, as {form} has it of type {kind}")
    return Scheme(group, form, kind, bits, _block(weights), weights.flag("symmetric", True))


def _block(weights: Settings) -> tuple[int, int]:
    """Returns the blocks of a strategy; where none is named, the size of groups says it."""
    size = weights.number("group_size", least=-1)
    by_size = "tensor" if size is None else "group" if size > 0 else "channel"
    strategy = weights.choice("strategy", _STRATEGIES, by_size)
    if strategy == "tensor":
        return (-1, -1)
    if strategy == "channel":
        return (1, -1)
    if strategy == "block":
        structure = weights.values.get("block_structure")
        if isinstance(structure, str):  # "128x128", of early releases
            numbers = [int(x) for x in structure.split("x") if re.fullmatch("[0-9]{1,8}", x)]
            weights = dataclasses.replace(weights, values={"block_structure": numbers})
        block = weights.pair("block_structure")
        if block is None:
            weights.refuse("block_structure", "two positive whole numbers")
        return block
    if size is None or size < 1:
        weights.refuse("group_size", "a positive whole number")
    return (1, size)

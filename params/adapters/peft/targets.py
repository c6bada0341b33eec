"""Targets: which modules an adapter is of, and with which rank and scale, by PEFT's rules on the
names that PyTorch has for modules."""

import dataclasses
import math
import re
from collections.abc import Collection

from ...tree.paths import nearest
from . import patterns
from .config import Names, Pattern, PeftConfig

ALL_LINEAR = "all-linear"
"""As `target_modules`, every linear layer but the head; a model knows which they are."""


def ends_with(name: str, ends: tuple[str, ...]) -> bool:
    """Tells whether a module's name is one of `ends`, or ends with one, segment by segment.

    >>> ends_with("h.0.attn.q_proj", ("q_proj",)), ends_with("h.0.attn.my_q_proj", ("q_proj",))
    (True, False)
    """
    return any(name == end or name.endswith(f".{end}") for end in ends)


def is_named(name: str, names: Names) -> bool:
    """Tells whether a module is among `names`, a regular expression or ends of names."""
    if isinstance(names, str):
        return patterns.fullmatch(names, name)
    return names is not None and ends_with(name, names)


def is_targeted(config: PeftConfig, name: str) -> bool:
    """Tells whether a module is adapted.

    Args:
        name: "model.layers.0.self_attn.q_proj".

    Raises:
        CheckpointError: a pattern that cannot be followed.
    """
    if is_named(name, config.exclude_modules or None):
        return False
    parts = f".{name}."
    if any(f".{module}." in parts for module in config.modules_to_save):
        return False  # is replaced as a whole
    target = config.target_modules
    if isinstance(target, str) or target is None or name in target:
        return is_named(name, target)
    layers = config.layers_to_transform
    return ends_with(name, target) and (not layers or layer_of(config, name) in layers)


def is_saved(config: PeftConfig, name: str) -> bool:
    """Tells whether a module, or one that it is in, is replaced as a whole. PEFT compares ends of
    names letter by letter here."""
    parts = name.split(".")
    above = (".".join(parts[:i]) for i in range(1, len(parts) + 1))
    return any(module.endswith(config.modules_to_save) for module in above)


def layer_of(config: PeftConfig, name: str) -> int | None:
    """Returns the number of the layer that a module is in: of the lists that `layers_pattern`
    names, or of the first list in its name; None if it is in none.

    >>> layer_of(PeftConfig(), "model.layers.11.mlp.up_proj")
    11
    """
    if not config.layers_pattern:
        found = re.search(r"\.[^.]*\.([0-9]+)\.", name)
        return int(found[1]) if found else None
    starts = [0, *(found.end() for found in re.finditer(r"\.", name))]
    for pattern in config.layers_pattern:
        for start in starts:
            for end in sorted(patterns.ends(pattern, name, start)):
                if found := re.match(r"\.([0-9]+)\.", name[end:]):
                    return int(found[1])
    return None


def rank_of(config: PeftConfig, name: str) -> int:
    """Returns the rank of a module's update."""
    return int(_by_pattern(config.rank_pattern, name, config.r))


def scale_of(config: PeftConfig, name: str) -> float:
    """Returns what a module's update is multiplied with: alpha / r, of rsLoRA alpha / sqrt(r).

    >>> scale_of(PeftConfig(r=4, alpha=8, rank_pattern=(("q_proj", 16),)), "h.0.q_proj")
    0.5
    """
    rank = rank_of(config, name)
    alpha = _by_pattern(config.alpha_pattern, name, config.alpha)
    return alpha / math.sqrt(rank) if config.use_rslora else alpha / rank


def is_scaled_before(config: PeftConfig, name: str) -> bool:
    """Tells whether IA3 scales a module's input. PEFT compares ends of names letter by letter."""
    names = config.feedforward_modules
    if isinstance(names, str):
        return patterns.fullmatch(names, name)
    return names is not None and name.endswith(names)


def unused_rules(config: PeftConfig, names: Collection[str]) -> list[str]:
    """Returns what is said of modules that are not there, each with a name that is near."""
    ends = {name.rpartition(".")[2] for name in names}
    found = []

    def say(field: str, given: str) -> None:
        found.append(f"{field} has {given!r}, which is no module{nearest(given, ends)}")

    for field in ("target_modules", "exclude_modules", "feedforward_modules"):
        given = getattr(config, field)
        for end in given if isinstance(given, tuple) else ():
            if not any(ends_with(name, (end,)) for name in names):
                say(field, end)
    for end in config.modules_to_save:
        alone = dataclasses.replace(config, modules_to_save=(end,))
        if not any(is_saved(alone, name) for name in names):
            say("modules_to_save", end)
    for field in ("rank_pattern", "alpha_pattern"):
        for pattern, number in getattr(config, field):
            if not any(_by_pattern(((pattern, number),), name, -1) == number for name in names):
                say(field, pattern)
    layers = {layer_of(config, name) for name in names if is_targeted(config, name)}
    if odd := [i for i in config.layers_to_transform if i not in layers]:
        found.append(f"layers_to_transform has {odd[0]}, in which nothing is adapted")
    return found


def _by_pattern(pairs: Pattern, name: str, otherwise: float) -> float:
    """Returns the number of the first pattern that the end of a name matches, from a dot on."""
    starts = [0, *(found.end() for found in re.finditer(r"\.", name))]
    for pattern, number in pairs:
        if any(len(name) in patterns.ends(pattern, name, start) for start in starts):
            return number
    return otherwise

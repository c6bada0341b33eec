"""Configurations of adapters that came of no file."""

import collections
import dataclasses
import math
import re
from collections.abc import Mapping

from ..core.model import Model
from ..params.adapters.adapter import ALL, Adapter
from ..params.adapters.ia3 import IA3
from ..params.adapters.lora import LoRA
from ..params.adapters.lycoris import LoHa, LoKr
from ..params.adapters.peft.config import PeftConfig
from ..params.adapters.replaced_weight import Replacement, TokenRows
from ..params.errors import CheckpointError
from .torch_modules import HEAD, Modules, host, of_layer

_METHODS: dict[type[Adapter], str] = {LoRA: "LORA", LoHa: "LOHA", LoKr: "LOKR", IA3: "IA3"}


def derived_config(model: Model, parts: Mapping[str, Adapter], table: Modules) -> PeftConfig:
    """Makes a configuration of what an adapter is, where none is known: modules by their names."""
    kinds = {type(adapter) for adapter in parts.values() if type(adapter) in _METHODS}
    if len(kinds) > 1:
        names = ", ".join(sorted(kind.method for kind in kinds))
        raise CheckpointError(
            f"an adapter of {names} at once: PEFT has one method for each; nothing was written"
        )
    method = _METHODS[kinds.pop()] if kinds else "TRAINABLE_TOKENS"
    found: dict[str, tuple[int, float]] = {}
    scaled, saved, tokens = [], [], []
    for module in table.modules.values():
        adapter = parts.get(module.pieces[0].path)
        if isinstance(adapter, TokenRows) and module.kind != HEAD:
            tokens.append((module.name, tuple(int(i) for i in host(adapter.index))))
        elif isinstance(adapter, Replacement) and adapter.part in (ALL, module.part):
            saved.append(module.name)
        if adapter is None or type(adapter) not in _METHODS:
            continue
        layer = of_layer(adapter, module.pieces[0], module)
        if layer is None or (scale := float(getattr(layer, "scale", 1))) == 0:
            continue
        rank = getattr(layer, "rank", 1)
        found[module.name] = rank, scale * rank
        if isinstance(layer, IA3) and layer.on == "input":
            scaled.append(module.name)
    lora = next((x for x in parts.values() if isinstance(x, LoRA)), None)
    rank, alpha = collections.Counter(found.values()).most_common(1)[0][0] if found else (8, 8)
    config = PeftConfig(
        peft_type=method,
        r=rank,
        alpha=alpha,
        target_modules=tuple(found) or None,
        modules_to_save=tuple(saved),
        trainable_token_indices=tuple(tokens),
        feedforward_modules=tuple(scaled) if method == "IA3" else None,
        use_dora=lora is not None and lora.magnitude is not None,
        lora_bias=lora is not None and lora.bias is not None,
        lora_dropout=lora.dropout if lora is not None else 0.0,
        bias="all" if any(path.endswith("/bias") for path in parts) else "none",
    )
    others = {n: (r, a / r) for n, (r, a) in found.items() if (r, a) != (rank, alpha)}
    return with_ranks(config, others)


def with_ranks(config: PeftConfig, ranks: Mapping[str, tuple[int, float]]) -> PeftConfig:
    """Returns a configuration in which modules have these ranks and scales."""
    if not ranks:
        return config
    new_ranks = tuple((re.escape(name), rank) for name, (rank, _) in ranks.items())
    alphas = tuple(
        (re.escape(name), scale * (math.sqrt(rank) if config.use_rslora else rank))
        for name, (rank, scale) in ranks.items()
    )
    return dataclasses.replace(
        config,
        rank_pattern=(*new_ranks, *config.rank_pattern),
        alpha_pattern=(*alphas, *config.alpha_pattern),
    )

"""Spellings: the tensors that PEFT has for one module, of the adapters of our leaves."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..params.adapters.adapter import Adapter
from ..params.adapters.ia3 import IA3
from ..params.adapters.lora import LoRA
from ..params.adapters.lycoris import LoHa, LoKr
from ..params.adapters.peft.config import PeftConfig
from ..params.adapters.peft.targets import rank_of
from ..params.errors import CheckpointError
from .torch_modules import CONVOLUTION, HEAD, TABLE, Module


class Parts(NamedTuple):
    """A module, and the adapter of each of its pieces, in one layer."""

    module: Module
    adapters: Sequence[Any]
    config: PeftConfig

    @property
    def scale(self) -> float:
        return float(self.adapters[0].scale)

    def same(self, field: str) -> np.ndarray | None:
        """Returns an array that all pieces have alike; None where they differ."""
        arrays = [getattr(each, field) for each in self.adapters]
        first = arrays[0]
        return first if all(np.array_equal(first, x) for x in arrays) else None

    def columns(self, field: str) -> np.ndarray:
        """Joins an array along the module's outputs, its last axis."""
        arrays = [getattr(each, field) for each in self.adapters]
        if not self.module.is_joined:
            return arrays[0]
        size = self.module.shape[0]
        whole = np.zeros((*arrays[0].shape[:-1], size), arrays[0].dtype)
        for piece, array in zip(self.module.pieces, arrays, strict=True):
            whole[..., piece.columns] = array
        return whole

    def thin(self, down: str, up: str, rank: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns [..., in, r] and [r, out] of all pieces. Pieces whose first factors have become
        different are blocks of ranks of their own."""
        cut = [
            each.replace(**{down: getattr(each, down)[..., :rank], up: getattr(each, up)[:rank]})
            for each in self.adapters
        ]
        one = self._replace(adapters=cut)
        if (first := one.same(down)) is not None:
            return first, one.columns(up)
        first = np.concatenate([getattr(each, down) for each in cut], -1)
        whole = np.zeros((first.shape[-1], self.module.shape[0]), getattr(cut[0], up).dtype)
        for i, (piece, each) in enumerate(zip(self.module.pieces, cut, strict=True)):
            whole[i * rank : (i + 1) * rank, piece.columns] = getattr(each, up)
        return first, whole


Fields = tuple[dict[str, np.ndarray], int]


def _lora(one: Parts) -> Fields:
    module, config = one.module, one.config
    rank = min(rank_of(config, module.name), one.adapters[0].b.shape[0])
    down, up = one.thin("a", "b", rank)
    if module.kind == TABLE:
        found = {"lora_embedding_A": down.T, "lora_embedding_B": up.T}
    elif module.kind == HEAD:
        found = {"lora_A.weight": up, "lora_B.weight": down}
    elif module.kind == CONVOLUTION:
        order = np.argsort(module.pieces[0].place.permutation)
        window = (1,) * (down.ndim - 2)
        found = {
            "lora_A.weight": down.transpose(order),
            "lora_B.weight": up.T.reshape(*up.T.shape, *window),
        }
    else:
        found = {"lora_A.weight": down.T, "lora_B.weight": up.T}
    if one.adapters[0].bias is not None:
        found["lora_B.bias"] = one.columns("bias")
    if one.adapters[0].magnitude is not None:
        magnitude = one.columns("magnitude")
        if module.kind == CONVOLUTION:
            magnitude = magnitude.reshape(1, -1, *(1,) * (down.ndim - 2))
        found["lora_magnitude_vector"] = magnitude
    return found, up.shape[0]


def _loha(one: Parts) -> Fields:
    rank = min(rank_of(one.config, one.module.name), one.adapters[0].b1.shape[0])
    found = {}
    for n in "12":
        down, up = one.thin(f"a{n}", f"b{n}", rank)
        if len(one.adapters) > 1 and up.shape[0] == rank:  # both pairs are of one rank
            other = one.thin(*({"1": ("a2", "b2"), "2": ("a1", "b1")}[n]), rank)[1]
            if other.shape[0] != rank:
                raise CheckpointError(
                    f"{one.module.name}: its parts differ in one pair of LoHa's matrices and not "
                    "in the other: PEFT has no form for it; nothing was written"
                )
        found |= {f"hada_w{n}_a": up.T, f"hada_w{n}_b": down.T}
    return found, found["hada_w1_b"].shape[0]


def _lokr(one: Parts) -> Fields:
    # PyTorch's (out, in) = kron(w1, w2) is ours of the transposes: what is A there is B here.
    theirs = {"w": "", "b": "_a", "a": "_b"}
    found, name = {}, one.module.name
    for field in ("w2", "a2", "b2", "a1"):
        if getattr(one.adapters[0], field) is None:
            continue
        array = one.same(field)
        if array is None:
            raise CheckpointError(
                f"{name}: its parts differ in {field} of LoKr: PEFT has no form for it; nothing "
                "was written"
            )
        found[f"lokr_w{field[1]}{theirs[field[0]]}"] = array.T
    for field in ("w1", "b1"):
        parts = [getattr(each, field) for each in one.adapters]
        if parts[0] is not None:
            whole = _joined_blocks(one, parts) if one.module.is_joined else parts[0]
            found[f"lokr_w1{theirs[field[0]]}"] = whole.T
    return found, 0


def _joined_blocks(one: Parts, parts: list[np.ndarray]) -> np.ndarray:
    """Joins the first factors of the pieces of a module, whose columns are runs of outputs."""
    total = sum(part.shape[-1] for part in parts)
    block = one.module.shape[0] // total
    whole = np.zeros((*parts[0].shape[:-1], total), parts[0].dtype)
    for piece, part in zip(one.module.pieces, parts, strict=True):
        whole[..., np.asarray(piece.columns)[::block] // block] = part
    return whole


def _ia3(one: Parts) -> Fields:
    if one.adapters[0].on == "output":
        return {"ia3_l": one.columns("factors")[:, None]}, 0
    factors = one.same("factors")
    if factors is None:
        raise CheckpointError(
            f"{one.module.name}: its parts scale inputs differently: PEFT has no form for it; "
            "nothing was written"
        )
    return {"ia3_l": factors[None]}, 0


FIELDS: dict[type[Adapter], Callable[[Parts], Fields]] = {
    LoRA: _lora,
    LoHa: _loha,
    LoKr: _lokr,
    IA3: _ia3,
}
"""Kind of adapter -> ({field: array} of a module, its rank; 0 where it has none)."""

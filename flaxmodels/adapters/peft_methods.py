"""Methods: what the tensors of PEFT's methods mean, in the layout of our leaves."""

import math
from collections.abc import Callable

import jax
import numpy as np

from ..params.adapters.adapter import Adapter, Base
from ..params.adapters.ia3 import IA3
from ..params.adapters.lora import LoRA
from ..params.adapters.lycoris import LoHa, LoKr
from ..params.adapters.peft.config import PeftConfig
from ..params.adapters.replaced_weight import TokenRows
from ..params.errors import CheckpointError
from .module_tensors import Fields, Stack
from .torch_modules import CONVOLUTION, HEAD, LINEAR, TABLE, Piece

TOKENS = ("token_adapter.trainable_tokens_delta", "trainable_tokens_delta")


def _lora(stack: Stack, config: PeftConfig) -> LoRA:
    front = len(next(iter(stack.sites.values()))[0].place.shape) - 1
    ins = (*range(-front - 1, -1), None)
    has_bias = any("lora_B.bias" in fields.tensors for _, fields in stack.sites.values())
    if has_bias and not config.lora_bias:
        _, fields = next(iter(stack.sites.values()))
        raise CheckpointError(
            f"{fields.where}: {fields.module.name} has lora_B.bias, and lora_bias is not set"
        )
    bias = magnitude = None
    if config.lora_bias:
        bias = stack.array(
            lambda piece, x: x.read("lora_B.bias", x.module.shape[0])[piece.columns], (-1,)
        )
    if config.use_dora:
        magnitude = stack.array(_magnitude, (-1,), stack.lengths)
    down, up = stack.array(_down, ins), stack.array(_up, (None, -1))
    return LoRA(down, up, stack.scales(), magnitude=magnitude, bias=bias)


def _down(piece: Piece, fields: Fields) -> np.ndarray:
    """Reads A as [in, r], of a table [rows, r], of a convolution [window, in, r]."""
    module, rank = fields.module, fields.rank
    if module.kind == TABLE:
        return fields.read("lora_embedding_A", rank, module.shape[0]).T
    if module.kind == HEAD:
        return fields.read("lora_B.weight", module.shape[0], rank)
    array = fields.read("lora_A.weight", rank, *module.shape[1:])
    return array.transpose(piece.place.permutation if module.kind == CONVOLUTION else (1, 0))


def _up(piece: Piece, fields: Fields) -> np.ndarray:
    """Reads B as [r, out], of a table [r, D]."""
    module, rank = fields.module, fields.rank
    if module.kind == TABLE:
        return fields.read("lora_embedding_B", module.shape[1], rank).T
    if module.kind == HEAD:
        return fields.read("lora_A.weight", rank, module.shape[1])
    window = (1,) * (len(module.shape) - 2)
    array = fields.read("lora_B.weight", module.shape[0], rank, *window)
    return array.reshape(module.shape[0], rank)[piece.columns].T


def _magnitude(piece: Piece, fields: Fields) -> np.ndarray:
    is_table = fields.module.kind == TABLE
    size = fields.module.shape[1] if is_table else fields.module.shape[0]
    return fields.read("lora_magnitude_vector", size)[piece.columns]


def _loha(stack: Stack, config: PeftConfig) -> LoHa:
    def down(name: str) -> jax.Array:
        def read(piece: Piece, fields: Fields) -> np.ndarray:
            return fields.read(name, fields.rank, fields.module.shape[1]).T

        return stack.array(read, (-2, None))

    def up(name: str) -> jax.Array:
        def read(piece: Piece, fields: Fields) -> np.ndarray:
            return fields.read(name, fields.module.shape[0], fields.rank)[piece.columns].T

        return stack.array(read, (None, -1))

    _only_linear(stack)
    first, second = ((down(f"hada_w{n}_b"), up(f"hada_w{n}_a")) for n in "12")
    return LoHa(*first, *second, scale=stack.scales())


def _lokr(stack: Stack, config: PeftConfig) -> LoKr:
    _only_linear(stack)

    def array(name: str, columns: bool = False) -> jax.Array | None:
        """Makes the transpose of a tensor, of whose columns the leaf has a part or all."""
        there = {name in fields.tensors for _, fields in stack.sites.values()}
        if there == {False}:
            return None

        def read(piece: Piece, fields: Fields) -> np.ndarray:
            tensor = fields.tensors.get(name)
            whole = fields.read(name, *(tensor.shape if tensor else ()))
            return (_blocks(piece, fields, whole) if columns else whole).T

        return stack.array(read)

    for _, fields in stack.sites.values():
        _check_kron(fields)
    # PyTorch's (out, in) = kron(w1, w2) is ours of the transposes: what is A there is B here.
    first = (array("lokr_w1", True), array("lokr_w1_b"), array("lokr_w1_a", True))
    second = (array("lokr_w2"), array("lokr_w2_b"), array("lokr_w2_a"))
    return LoKr(*first, *second, scale=stack.scales())


def _check_kron(fields: Fields) -> None:
    """Refuses factors whose product is not of the weight's shape."""
    sizes = []
    for n in "12":
        if (whole := fields.tensors.get(f"lokr_w{n}")) is not None:
            sizes.append(whole.shape)
            continue
        pair = [fields.tensors.get(f"lokr_w{n}_{x}") for x in "ab"]
        if pair[0] is None or pair[1] is None or pair[0].shape[-1:] != pair[1].shape[:1]:
            raise CheckpointError(
                f"{fields.where}: {fields.module.name} has {', '.join(fields.tensors)}, which make "
                f"no lokr_w{n}"
            )
        sizes.append((*pair[0].shape[:1], *pair[1].shape[1:]))
    if tuple(math.prod(x) for x in zip(*sizes, strict=True)) != fields.module.shape:
        raise CheckpointError(
            f"{fields.where}: {fields.module.name} has factors of {sizes[0]} and {sizes[1]}, whose "
            f"product is not of the base's {fields.module.shape}: it is an adapter of another base"
        )


def _blocks(piece: Piece, fields: Fields, first: np.ndarray) -> np.ndarray:
    """Returns the rows of the first factor that make a leaf's outputs, of a joined module."""
    if piece.place.part is None:
        return first
    columns = np.asarray(piece.columns)
    block = fields.module.shape[0] // first.shape[0]
    starts = columns[::block]
    if len(columns) % block or (starts % block).any() or len(columns) != len(starts) * block:
        raise CheckpointError(
            f"{fields.where}: {fields.module.name} is {piece.path} and others here, and blocks of "
            f"{block} outputs of its LoKr are partly of one and partly of another; merge it into "
            "its base with peft's merge_and_unload(), and save that"
        )
    return first[starts // block]


def _only_linear(stack: Stack) -> None:
    for _, fields in stack.sites.values():
        if fields.module.kind != LINEAR:
            raise CheckpointError(
                f"{fields.where}: {fields.module.name} is no linear layer but a "
                f"{fields.module.kind}, of which this method is not read; merge it with peft's "
                "merge_and_unload(), and save that"
            )


def _ia3(stack: Stack, config: PeftConfig) -> IA3:
    before = {fields.before for _, fields in stack.sites.values()}
    if len(before) > 1:
        _, fields = next(iter(stack.sites.values()))
        raise CheckpointError(
            f"{fields.where}: of some layers the input of {fields.module.name} is scaled, and of "
            "others the output, which a stack of layers cannot: load with scan_layers=False"
        )
    on_input = before == {True}

    def read(piece: Piece, fields: Fields) -> np.ndarray:
        out, inner = fields.module.shape[:2]
        if fields.module.kind == TABLE:
            out, inner = inner, out
        if on_input:
            return fields.read("ia3_l", 1, inner).reshape(-1)
        return fields.read("ia3_l", out, 1).reshape(-1)[piece.columns]

    if not all(f.module.kind in (LINEAR, TABLE) for _, f in stack.sites.values()):
        _only_linear(stack)
    factors = stack.array(read, (-2 if on_input else -1,), 1)
    return IA3(factors, "input" if on_input else "output")


def token_rows(leaf: Base, site: tuple[Piece, Fields], config: PeftConfig) -> TokenRows:
    """Makes trainable tokens; those of a table that a head is tied to are the head's too."""
    _, fields = site
    name = next(name for name in TOKENS if name in fields.tensors)
    tables = config.trainable_token_indices
    rows = next((rows for end, rows in tables if fields.module.name.endswith(end)), ())
    count, width = fields.module.shape
    if max(rows, default=0) >= count:
        raise CheckpointError(
            f"{fields.where}: token {max(rows)} is trained, and the base's {fields.module.name} "
            f"has {count} rows; model.resize_token_embeddings(params, n) adds some"
        )
    stack = Stack(leaf, {None: site})
    values = stack.array(lambda _, x: x.read(name, len(rows), width), (None, -1))
    return TokenRows(values, jax.device_put(np.array(rows, np.int32)))


METHODS: dict[str, Callable[[Stack, PeftConfig], Adapter]] = {
    "LORA": _lora,
    "LOHA": _loha,
    "LOKR": _lokr,
    "IA3": _ia3,
}
"""Method -> what makes the adapter of a leaf."""

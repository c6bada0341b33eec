"""Several adapters of one weight, of which each row of a batch has its own, in one program."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ..tree.paths import flatten
from ..tree.weights import Shape
from ..types import Params
from .adapter import Adapter, Contract, Product, along, register, wide
from .attach import adapted, adapter_names, known_names
from .ia3 import IA3
from .lora import LoRA, wide_dense
from .weight import AdaptedWeight, over_layers

BANK = "bank"
"""The name of a bank among the adapters of a weight."""

Choice: TypeAlias = int | str | None | Sequence[int | str | None] | jax.Array | np.ndarray


@register("a", "b", "bias", "gain", "inputs", "outputs", "index")
@dataclasses.dataclass(frozen=True, eq=False)
class Bank(Adapter):
    """LoRA, DoRA and IA3, n of them: number i + 1 is `names[i]`, number 0 is none.

    Ranks are filled up with zeros; scales, and the factors of DoRA, are in b. What is None, no
    adapter has.

    Attributes:
        a: [n + 1, in, r].
        b: [n + 1, r, out].
        bias: [n + 1, out], what LoRA adds.
        gain: [n + 1, out], the factors of DoRA.
        inputs, outputs: [n + 1, in], [n + 1, out], the factors of IA3.
        index: int32 [B], the adapter of each row; or [], that of all. NaN comes of one that is not
            there.
    """

    a: Any
    b: Any
    bias: Any
    gain: Any
    inputs: Any
    outputs: Any
    index: Any
    names: tuple[str, ...]

    method: ClassVar[str] = "a bank"
    trained: ClassVar[tuple[str, ...]] = ()

    @property
    def lead(self) -> int:
        vectors = (self.bias, self.gain, self.inputs, self.outputs)
        ndims = [(self.a, 3), *((each, 2) for each in vectors)]
        return next(len(x.shape) - ndim for x, ndim in ndims if x is not None)

    def shapes(self, shape: Shape) -> dict[str, Shape]:
        n, out = len(self.names) + 1, shape[-1]
        found = {"bias": (n, out), "gain": (n, out), "outputs": (n, out), "inputs": (n, shape[0])}
        if self.a is not None:
            rank = self.a.shape[-1]
            found |= {"a": (n, shape[0], rank), "b": (n, rank, out)}
        return found

    @property
    def serves_heads(self) -> bool:
        return self.gain is None and self.inputs is None and self.outputs is None

    def on_input(self, x: jax.Array) -> jax.Array:
        return self._times(x, self.inputs)

    def on_product(self, y: jax.Array, product: Product) -> jax.Array:
        x, contract = product.x, product.contract
        z = self._times(y, self.gain)
        if self.a is not None:
            a, b = self._own(self.a, x), self._own(self.b, x)
            thin = _thin(contract, product.axis)
            z = z + (thin if self.index.ndim == 0 else jax.vmap(thin))(x, a, b)
        if self.bias is not None:
            z = z + self._vectors(self.bias, z).astype(z.dtype)
        return z

    def on_output(self, y: jax.Array) -> jax.Array:
        return self._times(y, self.outputs)

    def on_rows(self, y: jax.Array, ids: jax.Array, base: Any) -> jax.Array:
        z = wide(self._times(y, self.gain))
        if self.a is not None:
            b = wide(self._own(self.b, ids))
            if self.index.ndim == 0:
                rows = jnp.take(self._own(self.a, ids), ids, axis=0)
                z = z + wide(rows) @ b
            else:
                which = self.index.reshape(-1, *[1] * (ids.ndim - 1))
                rows = self.a.at[jnp.broadcast_to(which, ids.shape), ids].get(mode="fill")
                z = z + jnp.einsum("b...r,bro->b...o", wide(rows), b)
        return z.astype(y.dtype)

    def on_weight(self, w: jax.Array, base: jax.Array) -> jax.Array:
        raise ValueError("no one array is a weight whose adapter is chosen by row")

    def _own(self, table: Any, x: jax.Array) -> jax.Array:
        """Returns what each row of x [B, ...] has of [n + 1, ...]."""
        if self.index.ndim and x.shape[:1] != self.index.shape:
            raise ValueError(
                f"adapters are chosen for {len(self.index)} rows, and a weight is used on shape "
                f"{x.shape}: give the batch so many rows; where a weight works on what rows share "
                "(positions, distances), choose one adapter for all"
            )
        return jnp.take(jnp.asarray(table), self.index, axis=0)

    def _vectors(self, table: Any, y: jax.Array) -> jax.Array:
        """Returns the vector of each row, as it meets y [B, ..., F]."""
        own = self._own(table, y)
        if self.index.ndim:
            own = own.reshape(own.shape[0], *[1] * (y.ndim - 2), own.shape[1])
        return along(own, y)

    def _times(self, y: jax.Array, table: Any) -> jax.Array:
        return y if table is None else (wide(y) * wide(self._vectors(table, y))).astype(y.dtype)


def _thin(contract: Contract, axis: int):
    """Returns the product with a @ b, or with its transpose."""
    if axis == 0:
        return lambda x, a, b: contract(contract(x, a, 0), b, 0)
    return lambda x, a, b: contract(contract(x, b, 1), a, 1)


def stack_adapters(params: Params, names: Sequence[str] | None = None) -> Params:
    """Returns params whose adapters are side by side, for `choose_adapters` to give each row of a
    batch its own: a weight keeps its base, and one array of all A and one of all B.

    What the adapters are made of is copied, ranks filled up with zeros, and no longer trained. To
    begin with no row has one.

    Args:
        names: the adapters, as numbers 1, 2, ... choose them; if None, all that there are.

    Raises:
        ValueError: no adapters, an unknown name, an adapter that is merged, or of a kind that rows
            cannot have one each of: trainable tokens, modules that are saved whole, LoHa, LoKr.
    """
    names = known_names(params, adapter_names(params) if names is None else names)
    if not names:
        raise ValueError("the params have no adapters; fp.lora_init makes some")

    def one(path: str, leaf: AdaptedWeight) -> Any:
        if leaf.merged:
            raise ValueError(f"{path}: {leaf.merged[0]!r} is merged; fp.unmerge_adapters first")
        own = {name: leaf.adapters[name] for name in names if name in leaf.adapters}
        for name, adapter in own.items():
            if not isinstance(adapter, LoRA | IA3):
                raise ValueError(
                    f"{path}: {adapter.method} of the adapter {name!r} cannot be chosen by row; "
                    "LoRA, DoRA and IA3 can. fp.delete_adapters takes it out, or merge it"
                )
        if not own:
            return leaf.base
        parts = {adapter.part for adapter in own.values()}
        if len(parts) > 1:
            raise ValueError(
                f"{path}: some adapters are of the {' and '.join(sorted(parts))} alone"
            )
        bank = over_layers(lambda base, own: _bank(base, own, names, *parts), leaf.base, own)
        return leaf.replace(adapters={BANK: bank}, active=(BANK,))

    return adapted(params, one)


def _bank(base: Any, own: Mapping[str, LoRA | IA3], names: tuple[str, ...], part: str) -> Bank:
    """Makes the bank of one layer."""
    fields: dict[str, dict[int, jax.Array]] = {}
    for number, name in enumerate(names, 1):
        adapter = own.get(name)
        if isinstance(adapter, IA3):
            at = "inputs" if adapter.on == "input" else "outputs"
            fields.setdefault(at, {})[number] = wide(adapter.factors)
        elif adapter is not None:
            for field, value in _folded(adapter, base).items():
                fields.setdefault(field, {})[number] = value
    arrays: dict[str, Any] = {
        field: _side_by_side(values, len(names) + 1, float(field in ("gain", "inputs", "outputs")))
        for field, values in fields.items()
    }
    every: dict[str, Any] = dict.fromkeys(("a", "b", "bias", "gain", "inputs", "outputs"))
    return Bank(**every | arrays, index=jnp.int32(0), names=names, part=part)


def _folded(adapter: LoRA, base: Any) -> dict[str, jax.Array]:
    """Returns the arrays of a LoRA, with its scale and the factors of DoRA in b."""
    b = wide(adapter.b) * adapter.scale
    fields = {}
    if adapter.magnitude is not None:
        gain = fields["gain"] = adapter.gain(wide_dense(base))
        b = b * along(gain, b)
    fields |= {"a": jnp.asarray(adapter.a), "b": b.astype(jnp.asarray(adapter.b).dtype)}
    if adapter.bias is not None:
        fields["bias"] = wide(adapter.bias) * adapter.scale
    return fields


def _side_by_side(values: Mapping[int, jax.Array], count: int, missing: float) -> jax.Array:
    """Stacks arrays whose ranks may differ; where one is not there, `missing` is."""
    shape = tuple(max(sizes) for sizes in zip(*(x.shape for x in values.values()), strict=True))
    dtype = jnp.result_type(*values.values())

    def padded(x: jax.Array | None) -> jax.Array:
        if x is None:
            return jnp.full(shape, missing, dtype)
        widths = [(0, size - own) for size, own in zip(shape, x.shape, strict=True)]
        return jnp.pad(x.astype(dtype), widths)

    return jnp.stack([padded(values.get(number)) for number in range(count)])


def choose_adapters(params: Params, choice: Choice) -> Params:
    """Returns params with which row i of a batch runs with adapter `choice[i]`, in the same program
    whichever they are.

    Works under `jit`, where `choice` may be traced: a number that no adapter has then gives NaN.
    Params that `stack_adapters` has not made are given to it first: do so once, where many choices
    follow.

    Args:
        choice: int [B], or names; 0 and None are for no adapter. One alone, or int [], is for all
            rows, however many there are, and costs no gather by row.

    Raises:
        ValueError: no adapters, a name or a number that none has.
    """
    leaves = {p: x for p, x in flatten(params).items() if isinstance(x, AdaptedWeight)}
    if not any(BANK in leaf.adapters for leaf in leaves.values()):
        return choose_adapters(stack_adapters(params), choice)
    first: Any = next(x.adapters[BANK] for x in leaves.values() if BANK in x.adapters)
    names = first.names
    index = _index(choice, names)

    def one(path: str, leaf: AdaptedWeight) -> AdaptedWeight:
        if BANK not in leaf.adapters:
            return leaf
        bank: Any = leaf.adapters[BANK]
        layers = leaf.shape[: bank.lead]
        own = jnp.broadcast_to(index, (*layers, *index.shape))
        return leaf.replace(adapters={BANK: dataclasses.replace(bank, index=own)})

    return adapted(params, one)


def _index(choice: Choice, names: tuple[str, ...]) -> jax.Array:
    """Returns the numbers of adapters, int32 [B] or []."""
    if isinstance(choice, str | int) or choice is None:
        return jnp.int32(_number(choice, names))
    if isinstance(choice, Tracer):
        index: Any = choice
    elif isinstance(choice, jax.Array | np.ndarray | np.generic):
        index = np.asarray(choice)
    else:
        index = np.array([_number(each, names) for each in choice], np.int32)
    if not jnp.issubdtype(index.dtype, jnp.integer) or index.ndim > 1:
        raise ValueError(f"adapters are chosen by integers [B], got {index.dtype}{index.shape}")
    if not isinstance(index, Tracer):
        for row, number in enumerate(index.reshape(-1)):
            _check_number(int(number), names, f" for row {row}")
    return jnp.asarray(index, jnp.int32)


def _number(choice: int | str | None, names: tuple[str, ...]) -> int:
    if choice is None:
        return 0
    if isinstance(choice, str):
        if choice not in names:
            raise ValueError(f"there is no adapter {choice!r}; there are {', '.join(names)}")
        return names.index(choice) + 1
    return _check_number(int(choice), names)


def _check_number(number: int, names: tuple[str, ...], where: str = "") -> int:
    if not 0 <= number <= len(names):
        listed = ", ".join(f"{i} {name}" for i, name in enumerate(("none", *names)))
        raise ValueError(f"there is no adapter {number}{where}; there are {listed}")
    return number

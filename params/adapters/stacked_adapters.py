"""Adapters side by side: stacked, replaced one by one, and chosen by the rows of a batch."""

import functools
import operator
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, SupportsIndex, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ..scalars import flag
from ..tree.weights import Shape
from ..types import Params
from .adapted_weight import AdaptedWeight, over_layers
from .adapter import Adapter, Base, along, wide
from .attach import adapted, adapted_leaves, adapter_names, known_names, refuse_merged
from .bank import BANK, FACTORS, FIELDS, Bank, bank_of
from .ia3 import IA3
from .lora import LoRA, wide_dense

Choice: TypeAlias = int | str | None | Sequence[int | str | None] | jax.Array | np.ndarray


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

    def one(path: str, leaf: AdaptedWeight) -> Base:
        refuse_merged(path, leaf)
        own = {name: leaf.adapters[name] for name in names if name in leaf.adapters}
        if not own:
            return leaf.base
        parts = {adapter.part for adapter in own.values()}
        if len(parts) > 1:
            raise ValueError(
                f"{path}: some adapters are of the {' and '.join(sorted(parts))} alone"
            )
        bank = _bank(path, leaf.base, own, names, *parts)
        return leaf.replace(adapters={BANK: bank}, active=(BANK,))

    return adapted(params, one)


def _bank(
    path: str, base: Base, own: Mapping[str, Adapter], names: tuple[str, ...], part: str
) -> Bank:
    """Makes the bank of a weight, by one compiled program for all weights of a shape."""
    fit: dict[str, LoRA | IA3] = {}
    for name, adapter in own.items():
        if not isinstance(adapter, LoRA | IA3):
            of = "" if name == BANK else f" of the adapter {name!r}"
            what = getattr(adapter, "method", type(adapter).__name__)
            raise ValueError(
                f"{path}: {what}{of} cannot be chosen by row; LoRA, DoRA and IA3 can. "
                "fp.delete_adapters takes it out, or merge it"
            )
        fit[name] = adapter.replace(config=None)
    return _stacked_arrays(base, fit, names, part)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _stacked_arrays(
    base: Base, own: Mapping[str, LoRA | IA3], names: tuple[str, ...], part: str
) -> Bank:
    return over_layers(lambda base, own: _of_layer(base, own, names, part), base, own)


def _of_layer(base: Base, own: Mapping[str, LoRA | IA3], names: tuple[str, ...], part: str) -> Bank:
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
    arrays: dict[str, jax.Array | None] = {
        field: _side_by_side(values, len(names) + 1, float(field in FACTORS))
        for field, values in fields.items()
    }
    return Bank(*map(arrays.get, FIELDS), index=jnp.int32(0), names=names, part=part)


def _folded(adapter: LoRA, base: Base) -> dict[str, jax.Array]:
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

    absent = jnp.full(shape, missing, dtype)
    padded = {number: _padded(x, shape, dtype) for number, x in values.items()}
    return jnp.stack([padded.get(number, absent) for number in range(count)])


def _padded(x: jax.Array, shape: Shape, dtype: np.dtype) -> jax.Array:
    """Fills an array up with zeros."""
    widths = [(0, size - own) for size, own in zip(shape, x.shape, strict=True)]
    return jnp.pad(x.astype(dtype), widths)


def put_adapter(
    params: Params, number: int, adapters: Mapping[str, Adapter], *, donate: bool = False
) -> Params:
    """Returns params of `stack_adapters` with another adapter in the place of number `number`: the
    same shapes, so that programs of them are not compiled again. Its name there stays that of the
    one that was stacked: choose it by number.

    Args:
        number: 1 to n, as `choose_adapters` counts.
        adapters: {path: LoRA or IA3}, as `get_adapters` gives them; of no greater rank, and no
            other kinds and weights, than the stack was made of. A weight that it leaves out has
            none then.
        donate: the result takes the memory of the arrays of `params`, which must not be used again.

    Raises:
        ValueError: no such number, or an adapter for which the stack has no place; with its path.
    """
    flag("donate", donate)
    leaves, banks, number = adapted_leaves(params), _banks(params), _whole(number)
    if not banks:
        raise ValueError("the params have no stack; fp.stack_adapters makes one of adapters")
    if odd := sorted(adapters.keys() - banks.keys()):
        raise ValueError(f"{odd[0]}: the stack has no adapters of this weight")
    for path, bank in banks.items():
        if not 1 <= number <= len(bank.names):
            raise ValueError(
                f"there is no place {number} in the stack; there are {len(bank.names)}"
            )
        own = {BANK: adapters[path]} if path in adapters else {}
        one = _bank(path, leaves[path].base, own, (BANK,), bank.part)
        put = _donating if donate else _keeping
        new = {}
        for field in FIELDS:
            row = _row(
                f"{path}: {field}", field, getattr(bank, field), getattr(one, field), bank.lead
            )
            if row is not None:
                new[field] = put(getattr(bank, field), row, number, bank.lead)
        leaves[path] = leaves[path].replace(adapters={BANK: bank.replace(**new)})
    return adapted(params, lambda path, leaf: leaves[path])


def _row(
    where: str, field: str, table: jax.Array | None, new: jax.Array | None, lead: int
) -> jax.Array | None:
    """Returns what an array of a bank gets in one place, [*layers, ...], of the same array of a
    bank of one adapter, or None; None if there is none."""
    if table is None:
        if new is not None:
            raise ValueError(f"{where}: no adapter of the stack has such; stack one that has")
        return None
    shape = (*table.shape[:lead], *table.shape[lead + 1 :])
    if new is None:
        return jnp.full(shape, float(field in FACTORS), table.dtype)
    row = jnp.take(new, 1, axis=lead)
    if any(own > size for own, size in zip(row.shape, shape, strict=True)):
        raise ValueError(f"{where} has shape {row.shape}, and the stack has room for {shape}")
    return _padded(row, shape, table.dtype)


def _set(table: jax.Array, row: jax.Array, number: int, lead: int) -> jax.Array:
    return table.at[(*[slice(None)] * lead, number)].set(row)


_keeping = functools.partial(jax.jit, static_argnums=3)(_set)
_donating = functools.partial(jax.jit, static_argnums=3, donate_argnums=0)(_set)


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
    banks = _banks(params)
    if not banks:
        return choose_adapters(stack_adapters(params), choice)
    index = _index(choice, next(iter(banks.values())).names)

    def one(path: str, leaf: AdaptedWeight) -> AdaptedWeight:
        if path not in banks:
            return leaf
        layers = leaf.shape[: banks[path].lead]
        own = jnp.broadcast_to(index, (*layers, *index.shape))
        return leaf.replace(adapters={BANK: banks[path].replace(index=own)})

    return adapted(params, one)


def _banks(params: Params) -> dict[str, Bank]:
    """Returns the banks of params, by the path of their weight."""
    found = {path: bank_of(leaf) for path, leaf in adapted_leaves(params).items()}
    return {path: bank for path, bank in found.items() if bank is not None}


def _index(choice: Choice, names: tuple[str, ...]) -> jax.Array:
    """Returns the numbers of adapters, int32 [B] or []."""
    if isinstance(choice, str) or not isinstance(choice, Iterable):
        return jax.device_put(np.int32(_number(choice, names)))
    if isinstance(choice, Mapping | Set):
        raise TypeError(f"adapters are chosen by one for each row, in order, got {choice!r:.80}")
    if isinstance(choice, Tracer):
        index = choice
    elif isinstance(choice, jax.Array | np.ndarray):
        index = np.asarray(choice)
    else:
        index = np.array([_number(each, names) for each in choice], np.int32)
    if not jnp.issubdtype(index.dtype, jnp.integer) or index.ndim > 1:
        raise ValueError(f"adapters are chosen by integers [B], got {index.dtype}{index.shape}")
    if isinstance(index, Tracer):
        return index.astype(jnp.int32)
    for row, number in enumerate(index.reshape(-1)):
        _check_number(int(number), names, f" for row {row}")
    return jax.device_put(index.astype(np.int32))  # a copy; `jnp.asarray` compiles a program


def _number(choice: Any, names: tuple[str, ...]) -> int:
    if choice is None:
        return 0
    if isinstance(choice, str):
        if choice not in names:
            raise ValueError(f"there is no adapter {choice!r}; there are {', '.join(names)}")
        return names.index(choice) + 1
    return _check_number(_whole(choice), names)


def _whole(number: object) -> int:
    if isinstance(number, bool | np.bool_) or not isinstance(number, SupportsIndex):
        raise TypeError(f"an adapter is chosen by a whole number, got {number!r}")
    return operator.index(number)


def _check_number(number: int, names: tuple[str, ...], where: str = "") -> int:
    if not 0 <= number <= len(names):
        listed = ", ".join(f"{i} {name}" for i, name in enumerate(("none", *names)))
        raise ValueError(f"there is no adapter {number}{where}; there are {listed}")
    return number

"""Adapters in a step of training: what is trained apart from the rest, and inputs dropped."""

import zlib
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp

from ..tree.keys import one_key
from ..tree.paths import flatten, nearest, unflatten
from ..types import Params
from .adapted_weight import AdaptedWeight
from .adapter import Adapter
from .attach import active_adapters, adapted, adapted_leaves, check_fits, known_names


def split_adapters(
    params: Params, names: str | Iterable[str] | None = None
) -> tuple[Params, Params]:
    """Returns (what is trained of adapters, everything else); `join_adapters` inverts it.

    The first is a plain tree of arrays, `<path of the weight>/<adapter>/<array>`: what to
    differentiate, and to give to optax. The second has None in their places; bases, quantised or
    not, scales and indices are in it.

    Args:
        names: the adapters; those that act if None.

    Raises:
        ValueError: no adapter acts, or a name that none has.
    """
    names = active_adapters(params) if names is None else names
    names = known_names(params, names)
    if not names:
        raise ValueError("no adapter acts on these params; fp.set_adapters says which")
    trained: dict[str, jax.Array] = {}

    def rest_of(path: str, name: str, adapter: Adapter, leaf: AdaptedWeight) -> Adapter:
        arrays = adapter.trained_arrays if name in names else {}
        trained.update({f"{path}/{name}/{field}": array for field, array in arrays.items()})
        return adapter.replace(**dict.fromkeys(arrays))

    rest = _changed(params, rest_of)
    if not trained:
        raise ValueError(f"the adapters {', '.join(names)} have nothing to train, as a bank")
    return unflatten(trained), rest


def join_adapters(trained: Params, rest: Params) -> Params:
    """Returns params of the two parts that `split_adapters` made.

    Raises:
        ValueError: an array for which there is no place, one that is missing, or one of another
            shape.
    """
    arrays = flatten(trained)
    places = {
        f"{path}/{name}/{field}"
        for path, leaf in adapted_leaves(rest).items()
        for name, adapter in leaf.adapters.items()
        for field in adapter.trained
    }
    if left := [place for place in arrays if place not in places]:
        raise ValueError(f"there is no place for {left[0]}{nearest(left[0], places)}")

    def joined(path: str, name: str, adapter: Adapter, leaf: AdaptedWeight) -> Adapter:
        there = {field: arrays.get(f"{path}/{name}/{field}") for field in adapter.trained}
        adapter = adapter.replace(**{f: x for f, x in there.items() if x is not None})
        check_fits(f"{path}, adapter {name!r}", leaf, adapter)
        return adapter

    return _changed(rest, joined)


def adapter_dropout(params: Params, key: jax.Array) -> Params:
    """Returns params whose adapters drop inputs, each as its `dropout` says; for one step of
    training. `model.apply(..., deterministic=False, rngs={"dropout": key})` does it by itself.

    Args:
        key: a `jax.random.key`; each weight, and each of stacked layers, draws for itself.
    """
    key = one_key(key)

    def dropping(path: str, name: str, adapter: Adapter, leaf: AdaptedWeight) -> Adapter:
        if getattr(adapter, "dropout", 0) == 0:
            return adapter
        own = jax.random.fold_in(key, zlib.crc32(f"{path}/{name}".encode()))
        layers = leaf.shape[: adapter.lead]
        return adapter.replace(key=jax.random.bits(own, (*layers, 2), jnp.uint32))

    return _changed(params, dropping)


def drops(params: Params) -> bool:
    """Tells whether an adapter that acts drops inputs in training, and no key is set yet."""
    each = (a for leaf in adapted_leaves(params).values() for a in leaf.acting())
    return any(getattr(a, "dropout", 0) > 0 and getattr(a, "key", None) is None for a in each)


def _changed(
    params: Params, function: Callable[[str, str, Adapter, AdaptedWeight], Adapter]
) -> Params:
    """Returns a tree with `function(path, name, adapter, weight)` in the place of each adapter."""

    def one(path: str, leaf: AdaptedWeight) -> AdaptedWeight:
        own = {name: function(path, name, each, leaf) for name, each in leaf.adapters.items()}
        return leaf.replace(adapters=own)

    return adapted(params, one)

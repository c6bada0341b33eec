"""JAX's own modes and transforms, as one table that tests of forward, generate, load, save walk.

A mode takes `f(params, ids)`, whose result's leaves all have the rows of `ids` [B, T] first, and
runs it: `MODES[name](f, params, ids)` is what `f(params, ids)` is, or, of the modes in `ABSTRACT`,
its shapes and dtypes. `CONTEXTS` are the modes that are a context manager and no more: they are for
what cannot be traced, such as a save, too.
"""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from flaxmodels import sharding as fs

F = Callable[[Any, jax.Array], Any]
ROWS = 4
"""A multiple of it is the number of rows that every mode takes."""


@contextlib.contextmanager
def _explicit() -> Iterator[None]:
    """As users write it: axes of `jax.make_mesh` are Explicit since JAX 0.9."""
    with jax.set_mesh(jax.make_mesh((8,), ("fsdp",))):
        yield


@contextlib.contextmanager
def _auto() -> Iterator[None]:
    with jax.set_mesh(fs.make_mesh(fsdp=-1, tensor=2)):
        yield


CONTEXTS: dict[str, Callable[[], contextlib.AbstractContextManager]] = {
    "eager": contextlib.nullcontext,
    "x64": lambda: jax.enable_x64(True),
    "strict promotion": lambda: jax.numpy_dtype_promotion("strict"),
    "rank promotion": lambda: jax.numpy_rank_promotion("raise"),
    "debug_nans": lambda: jax.debug_nans(True),
    "debug_infs": lambda: jax.debug_infs(True),
    "disable_jit": jax.disable_jit,
    "checking_leaks": jax.checking_leaks,
    "auto mesh": _auto,
    "explicit mesh": _explicit,
}


def _within(context: Callable[[], contextlib.AbstractContextManager], how: Callable) -> Callable:
    def run(f: F, params: Any, ids: jax.Array) -> Any:
        with context():
            return jax.block_until_ready(how(f, params, ids))

    return run


def _eager(f: F, params: Any, ids: jax.Array) -> Any:
    return f(params, ids)


def _jit(f: F, params: Any, ids: jax.Array) -> Any:
    return jax.jit(f)(params, ids)


def _eval_shape(f: F, params: Any, ids: jax.Array) -> Any:
    return jax.eval_shape(f, params, ids)


def _make_jaxpr(f: F, params: Any, ids: jax.Array) -> Any:
    return jax.make_jaxpr(f, return_shape=True)(params, ids)[1]


def _grad(f: F, params: Any, ids: jax.Array) -> Any:
    """What comes out beside the gradient, which must be finite and not all zero if there is one."""

    def loss(params: Any) -> tuple[jax.Array, Any]:
        out = f(params, ids)
        floats = [x for x in jax.tree.leaves(out) if jnp.issubdtype(x.dtype, jnp.floating)]
        return sum((jnp.sum(jnp.square(x)) for x in floats), jnp.zeros(())), out

    gradient, out = jax.grad(loss, has_aux=True)(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    return out


def _vmap(f: F, params: Any, ids: jax.Array) -> Any:
    """Over rows, each a batch of one."""
    out = jax.vmap(lambda row: f(params, row[None]))(ids)
    return jax.tree.map(lambda x: x[:, 0], out)


def _scan(f: F, params: Any, ids: jax.Array) -> Any:
    """Over pairs of rows, as over the micro-batches of a step."""
    pairs = ids.reshape(-1, 2, ids.shape[1])
    _, out = jax.lax.scan(lambda carry, pair: (carry, f(params, pair)), (), pairs)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), out)


def _shard_map(f: F, params: Any, ids: jax.Array) -> Any:
    """Rows over four devices, params on each."""
    mesh = fs.make_mesh(devices=jax.devices()[:ROWS], data=ROWS)
    rows = PartitionSpec("data")
    mapped = jax.shard_map(f, mesh=mesh, in_specs=(PartitionSpec(), rows), out_specs=rows)
    return jax.jit(mapped)(params, ids)


def _threads(f: F, params: Any, ids: jax.Array) -> Any:
    """Four at once, of which each must be what the first is."""
    with ThreadPoolExecutor(4) as pool:
        all_of = list(pool.map(lambda _: jax.block_until_ready(f(params, ids)), range(4)))
    for other in all_of[1:]:
        jax.tree.map(np.testing.assert_array_equal, all_of[0], other)
    return all_of[0]


TRANSFORMS: dict[str, Callable[[F, Any, jax.Array], Any]] = {
    "jit": _jit,
    "eval_shape": _eval_shape,
    "make_jaxpr": _make_jaxpr,
    "grad": _grad,
    "remat": lambda f, params, ids: jax.checkpoint(f)(params, ids),
    "vmap": _vmap,
    "scan": _scan,
    "shard_map": _shard_map,
    "threads": _threads,
}
_CONFIGURED = [name for name in CONTEXTS if name not in ("eager", "disable_jit")]
EAGER = {name: _within(context, _eager) for name, context in CONTEXTS.items()}
COMPILED = {f"jit, {name}": _within(CONTEXTS[name], _jit) for name in _CONFIGURED}
TRACED = {f"traced, {name}": _within(CONTEXTS[name], _make_jaxpr) for name in _CONFIGURED}
"""Cheap: where a mode makes tracing fail, that is all there is to see."""

MODES: dict[str, Callable[[F, Any, jax.Array], Any]] = EAGER | COMPILED | TRACED | TRANSFORMS
ABSTRACT = ("eval_shape", "make_jaxpr", *TRACED)


def check(name: str, f: F, params: Any, ids: jax.Array, expected: Any, tolerance: float) -> None:
    """Runs `f` in mode `name`; what comes out has the tree, shapes and values of `expected`, which
    is what `f(params, ids)` gave."""
    got = MODES[name](lambda params, ids: f(params, ids), params, ids)  # as if never traced before
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert one.shape == other.shape
        if name not in ABSTRACT:
            assert np.asarray(one).dtype.kind == np.asarray(other).dtype.kind
            np.testing.assert_allclose(one, other, atol=tolerance, rtol=tolerance)

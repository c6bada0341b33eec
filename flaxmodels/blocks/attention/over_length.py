"""Context parallelism: each device has a part of the tokens of every sequence, and attends with
their queries to the keys and values of all, which it gathers.

Dubey et al. 2024, arXiv:2407.21783, section 3.3.2.
"""

import functools
import math
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from ... import sharding as fs
from .dot_product_attention import attend
from .mask import AttentionMask

Axes = tuple[str, ...]
Each = TypeVar("Each", jax.Array, PartitionSpec)


class _Part(NamedTuple):
    """What part of an attention each device computes.

    Attributes:
        batch, length, heads: the mesh axes over which those of the queries are split.
        keys_are_split: so is the length of keys and values.
        kv_heads_are_split: so are their heads.
        group: heads that share keys and values.
    """

    batch: Axes
    length: Axes
    heads: Axes
    keys_are_split: bool
    kv_heads_are_split: bool
    group: int


class _Given(NamedTuple, Generic[Each]):
    """The arrays of an attention: as `attend` takes them, or the spec of each."""

    q: Each
    k: Each
    v: Each
    mask: AttentionMask
    bias: Each | None
    sinks: Each | None
    dropout_key: Each | None


def attend_over_length(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    mask: AttentionMask,
    *,
    rules: object,
    bias: jax.Array | None = None,
    sinks: jax.Array | None = None,
    dropout_key: jax.Array | None = None,
    **others: Any,
) -> tuple[jax.Array, jax.Array | None]:
    """Attends as `attend`. Where `rules` split the length of q [B, T, N, H], each device attends
    with its part, and its rows and heads, to all keys and values [B, S, K, H], which are gathered
    once; their gradients are summed and scattered once."""
    given = _Given(q, k, v, mask, bias, sinks, dropout_key)
    split = fs.activation_axes(q, ("batch", "length", "heads", None), rules)
    if split is None or not split[1]:
        return attend(*given[:4], bias=bias, sinks=sinks, dropout_key=dropout_key, **others)
    mesh = jax.typeof(q).sharding.mesh
    size = lambda axes: math.prod(mesh.shape[axis] for axis in axes)  # noqa: E731
    batch, length, heads, _ = split
    group, own = q.shape[2] // k.shape[2], q.shape[2] // size(heads)
    if group % own and own % group:  # some device would have parts of two groups
        heads = ()
    queries, keys = mask.places(q.shape[1], k.shape[1])
    given = given._replace(mask=mask._replace(queries=queries, keys=keys))
    are_split = k.shape[1] % size(length) == 0, k.shape[2] % size(heads) == 0
    of_keys = _spec(batch, length if are_split[0] else (), heads if are_split[1] else ())
    specs = _Given(
        _spec(batch, length, heads),
        of_keys,
        of_keys,
        _of_mask(given.mask, q.shape[0], batch, length),
        _of_pairs(bias, batch, heads, length),
        _spec(heads),
        _spec(),
    )
    part = _Part(batch, length, heads, *are_split, group)
    run = functools.partial(_attend_part, part=part, others=others)
    out_specs = (specs.q, _spec(batch, heads, length))
    return jax.jit(jax.shard_map(run, mesh=mesh, in_specs=(specs,), out_specs=out_specs))(given)


def _attend_part(
    given: _Given[jax.Array], *, part: _Part, others: dict[str, Any]
) -> tuple[jax.Array, jax.Array | None]:
    """Attends with a device's own queries."""
    q, k, v, mask, bias, sinks, dropout_key = given
    if part.heads and not part.kv_heads_are_split:  # those that its own heads attend to
        own = q.shape[2]
        first = jax.lax.axis_index(part.heads) * own // part.group
        count = max(1, own // part.group)
        k, v = (jax.lax.dynamic_slice_in_dim(x, first, count, axis=2) for x in (k, v))
    if part.keys_are_split:
        k, v = _gathered(k, v, part.length)
    if dropout_key is not None:
        number = jax.lax.axis_index(part.batch + part.length + part.heads)
        dropout_key = jax.random.fold_in(dropout_key, number)
    return attend(q, k, v, mask, bias=bias, sinks=sinks, dropout_key=dropout_key, **others)


def _gathered(k: jax.Array, v: jax.Array, axes: Axes) -> tuple[jax.Array, jax.Array]:
    """Gathers the lengths of both; in one collective if they are of one shape."""
    gather = functools.partial(jax.lax.all_gather, axis_name=axes, tiled=True)
    if k.shape != v.shape:
        return gather(k, axis=1), gather(v, axis=1)
    both = gather(jnp.stack([k, v]), axis=2)
    return both[0], both[1]


def _of_mask(mask: AttentionMask, rows: int, batch: Axes, length: Axes) -> AttentionMask:
    """Returns the specs of a mask; what a rule knows of each row comes first in its arrays."""

    def of_rule(x: jax.Array) -> PartitionSpec:
        return _spec(batch) if rows > 1 and x.shape[:1] == (rows,) else _spec()

    tokens = _of_pairs(mask.tokens, batch, (), length)
    specs: Any = (jax.tree.map(of_rule, mask.rule), tokens, _spec(length), _spec())
    return AttentionMask(*specs)


def _of_pairs(x: jax.Array | None, batch: Axes, heads: Axes, length: Axes) -> PartitionSpec | None:
    """Returns the spec of x [B or 1, N or 1, T or 1, S]."""
    if x is None:
        return None
    entries = zip((batch, heads, length), x.shape, strict=False)
    return _spec(*(() if size == 1 else entry for entry, size in entries))


def _spec(*entries: Axes) -> PartitionSpec:
    return PartitionSpec(*(entry or None for entry in entries))

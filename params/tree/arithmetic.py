"""Arithmetic of trees: sums, averages, and what lies between two of them.

Of all functions here: floating-point (and complex) leaves that `mask` selects are computed, in
float32 if they are narrower, and cast back; all others are the first tree's own. The result has
the first tree's containers, dtypes and shardings; NumPy leaves stay on the host, abstract leaves
stay abstract; `jit`, `grad` and `eval_shape` go through. Of a quantised weight nothing can be
computed: it is kept where both trees have the same one, and refused otherwise. With `donate=True`
the result takes the memory of the first tree, whose computed leaves must not be used again: JAX
deletes them, and NumPy's are overwritten.
"""

import numbers
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from ..host.kernels import elementwise
from ..scalars import flag
from ..types import Concrete, Leaf, PyTree, Scalar
from .masks import Mask, as_mask
from .paths import arrays_of, check_alive, flatten, flatten_arrays, nearest, nearest_above
from .weights import Weight, is_code


def add(a: PyTree, b: PyTree, mask: Mask = True, *, donate: bool = False) -> PyTree:
    """Returns `a + b`: a task vector put onto a model, say.

    Raises:
        ValueError: trees that differ in their paths, or leaves in shape or dtype.

    >>> add({"w": np.float32([1, 2])}, {"w": np.float32([10, 20])})
    {'w': array([11., 22.], dtype=float32)}
    """
    return _mapped(_add, a, b, mask=mask, donate=donate)


def scale(a: PyTree, factor: Scalar, mask: Mask = True, *, donate: bool = False) -> PyTree:
    """Returns `a * factor`.

    Args:
        factor: one number, which may be traced.

    >>> scale({"w": np.float32([1, 2]), "step": np.int32(3)}, 2.0)["w"]
    array([2., 4.], dtype=float32)
    """
    return _mapped(_scale, a, mask=mask, scalars=(_scalar("factor", factor),), donate=donate)


def interpolate(
    a: PyTree, b: PyTree, t: Scalar, mask: Mask = True, *, donate: bool = False
) -> PyTree:
    """Returns `a + t (b - a)`: `a` at 0, `b` at 1, beyond them outside.

    What is not computed, integers for one, is `a`'s; `b` is not read there.

    Args:
        t: one number, which may be traced.

    Raises:
        ValueError: trees that differ in their paths, or leaves in shape or dtype.

    >>> interpolate({"w": np.float32([0, 2])}, {"w": np.float32([4, 4])}, 0.5)
    {'w': array([2., 3.], dtype=float32)}
    """
    return _mapped(_interpolate, a, b, mask=mask, scalars=(_scalar("t", t),), donate=donate)


def ema(
    average: PyTree, params: PyTree, decay: Scalar, mask: Mask = True, *, donate: bool = False
) -> PyTree:
    """Returns the next exponential moving average, `decay * average + (1 - decay) * params`.

    Keep the average in float32 (`fp.to_fp32`): in bfloat16 it stands still once a step changes it
    by less than 1 in 256. `params` may have any floating-point dtype.

    Args:
        decay: one number, 0.999 say, which may be traced.

    Raises:
        ValueError: trees that differ in their paths, or leaves in shape.
    """
    t = 1 - _scalar("decay", decay)
    return _mapped(
        _interpolate, average, params, mask=mask, scalars=(t,), donate=donate, any_float=True
    )


def _add(a: Concrete, b: Concrete) -> Concrete:
    return _wide(a) + _wide(b)


def _scale(a: Concrete, factor: Scalar) -> Concrete:
    return _wide(a) * factor


def _interpolate(a: Concrete, b: Concrete, t: Scalar) -> Concrete:
    a = _wide(a)
    difference = _wide(b) - a
    return a + t * difference


def _wide(x: Concrete) -> Concrete:
    return x.astype(np.float32) if x.dtype.itemsize < 4 else x


def _mapped(
    function: Callable[..., object],
    *trees: PyTree,
    mask: Mask,
    scalars: tuple = (),
    donate: bool,
    any_float: bool = False,
) -> PyTree:
    flag("donate", donate)
    first, *others = map(_arrays, trees)
    for other in others:
        _check(first, other, any_float)
    of_leaf = flatten(as_mask(mask, trees[0]))  # one leaf may have several arrays
    chosen = {path: of_leaf[nearest_above(path, of_leaf) or ""] for path in first}
    computed = {
        path: leaf
        for path, leaf in first.items()
        if chosen[path] and not is_code(leaf) and jnp.issubdtype(leaf.dtype, jnp.inexact)
    }
    _check_scalars(scalars, computed)
    if donate:
        _check_apart(computed, first, others)

    def one(path: str, leaf: Leaf | Weight) -> object:
        if isinstance(leaf, Weight):
            if chosen[path] and not (others and all(leaf is other[path] for other in others)):
                raise ValueError(
                    f"{path} is held as {leaf.held_as}, with which nothing can be computed; "
                    "dequantise it first, or leave it out: mask={path: False}, a predicate"
                )
            return leaf
        if path not in computed:
            return leaf
        rest = (other[path] for other in others)
        return elementwise(function, leaf, *rest, dtype=leaf.dtype, scalars=scalars, donate=donate)

    leaves = [one(path, leaf) for path, leaf in first.items()]
    return jax.tree.unflatten(jax.tree.structure(trees[0], is_leaf=is_code), leaves)


def _arrays(tree: PyTree) -> Mapping[str, Leaf]:
    leaves = arrays_of(flatten_arrays(tree, is_leaf=is_code))
    check_alive(leaves)
    return leaves


def _check(first: Mapping[str, Leaf], second: Mapping[str, Leaf], any_float: bool) -> None:
    """Refuses trees whose leaves are not pairs."""
    for here, there, order in ((first, second, "first"), (second, first, "second")):
        if lost := next((path for path in here if path not in there), None):
            raise ValueError(
                f"{lost} {here[lost].shape} is in the {order} tree only{nearest(lost, there)}"
            )
    for path, a in first.items():
        b = second[path]
        fits = a.dtype == b.dtype or (any_float and _is_float(a) and _is_float(b))
        if a.shape != b.shape or not fits:
            raise ValueError(
                f"{path} has shape {a.shape} and dtype {a.dtype} in the first tree, {b.shape} and "
                f"{b.dtype} in the second"
            )


def _is_float(leaf: Leaf) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def _check_scalars(scalars: tuple[Scalar, ...], computed: Mapping[str, Leaf]) -> None:
    """Refuses a complex number where a real leaf would lose its imaginary part."""
    if not any(jnp.iscomplexobj(scalar) for scalar in scalars):
        return
    for path, leaf in computed.items():
        if not jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            raise ValueError(f"{path} is {leaf.dtype}, and the number to compute with is complex")


def _check_apart(
    computed: Mapping[str, Leaf], first: Mapping[str, Leaf], others: list[Mapping[str, Leaf]]
) -> None:
    """Refuses to overwrite memory that another leaf is read from."""
    leaves = [pair for tree in (first, *others) for pair in tree.items()]
    taken = {id(leaf) for leaf in computed.values()}
    seen: dict[int, str] = {}
    spans: list[tuple[int, int, str, np.ndarray]] = []
    for path, leaf in leaves:
        if isinstance(leaf, np.ndarray) and leaf.size:
            spans.append((*np.lib.array_utils.byte_bounds(leaf), path, leaf))
        elif isinstance(leaf, jax.Array) and id(leaf) in taken and id(leaf) in seen:
            raise _shared(seen[id(leaf)], path)
        seen[id(leaf)] = path
    before: list[tuple[int, int, str, np.ndarray]] = []
    for span in sorted(spans, key=lambda span: span[:2]):
        before = [other for other in before if other[1] > span[0]]
        for *_, path, leaf in before:
            is_written = {id(leaf), id(span[3])} & taken and path != span[2]
            if is_written and np.shares_memory(leaf, span[3]):
                raise _shared(path, span[2])
        before.append(span)


def _shared(one: str, other: str) -> ValueError:
    what = f"{one} of both trees is" if one == other else f"{one} and {other} are"
    return ValueError(
        f"{what} one array, whose memory donate=True would give away: copy it, or leave donate out"
    )


def _scalar(name: str, value: Scalar) -> Scalar:
    """Returns what trees are computed with, one number; refuses several, and what is none."""
    if np.shape(value) != ():
        raise ValueError(f"{name} has shape {np.shape(value)}; expected one number")
    dtype = getattr(value, "dtype", None)
    if not (isinstance(value, numbers.Number) or (dtype and jnp.issubdtype(dtype, np.number))):
        raise TypeError(f"{name} is {value!r:.80}; expected one number")
    return value

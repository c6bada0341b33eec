"""The arrays of a state as a checkpoint names them, and what of two states differs."""

import dataclasses
from collections.abc import Mapping
from typing import TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Sharding
from jax.tree_util import tree_leaves_with_path, tree_map_with_path

from ... import params as fp
from ...params.errors import CheckpointError, quoted
from ...params.strict_json import Json
from ...params.tree.paths import path_of
from ...params.tree.weights import is_weight
from ...params.types import PyTree

T = TypeVar("T")
StateLeaf: TypeAlias = (
    jax.Array | jax.ShapeDtypeStruct | np.ndarray | np.generic | bool | int | float | complex
)
"""What a state is made of: arrays, abstract ones, and numbers of Python."""

_MOST_SAID = 3  # leaves of each kind that an error names
_ADVICE = (
    "Give the state of the same model, optimizer and adapters, or take only the params: "
    "Checkpoints.params()"
)


@dataclasses.dataclass(frozen=True)
class LeafRecord:
    """What a checkpoint says of an array.

    Attributes:
        shape: of the array; of an array of keys without the axis of their bits.
        dtype: its name; "key<fry>" and the like of keys.
        key_impl: the generator of keys, "threefry2x32"; "" of other arrays.
    """

    shape: tuple[int, ...]
    dtype: str
    key_impl: str = ""

    @classmethod
    def of(cls, leaf: StateLeaf) -> "LeafRecord":
        """Describes an array, an abstract one, or a number of Python."""
        impl = ""
        if isinstance(leaf, jax.Array) and is_key(leaf):
            impl = str(jax.random.key_impl(leaf))
        return cls(tuple(np.shape(leaf)), str(_dtype(leaf)), impl)

    @classmethod
    def read(cls, where: str, entry: Json) -> "LeafRecord":
        """Reads what `to_json` made; raises `CheckpointError` for something else."""
        match entry:
            case [list(shape), str(dtype), str(impl)] if _is_dtype(dtype) and all(
                type(n) is int and n >= 0 for n in shape
            ):
                return cls(tuple(shape), dtype, impl)
        raise CheckpointError(f"{where}: {quoted(entry)} describes no array")

    def to_json(self) -> Json:
        return [list(self.shape), self.dtype, self.key_impl]

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"

    @property
    def is_empty(self) -> bool:
        """Whether it has no elements: orbax writes no such array, and none need be read."""
        return 0 in self.shape


def _is_dtype(name: str) -> bool:
    try:
        return name.startswith("key<") or jnp.dtype(name) is not None
    except TypeError:
        return False


def is_key(leaf: StateLeaf) -> bool:
    """Tells whether a leaf is typed keys of `jax.random.key`."""
    return jnp.issubdtype(_dtype(leaf), jax.dtypes.prng_key)


def _dtype(leaf: StateLeaf) -> np.dtype:
    dtype = getattr(leaf, "dtype", None)
    return np.asarray(leaf).dtype if dtype is None else dtype


def leaves_of(state: PyTree, left_out: str | None = None) -> dict[str, StateLeaf]:
    """Returns a state as {"opt_state/0/mu/model/...": array}, without those under `left_out`."""
    found: dict[str, StateLeaf] = {}
    for key_path, leaf in tree_leaves_with_path(state):
        path = path_of(key_path)
        if path in found:
            raise ValueError(f"two leaves of the state have the path {path!r}")
        found[path] = leaf
    return {path: leaf for path, leaf in found.items() if not _is_under(path, left_out)}


def _is_under(path: str, folder: str | None) -> bool:
    return folder is not None and path.startswith(f"{folder}/")


def weights_of(state: PyTree, left_out: str | None = None) -> list[str]:
    """Lists the paths of weights that are several arrays, quantised or with adapters, without those
    under `left_out`."""
    found = [path for path, leaf in fp.flatten(state).items() if is_weight(leaf)]
    return [path for path in found if not _is_under(path, left_out)]


def check_storable(leaves: Mapping[str, StateLeaf]) -> None:
    """Raises for what cannot be written, before anything is.

    Raises:
        TypeError: no number and no array of numbers, a masked, an abstract or a traced one.
        ValueError: no array at all, or one that was donated.
    """
    if not leaves:
        raise ValueError("the state has no arrays, so that there is nothing to save")
    for path, leaf in leaves.items():
        check_real(path, leaf)
        if not isinstance(leaf, jax.Array):
            dtype = np.asarray(leaf).dtype
            is_number = dtype.kind == "b" or jnp.issubdtype(dtype, jnp.number)
            if not is_number or isinstance(leaf, np.ma.MaskedArray):
                raise TypeError(
                    f"{path} is {leaf!r:.80}, a {type(leaf).__name__}; expected a number or an "
                    "array of numbers"
                )


def check_real(path: str, leaf: object) -> None:
    """Raises `TypeError` for a traced array, and `ValueError` for one that was donated."""
    check_untraced(path, leaf)
    if isinstance(leaf, jax.Array) and leaf.is_deleted():
        raise ValueError(
            f"{path} was donated, and is gone: give the state that the last train_step returned"
        )


def check_untraced(path: str, leaf: object) -> None:
    """Raises `TypeError` for a traced array."""
    if isinstance(leaf, Tracer):
        raise TypeError(f"{path} is traced: call Checkpoints outside of jax.jit and its like")


def to_store(leaves: Mapping[str, StateLeaf]) -> PyTree:
    """Returns what orbax writes: a nested dict of arrays; of keys their bits.

    Raises:
        ValueError: in a run of several processes, an array that is this process's alone.
    """
    full = {path: leaf for path, leaf in leaves.items() if 0 not in np.shape(leaf)}
    return fp.unflatten({path: _stored(path, leaf) for path, leaf in full.items()})


def _stored(path: str, leaf: StateLeaf) -> jax.Array | np.ndarray:
    if not isinstance(leaf, jax.Array):
        return np.asarray(leaf)
    if jax.process_count() > 1 and leaf.is_fully_addressable:
        raise ValueError(
            f"{path} is on devices of this process alone, and others have an array of that name "
            "too; put the state on the mesh of all processes, as compile(..., mesh=) does"
        )
    return jax.random.key_data(leaf) if is_key(leaf) else leaf


def template_of(
    leaf: StateLeaf, record: LeafRecord
) -> tuple[tuple[int, ...], np.dtype, Sharding | None]:
    """Returns (shape, dtype, sharding) that a leaf is read with; a sharding of None is the default
    device, to which it is not committed."""
    if is_key(leaf):
        abstract = jax.ShapeDtypeStruct(record.shape, _dtype(leaf))
        bits = jax.eval_shape(jax.random.key_data, abstract)
        return bits.shape, bits.dtype, _sharding(leaf)
    return record.shape, _dtype(leaf), _sharding(leaf)


def _sharding(leaf: StateLeaf) -> Sharding | None:
    if isinstance(leaf, jax.Array) and not leaf.committed:
        return None
    return getattr(leaf, "sharding", None)


def from_stored(path: str, leaf: StateLeaf, record: LeafRecord, array: object) -> StateLeaf:
    """Returns what was read as what the leaf is: keys, an array of JAX or NumPy, or a number.

    Raises:
        CheckpointError: it is not what the record says.
    """
    shape, dtype, _ = template_of(leaf, record)
    if record.is_empty:
        array = np.zeros(shape, dtype)
    if not isinstance(array, jax.Array | np.ndarray) or array.shape != shape:
        found = getattr(array, "shape", "nothing")
        raise CheckpointError(f"{path}: expected an array of shape {shape}, found {found}")
    if is_key(leaf):
        try:
            return jax.random.wrap_key_data(_on_device(array), impl=record.key_impl)
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: keys of {quoted(record.key_impl)}: {error}") from None
    if isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
        return _on_device(array)
    if isinstance(leaf, np.ndarray | np.generic):
        return np.asarray(array)[()] if isinstance(leaf, np.generic) else np.asarray(array)
    return type(leaf)(np.asarray(array).item())


def _on_device(array: jax.Array | np.ndarray) -> jax.Array:
    # a copy: JAX on a CPU would share memory of NumPy's, which it could not donate
    return array if isinstance(array, jax.Array) else jnp.array(array, copy=True)


def rebuilt(state: T, found: Mapping[str, StateLeaf]) -> T:
    """Returns the state with other leaves; what is not among them stays."""
    return tree_map_with_path(lambda keys, leaf: found.get(path_of(keys), leaf), state)


def check_same(stored: Mapping[str, LeafRecord], given: Mapping[str, LeafRecord]) -> str:
    """Compares the leaves of a checkpoint with those of the state that it is to become -> what
    differs, with path, expected and found of the first of each kind, and what to try; "" if nothing
    does."""
    kinds = (
        [path for path in given if path in stored and str(given[path]) != str(stored[path])],
        [path for path in given if path not in stored],
        [path for path in stored if path not in given],
    )
    said = []
    for paths in kinds:
        for path in paths[:_MOST_SAID]:
            expected, found = given.get(path, "nothing"), stored.get(path, "nothing")
            said.append(f"{path}: expected {expected}, found {found}")
        if len(paths) > _MOST_SAID:
            said.append(f"{len(paths) - _MOST_SAID} more")
    return f"{'; '.join(said)}. {_ADVICE}" if said else ""

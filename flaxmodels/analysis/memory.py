"""Memory of a forward pass, module by module: compiled, or as it runs eagerly."""

import contextlib
import dataclasses
import functools
import resource
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
from flax import linen as nn
from flax.linen.module import InterceptorContext
from jax.core import Tracer
from jax.sharding import NamedSharding, PartitionSpec

from .. import params as fp
from ..calls.arguments import abstract, split
from ..params.scalars import whole
from ..params.sizes import format_size
from ..params.tree.measure import format_table
from ..params.types import Leaf, PyTree


class MemoryTrace:
    """Records what each module's call added to memory while `memory_trace` is open.

    Attributes:
        mem_rss_diff: {path: bytes} by which the resident memory of the process grew.
        live_diff: {path: bytes} by which JAX's arrays grew; exact, on any device.
    """

    def __init__(self) -> None:
        self.mem_rss_diff: dict[str, int] = {}
        self.live_diff: dict[str, int] = {}

    def reset(self) -> None:
        """Sets all of it to zero."""
        self.mem_rss_diff.clear()
        self.live_diff.clear()

    def _add(self, path: str, before: tuple[int, int]) -> None:
        for diff, then, now in zip(
            (self.mem_rss_diff, self.live_diff), before, _now(), strict=True
        ):
            diff[path] = diff.get(path, 0) + now - then


@contextlib.contextmanager
def memory_trace() -> Iterator[MemoryTrace]:
    """Opens a context that measures eager calls of modules, their submodules included.

    Traced calls (under `jit`, in a scan over layers) allocate nothing and are skipped: see
    `memory_report` for compiled programs.

    >>> with memory_trace() as trace:
    ...     _ = nn.Dense(2).init(jax.random.key(0), jax.numpy.zeros((1, 2)))
    >>> list(trace.mem_rss_diff)
    ['']
    """
    trace = MemoryTrace()

    def measure(call: Callable, args: tuple, kwargs: dict, context: InterceptorContext) -> object:
        traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((args, kwargs)))
        if context.method_name != "__call__" or traced:
            return call(*args, **kwargs)
        before = _now()
        out = jax.block_until_ready(call(*args, **kwargs))
        trace._add("/".join(context.module.path), before)
        return out

    with nn.intercept_methods(measure):
        yield trace


def _now() -> tuple[int, int]:
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    return pages * _PAGE, sum(array.nbytes for array in jax.live_arrays())


_PAGE = resource.getpagesize()


@dataclasses.dataclass(frozen=True)
class ModuleMemory:
    """Holds the bytes, on one device, of a module compiled by itself.

    Attributes:
        path: of the module; "" for the model.
        params: those of its own.
        inputs: arrays that it is called with.
        outputs: what it returns.
        temporary: memory that it needs beside them while it runs.
    """

    path: str
    params: int
    inputs: int
    outputs: int
    temporary: int


class MemoryReport(tuple[ModuleMemory, ...]):
    """Holds one row for each module, in the order in which they are called; prints as a table."""

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [("module", "params", "inputs", "outputs", "temporary")]
        for row in self:
            sizes = (row.params, row.inputs, row.outputs, row.temporary)
            rows.append((row.path or "(all)", *map(format_size, sizes)))
        return format_table(rows, numeric=(1, 2, 3, 4))


def memory_report(
    model: nn.Module, params: PyTree, *args: object, depth: int = 2, **kwargs: object
) -> MemoryReport:
    """Reports the memory of a forward pass as XLA plans it; runs nothing, and allocates nothing.

    The model is compiled, and each module down to `depth` names by itself, with the arguments
    that it gets in the pass.

    Args:
        params: arrays or abstract. Where they have shardings on a mesh, all bytes are those of one
            of its devices.
        *args, **kwargs: of the model's call, arrays or abstract.
    """
    depth = whole("depth", depth, 0)
    calls: dict[str, Callable[[], ModuleMemory]] = {}

    def note(call: Callable, args: tuple, kwargs: dict, context: InterceptorContext) -> object:
        module, names = context.module, context.module.path
        path = "/".join(names)
        if context.method_name == "__call__" and len(names) <= depth and path not in calls:
            variables = _placed(jax.tree.map(abstract, module.variables), params, names)
            arrays, rebuild = split((args, kwargs))
            inputs, plain = [abstract(array) for array in arrays], module.clone(parent=None)
            calls[path] = functools.partial(_compiled, path, plain, variables, inputs, rebuild)
        return call(*args, **kwargs)

    arrays, rebuild = split((args, kwargs))

    def forward(params: PyTree, arrays: list[jax.Array]) -> PyTree:
        args, kwargs = rebuild(arrays)
        return model.apply({"params": params}, *args, **kwargs)

    with nn.intercept_methods(note):
        jax.eval_shape(forward, params, arrays)
    return MemoryReport(compiled() for compiled in calls.values())


def _placed(variables: PyTree, params: PyTree, names: Sequence[str]) -> PyTree:
    """Gives a module's abstract variables the shardings of `params` at its path; in a scan over
    layers those of one of the stacked leaves."""
    own: PyTree = params
    for name in names:
        own = own.get(name, {}) if isinstance(own, Mapping) else {}
    if jax.tree.structure(own) != jax.tree.structure(variables.get("params", {})):
        return variables

    def leaf(x: jax.ShapeDtypeStruct, given: Leaf) -> jax.ShapeDtypeStruct:
        sharding = getattr(given, "sharding", None)
        if not isinstance(sharding, NamedSharding):
            return x
        spec = PartitionSpec(*tuple(sharding.spec)[len(given.shape) - len(x.shape) :])
        return x.update(sharding=NamedSharding(sharding.mesh, spec))

    return {**variables, "params": jax.tree.map(leaf, variables.get("params", {}), own)}


def _compiled(
    path: str,
    module: nn.Module,
    variables: PyTree,
    arrays: Sequence[Leaf],
    rebuild: Callable[[Sequence[object]], PyTree],
) -> ModuleMemory:
    def call(variables: PyTree, arrays: Sequence[Leaf]) -> PyTree:
        args, kwargs = rebuild(arrays)
        return module.apply(variables, *args, **kwargs)

    memory: Any = jax.jit(call).lower(variables, arrays).compile().memory_analysis()
    return ModuleMemory(
        path,
        params=max(fp.memory_footprint(variables, per_device=True).values(), default=0),
        inputs=fp.memory_footprint(arrays),
        outputs=memory.output_size_in_bytes,
        temporary=memory.temp_size_in_bytes,
    )

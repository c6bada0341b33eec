"""One MLIR context serves many programs.

JAX makes a new one for each that it lowers. That takes 2.9 ms of CPU time, where all else takes
8 ms of a program of one operation, and tests run some ten thousand of these.
"""

import os
from typing import Any

_PROGRAMS = 256  # of a context: it keeps each type and constant that it has seen


def share_contexts() -> None:
    """Lets JAX take the same context again, in a process that imported it."""
    from jax._src.interpreters import mlir

    make = mlir.make_ir_context
    left: dict[int, tuple[Any, int]] = {}  # by process: a fork has none of its parent's threads

    def shared() -> Any:
        if mlir.ir.Context.current is not None:  # a program inside another's lowering, into which
            return make()  # its module would be cloned
        context, count = left.get(os.getpid(), (None, 0))
        if count == 0:
            context, count = make(), _PROGRAMS
        left[os.getpid()] = context, count - 1
        return context

    mlir.make_ir_context = shared

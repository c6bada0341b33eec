"""Types of trees, for signatures."""

from typing import Any, TypeAlias

Params: TypeAlias = dict[str, Any]
"""Parameters: nested dicts of arrays, as `model.apply({"params": params}, ...)` takes them."""

PyTree: TypeAlias = Any
"""Any tree that JAX knows: of dicts, FrozenDicts, dataclasses or tuples."""

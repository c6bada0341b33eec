"""What the processes of a run compare of a model and its params, as texts."""

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping

import jax
import numpy as np

from ..params.checkpoint.leaf_plan import LeafPlan
from ..params.process_agreement import digest
from ..params.types import Leaf
from .model import Model

_OURS = ("config", "generation_config", "parent", "name")


def record_of_model(model: Model) -> dict[str, str]:
    """Returns the class, its fields, and those of its configuration, one by one."""
    fields = [field.name for field in dataclasses.fields(model) if field.compare]
    config = {
        f"config.{name}": json.dumps(value, sort_keys=True, default=str)
        for name, value in model.config.to_dict().items()
    }
    own = {name: text_of(getattr(model, name)) for name in fields if name not in _OURS}
    return {"class": type(model).__name__, **config, **own}


def text_of_leaves(leaves: Mapping[str, Leaf] | Mapping[str, LeafPlan]) -> str:
    """Returns how many leaves there are of each dtype, and a digest of paths, shapes and dtypes."""
    count = Counter(str(leaf.dtype) for leaf in leaves.values())
    of = ", ".join(f"{number} {dtype}" for dtype, number in sorted(count.items()))
    return f"{of} ({digest([(p, tuple(x.shape), str(x.dtype)) for p, x in leaves.items()])})"


def text_of_places(leaves: Mapping[str, Leaf] | Mapping[str, LeafPlan]) -> str:
    """Returns a digest of paths and shardings, without devices, which processes print
    differently."""
    return digest([(path, _place(leaf)) for path, leaf in leaves.items()])


def _place(leaf: object) -> str:
    sharding = getattr(leaf, "sharding", None)
    spec = getattr(sharding, "spec", None)
    return str(spec) if spec is not None else type(sharding).__name__


def text_of(value: object) -> str:
    """Returns the text of a value; of a dtype, however it is given, its name."""
    if isinstance(value, Mapping):
        return str({key: text_of(each) for key, each in value.items()})
    if isinstance(value, type) or isinstance(value, np.dtype):
        try:
            return jax.numpy.dtype(value).name
        except TypeError:
            return str(value)
    return str(value)

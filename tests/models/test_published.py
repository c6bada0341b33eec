"""Published checkpoints: every configuration is built and has as many parameters as was counted."""

import json
import math

import jax
import pytest
from _paths import GOLDENS

import flaxmodels as fm

PUBLISHED = json.loads((GOLDENS / "published.json").read_text())
"""Name -> class, config (`layer_types_period` stands for `layer_types`), `parameters` as PyTorch
Transformers 5.23 counts them, tied ones once; `computed`, how many of these are no parameters but
tables that are computed, below 0 if there are more of ours, which are buffers there; and the figure
that was published, with a note where it is another."""


def parameters():
    """Of each family the first, and the others with `--all`."""
    seen = set()
    for name, entry in PUBLISHED.items():
        family = entry["config"]["model_type"]
        yield pytest.param(name, marks=[pytest.mark.soak] if family in seen else [])
        seen.add(family)


@pytest.mark.parametrize("name", list(parameters()))
def test_a_published_model_has_as_many_parameters(name):
    entry = PUBLISHED[name]
    values = dict(entry["config"])
    if period := values.pop("layer_types_period", None):
        layers = values["num_hidden_layers"]
        values["layer_types"] = (period * layers)[:layers]
    cls = getattr(fm, entry["class"])
    model = cls(cls.config_class.from_dict(values), scan_layers=True)
    leaves = jax.tree.leaves(model.abstract_params())
    count = sum(math.prod(leaf.shape) for leaf in leaves)
    assert count + entry.get("computed", 0) == entry["parameters"]
    assert entry.get("published", entry["parameters"]) == entry["parameters"] or entry["note"]

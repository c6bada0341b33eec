"""Every class of every family is exported for any batch and length, and computes what the model
does; a few kinds by default."""

from typing import Any

import _families as families
import numpy as np
import pytest
import reference
from _drawn import applied

from flaxmodels.params.tree.paths import flatten_arrays
from flaxmodels.serving.arrays import named_dims
from flaxmodels.serving.exporting import programs
from flaxmodels.serving.generating import PREFILL, STEP
from flaxmodels.serving.request import Request
from flaxmodels.serving.signatures import DEFAULT

PAIRS = [
    (family, name)
    for family in families.names()
    for name in (*families.load(family).classes, *families.load(family).variants)
]
KINDS = {
    ("bert", "BertForMultipleChoice"),
    ("deberta-v2", "DebertaV2Model"),
    ("mistral", "MistralModel"),
}
"""Choices and token types, distances between symbols, and a window."""


@pytest.mark.parametrize(
    "family, name", reference.params(PAIRS, by_default=lambda pair: pair in KINDS)
)
def test_T21_a_class_is_exported_for_any_batch_and_length(family, name):
    model, params = reference.load(family).load(name)
    made = programs(model, params, Request.of(model, max_length=16))
    assert ({PREFILL, STEP} <= made.keys()) == (model.can_generate() and name != "two-way")
    inputs, exported, _ = made[DEFAULT]
    assert {"batch", "length"} <= {*named_dims(inputs)}
    rng, sizes = np.random.default_rng(0), {"batch": 3, "length": 5, "decoder_length": 4}
    given: dict[str, Any] = {}
    for key, spec in inputs.items():
        shape = [sizes.get(dim, 2) if isinstance(dim, str) else dim for dim in spec.dims]
        given[key] = np.ones(shape, spec.dtype)
        if key.endswith("input_ids"):
            given[key] = rng.integers(3, 40, shape).astype(spec.dtype)
            given[key][..., -1] = 2  # ends a sequence
    out: Any = exported.call(flatten_arrays(params), given)
    want = model.serving_output(applied(model, params, **given))
    assert out.keys() == want.keys()
    for key in out:
        np.testing.assert_allclose(out[key], want[key], atol=2e-5, rtol=1e-4)

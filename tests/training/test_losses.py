"""Losses against those of Transformers' heads (`scripts/_training_losses.py`)."""

import json

import jax
import numpy as np
import pytest
from _paths import GOLDENS
from safetensors import safe_open

import flaxmodels as fm
from flaxmodels import training
from flaxmodels.training.losses import ctc_loss

with safe_open(GOLDENS / "training" / "losses.safetensors", "np") as file:
    NOTES = json.loads(file.metadata()["cases"])
    ARRAYS = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (no mapping)


def under(*prefix):
    """The arrays of a case whose names go on after a prefix."""
    begin = "".join(prefix)
    return {k.removeprefix(begin): v for k, v in ARRAYS.items() if k.startswith(begin)}


def model_of(case):
    cls = getattr(fm, NOTES[case]["class"])
    return cls(cls.config_class.from_dict(NOTES[case]["config"]))


@pytest.mark.parametrize("case", [name for name in NOTES if not name.startswith("ctc")])
def test_T28_loss_of_head(case):
    model, options = model_of(case), NOTES[case]["options"]
    inputs, labels = training.match_labels(model, under(case, "/batch."))
    made = under(case, "/output.")

    def loss(logits, **more):
        return training.loss(model, made | logits, labels, **options, **more)

    wanted = under(case, "/grad.")
    value, grads = jax.value_and_grad(loss)({name: made[name] for name in wanted})
    np.testing.assert_allclose(value, ARRAYS[f"{case}/loss"], rtol=1e-6, atol=1e-7)
    for name, grad in wanted.items():
        np.testing.assert_allclose(grads[name], grad, atol=1e-6, err_msg=name)
    if (ids := ARRAYS.get(f"{case}/decoder_input_ids")) is not None:
        np.testing.assert_array_equal(inputs["decoder_input_ids"], ids)
    parts = training.loss_parts(model, made, labels)
    assert parts.keys() == wanted.keys()
    counted = {name: part.count for name, part in parts.items()}
    assert training.counts(model, labels) == counted


@pytest.mark.parametrize("case", [name for name in NOTES if name.startswith("ctc")])
def test_ctc(case):
    given, options = under(case, "/"), NOTES[case]["options"]
    options = {name: options[name] for name in ("reduction", "zero_infinity")}

    def loss(logits):
        out = ctc_loss(logits, given["labels"], given["lengths"], blank=0, **options)
        return out.sum(where=out < np.inf), out

    (_, value), grad = jax.jit(jax.value_and_grad(loss, has_aux=True))(given["logits"])
    np.testing.assert_allclose(value, given["loss"], rtol=1e-6)
    finite = np.isfinite(given["grad"])
    np.testing.assert_allclose(grad, np.where(finite, given["grad"], 0), atol=1e-5)

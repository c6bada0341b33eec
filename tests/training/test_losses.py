"""Losses against those of Transformers' heads (`scripts/_training_losses.py` and, of its TensorFlow
classes, `scripts/_training_tf.py`)."""

import json

import jax
import numpy as np
import pytest
from _paths import GOLDENS
from safetensors import safe_open

import flaxmodels as fm
from flaxmodels import training
from flaxmodels.training.losses import ctc_loss


class Goldens:
    """The cases of a file."""

    def __init__(self, name):
        with safe_open(GOLDENS / "training" / name, "np") as file:
            self.notes = json.loads(file.metadata()["cases"])
            self.arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118

    def under(self, *prefix):
        """The arrays whose names begin alike, by the rest of their names."""
        begin = "".join(prefix)
        found = self.arrays.items()
        return {k.removeprefix(begin): v for k, v in found if k.startswith(begin)}

    def model(self, case):
        cls = getattr(fm, self.notes[case]["class"])
        return cls(cls.config_class.from_dict(self.notes[case]["config"]))


TORCH, TF = Goldens("losses.safetensors"), Goldens("tf_losses.safetensors")


@pytest.mark.parametrize("case", [name for name in TORCH.notes if not name.startswith("ctc")])
def test_T28_loss_of_head(case):
    model, options = TORCH.model(case), TORCH.notes[case]["options"]
    inputs, labels = training.match_labels(model, TORCH.under(case, "/batch."))
    made, wanted = TORCH.under(case, "/output."), TORCH.under(case, "/grad.")

    def loss(logits):
        return training.loss(model, made | logits, labels, **options)

    value, grads = jax.value_and_grad(loss)({name: made[name] for name in wanted})
    np.testing.assert_allclose(value, TORCH.arrays[f"{case}/loss"], rtol=1e-6, atol=1e-7)
    for name, grad in wanted.items():
        np.testing.assert_allclose(grads[name], grad, atol=1e-6, err_msg=name)
    if (ids := TORCH.arrays.get(f"{case}/decoder_input_ids")) is not None:
        np.testing.assert_array_equal(inputs["decoder_input_ids"], ids)
    parts = training.loss_parts(model, made, labels)
    assert parts.keys() == wanted.keys()
    assert training.counts(model, labels) == {name: part.count for name, part in parts.items()}


@pytest.mark.parametrize("case", TF.notes)
def test_T27_loss_of_tf_head(case):
    model, made = TF.model(case), TF.under(case, "/output.")
    pair = TF.under(case, "/x."), TF.arrays.get(f"{case}/y", TF.under(case, "/y."))
    _, labels = training.match_labels(model, pair, convention="tf")
    given = (model, made, labels)
    value = training.loss(*given, reduction="none", convention="tf")
    np.testing.assert_allclose(value, TF.arrays[f"{case}/loss"], rtol=1e-6)
    step = training.loss(*given, convention="tf")
    np.testing.assert_allclose(step, TF.arrays[f"{case}/test_step"], rtol=1e-6)


@pytest.mark.parametrize("case", [name for name in TORCH.notes if name.startswith("ctc")])
def test_ctc(case):
    given, options = TORCH.under(case, "/"), TORCH.notes[case]["options"]
    options = {name: options[name] for name in ("reduction", "zero_infinity")}

    def loss(logits):
        out = ctc_loss(logits, given["labels"], given["lengths"], blank=0, **options)
        return out.sum(where=out < np.inf), out

    (_, value), grad = jax.jit(jax.value_and_grad(loss, has_aux=True))(given["logits"])
    np.testing.assert_allclose(value, given["loss"], rtol=1e-6)
    finite = np.isfinite(given["grad"])
    np.testing.assert_allclose(grad, np.where(finite, given["grad"], 0), atol=1e-5)

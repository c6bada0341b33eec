"""Steps of training that PyTorch made: AdamW on the same weights and batches, in float32."""

import functools
import json

import _families as families
import numpy as np
import pytest
import reference
from _paths import GOLDENS
from _turns import some_of
from _weights import weights
from safetensors import safe_open
from training_goldens import steps as golden

import flaxmodels as fm
from flaxmodels import training


@functools.cache
def written():
    with safe_open(GOLDENS / "training" / "steps.safetensors", "np") as file:
        arrays = {key: file.get_tensor(key) for key in file.keys()}
        return arrays, json.loads(file.metadata()["cases"])


def of(case):
    """(model, params, {array of the case: its values}, options of its optimizer)"""
    arrays, notes = written()
    note, cls = notes[case], getattr(fm, case)
    table = families.load(note["family"])
    model, params = cls.from_pretrained(
        None,
        config=cls.config_class.from_dict(note["config"]),
        state_dict=weights(note["tensors"], table.same),
        scan_layers=True,
    )
    arrays = {k.removeprefix(f"{case}/"): x for k, x in arrays.items() if k.startswith(f"{case}/")}
    return model, params, arrays, {"eps": note["eps"]}


# Gradients of the others are compared with the reference's by their families.
@some_of("case", [*golden.CASES], golden.CURVE)
def test_steps_are_those_of_pytorch(case):
    """One step to 1e-5 of each weight, and of one model the losses of a hundred to 1e-3."""
    model, params, arrays, options = of(case)
    steps = training.compile(
        model,
        learning_rate=golden.RATE,
        clip_norm=golden.CLIP,
        decay_mask=True,  # PyTorch's lets all decay
        optimizer_options=options,
    )
    state, losses = steps.init(params, donate=True), []
    for i in range(len(arrays["losses"])):
        batch = golden.batch_of(case, i % golden.BATCHES, model.config.vocab_size)
        state, values = steps.train_step(state, batch)
        losses.append(values["loss"])
        if i == 0:
            assert float(values["grad_norm"]) == pytest.approx(arrays["grad_norm"].item(), rel=1e-5)
            found = reference.tensors(model, state.params)
            after = {k.removeprefix("after."): x for k, x in arrays.items() if "after." in k}
            assert after.keys() == found.keys()
            for name, expected in after.items():
                got = golden.some(found[name])
                np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(losses, arrays["losses"], rtol=0, atol=1e-3)
    np.testing.assert_allclose(losses[0], arrays["losses"][0], rtol=1e-6)

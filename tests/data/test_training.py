"""Batches go into steps of training as they are."""

import jax
import numpy as np
from _datasets import llama, rows_of
from _drawn import params_of

import flaxmodels as fm
from flaxmodels import sharding as fs


def test_T17_packed_and_padded_rows_have_the_same_loss():
    model = llama(num_hidden_layers=1)
    steps = fm.training.compile(model, "sgd", loss="auto", learning_rate=0.1)
    state = steps.init(params_of(model))
    rows = rows_of(12, longest=14)
    totals = []
    for how in ({"lengths": (16,)}, {"pack": True, "max_length": 32}):
        batches = model.prepare_dataset(rows, 4, False, **how)
        said = [steps.test_step(state, batch) for batch in batches]
        counts = np.array([float(each["count"]) for each in said])
        losses = np.array([float(each["loss"]) for each in said])
        totals.append((counts.sum(), (counts * losses).sum()))
    assert totals[0][0] == totals[1][0] == sum(len(row["input_ids"]) - 1 for row in rows)
    np.testing.assert_allclose(totals[0][1], totals[1][1], rtol=1e-5)


def test_T17_a_batch_that_is_filled_up_counts_its_own_rows():
    model = llama(num_hidden_layers=1)
    mesh = fs.make_mesh(data=2, devices=jax.devices()[:2])
    steps = fm.training.compile(model, "sgd", loss="auto", learning_rate=0.1, mesh=mesh)
    state = steps.init(params_of(model))
    rows = rows_of(6, longest=14)
    said = [
        steps.test_step(state, batch)
        for batch in model.prepare_dataset(rows, 4, False, lengths=(16,), mesh=mesh)
    ]
    assert sum(float(each["count"]) for each in said) == sum(len(r["input_ids"]) - 1 for r in rows)

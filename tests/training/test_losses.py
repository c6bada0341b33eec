"""Losses against those of Transformers' heads and of its TensorFlow classes
(`scripts/goldens/models/training_goldens`)."""

import functools
import json
import re

import jax
import numpy as np
import pytest
from _paths import GOLDENS
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
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


HEADS = [name for name in TORCH.notes if not name.startswith("ctc")]


@functools.cache
def computed():
    """{case: (loss, gradients, {part: its count})} by one program."""

    def of(case, made, labels):
        model, options = TORCH.model(case), TORCH.notes[case]["options"]

        def loss(logits):
            return training.loss(model, made | logits, labels, **options)

        wanted = TORCH.under(case, "/grad.")
        parts = training.loss_parts(model, made, labels)
        value, grads = jax.value_and_grad(loss)({name: made[name] for name in wanted})
        return value, grads, {name: part.count for name, part in parts.items()}

    given = {case: (TORCH.under(case, "/output."), matched(case)[1]) for case in HEADS}
    return jax.jit(lambda given: {case: of(case, *pair) for case, pair in given.items()})(given)


def matched(case):
    return training.match_labels(TORCH.model(case), TORCH.under(case, "/batch."))


@pytest.mark.parametrize("case", HEADS)
def test_T28_loss_of_head(case):
    value, grads, counts = computed()[case]
    np.testing.assert_allclose(value, TORCH.arrays[f"{case}/loss"], rtol=1e-6, atol=1e-7)
    wanted = TORCH.under(case, "/grad.")
    assert counts.keys() == wanted.keys() == grads.keys()
    for name, grad in wanted.items():
        np.testing.assert_allclose(grads[name], grad, atol=1e-6, err_msg=name)
    inputs, labels = matched(case)
    if (ids := TORCH.arrays.get(f"{case}/decoder_input_ids")) is not None:
        np.testing.assert_array_equal(inputs["decoder_input_ids"], ids)
    assert training.counts(TORCH.model(case), labels) == counts


@functools.cache
def computed_as_tf():
    """{case: (values, their mean)} by one program."""

    def of(case, made, labels):
        given = TF.model(case), made, labels
        return [training.loss(*given, reduction=r, convention="tf") for r in ("none", "mean")]

    given = {}
    for case in TF.notes:
        pair = TF.under(case, "/x."), TF.arrays.get(f"{case}/y", TF.under(case, "/y."))
        _, labels = training.match_labels(TF.model(case), pair, convention="tf")
        given[case] = TF.under(case, "/output."), labels
    return jax.jit(lambda given: {case: of(case, *pair) for case, pair in given.items()})(given)


@pytest.mark.parametrize("case", TF.notes)
def test_T27_loss_of_tf_head(case):
    values, mean = computed_as_tf()[case]
    np.testing.assert_allclose(values, TF.arrays[f"{case}/loss"], rtol=1e-6)
    np.testing.assert_allclose(mean, TF.arrays[f"{case}/test_step"], rtol=1e-6)


@functools.cache
def ctc_program():
    """A compiled function of logits, labels and lengths: the gradient of all that is finite, and
    what each reduction makes of the losses."""

    def loss(logits, labels, lengths):
        made = functools.partial(ctc_loss, logits, labels, lengths, blank=0)
        each = made(reduction="none")
        reduced = {
            "mean": made(),
            "sum": made(reduction="sum"),
            "none": each,
            "zeroed": made(zero_infinity=True),
        }
        return each.sum(where=each < np.inf), reduced

    return jax.jit(jax.grad(loss, has_aux=True))


@pytest.mark.parametrize("case", [name for name in TORCH.notes if name.startswith("ctc")])
def test_ctc(case):
    given, options = TORCH.under(case, "/"), TORCH.notes[case]["options"]
    grad, reduced = ctc_program()(given["logits"], given["labels"], given["lengths"])
    made = reduced["zeroed" if options["zero_infinity"] else options["reduction"]]
    np.testing.assert_allclose(made, given["loss"], rtol=1e-6)
    if options["reduction"] != "mean":
        finite = np.isfinite(given["grad"])
        np.testing.assert_allclose(grad, np.where(finite, given["grad"], 0), atol=1e-5)


FRAMES, SAID = np.zeros((2, 6, 5), np.float32), np.array([[1, 2], [3, -1]])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"blank": 5}, ValueError, "blank is 5; expected a class from 0 to 4"),
        ({"blank": -1}, ValueError, "blank is -1; expected at least 0"),
        ({"labels": SAID + 4}, ValueError, "labels has 5; expected at most 4"),
        ({"labels": SAID * 1.0}, TypeError, "labels are float32; expected integers"),
        ({"labels": SAID[:1]}, ValueError, r"labels \(1, 2\); expected \[B, T, V\]"),
        ({"logit_lengths": [9, 1]}, ValueError, "logit_lengths has 9; expected at most 6"),
        ({"logit_lengths": [3]}, ValueError, r"logit_lengths has shape \(1,\); expected \(2,\)"),
        ({"logit_lengths": [0.5, 1]}, TypeError, "logit_lengths are float32"),
    ],
)
def test_what_has_no_ctc_loss_is_refused(changes, error, message):
    with pytest.raises(error, match=message):
        ctc_loss(**{"logits": FRAMES, "labels": SAID, "blank": 0} | changes)


def test_in_a_trace_a_label_that_is_no_class_has_no_ctc_loss():
    run = jax.jit(functools.partial(ctc_loss, blank=0, reduction="none", zero_infinity=True))
    assert np.isnan(run(FRAMES, SAID + 3)).tolist() == [True, True]


def test_a_spread_vocabulary_stays_where_it_is():
    mesh = jax.make_mesh((2, 4), ("data", "tensor"))
    logits, labels = (
        NamedSharding(mesh, P(*spec)) for spec in (("data", None, "tensor"), ("data",))
    )

    def loss(x, ids):
        values, _ = training.cross_entropy(x, ids, label_smoothing=0.1, z_loss=1e-4)
        return values.mean()

    step = jax.jit(
        jax.value_and_grad(loss), in_shardings=(logits, labels), out_shardings=(None, logits)
    )
    given = jax.ShapeDtypeStruct((8, 4, 512), "bfloat16"), jax.ShapeDtypeStruct((8, 4), "int32")
    program = step.lower(*given).compile().as_text()
    assert "all-gather" not in program and "all-reduce" in program
    moved = {shape for shape in re.findall(r"\w+\[[\d,]*\]", program) if "512" in shape}
    assert moved == set()

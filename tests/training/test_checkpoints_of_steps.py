"""States of `training.compile` on disk: sharded, with adapters, and models out of them."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _drawn import params_of, tiny_llama
from _paths import ROOT

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels import sharding as fs
from flaxmodels import training
from flaxmodels.training import Checkpoints

MODEL = fm.LlamaForCausalLM(tiny_llama(num_hidden_layers=1, intermediate_size=16))


def batch(seed):
    ids = np.random.default_rng(seed).integers(0, 64, (8, 12)).astype(np.int32)
    return {"input_ids": ids, "labels": ids}


def bits(tree):
    return [
        np.asarray(jax.random.key_data(x) if x.dtype == jax.random.key(0).dtype else x).tobytes()
        for x in jax.tree.leaves(tree)
    ]


@functools.cache
def sharded():
    mesh = fs.make_mesh(fsdp=2, tensor=2, devices=jax.devices()[:4])
    return training.compile(MODEL, learning_rate=1e-2, clip_norm=0.5, mesh=mesh)


def test_a_train_state_goes_on_to_the_last_bit_and_moves_to_another_mesh(tmp_path):
    steps = sharded()
    state, _ = steps.train_step(steps.init(params_of(MODEL)), batch(0))
    with Checkpoints(tmp_path / "run") as checkpoints:
        assert checkpoints.save(state, {"position": 1})
        saved = bits(state)
        state, values = steps.train_step(state, batch(1))
        found = checkpoints.restore(steps.abstract_state())
        assert found is not None
        restored, data = found
        assert bits(restored) == saved and data == {"position": 1}
        again, same = steps.train_step(restored, batch(1))
        assert bits(again) == bits(state) and float(same["loss"]) == float(values["loss"])
        smaller = fs.make_mesh(fsdp=2, devices=jax.devices()[:2])
        other = training.compile(MODEL, learning_rate=1e-2, mesh=smaller).abstract_state()
        moved = checkpoints.restore(other)
        assert moved is not None and bits(moved[0]) == saved
        places = jax.tree.map(lambda x, y: x.sharding == y.sharding, moved[0], other)
        assert all(jax.tree.leaves(places))
        model_only = checkpoints.params(other)
        assert bits(model_only) == bits(moved[0].params)
        MODEL.save_pretrained(checkpoints.params(), tmp_path / "model")
    _, loaded = fm.LlamaForCausalLM.from_pretrained(tmp_path / "model")
    assert bits(loaded) == bits(model_only)
    lion = training.compile(MODEL, "lion", learning_rate=1e-2).abstract_state()
    with pytest.raises(fm.CheckpointError, match="opt_state/.*/nu/.*: expected nothing, found"):
        checkpoints.restore(lion)


class Once:
    """Two batches."""

    def __iter__(self):
        return iter([batch(0), batch(1)])

    def state(self):
        return {"position": 2}

    def restore(self, state):
        assert state == self.state()


class Drawn:
    """Steps whose params no program draws."""

    def __getattr__(self, name):
        return getattr(sharded(), name)

    def init(self, key):
        return sharded().init(params_of(MODEL))


def test_the_snippet_of_the_page_runs_and_is_taken_up(tmp_path, monkeypatch):
    page = (ROOT / "docs/training.md").read_text()
    (section,) = re.findall(r"\n## State on the disk\n.*?(?=\n## )", page, re.DOTALL)
    (snippet,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert "every=500" in snippet
    code = compile(snippet.replace("every=500", "every=2"), "docs/training.md", "exec")
    monkeypatch.chdir(tmp_path)
    values = {"fm": fm, "jax": jax, "steps": Drawn(), "batches": Once(), "model": MODEL}
    for steps in ([2], [2, 4]):
        exec(code, values)
        assert values["checkpoints"].steps == steps
    _, loaded = fm.LlamaForCausalLM.from_pretrained(tmp_path / "trained")
    assert bits(loaded) == bits(values["state"].params)


def test_adapters_on_a_quantised_model_come_back(tmp_path):
    base = jax.jit(fp.quantize, static_argnums=1)(params_of(MODEL), "int8")
    config = fp.PeftConfig(r=2, target_modules=["q_proj"])
    params = fp.lora_init(jax.random.key(0), base, config)
    steps = training.compile(MODEL, learning_rate=1e-2, trainable="adapters", ema=0.9)
    state = steps.init(params)
    whole, alone = Checkpoints(tmp_path / "whole"), Checkpoints(tmp_path / "own", frozen=False)
    for checkpoints in (whole, alone):
        checkpoints.save(state, force=True)
        checkpoints.close()
    abstract = steps.abstract_state(params)
    found = whole.restore(abstract)
    assert found is not None and bits(found[0]) == bits(state)
    assert bits(whole.params(abstract)) == bits(params)
    averaged = whole.params(abstract, averaged=True)
    assert jax.tree.structure(averaged) == jax.tree.structure(params)
    found = alone.restore(state)
    assert found is not None and bits(found[0]) == bits(state)
    with pytest.raises(fm.CheckpointError, match="is quantised or has adapters; give the state"):
        whole.params()
    with pytest.raises(fm.CheckpointError, match="q_proj/kernel/default/a: expected nothing"):
        whole.restore(training.compile(MODEL, learning_rate=1e-2).abstract_state())


def test_a_step_that_is_not_finite_leaves_a_state_to_save(tmp_path):
    """The loss is NaN where a param is."""
    params = params_of(MODEL)
    params["model"]["norm"]["scale"] = jnp.full((16,), jnp.nan)
    state, metrics = sharded().train_step(sharded().init(params), batch(0))
    with pytest.raises(training.NonFiniteError, match="step 1 is not finite: loss nan"):
        training.check_finite(metrics, 1)
    assert (int(state.step), int(state.skipped)) == (0, 1)
    assert Checkpoints(tmp_path / "run", async_=False).save(state, force=True)

"""Adapters that each row of a batch has its own of."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _adapted import DORA, IA3, IDS, LORA, TABLE, Model, adapted, base, run, stacked

from flaxmodels import params as fp
from flaxmodels.params.adapters import stacked_adapters

NAMES = ("dora", "ia3", "lora", "table")
CHOICE = ["table", None, "dora", "ia3"]
CONFIGS = {"dora": DORA, "ia3": IA3, "lora": {**LORA, "lora_bias": True}, "table": TABLE}


@pytest.fixture(scope="module")
def alone():
    return {name: adapted(CONFIGS[name], name, seed) for seed, name in enumerate(NAMES)}


@pytest.fixture(scope="module")
def every(alone):
    params = base()
    for name in NAMES:
        params = fp.attach(params, name, fp.get_adapters(alone[name], name))
    return params


@pytest.mark.parametrize("scan", [pytest.param(False, marks=pytest.mark.soak), True])
def test_each_row_runs_with_its_own_in_one_program(alone, every, scan):
    outs = {name: run(params) for name, params in alone.items()} | {None: run(base())}
    expected = np.stack([outs[name][i] for i, name in enumerate(CHOICE)])
    bank = fp.stack_adapters(stacked(every) if scan else every)
    assert np.allclose(run(fp.choose_adapters(bank, CHOICE)), expected, atol=1e-5)
    numbers = np.array([4, 0, 1, 2])
    program = jax.jit(
        lambda bank, choice: Model(scan).apply({"params": fp.choose_adapters(bank, choice)}, IDS)
    )
    assert np.allclose(program(bank, numbers), expected, atol=1e-5)
    other = program(bank, jnp.array([0, 3, 9, 0]))
    assert np.allclose(other[:2], np.stack([outs[None][0], outs["lora"][1]]), atol=1e-5)
    assert np.isnan(other[2]).all()  # there is no adapter 9
    for name in (None, "table", "ia3", 1):
        of = {None: None, 1: "dora"}.get(name, name)
        assert np.allclose(run(fp.choose_adapters(bank, name)), outs[of], atol=1e-5)


@pytest.mark.parametrize("scan", [pytest.param(False, marks=pytest.mark.soak), True])
def test_another_takes_a_place_and_nothing_is_compiled_again(alone, scan):
    both = fp.attach(alone["dora"], "table", fp.get_adapters(alone["table"], "table"))
    bank = fp.stack_adapters(stacked(both) if scan else both)
    other = adapted({**LORA, "r": 1}, "other", 7)
    expected = np.stack([run(x)[i] for i, x in enumerate((alone["dora"], other, base(), other))])
    program: Any = jax.jit(
        lambda p, rows: Model(scan).apply({"params": fp.choose_adapters(p, rows)}, IDS)
    )
    program(bank, np.array([1, 2, 0, 2]))
    new = fp.get_adapters(stacked(other) if scan else other, "other")
    changed = fp.put_adapter(bank, 2, new, donate=True)
    assert np.allclose(program(changed, np.array([1, 2, 0, 2])), expected, atol=1e-5)
    assert program._cache_size() == 1
    again = adapted({**LORA, "r": 1, "lora_alpha": 5}, "other", 8)
    more = fp.get_adapters(stacked(again) if scan else again, "other")
    made: Any = stacked_adapters._stacked_arrays
    compiled = made._cache_size()
    changed = fp.put_adapter(changed, 2, more)
    assert made._cache_size() == compiled
    with pytest.raises(ValueError, match="no place 3 in the stack; there are 2"):
        fp.put_adapter(changed, 3, new)
    large = fp.get_adapters(
        stacked(adapted({**LORA, "r": 9}, "x")) if scan else adapted({**LORA, "r": 9}, "x"), "x"
    )
    with pytest.raises(
        ValueError, match=r"up/kernel: a has shape .*9\), and the stack has room for"
    ):
        fp.put_adapter(changed, 1, large)


def test_one_for_all_rows_gathers_by_no_row(every):
    bank = fp.stack_adapters(every)
    one = jax.make_jaxpr(Model().apply)({"params": fp.choose_adapters(bank, "lora")}, IDS)
    assert "batch_dims" not in str(one) and "(([2], [1]), ([0], [0]))" not in str(one)


def test_what_is_refused(every):
    bank = fp.stack_adapters(every, ["lora", "table"])
    with pytest.raises(
        ValueError, match="no adapter 3 for row 1; there are 0 none, 1 lora, 2 table"
    ):
        fp.choose_adapters(bank, np.array([0, 3, 0, 0]))
    with pytest.raises(ValueError, match="no adapter -1"):
        fp.choose_adapters(bank, -1)
    with pytest.raises(ValueError, match="no adapter 'dora'; there are lora, table"):
        fp.choose_adapters(bank, ["dora"])
    with pytest.raises(ValueError, match=r"by integers \[B\], got float32"):
        fp.choose_adapters(bank, np.float32([0, 1]))
    with pytest.raises(ValueError, match="chosen for 2 rows, and a weight is used on shape"):
        run(fp.choose_adapters(bank, [1, 2]))
    with pytest.raises(ValueError, match="the params have no adapters"):
        fp.choose_adapters(base(), 0)
    with pytest.raises(ValueError, match="no one array is a weight whose adapter is chosen by row"):
        fp.merge_adapters(bank)
    for odd in (0.5, True, [0.7], [True, 1]):
        with pytest.raises(TypeError, match="chosen by a whole number, got"):
            fp.choose_adapters(bank, odd)
    for odd in ({"lora"}, {"lora": 1}):
        with pytest.raises(TypeError, match="chosen by one for each row, in order"):
            fp.choose_adapters(bank, odd)  # pyright: ignore[reportArgumentType]
    for odd in ("lora", True, 1.5):
        with pytest.raises(TypeError, match="chosen by a whole number, got"):
            fp.put_adapter(bank, odd, {})
    with pytest.raises(ValueError, match="have no stack; fp.stack_adapters makes one"):
        fp.put_adapter(every, 1, {})
    loha = {"peft_type": "LOHA", "r": 2, "target_modules": ["up"]}
    other = fp.get_adapters(fp.lora_init(jax.random.key(0), base(), loha), "default")
    with pytest.raises(ValueError, match="up/kernel: LoHa cannot be chosen by row"):
        fp.put_adapter(bank, 1, other)
    config = {**LORA, "modules_to_save": ["down"]}
    saved = fp.lora_init(jax.random.key(0), base(), config)
    with pytest.raises(
        ValueError, match="layers/0/down/bias: a replacement of the adapter 'default'"
    ):
        fp.stack_adapters(saved)

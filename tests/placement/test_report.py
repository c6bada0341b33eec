"""Plans of device maps: who holds what, and the time of a token by stated rates."""

import jax
import pytest

import flaxmodels as fm
from flaxmodels import sharding as fs

GB = 10**9


@pytest.fixture(scope="module")
def large():
    """Llama 3 405B's shape."""
    return fm.LlamaForCausalLM(
        fm.LlamaConfig(
            vocab_size=128256,
            hidden_size=16384,
            intermediate_size=53248,
            num_hidden_layers=126,
            num_attention_heads=128,
            num_key_value_heads=8,
        )
    )


def test_P13_19_a_plan_of_405b_tells_who_holds_what(large):
    layer = 2 * (2 * 16384 * 16384 + 2 * 16384 * 1024 + 3 * 16384 * 53248 + 2 * 16384)  # bytes
    plan = fs.plan(
        large, device_map="auto", max_memory={0: 80 * GB, "cpu": 500 * GB}, param_dtype="bfloat16"
    )
    device = jax.devices()[0]
    table = 2 * 128256 * 16384
    in_place = (80 * GB - 2 * layer - table) // layer
    assert plan.held[device] == table + in_place * layer
    assert plan.peaks == {device: table + (in_place + 2) * layer}
    assert plan.held["cpu"] == 500 * GB // layer * layer
    assert sum(plan.held.values()) == 126 * layer + 2 * table + 2 * 16384
    told = repr(plan)
    for part in (
        "placement of 811.71 GB",
        f"host memory  model/layers/{in_place} .. ",
        f"brought for each token: {(plan.held['cpu'] + plan.held['disk']) / GB:.2f} GB",
        "s a token at batch 1, with memory of 3300 GB/s, a bus of 12, a disk of 6",
    ):
        assert part in told


def test_P13_19_the_time_of_a_token_is_that_of_the_slowest(large):
    told = {"param_dtype": "bfloat16"}
    rates = fs.Rates(memory=3e12, bus=5e10, disk=1e9)
    everywhere = large.placement_plan({"": 0}, {0: "1TB"}, rates=rates, **told)
    total = sum(everywhere.sizes.values())
    assert everywhere.seconds_per_token == total / 3e12 and "all" in repr(everywhere)
    limits = {0: "1TB", "cpu": "1TB"}
    from_disk = large.placement_plan({"": 0, "model.layers": "disk"}, limits, rates=rates, **told)
    assert from_disk.seconds_per_token == from_disk.held["disk"] / 1e9
    from_host = large.placement_plan({"": 0, "model.layers": "cpu"}, limits, rates=rates, **told)
    assert from_host.seconds_per_token == from_host.held["cpu"] / 5e10


def test_P13_19_a_plan_that_does_not_fit_or_is_none(large):
    with pytest.raises(ValueError, match="does not fit: .* model/layers/0 of 6.38 GB, its largest"):
        large.placement_plan("auto", {0: 10 * GB}, param_dtype="bfloat16")
    with pytest.raises(TypeError, match="placement_plan needs a device_map"):
        fs.plan(large, max_memory={0: 10 * GB})
    with pytest.raises(TypeError, match="give mesh and rules, or device_map"):
        fs.plan(large, fs.make_mesh(tensor=8), device_map="auto")
    with pytest.raises(TypeError, match="plan needs a mesh or a device_map"):
        fs.plan(large)

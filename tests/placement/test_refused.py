"""Device maps and limits that cannot be: each is said in our own words."""

import re

import pytest
from _drawn import tiny_llama

import flaxmodels as fm
from flaxmodels.placement.options import DeviceMapOptions

MODEL = fm.LlamaForCausalLM(tiny_llama())


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"device_map": "cpu:" + 5000 * "9"}, ValueError, "expected one of auto"),
        ({"offload_folder": "here"}, TypeError, 'give device_map="auto" too'),
        ({"device_map": "auto", "offload_folder": 3}, TypeError, "offload_folder is 3; expected a"),
        ({"device_map": "auto", "offload_folder": ""}, TypeError, "offload_folder is ''; expected"),
        (
            {"device_map": "auto", "max_memory": {0: "1GB", "cpu:0": "2GB"}},
            ValueError,
            "max_memory['cpu:0']: cpu:0 is named twice",
        ),
    ],
)
def test_options(options, error, said):
    with pytest.raises(error, match=re.escape(said)):
        DeviceMapOptions(**options)


def test_one_module_in_two_spellings():
    where = {"": 0, "model.layers.0": "cpu", "model/layers/0": "cpu"}
    assert MODEL.placement_plan(where).held["cpu"]
    with pytest.raises(ValueError, match="two places for 'model/layers/0'"):
        MODEL.placement_plan(where | {"model/layers/0": 0})

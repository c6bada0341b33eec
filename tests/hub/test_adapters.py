"""Adapters of PEFT on the Hub: found with their base, and pushed."""

import json

import jax
import numpy as np
import pytest
from _paths import LLAMA
from _pushes import REPO
from safetensors.numpy import save

import flaxmodels as fm
from flaxmodels import params as fp

Q = "base_model.model.model.layers.{}.self_attn.q_proj.lora_{}.weight"


@pytest.fixture(scope="module")
def adapter(pair):
    """{name of a file: bytes} of an adapter for the pair."""
    rng, width = np.random.default_rng(0), pair[0].config.hidden_size
    state = {Q.format(i, "A"): rng.normal(size=(2, width)).astype("f") for i in range(2)}
    state |= {Q.format(i, "B"): rng.normal(size=(width, 2)).astype("f") for i in range(2)}
    values = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
    values |= {"base_model_name_or_path": "org/base", "revision": "v1"}
    return {
        "adapter_model.safetensors": save(state, {"format": "pt"}),
        "adapter_config.json": json.dumps(values).encode(),
    }


def equal(a, b):
    return jax.tree.all(jax.tree.map(lambda x, y: bool((x == y).all()), a, b))


def test_P12_an_adapter_of_a_repository_brings_its_base(hub, pair, adapter):
    base = {path.name: path.read_bytes() for path in LLAMA.iterdir() if path.is_file()}
    first = hub.commit("org/base", base)
    hub.repo("org/base").refs["refs/tags/v1"] = first
    hub.commit("org/base", {"config.json": b"broken"})
    hub.commit("org/adapter", adapter)
    hub.commit("org/deep", {f"lora/{name}": data for name, data in adapter.items()})
    model, params = fm.AutoModelForCausalLM.from_pretrained("org/adapter", progress=False)
    expected = pair[0].load_adapter(pair[1], "org/deep", subfolder="lora")
    assert equal(params, expected) and model.origin == "org/base"


def test_P7_P28_10_adapters_are_pushed(logged_in, pair, adapter, tmp_path):
    for name, data in adapter.items():
        (tmp_path / name).write_bytes(data)
    params = pair[0].load_adapter(pair[1], tmp_path)
    with pytest.raises(TypeError, match="checksums is for the weights of a base"):
        pair[0].push_to_hub(params, REPO, progress=False, checksums=True)
    info = pair[0].push_to_hub(params, REPO, progress=False)
    assert info.oid == logged_in.head(REPO)
    files = logged_in.files(REPO)
    assert {*files} == {".gitattributes", "README.md", *adapter}
    assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == "org/base"
    assert equal(pair[0].load_adapter(pair[1], REPO), params)
    assert fp.active_adapters(params) == ("default",)
    with pytest.warns(UserWarning, match=f"{REPO}: adapter_config.json stays beside the weights"):
        pair[0].push_to_hub(fp.merge_adapters(params), REPO, progress=False)

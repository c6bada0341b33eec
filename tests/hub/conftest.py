"""A plugin of the tests of pushing: somebody who is logged in, and a small model to push."""

import pytest
from _paths import LLAMA
from loopback.client import _Clock

import flaxmodels as fm
from flaxmodels.hub import client


@pytest.fixture
def logged_in(hub, monkeypatch):
    """A loopback Hub that this process may write to; waits between tries take no time."""
    monkeypatch.setenv("HF_TOKEN", "hf_write")
    monkeypatch.setattr(client, "time", _Clock(hub.waits))
    return hub


@pytest.fixture(scope="module")
def pair():
    """(model, params) of a Llama of two layers."""
    return fm.LlamaForCausalLM.from_pretrained(LLAMA, progress=False)

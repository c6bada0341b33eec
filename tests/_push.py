"""What the tests of pushing share: somebody who is logged in, and a small model to push."""

from pathlib import Path

import numpy as np
import pytest
from _hub_client import _Clock

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels.hub import client

GOLDENS = Path(__file__).parent / "goldens"
LLAMA = GOLDENS / "llama-causal-lm" / "checkpoint"
REPO = "org/name"


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


def pull(name=REPO, cls=fm.LlamaForCausalLM, **how):
    return cls.from_pretrained(name, progress=False, **how)


def assert_same(one, two):
    one, two = fp.flatten(one), fp.flatten(two)
    assert one.keys() == two.keys()
    for path, leaf in one.items():
        assert leaf.dtype == two[path].dtype, path
        np.testing.assert_array_equal(np.asarray(leaf), np.asarray(two[path]), err_msg=path)


def puts(hub):
    """The uploads of large files that were."""
    return [request for request in hub.requests.of("PUT", port="cdn") if request.status == 200]


def commits(hub):
    return hub.requests.of("POST", "/api/models/*/commit/*")

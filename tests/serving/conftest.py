"""One export of a tiny Llama, which most tests here share."""

import pytest
from _drawn import params_of, tiny_llama

import flaxmodels as fm


@pytest.fixture(scope="session")
def llama():
    """A model of one layer, which ends at no token, and its params."""
    model = fm.LlamaForCausalLM(tiny_llama(eos_token_id=None, num_hidden_layers=1))
    return model, params_of(model)


@pytest.fixture(scope="session")
def exported(llama, tmp_path_factory):
    """A folder of versions, with one for up to 32 tokens."""
    folder = tmp_path_factory.mktemp("served")
    fm.serving.export(*llama, folder, max_length=32)
    return folder


@pytest.fixture(scope="session")
def served(exported):
    """That version, loaded."""
    return fm.serving.load(exported)

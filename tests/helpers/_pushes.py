"""What the tests of pushing share."""

import numpy as np

import flaxmodels as fm
from flaxmodels import params as fp

REPO = "org/name"


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

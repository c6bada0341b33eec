"""From a name to a tree: repositories of a loopback Hub, whole, in part, and from the cache."""

import flaxmodels as fm
from flaxmodels import params as fp

BUNDLED = fm.bundled_checkpoint()


def files_of(folder):
    from pathlib import Path

    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}


def test_P13_1a_repository(hub):
    commit = hub.commit("org/name", files_of(BUNDLED))
    model, params, info = fm.AutoModelForCausalLM.from_pretrained(
        "org/name", output_loading_info=True, progress=False
    )
    expected = fm.AutoModelForCausalLM.from_pretrained(BUNDLED, progress=False)[1]
    assert info.revision == commit
    assert fp.diff(params, expected).equal
    for r in hub.requests:
        print(r.port, r.method, r.path, r.headers["Range"], r.status)

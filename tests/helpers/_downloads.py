"""What tests of downloads share: a small sharded repository, loads of it, what none leaves."""

import functools
import hashlib
import re
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from _paths import SHARDED
from loopback import LoopbackHub

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels.hub import HubError

NAME = "org/name"
FIRST, SECOND, _, LAST = SHARDS = [f"model-0000{i}-of-00004.safetensors" for i in (1, 2, 3, 4)]
CONFIG, INDEX = "config.json", "model.safetensors.index.json"


def files_of(folder: str | Path, prefix: str = "") -> dict[str, bytes]:
    """What is in a folder and below, as `LoopbackHub.commit` takes it."""
    paths = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return {prefix + path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@functools.cache
def three_shards() -> dict[str, bytes]:
    """The same tensors in three files, the last two in one, and no more than a load asks for."""
    files = files_of(SHARDED)
    del files["generation_config.json"]
    third = SHARDS[2]
    tensors = safetensors.numpy.load(files.pop(third)) | safetensors.numpy.load(files[LAST])
    files[LAST] = safetensors.numpy.save(tensors)
    files[INDEX] = files[INDEX].replace(third.encode(), LAST.encode())
    return files


def load(name: Any = NAME, *fields: Any, **options: Any) -> Any:
    return fm.LlamaForCausalLM.from_pretrained(name, *fields, progress=False, **options)


def leaves(params: Any) -> dict[str, np.ndarray]:
    return {path: np.asarray(leaf) for path, leaf in fp.flatten(params).items()}


def assert_same(params: Any, folder: Path = SHARDED, cls: Any = None) -> None:
    """Bit for bit what is in a folder."""
    cls = cls or fm.LlamaForCausalLM
    found, expected = leaves(params), leaves(cls.from_pretrained(folder, progress=False)[1])
    assert found.keys() == expected.keys()
    for path, leaf in expected.items():
        assert found[path].dtype == leaf.dtype and found[path].tobytes() == leaf.tobytes(), path


@functools.cache
def expected() -> dict[str, np.ndarray]:
    """The leaves of the sharded repository."""
    return leaves(load(SHARDED)[1])


def is_whole(params: Any) -> bool:
    """Whether these are the sharded repository's, bit for bit."""
    found = leaves(params)
    return found.keys() == expected().keys() and all(
        found[path].tobytes() == leaf.tobytes() for path, leaf in expected().items()
    )


def refused(*names: str, match: str = "", **options: Any) -> HubError:
    """A load of the repository is an error of the Hub's that names `names`, and keeps secrets."""
    with pytest.raises(HubError) as caught:
        load(**options)
    said = str(caught.value)
    assert all(name in said for name in names), said
    assert re.search(match, said), said
    assert not re.search("hf_[a-z]{4}|Signature=[^*]|\x1b|\u202e", said) and len(said) < 1500, said
    return caught.value


def asked(hub: LoopbackHub) -> set[str]:
    """The files of repositories that were asked for."""
    paths = [r.name for r in hub.requests.of(port="hub") if "/resolve/" in r.path]
    return {path.split("/resolve/")[1].partition("/")[2] for path in paths}


def below(folder: Path) -> set[str]:
    """All paths in a folder, links not followed."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


_KEPT = re.compile(
    r"hub(/\.locks(/models--org--name(/[0-9a-f]{40,64}\.lock)?)?|/CACHEDIR\.TAG"
    r"|/models--org--name(/blobs(/[0-9a-f]{40,64})?|/refs(/[\w/.]+)?|/\.no_exist.*"
    r"|/snapshots(/[0-9a-f]{40}(/[\w./-]+)?)?)?)?"
)


def git_hash(data: bytes):
    """The hash by which git knows a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data)


def assert_clean(home: Path, seconds: float = 1) -> None:
    """The cache in `home` has nothing but whole files under their hashes, and no thread is left."""
    strange = [path for path in below(home) if not _KEPT.fullmatch(path)] if home.exists() else []
    assert strange == []
    for blob in home.glob("hub/models--*/blobs/*"):
        data = blob.read_bytes()
        known = hashlib.sha256(data) if len(blob.name) == 64 else git_hash(data)
        assert known.hexdigest() == blob.name
    assert threads(seconds) == []


def threads(seconds: float = 1) -> list[str]:
    """Names of threads that go on loading or fetching after `seconds`."""
    end = time.monotonic() + seconds
    while ours := [t.name for t in threading.enumerate() if t.name.startswith("flaxmodels")]:
        if time.monotonic() > end:
            break
        time.sleep(0.005)
    return ours


def no_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that would have been slept between our own tries; none is."""
    waited: list[float] = []
    monkeypatch.setattr("flaxmodels.hub.client.pause", lambda seconds, *_: waited.append(seconds))
    return waited

"""The cache: what is there is not asked for again, what is broken is fetched anew, and whatever
ends a download leaves it whole. Offline, nothing is asked at all."""

import errno
import os
import sys
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub as client
import pytest
from _downloads import (
    CONFIG,
    FIRST,
    INDEX,
    LAST,
    NAME,
    SECOND,
    SHARDS,
    assert_clean,
    files_of,
    is_whole,
    load,
    no_pauses,
    refused,
    threads,
)
from _paths import SHARDED
from _turns import in_turn
from loopback import Fault

import flaxmodels as fm


@pytest.fixture(autouse=True)
def commit(hub, monkeypatch):
    no_pauses(monkeypatch)
    return hub.commit(NAME, files_of(SHARDED))


@pytest.fixture
def cached(hub, tmp_path):
    """The files of the repository in the cache -> their folder."""
    folder = Path(fm.download(NAME, progress=False))
    hub.requests.clear()
    return folder


def gone(cached, *names):
    """Files, and what they point to, are no longer in the cache."""
    for name in names:
        os.unlink(os.path.realpath(cached / name))
        os.unlink(cached / name)


@contextmanager
def offline(how, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", how == "HF_HUB_OFFLINE")
    yield {"local_files_only": True} if how == "local_files_only" else {}


HOW = pytest.mark.parametrize("how", ["local_files_only", "HF_HUB_OFFLINE"])
REVISIONS = ["main", "v1", "refs/pr/1", "side/way"]


# Offline


@HOW
def test_P13_13_P13_36_nothing_is_asked(how, hub, cached, commit, monkeypatch):
    with offline(how, monkeypatch) as options:
        _, params, info = load(output_loading_info=True, **options)
        assert is_whole(params) and info.revision == commit
        assert is_whole(fm.AutoModelForCausalLM.from_pretrained(NAME, progress=False, **options)[1])
        assert is_whole(load(revision=commit, **options)[1])
        assert Path(fm.download(NAME, **options)) == cached
    assert not hub.requests


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_revision_is_remembered(revision, hub, commit):
    hub.repo(NAME).refs |= {"refs/tags/v1": commit, "refs/pr/1": commit}
    hub.repo(NAME).refs["refs/heads/side/way"] = commit
    load(revision=revision)
    hub.requests.clear()
    _, params, info = load(revision=revision, local_files_only=True, output_loading_info=True)
    assert is_whole(params) and info.revision == commit and not hub.requests


@HOW
@pytest.mark.parametrize("lost", [[SECOND], [FIRST, LAST], SHARDS], ids=len)
def test_P13_36_a_cache_in_part_lists_what_is_missing(how, lost, hub, cached, monkeypatch):
    """Before anything is read or put on devices."""
    gone(cached, *lost)
    monkeypatch.delattr("flaxmodels.checkpoints.offload.stream")
    with offline(how, monkeypatch) as options, pytest.raises(fm.CheckpointError) as caught:
        load(**options)
    said = str(caught.value)
    assert all(name in said for name in lost) and "load it once with a network" in said
    assert not hub.requests


@HOW
@pytest.mark.parametrize("lost", [[CONFIG], [INDEX], [CONFIG, INDEX, *SHARDS]], ids=len)
def test_P13_36_a_cache_without_its_heads(how, lost, hub, cached, monkeypatch):
    gone(cached, *lost)
    with offline(how, monkeypatch) as options:
        with pytest.raises((fm.CheckpointError, fm.ConfigError), match="once with a network"):
            load(**options)
    assert not hub.requests


@HOW
def test_P13_36_nothing_is_in_the_cache(how, hub, monkeypatch):
    with offline(how, monkeypatch) as options:
        refused(NAME, "main", match="not in the cache .*once with a network", **options)
        refused(NAME, "v9", revision="v9", match="not in the cache", **options)
    assert not hub.requests


# The Hub is down


@pytest.mark.parametrize("how", ["stopped", "busy", "stalled"])
def test_the_cache_serves_while_the_hub_is_down(how, hub, cached, commit, monkeypatch):
    monkeypatch.setattr(client.constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.05)
    if how == "stopped":
        hub.stop()
    elif how == "busy":
        hub.fault(Fault("status", code=503, times=None))
    else:
        hub.fault(Fault("stall", seconds=1, times=None))
    with pytest.warns(UserWarning, match=f"{NAME}.*what the cache has of main is taken"):
        _, params, info = load(output_loading_info=True)
    assert is_whole(params) and info.revision == commit


@pytest.mark.parametrize("lost", [[SECOND], [FIRST, LAST]], ids=len)
def test_a_cache_in_part_while_the_hub_is_down(lost, hub, cached):
    gone(cached, *lost)
    hub.stop()
    with pytest.warns(UserWarning, match="cannot be reached"):
        with pytest.raises(fm.CheckpointError, match="once with a network") as caught:
            load()
    assert all(name in str(caught.value) for name in lost)


def test_no_cache_while_the_hub_is_down(hub):
    hub.stop()
    refused(NAME, match=r"cannot be reached at .*tried 2 times")
    assert not threads()


@pytest.mark.parametrize("code", [401, 403, 404])
def test_what_the_hub_refuses_is_not_taken_from_the_cache(code, hub, cached):
    hub.fault(Fault("status", code=code, times=None, error="RepoNotFound"))
    refused(NAME, match="no such repository")


def test_P13_9_a_forced_download_is_not_taken_from_the_cache(hub, cached):
    hub.stop()
    refused(NAME, force_download=True, match="cannot be reached")


# What is there is not asked for again


def test_P13_9_one_request_where_all_is_there(hub, cached):
    assert is_whole(load()[1])
    assert [(r.method, r.path) for r in hub.requests] == [
        ("GET", "/api/models/org/name/revision/main")
    ]


@pytest.mark.parametrize("by", ["snapshot_download", "hf_hub_download"])
def test_a_cache_of_the_client_is_ours(by, hub, commit):
    if by == "snapshot_download":
        client.snapshot_download(NAME)
    else:
        for name in files_of(SHARDED):
            client.hf_hub_download(NAME, name)
    hub.requests.clear()
    assert is_whole(load()[1])
    assert is_whole(load(local_files_only=True)[1])
    assert len(hub.requests) == 1


def test_our_cache_is_the_client_s(hub, cached):
    for name in files_of(SHARDED):
        assert client.try_to_load_from_cache(NAME, name) == str(cached / name)
    assert client.snapshot_download(NAME, local_files_only=True) == str(cached)
    assert {link.readlink().parent.name for link in cached.iterdir()} == {"blobs"}


@in_turn("how", ["cut", "empty", "longer", "no blob", "no link"], "name", [INDEX, LAST, CONFIG])
def test_what_is_broken_is_fetched_again(how, name, hub, cached, tmp_path):
    blob = Path(os.path.realpath(cached / name))
    if how == "no blob":
        blob.unlink()
    elif how == "no link":
        (cached / name).unlink()
        os.truncate(blob, 100)
    else:
        os.truncate(blob, {"cut": 100, "empty": 0, "longer": 1 << 20}[how])
    assert is_whole(load()[1])
    assert blob.read_bytes() == files_of(SHARDED)[name]
    assert {r.path.rpartition("/")[2] for r in hub.requests.of("HEAD")} == {name}
    assert_clean(tmp_path / "hf")


def test_P13_9_a_forced_download_mends_what_has_the_right_size(hub, cached):
    blob = Path(os.path.realpath(cached / SECOND))
    good = blob.read_bytes()
    blob.write_bytes(good[:-1] + b"\xff")
    assert not is_whole(load()[1])  # hashes are compared as files come
    hub.requests.clear()
    assert is_whole(load(force_download=True)[1])
    assert blob.read_bytes() == good
    heads = [r.path.rpartition("/")[2] for r in hub.requests.of("HEAD")]
    assert sorted(heads) == sorted(files_of(SHARDED))  # each once


def test_verify_has_every_file_of_the_repository(hub, tmp_path):
    model, params = load(SHARDED)
    model.save_pretrained(params, tmp_path / "s", max_shard_size="20KB", checksums=True)
    hub.commit("org/sums", files_of(tmp_path / "s"))
    assert is_whole(load("org/sums", verify=True)[1])


# A cache that cannot be written

_frozen: list[str] = []
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {
    "os.mkdir",
    "os.symlink",
    "os.rename",
    "os.remove",
    "os.link",
    "os.truncate",
    "os.chmod",
}


def _no_writes(event, args):
    if not _frozen:
        return
    writes = event == "open" and isinstance(args[2], int) and args[2] & _WRITES
    if (writes or event in _CHANGES) and any(str(a).startswith(_frozen[0]) for a in args):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(args[0]))


sys.addaudithook(_no_writes)


@contextmanager
def read_only(folder):
    """As if it were on a disk that is mounted so; mounting takes rights that a test may lack."""
    _frozen.append(str(folder))
    try:
        with pytest.raises(OSError, match="Read-only"):
            open(folder / "x", "w")
        yield
    finally:
        _frozen.clear()


def test_a_cache_that_cannot_be_written_serves_what_it_has(hub, cached, tmp_path):
    with read_only(tmp_path / "hf"):
        assert is_whole(load()[1])
        hub.commit(NAME, {"README.md": b"x"}, revision="other")
        hub.repo(NAME).refs["refs/tags/new"] = cached.name
        assert is_whole(load(revision="new")[1])
        assert is_whole(load(local_files_only=True)[1])


@pytest.mark.parametrize("lost", [[CONFIG], [INDEX], [SECOND], [CONFIG, INDEX, *SHARDS]], ids=len)
def test_a_cache_that_cannot_be_written_and_is_not_whole(lost, hub, cached, tmp_path):
    gone(cached, *lost)
    with read_only(tmp_path / "hf"):
        said = refused(NAME, lost[0], match="Read-only file system .*set cache_dir or HF_HOME to a")
        assert said.may_pass is False
        assert is_whole(load(cache_dir=tmp_path / "other")[1])


def test_a_disk_that_is_full(hub, monkeypatch, tmp_path):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "blobs/x")

    with monkeypatch.context() as patched:
        patched.setattr("huggingface_hub.file_download._chmod_and_move", full)
        refused(NAME, match="No space left on device .*set cache_dir or HF_HOME")
    assert_clean(tmp_path / "hf")
    assert is_whole(load()[1])


# Where it is


@pytest.mark.parametrize(
    "name", ["with spaces", "ünï-côdé-模型", "snapshots/models--x", "a/b/c", "100%"]
)
def test_P13_5_a_cache_of_any_name(name, hub, commit, tmp_path):
    for cache in (tmp_path / name, str(tmp_path / name)):
        _, params, info = load(cache_dir=cache, output_loading_info=True)
        assert is_whole(params) and info.revision == commit
        assert is_whole(load(cache_dir=cache, local_files_only=True)[1])
    assert os.listdir(tmp_path / name / "models--org--name/snapshots") == [commit]
    assert not (tmp_path / "hf").exists()
    copied = tmp_path / name / "models--org--name/snapshots" / commit
    assert load(copied, output_loading_info=True)[2].revision == commit


def test_P13_5_a_cache_beside_us_or_at_home(hub, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert is_whole(load(cache_dir="here")[1])
    assert is_whole(load(cache_dir="~/there")[1])
    assert sorted(os.listdir(tmp_path)) == ["here", "me"]
    hub.requests.clear()
    assert is_whole(load(cache_dir="~/there")[1]) and len(hub.requests) == 1


def test_a_working_directory_that_is_gone(hub, monkeypatch, tmp_path):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert is_whole(load()[1])
    assert is_whole(load(local_files_only=True)[1])

"""The loopback Hub is to huggingface_hub what the Hub is: downloads, listings, uploads, rights."""

import hashlib
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import huggingface_hub as client
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, errors

from loopback import LoopbackHub
from loopback.client import hub_environment

WEIGHTS = b"".join(i.to_bytes(2, "little") for i in range(2560))
FILES = {"config.json": b'{"a": 1}', "sub/model.safetensors": WEIGHTS, "empty.bin": b""}


@pytest.fixture
def filled(hub):
    hub.commit("org/name", FILES)
    return hub


@pytest.fixture
def writer(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_write")
    return HfApi()


def contents(folder) -> dict[str, bytes]:
    root = Path(folder)
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def seen(hub) -> list[tuple]:
    return [(request.port, request.method, request.status) for request in hub.requests]


# Downloads


def test_a_small_file(filled, tmp_path):
    path = client.hf_hub_download("org/name", "config.json")
    assert Path(path).read_bytes() == FILES["config.json"]
    assert Path(path).is_relative_to(tmp_path) and filled.head("org/name") in path
    assert seen(filled) == [("hub", "HEAD", 200), ("hub", "GET", 200)]
    assert filled.requests[1].sent == len(FILES["config.json"])


def test_a_large_file_comes_from_the_other_origin_without_the_token(filled):
    path = client.hf_hub_download("org/name", "sub/model.safetensors", token="hf_read")
    assert Path(path).read_bytes() == WEIGHTS
    assert seen(filled) == [("hub", "HEAD", 302), ("cdn", "GET", 200)]
    head, get = filled.requests
    assert head.token == "hf_read" and head.headers["AUTHORIZATION"] == "Bearer hf_read"
    assert get.token is None and get.sent == len(WEIGHTS)


def test_a_small_file_elsewhere_on_the_hub(filled):
    filled.redirects = True
    path = client.hf_hub_download("org/name", "config.json", token="hf_read")
    assert Path(path).read_bytes() == FILES["config.json"]
    assert seen(filled) == [("hub", "HEAD", 307), ("hub", "HEAD", 200), ("hub", "GET", 200)]
    [first, *others] = filled.requests
    assert first.path == "/org/name/resolve/main/config.json"
    cached = f"/api/resolve-cache/models/org/name/{filled.head('org/name')}/config.json"
    assert {request.path for request in others} == {cached}
    assert all(request.token == "hf_read" for request in filled.requests)
    assert contents(client.snapshot_download("org/name")) == FILES


def test_the_store_refuses_a_token(filled):
    client.hf_hub_download("org/name", "sub/model.safetensors")
    url = filled.cdn + filled.requests[-1].path
    session = client.get_session()
    assert session.get(url).content == WEIGHTS
    assert session.get(url, headers={"Authorization": "Bearer hf_read"}).status_code == 400


def test_what_is_cached_is_asked_for_by_head_only_or_not_at_all(filled):
    path = client.hf_hub_download("org/name", "config.json")
    filled.requests.clear()
    assert client.hf_hub_download("org/name", "config.json") == path
    assert seen(filled) == [("hub", "HEAD", 200)]
    client.hf_hub_download("org/name", "config.json", revision=filled.head("org/name"))
    assert len(filled.requests) == 1


def test_what_is_cached_is_there_when_the_hub_is_not(filled):
    path = client.hf_hub_download("org/name", "config.json")
    filled.stop()
    assert client.hf_hub_download("org/name", "config.json") == path
    with pytest.raises(errors.LocalEntryNotFoundError):
        client.hf_hub_download("org/name", "empty.bin")


def test_a_snapshot_by_pages(filled):
    filled.page = 2
    commit = filled.head("org/name")
    assert contents(client.snapshot_download("org/name")) == FILES
    pages = filled.requests.of("GET", "*/tree/*")
    assert [request.query.get("cursor") for request in pages] == [None, "2"]
    assert pages[0].path == f"/api/models/org/name/tree/{commit}"
    filled.stop()
    assert contents(client.snapshot_download("org/name")) == FILES


def test_a_snapshot_is_of_one_commit(filled):
    old = filled.head("org/name")
    new = filled.commit("org/name", {"config.json": b"{}"}, delete=["empty.bin"])
    assert contents(client.snapshot_download("org/name", revision=old)) == FILES
    expected = {"config.json": b"{}", "sub/model.safetensors": WEIGHTS}
    assert contents(client.snapshot_download("org/name")) == expected == filled.files("org/name")
    assert [commit.oid for commit in filled.history("org/name")] == [new, old]
    assert client.snapshot_download("org/name", revision=new[:8]).endswith(new)


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=3-", 3, 5119),
        ("bytes=3-9", 3, 9),
        ("bytes=0-0", 0, 0),
        ("bytes=-5", 5115, 5119),
        ("bytes=5000-99999", 5000, 5119),
    ],
)
def test_ranges(filled, asked, first, last):
    url = client.hf_hub_url("org/name", "sub/model.safetensors")
    answer = client.get_session().get(url, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, WEIGHTS[first : last + 1])
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/5120"


def test_no_range(filled):
    url = client.hf_hub_url("org/name", "sub/model.safetensors")
    answer = client.get_session().get(url, headers={"Range": "bytes=5120-"})
    assert answer.status_code == 416 and answer.headers["Content-Range"] == "bytes */5120"
    answer = client.get_session().get(url, headers={"Range": "lines=1-2"})
    assert answer.status_code == 200 and answer.content == WEIGHTS


def test_the_rate_is_of_all_connections(hub):
    hub.commit("org/name", {f"{i}.bin": bytes([i]) * 2000 for i in range(4)})
    hub.rate = 20_000
    start = time.monotonic()
    client.snapshot_download("org/name", max_workers=4)
    assert 0.4 <= time.monotonic() - start < 3


# What is there


def test_information(filled):
    info = client.model_info("org/name", files_metadata=True)
    assert info.id == "org/name" and info.sha == filled.head("org/name") and not info.private
    sizes = {file.rfilename: file.size for file in info.siblings}
    assert sizes == {path: len(data) for path, data in FILES.items()}
    [large] = [file for file in info.siblings if file.lfs]
    assert large.rfilename == "sub/model.safetensors" and large.lfs.size == len(WEIGHTS)
    assert client.repo_exists("org/name") and not client.repo_exists("org/other")
    assert client.file_exists("org/name", "config.json")
    assert not client.file_exists("org/name", "config.yaml")
    assert client.revision_exists("org/name", "main")
    assert not client.revision_exists("org/name", "other")


def test_listings(filled):
    listed = client.list_repo_tree("org/name", recursive=True)
    entries: dict[str, Any] = {entry.path: entry for entry in listed}
    assert sorted(entries) == ["config.json", "empty.bin", "sub", "sub/model.safetensors"]
    assert isinstance(entries["sub"], client.hf_api.RepoFolder)
    empty = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"  # git's name for nothing
    assert entries["empty.bin"].blob_id == empty and entries["empty.bin"].lfs is None
    assert {e.path for e in client.list_repo_tree("org/name")} == {
        "config.json",
        "empty.bin",
        "sub",
    }
    [inside] = client.list_repo_tree("org/name", "sub")
    assert inside == entries["sub/model.safetensors"]
    assert entries["sub/model.safetensors"].lfs.sha256 != entries["sub/model.safetensors"].blob_id
    paths = client.HfApi().get_paths_info("org/name", ["sub", "config.json", "nothing"])
    assert paths == [entries["sub"], entries["config.json"]]


def test_branches_and_tags(filled, writer):
    first = filled.head("org/name")
    second = filled.commit("org/name", {"a b.txt": b"x"}, revision="side/way")
    writer.create_branch("org/name", branch="third", revision=second)
    writer.create_tag("org/name", tag="v1")
    with pytest.raises(errors.HfHubHTTPError, match="409"):
        writer.create_branch("org/name", branch="third")
    writer.create_branch("org/name", branch="third", exist_ok=True)
    refs = writer.list_repo_refs("org/name")
    expected = {"main": first, "side/way": second, "third": second}
    assert {ref.name: ref.target_commit for ref in refs.branches} == expected
    assert [(ref.name, ref.target_commit) for ref in refs.tags] == [("v1", first)]
    path = client.hf_hub_download("org/name", "a b.txt", revision="side/way")
    assert Path(path).read_bytes() == b"x"
    assert filled.requests[-1].path == "/org/name/resolve/side%2Fway/a%20b.txt"
    assert contents(client.snapshot_download("org/name", revision="v1")) == FILES
    commits = writer.list_repo_commits("org/name", revision="third")
    assert [commit.commit_id for commit in commits] == [second, first]


# Rights and errors


def test_what_is_missing_has_its_own_error(filled):
    with pytest.raises(errors.RepositoryNotFoundError):
        client.hf_hub_download("org/other", "config.json")
    with pytest.raises(errors.RevisionNotFoundError):
        client.hf_hub_download("org/name", "config.json", revision="other")
    with pytest.raises(errors.RemoteEntryNotFoundError):
        client.hf_hub_download("org/name", "other.json")
    with pytest.raises(errors.RepositoryNotFoundError):
        client.snapshot_download("org/other")
    with pytest.raises(errors.RevisionNotFoundError):
        client.snapshot_download("org/name", revision="other")
    with pytest.raises(errors.EntryNotFoundError):
        list(client.list_repo_tree("org/name", "other"))


def test_private(filled):
    filled.repo("org/name").private = True
    for call in (client.snapshot_download, client.model_info):
        with pytest.raises(errors.RepositoryNotFoundError, match="401"):
            call("org/name", token=False)
    with pytest.raises(errors.HfHubHTTPError, match="Invalid credentials"):
        client.model_info("org/name", token="hf_unknown")
    assert contents(client.snapshot_download("org/name", token="hf_read")) == FILES


def test_gated(filled):
    repo = filled.repo("org/name")
    repo.gated = "manual"
    assert client.model_info("org/name").gated == "manual"  # which anyone may see
    with pytest.raises(errors.GatedRepoError, match="401"):
        client.hf_hub_download("org/name", "config.json")
    with pytest.raises(errors.GatedRepoError, match="403"):
        client.auth_check("org/name", token="hf_read")
    repo.allowed.add("hf_read")
    client.auth_check("org/name", token="hf_read")
    assert contents(client.snapshot_download("org/name", token="hf_read")) == FILES


def test_who_may_write(filled):
    change = [CommitOperationAdd("config.json", b"{}")]
    for token, status in ((False, "401"), ("hf_read", "403")):
        with pytest.raises(errors.HfHubHTTPError, match=status):
            client.create_repo("org/new", token=token)
        with pytest.raises(errors.HfHubHTTPError, match=status):
            client.create_commit("org/name", change, commit_message="x", token=token)
    assert filled.files("org/name") == FILES
    filled.tokens = None
    client.create_commit("org/name", change, commit_message="x", token=False)
    assert filled.files("org/name")["config.json"] == b"{}"


# Uploads


def test_a_repository(hub, writer):
    url = writer.create_repo("org/new", private=True)
    assert url == f"{hub.endpoint}/org/new" and url.repo_id == "org/new"
    assert hub.repo("org/new").private and list(hub.files("org/new")) == [".gitattributes"]
    with pytest.raises(errors.HfHubHTTPError, match="409"):
        writer.create_repo("org/new")
    assert writer.create_repo("org/new", exist_ok=True) == url
    assert writer.whoami()["name"] == "tester"
    assert writer.create_repo("short").repo_id == "tester/short"
    writer.update_repo_settings("org/new", private=False, gated="auto")
    assert hub.repo("org/new").gated == "auto" and not hub.repo("org/new").private
    writer.delete_repo("org/new")
    assert not writer.repo_exists("org/new") and not hub.repo("org/new").exists


def test_one_commit_of_small_and_large_files(filled, writer):
    old = filled.head("org/name")
    info = writer.create_commit(
        "org/name",
        [
            CommitOperationAdd("README.md", b"# Name\n"),
            CommitOperationAdd("new.safetensors", b"large"),
            CommitOperationAdd("nothing.bin", b""),
            CommitOperationDelete("sub/"),
        ],
        commit_message="Change",
        commit_description="What for",
        parent_commit=old,
    )
    expected = FILES | {"README.md": b"# Name\n", "new.safetensors": b"large", "nothing.bin": b""}
    del expected["sub/model.safetensors"]
    assert filled.files("org/name") == expected
    [new, first] = filled.history("org/name")
    assert info.oid == new.oid == filled.head("org/name") and new.parent == first.oid == old
    assert (new.summary, new.description) == ("Change", "What for")
    assert contents(client.snapshot_download("org/name")) == expected
    assert [r.body for r in filled.requests.of("PUT", port="cdn")] == [b"large"]
    assert not any(request.token for request in filled.requests.of(port="cdn"))


def test_a_commit_on_another_parent_is_refused(filled, writer):
    old = filled.head("org/name")
    new = filled.commit("org/name", {"config.json": b"{}"})
    with pytest.raises(errors.HfHubHTTPError, match="412"):
        writer.create_commit(
            "org/name", [CommitOperationAdd("x", b"x")], commit_message="x", parent_commit=old
        )
    assert filled.head("org/name") == new


def test_a_pull_request(filled, writer):
    head = filled.head("org/name")
    for number in (1, 2):
        info = writer.create_commit(
            "org/name",
            [CommitOperationAdd("config.json", b"%d" % number)],
            commit_message="Propose",
            create_pr=True,
        )
        assert (info.pr_num, info.pr_revision) == (number, f"refs/pr/{number}")
    assert filled.head("org/name") == head
    path = client.hf_hub_download("org/name", "config.json", revision="refs/pr/1")
    assert Path(path).read_bytes() == b"1"
    refs = writer.list_repo_refs("org/name", include_pull_requests=True)
    assert [ref.ref for ref in refs.pull_requests] == ["refs/pr/1", "refs/pr/2"]
    more = [CommitOperationAdd("more.txt", b"x")]
    writer.create_commit("org/name", more, commit_message="x", revision="refs/pr/1")
    assert "more.txt" in filled.files("org/name", "refs/pr/1")


@pytest.mark.parametrize("multipart", [None, 1000])
def test_large_files_ahead_of_their_commit(hub, writer, multipart):
    hub.multipart = multipart
    writer.create_repo("org/new")
    before = hub.head("org/new")
    shards = [CommitOperationAdd(f"{i}.safetensors", bytes([i]) * 2500) for i in range(2)]
    for shard in shards:
        writer.preupload_lfs_files("org/new", [shard])
    assert hub.head("org/new") == before
    assert len(hub.requests.of("PUT", port="cdn")) == (6 if multipart else 2)
    writer.create_commit("org/new", shards, commit_message="All", parent_commit=before)
    assert len(hub.requests.of("PUT")) == (6 if multipart else 2)
    assert hub.files("org/new")["1.safetensors"] == bytes([1]) * 2500
    assert len(hub.history("org/new")) == 2


def test_nothing_new_is_no_commit(filled, writer, tmp_path):
    head = filled.head("org/name")
    folder = tmp_path / "folder"
    for path, data in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    assert writer.upload_folder(repo_id="org/name", folder_path=folder).oid == head
    assert filled.head("org/name") == head and not filled.requests.of("PUT")


@pytest.mark.parametrize("header", ["Content-Length: 9", "Transfer-Encoding: chunked"])
def test_an_upload_that_breaks_off_is_none(hub, header):
    path = f"/lfs/put/{hashlib.sha256(b'whole').hexdigest()}"
    address = hub.cdn.removeprefix("http://").split(":")
    with socket.create_connection(address) as connection:
        connection.sendall(f"PUT {path} HTTP/1.1\r\n{header}\r\n\r\n5\r\nwhole".encode())
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b""
    [request] = hub.requests
    assert (request.path, request.status, hub.objects, hub.errors) == (path, None, {}, [])


# The fixture


def test_a_child_process_knows_this_hub_only(filled, tmp_path):
    code = """
import huggingface_hub as client
print(client.hf_hub_download("org/name", "config.json"))
try:
    client.get_session().get("https://huggingface.co/api/models/org/name")
except Exception as error:
    print(type(error).__name__)
"""
    environment = hub_environment(filled, tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    path, error = done.stdout.split()
    assert Path(path).read_bytes() == FILES["config.json"] and Path(path).is_relative_to(tmp_path)
    assert error == "ProxyError"
    assert [(r.method, r.path) for r in filled.requests[2:]] == [("CONNECT", "huggingface.co:443")]


def test_the_real_hub_is_out_of_reach(filled):
    for url in ("https://huggingface.co/org/name/resolve/main/config.json", "https://hf.co"):
        with pytest.raises(BaseException, match="without a network"):
            client.get_session().get(url)


def test_nothing_of_a_hub_is_left_after_its_test(request):
    """The fixture ends only after this test, so what it changed is put back by hand."""
    before = _where_text_is("http://127.0.0.1:")
    hub = request.getfixturevalue("hub")
    changed = _where_text_is(hub.endpoint)
    assert {"huggingface_hub.constants.ENDPOINT", "huggingface_hub.hf_api.api"} <= set(changed)
    assert client.constants.HF_HUB_OFFLINE is False and client.file_download.time is not time
    request.getfixturevalue("monkeypatch").undo()
    assert client.constants.HF_HUB_OFFLINE is True and client.file_download.time is time
    assert _where_text_is(hub.endpoint) == before == []


def _where_text_is(text: str) -> list[str]:
    """Names in the client's modules whose value, attributes or defaults have the text in them."""
    found = []
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "huggingface_hub":
            for key, value in vars(module).items():
                seen = [value, getattr(value, "__defaults__", None)]
                if type(value).__module__.startswith("huggingface_hub"):
                    seen.append(vars(value))
                if not key.startswith("__") and text in repr(seen):
                    found.append(f"{name}.{key}")
    return found


def test_a_fault_in_the_hub_itself_is_told():
    with pytest.raises(AssertionError, match="loopback Hub"), LoopbackHub() as hub:
        hub.errors.append(ValueError("wrong"))

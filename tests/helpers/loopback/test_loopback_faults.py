"""Each fault of the loopback Hub happens as it says, and what huggingface_hub makes of it."""

import gzip
import json
import time
from pathlib import Path

import httpx2
import huggingface_hub as client
import pytest
from huggingface_hub import CommitOperationAdd, HfApi, errors

from loopback import Fault, LoopbackHub

WEIGHTS = b"".join(i.to_bytes(2, "little") for i in range(2560))
CONFIG = b'{"a": 1}'


@pytest.fixture(autouse=True)
def commit(hub):
    return hub.commit("org/name", {"config.json": CONFIG, "model.safetensors": WEIGHTS})


def download(name: str = "model.safetensors", **how) -> bytes:
    return Path(client.hf_hub_download("org/name", name, **how)).read_bytes()


@pytest.fixture
def small_pieces(monkeypatch):
    """The client can only resume after whole pieces, of 10 MiB."""
    monkeypatch.setattr(client.constants, "DOWNLOAD_CHUNK_SIZE", 500)


def get(hub, path: str, **how) -> httpx2.Response:
    return client.get_session().get(hub.endpoint + path, follow_redirects=False, **how)


def ranges(hub) -> list[str | None]:
    return [request.headers["Range"] for request in hub.requests.of("GET", port="cdn")]


# Which requests


def test_skip_and_times(hub):
    fault = hub.fault(Fault("status", code=500, path="/api/models/*", skip=1, times=2))
    codes = [get(hub, "/api/models/org/name").status_code for _ in range(4)]
    assert codes == [200, 500, 500, 200]
    assert (fault.seen, fault.hits) == (4, 2)
    forever = hub.fault(Fault("status", code=503, times=None))
    assert {get(hub, "/api/models/org/name").status_code for _ in range(5)} == {503}
    hub.faults.remove(forever)
    assert get(hub, "/api/models/org/name").status_code == 200


def test_method_port_and_path(hub):
    hub.commit("org/name", {"a b.txt": b"x"}, revision="side/way")
    for misses in ({"method": "POST"}, {"port": "cdn"}, {"path": "*.json"}):
        hub.fault(Fault("status", code=500, times=None, **misses))
    assert get(hub, "/org/name/resolve/side%2Fway/a%20b.txt").status_code == 200
    for pattern in ("*/a%20b.txt", "*/a b.txt", "*/side/way/*"):
        hub.fault(Fault("status", code=500, path=pattern, method="GET", port="hub"))
        assert get(hub, "/org/name/resolve/side%2Fway/a%20b.txt").status_code == 500


def test_a_misspelt_fault_is_an_error():
    with pytest.raises(KeyError):
        Fault("sneeze")
    with pytest.raises(TypeError):
        Fault("status", status=500)


def test_faults_add_up(hub):
    hub.fault(Fault("headers", headers={"X-More": "1"}))
    hub.fault(Fault("json", value=lambda info: info | {"id": "x"}))
    answer = get(hub, "/api/models/org/name")
    assert answer.headers["X-More"] == "1" and answer.json()["id"] == "x"


# Connections


@pytest.mark.parametrize("after", [1, 1000, 5119])
def test_reset_within_a_body(hub, after):
    hub.fault(Fault("reset", port="cdn", after=after))
    with pytest.raises(httpx2.ReadError):
        download()
    assert hub.requests[-1].sent == after
    with client.get_session().stream("GET", hub.cdn + hub.requests[-1].path) as answer:
        assert answer.read() == WEIGHTS  # once only


def test_reset_gives_what_was_sent_before_it(hub):
    hub.fault(Fault("reset", after=5, path="*.json"))
    came = b""
    with pytest.raises(httpx2.ReadError):
        with client.get_session().stream(
            "GET", client.hf_hub_url("org/name", "config.json")
        ) as answer:
            for piece in answer.iter_raw():
                came += piece
    assert came == CONFIG[:5]


@pytest.mark.parametrize(
    ("kind", "error"), [("reset", httpx2.ReadError), ("close", httpx2.RemoteProtocolError)]
)
def test_an_end_before_the_answer(hub, kind, error):
    hub.fault(Fault(kind, method="HEAD"))
    with pytest.raises(error):
        download("config.json")
    assert [(r.status, r.sent) for r in hub.requests] == [(None, 0)]
    assert download("config.json") == CONFIG


def test_an_end_before_the_answer_changes_nothing(hub, commit):
    hub.fault(Fault("reset", method="POST", path="*/commit/*"))
    hub.tokens = None
    with pytest.raises(httpx2.ReadError):
        client.create_commit("org/name", [CommitOperationAdd("x", b"x")], commit_message="x")
    assert hub.head("org/name") == commit


def test_lost(hub, commit):
    hub.fault(Fault("lost", method="POST", path="*/commit/*"))
    hub.tokens = None
    with pytest.raises(httpx2.ReadError):
        client.create_commit("org/name", [CommitOperationAdd("x", b"x")], commit_message="Lost")
    [new, _] = hub.history("org/name")
    assert (new.parent, new.summary) == (commit, "Lost") and hub.files("org/name")["x"] == b"x"


def test_close_within_a_body_is_resumed(hub, small_pieces):
    hub.fault(Fault("close", port="cdn", after=1000))
    assert download() == WEIGHTS
    assert ranges(hub) == [None, "bytes=1000-"]
    assert [r.sent for r in hub.requests.of("GET")] == [1000, 4120]
    assert hub.waits == [1]


def test_close_within_the_first_piece_is_begun_again(hub):
    hub.fault(Fault("close", port="cdn", after=5000))
    assert download() == WEIGHTS
    assert ranges(hub) == [None, None]


def test_stall(hub, monkeypatch, small_pieces):
    monkeypatch.setattr(client.constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    hub.fault(Fault("stall", seconds=5, port="cdn", after=1000))
    start = time.monotonic()
    assert download() == WEIGHTS
    assert ranges(hub) == [None, "bytes=1000-"]
    assert time.monotonic() - start < 3


def test_a_short_stall_is_only_slow(hub):
    hub.fault(Fault("stall", seconds=0.2, method="HEAD"))
    hub.fault(Fault("stall", seconds=0.2, method="GET", after=4))
    start = time.monotonic()
    assert download("config.json") == CONFIG
    assert time.monotonic() - start > 0.4


# Statuses and headers


def test_too_many_requests(hub):
    hub.fault(Fault("status", code=429, headers={"Retry-After": "999999"}, port="cdn"))
    assert download() == WEIGHTS
    assert hub.waits == [1000000]


def test_unavailable(hub):
    hub.fault(Fault("status", code=503, method="GET", port="cdn"))
    with pytest.raises(errors.HfHubHTTPError, match="503"):
        download()
    hub.fault(Fault("status", code=503, method="HEAD"))
    assert download() == WEIGHTS


def test_an_upload_is_tried_again(hub):
    hub.tokens = None
    hub.fault(Fault("status", code=500, method="PUT"))
    client.create_commit("org/name", [CommitOperationAdd("x.bin", b"x")], commit_message="x")
    assert [r.status for r in hub.requests.of("PUT")] == [500, 200]
    assert hub.files("org/name")["x.bin"] == b"x"


@pytest.mark.parametrize(
    ("code", "error", "expected"),
    [
        (403, "GatedRepo", errors.GatedRepoError),
        (401, "RepoNotFound", errors.RepositoryNotFoundError),
        (404, "RevisionNotFound", errors.RevisionNotFoundError),
        (404, "EntryNotFound", errors.RemoteEntryNotFoundError),
    ],
)
def test_coded_errors(hub, code, error, expected):
    hub.fault(Fault("status", code=code, error=error, method="HEAD"))
    with pytest.raises(expected):
        download()


def test_an_error_after_success(hub, commit):
    hub.tokens = None
    hub.fault(Fault("status", code=500, handled=True, method="POST", path="*/commit/*"))
    with pytest.raises(errors.HfHubHTTPError, match="500"):
        client.create_commit("org/name", [CommitOperationAdd("x", b"x")], commit_message="x")
    assert hub.history("org/name")[0].parent == commit


@pytest.mark.parametrize("name", ["X-Repo-Commit", "etag"])
def test_a_missing_header(hub, name):
    hub.fault(Fault("headers", headers={name: None}, times=None))
    with pytest.raises(errors.LocalEntryNotFoundError):
        download("config.json")


def test_a_header_that_leads_outside(hub, tmp_path):
    hub.fault(Fault("headers", method="HEAD", headers={"ETag": '"../../../../outside"'}))
    assert download("config.json") == CONFIG
    assert (tmp_path / "outside").read_bytes() == CONFIG


def test_a_lie_about_the_size(hub):
    hub.fault(Fault("headers", method="HEAD", headers={"X-Linked-Size": "5121"}))
    with pytest.raises(OSError, match="should be of size 5121 but has size 5120"):
        download()


def test_redirects(hub):
    hub.fault(Fault("redirect", method="HEAD", times=None))
    with pytest.raises(httpx2.TooManyRedirects):
        download("config.json")
    hub.faults.clear()
    hub.fault(Fault("redirect", to="file:///etc/passwd", code=307, method="GET"))
    with pytest.raises(httpx2.UnsupportedProtocol):
        download("config.json")
    hub.fault(Fault("headers", method="HEAD", headers={"Location": f"{hub.cdn}/nowhere"}))
    with pytest.raises(errors.HfHubHTTPError, match="404"):
        download()


# Bodies


def test_html(hub):
    hub.fault(Fault("html", path="/api/*"))
    with pytest.raises(json.JSONDecodeError):
        client.model_info("org/name")
    hub.fault(Fault("html", method="GET"))
    assert "log in" in get(hub, "/org/name/resolve/main/config.json").text


def test_corrupt(hub):
    hub.fault(Fault("corrupt", port="cdn", after=1000))
    wrong = download()
    different = [i for i, pair in enumerate(zip(wrong, WEIGHTS, strict=True)) if len(set(pair)) > 1]
    assert different == [1000]


def test_corrupt_counts_in_the_file_not_in_the_answer(hub):
    hub.fault(Fault("corrupt", after=5, times=None))
    flipped = bytes([CONFIG[5] ^ 255])
    expected = {"bytes=0-4": CONFIG[:5], "bytes=5-5": flipped, "bytes=4-6": b":" + flipped + b"1"}
    for asked, body in expected.items():
        answer = get(hub, "/org/name/resolve/main/config.json", headers={"Range": asked})
        assert answer.content == body


def test_length(hub):
    hub.fault(Fault("length", n=-1, port="cdn"))
    with pytest.raises(OSError, match="should be of size 5120 but has size 5119"):
        download()
    hub.fault(Fault("length", n=7, port="cdn"))
    assert download() == WEIGHTS  # the size was known from HEAD
    assert hub.waits == [1]


def test_gzip(hub):
    fault = hub.fault(Fault("gzip", method="GET", path="*.json"))
    assert download("config.json") == CONFIG
    assert fault.hits == 1 and hub.requests[-1].sent == len(gzip.compress(CONFIG, mtime=0))


def test_ignore_range(hub, small_pieces):
    hub.fault(Fault("close", port="cdn", after=1000))
    hub.fault(Fault("ignore_range", port="cdn", skip=1))
    assert download() == WEIGHTS
    assert ranges(hub) == [None, "bytes=1000-"]
    assert hub.requests[-1].sent == len(WEIGHTS)


def test_416(hub, small_pieces):
    hub.fault(Fault("close", port="cdn", after=1000))
    hub.fault(Fault("416", port="cdn", skip=1))
    with pytest.raises(errors.HfHubHTTPError, match=r"416.*Content-Range: bytes \*/5120"):
        download()


# What the Hub says


@pytest.mark.parametrize("path", ["../../x", "/x", "a\\..\\..\\x", "C:x"])
def test_a_listing_that_leads_outside(hub, path):
    def hostile(entries: list) -> list:
        return [entry | {"path": path} for entry in entries]

    hub.fault(Fault("json", path="*/tree/*", value=hostile))
    with pytest.raises(ValueError, match="Invalid filename"):
        client.snapshot_download("org/name")
    assert not hub.requests.of(path="*/resolve/*")


def test_json_by_value(hub):
    hub.fault(Fault("json", path="*/tree/*", value=[]))
    assert list(Path(client.snapshot_download("org/name")).rglob("*")) == []


@pytest.mark.parametrize("when", ["before", "after"])
def test_hook(hub, commit, when):
    def move(request) -> None:
        moved.append(hub.commit("org/name", {"config.json": b"moved"}))
        assert request.path == "/api/models/org/name/revision/main"

    moved: list[str] = []
    hub.fault(Fault("hook", path="*/revision/*", call=move, when=when))
    folder = Path(client.snapshot_download("org/name"))
    assert folder.name == (commit if when == "after" else moved[0])
    expected = CONFIG if when == "after" else b"moved"
    assert (folder / "config.json").read_bytes() == expected


def test_a_hook_that_fails_fails_the_test():
    with pytest.raises(AssertionError, match="loopback Hub"), LoopbackHub() as hub:
        hub.fault(Fault("hook", call=lambda request: 1 // 0))
        with pytest.raises(httpx2.RemoteProtocolError):
            httpx2.get(hub.endpoint)


def test_faults_count_requests_that_come_together(hub):
    hub.commit("org/many", {f"{i}.bin": bytes([i]) * 100 for i in range(20)})
    fault = hub.fault(Fault("close", port="cdn", after=50, times=4))  # the client tries five times
    folder = Path(client.snapshot_download("org/many"))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == hub.files("org/many")
    assert fault.hits == 4 and sorted(ranges(hub), key=str) == [None] * 24


def test_lfs_error(hub, commit):
    hub.tokens = None
    hub.fault(Fault("lfs_error", path="*/objects/batch", message="no room"))
    change = [CommitOperationAdd("x.bin", b"x")]
    with pytest.raises(ValueError, match="no room"):
        client.create_commit("org/name", change, commit_message="x")
    assert hub.head("org/name") == commit and not hub.requests.of("PUT")


def test_a_lost_object_is_not_committed(hub, commit):
    hub.tokens = None
    change = [CommitOperationAdd("x.bin", b"x")]
    HfApi().preupload_lfs_files("org/name", change)
    hub.objects.clear()
    with pytest.raises(errors.BadRequestError, match="does not exist: x.bin"):
        client.create_commit("org/name", change, commit_message="x")
    assert hub.head("org/name") == commit

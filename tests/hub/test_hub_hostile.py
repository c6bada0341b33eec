"""Answers of a server that means harm, wherever a name, hash, size, header or JSON could lead
somewhere: an error, or the right tree; nothing is written, read or asked for elsewhere."""

import contextlib
import gzip
import json
import time

import pytest
from _downloads import (
    CONFIG,
    FIRST,
    INDEX,
    NAME,
    SECOND,
    assert_clean,
    below,
    is_whole,
    load,
    no_pauses,
    refused,
    three_shards,
)
from _turns import in_turn
from loopback import Fault

import flaxmodels as fm
from flaxmodels.hub.session import guarded

OTHER = "0123456789" * 4


@pytest.fixture(autouse=True)
def commit(hub, monkeypatch):
    no_pauses(monkeypatch)
    return hub.commit(NAME, three_shards())


@pytest.fixture
def unwritten(hub, tmp_path):
    """Tells that nothing is in the cache, so that what comes next finds what this found."""
    yield lambda: not below(tmp_path)
    hub.faults.clear()
    assert fm.AutoConfig.from_pretrained(NAME, progress=False).model_type == "llama"


@pytest.fixture
def nothing_else(hub, tmp_path):
    """Whatever the answers, only the cache has changed, and only the Hub has been asked."""
    before = below(tmp_path)
    yield
    assert {path.partition("/")[0] for path in below(tmp_path) - before} <= {"hf"}
    assert_clean(tmp_path / "hf")
    hub.faults.clear()
    assert is_whole(load()[1])


@contextlib.contextmanager
def case(hub, what, *faults):
    """One of many of a kind, with its own faults and requests; an error in it names it."""
    hub.faults[:] = faults
    hub.requests.clear()
    try:
        yield
    except BaseException as error:
        error.add_note(f"the case: {what!r}")
        raise


def api(value):
    """The answer about the repository is `value`, or that of a function of the true one."""
    return Fault("json", path="/api/models/*", value=value, times=None)


def listing(change):
    """A function of the answer that changes the entry of the first shard, or adds to the list."""

    def changed(info):
        extra = []
        for entry in info["siblings"]:
            if entry["rfilename"] == FIRST:
                extra += change(entry) or []
        return info | {"siblings": info["siblings"] + extra}

    return changed


NAMES = {
    "up": "../../x",
    "up-within": "a/../../x",
    "here": "./x",
    "absolute": "/etc/x",
    "twice-slash": "a//x",
    "drive": "C:x",
    "backslash": "a\\..\\x",
    "home": "~/x",
    "nul": "x\0y",
    "escape": "x\x1b[2Jy",
    "right-to-left": "x\u202ey",
    "newline": "x\ny",
    "surrogate": "x\ud800",
    "empty": "",
    "dot": ".",
    "number": 5,
    "null": None,
    "list": ["x"],
}


def test_a_listed_name_that_leads_elsewhere(hub, unwritten):
    for what, name in NAMES.items():
        change = listing(lambda entry, name=name: [entry | {"rfilename": name}])
        with case(hub, what, api(change)):
            refused(NAME, match="not the name of a file in a folder")
            assert unwritten()


def test_a_name_listed_twice(hub, unwritten):
    with case(hub, "twice", api(listing(lambda entry: [entry | {"size": 5}]))):
        refused(NAME, match=f"lists '{FIRST}' twice")
    for inside in ("x", "a/b/c"):
        change = listing(lambda entry, inside=inside: [entry | {"rfilename": f"{FIRST}/{inside}"}])
        with case(hub, inside, api(change)):
            refused(NAME, match=f"lists '{FIRST}' as a file and as a folder")
    assert unwritten()


def more(*names):
    return listing(lambda entry: [entry | {"rfilename": name} for name in names])


HARMLESS = {
    "case": more("CONFIG.JSON", FIRST.upper()),
    "unicode": more("モデル/ü.safetensors", "e\u0301.bin", "é.bin"),
    "long": more("x" * 5000, "/".join("abc" for _ in range(2000))),
    "many": more(*(f"data/{i}.bin" for i in range(20_000))),
    "more-keys": lambda info: info | {"__class__": 1, "x y": [], "gguf": {"total": "x"}},
}


@pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS)
def test_a_strange_listing_that_harms_nothing(change, hub, nothing_else):
    hub.fault(api(change))
    start = time.process_time()
    assert is_whole(load()[1])
    assert time.process_time() - start < 3


SIZES = {
    "negative": -1,
    "of-64-bits": 1 << 63,
    "of-70-bits": 1 << 70,
    "text": "12",
    "fraction": 1.5,
    "bool": True,
    "null": None,
    "list": [1],
}


def test_a_size_that_is_none(hub, unwritten):
    for what, size in SIZES.items():
        with case(hub, what, api(listing(lambda entry, size=size: entry.update(size=size)))):
            refused(NAME, FIRST, match="says that .* has .* bytes")
            assert unwritten()


def test_a_size_that_is_wrong(hub, nothing_else):
    for size in (0, 1, 13295, 13297, 10**15, (1 << 63) - 1):
        with case(hub, size, api(listing(lambda entry, size=size: entry.update(size=size)))):
            with pytest.raises(fm.CheckpointError, match=FIRST):
                load()


HASHES = {
    "none": {"lfs": None, "blobId": None},
    "path": {"lfs": {"sha256": "../../../x", "size": 1, "pointerSize": 1}},
    "upper": {"lfs": {"sha256": "A" * 64, "size": 1, "pointerSize": 1}},
    "short": {"lfs": {"sha256": "a" * 63, "size": 1, "pointerSize": 1}},
    "long": {"lfs": {"sha256": "a" * 65, "size": 1, "pointerSize": 1}},
    "number": {"lfs": {"sha256": 5, "size": 1, "pointerSize": 1}},
    "empty": {"lfs": {"sha256": "", "size": 1, "pointerSize": 1}},
    "git-path": {"lfs": None, "blobId": "../x"},
    "git-list": {"lfs": None, "blobId": ["a" * 40]},
    "git-sha256": {"lfs": None, "blobId": "a" * 64},
}


def test_a_hash_that_is_none(hub, unwritten):
    for what, change in HASHES.items():
        with case(hub, what, api(listing(lambda entry, change=change: entry.update(change)))):
            refused(NAME, FIRST, match="says that the hash of .* is .*, which is none")
            assert unwritten()


@pytest.mark.parametrize(
    "change",
    [{"lfs": {"sha256": "a" * 64, "size": 1, "pointerSize": 1}}, {"lfs": None, "blobId": "a" * 40}],
    ids=["sha256", "git"],
)
def test_a_hash_that_is_wrong(change, hub, nothing_else):
    hub.fault(api(listing(lambda entry: entry.update(change))))
    refused(NAME, FIRST, match="not what the Hub's hash says, twice; it was removed")


ANSWERS = {
    "null": None,
    "list": [],
    "text": "x",
    "number": 5,
    "empty": {},
    "no-id": lambda info: {key: info[key] for key in info if key != "id"},
    "self": lambda info: info | {"self": 1},
    "no-commit": lambda info: info | {"sha": None},
    "commit-path": lambda info: info | {"sha": "../../../x"},
    "commit-upper": lambda info: info | {"sha": "A" * 40},
    "commit-short": lambda info: info | {"sha": "a" * 39},
    "commit-number": lambda info: info | {"sha": int("1" * 40)},
    "commit-list": lambda info: info | {"sha": ["a" * 40]},
    "files-text": lambda info: info | {"siblings": "abc"},
    "files-number": lambda info: info | {"siblings": 5},
    "files-mapping": lambda info: info | {"siblings": {"a": 1}},
    "files-of-numbers": lambda info: info | {"siblings": [1, None]},
    "files-empty": lambda info: info | {"siblings": [{}]},
    "files-null": lambda info: info | {"siblings": None},
    "files-without-hashes": listing(lambda entry: [entry.pop("lfs"), entry.pop("blobId")][:0]),
    "lfs-text": listing(lambda entry: entry.update(lfs="x")),
    "lfs-list": listing(lambda entry: entry.update(lfs=["x"])),
    "lfs-empty": listing(lambda entry: entry.update(lfs={"sha256": "a" * 64})),
    "safetensors": lambda info: info | {"safetensors": [1]},
    "date": lambda info: info | {"lastModified": "yesterday"},
}


def test_an_answer_of_another_shape(hub, nothing_else):
    for what, value in ANSWERS.items():
        with case(hub, what, api(value)):
            with pytest.raises((fm.CheckpointError, fm.ConfigError), match=NAME):
                load()
            assert len(hub.requests.of("GET", "/api/models/*")) <= 2  # it would come again


def test_an_answer_that_is_no_json(hub, unwritten):
    for body in (b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"id": NaN', b"<html>", b"\0" * 100):
        fault = Fault("status", path="/api/models/*", code=200, body=body, times=None)
        with case(hub, body[:10], fault):
            refused(NAME, match="JSON|not as expected|refused")
            assert len(hub.requests) == 1 and unwritten()


ETAGS = {
    "up": '"../../../../x"',
    "weak-up": 'W/"../../x"',
    "parent": '".."',
    "dot": '"."',
    "slash": '"a/b"',
    "absolute": '"/tmp/x"',
    "backslash": '"..\\x"',
    "long": f'"{"a" * 300}"',
    "hidden": '".bashrc"',
    "blank": '"a b"',
    "bare-up": "../../x",
}


@pytest.mark.parametrize("header", ["ETag", "X-Linked-Etag"])
def test_an_etag_that_leads_elsewhere(header, hub, nothing_else, tmp_path):
    how = {"method": "HEAD", "path": "*.json", "times": None}
    for what, etag in ETAGS.items():
        with case(hub, what, Fault("headers", headers={header: etag}, **how)):
            refused(header.lower(), match="which is no hash; what answers is not the Hub")
            assert_clean(tmp_path / "hf")


@pytest.mark.parametrize("first", ["reset", "status", "redirect", "stall"])
def test_an_etag_that_leads_elsewhere_in_the_second_answer(first, hub, nothing_else, monkeypatch):
    """The client makes a session of its own anew after some errors."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT", 0.1)
    details = {"status": {"code": 503}, "stall": {"seconds": 1}, "redirect": {"to": "/x"}}
    evil = {"ETag": '"../../../../x"'}
    hub.fault(Fault("headers", method="HEAD", path="*.json", headers=evil, times=None))
    hub.fault(Fault(first, method="HEAD", path="*.json", **details.get(first, {})))
    refused(match="which is no hash|no such file|answers 404")


def test_an_etag_that_leads_elsewhere_after_a_refused_connection(hub, nothing_else, monkeypatch):
    from huggingface_hub.utils import _http

    class Refusing:
        """A client whose first connection is refused; the real one then closes the session."""

        def __init__(self, client):
            self.client = client

        def __getattr__(self, name):
            return getattr(self.client, name)

        def request(self, **how):
            _http.close_session()
            import httpx2

            raise httpx2.ConnectError("refused")

    evil = {"ETag": '"../../../../x"'}
    hub.fault(Fault("headers", method="HEAD", path="*.json", headers=evil, times=None))
    with guarded():  # has our factory set, which ends the session that there was
        monkeypatch.setattr(_http, "_GLOBAL_CLIENT", Refusing(_http.default_client_factory()))
        refused(match="which is no hash")


def test_a_commit_that_was_not_asked_for(hub, nothing_else, tmp_path):
    """It would put the file under another commit's name."""
    for other in ("../../x", OTHER, "a" * 64, "A" * 40, "main"):
        headers = {"X-Repo-Commit": other}
        with case(hub, other, Fault("headers", method="HEAD", headers=headers, times=None)):
            refused("x-repo-commit", match="which is (no hash|not the)")
            assert_clean(tmp_path / "hf")


@pytest.mark.parametrize("size", ["-5", "x", "13295", "99999"])
def test_a_size_in_a_header_that_is_wrong(size, hub, nothing_else):
    headers = {"X-Linked-Size": size}
    hub.fault(Fault("headers", method="HEAD", path=f"*/{FIRST}", headers=headers, times=None))
    if size == "x":
        assert is_whole(load()[1])
    else:
        refused(NAME, FIRST, match="tried 6 times")


@pytest.mark.parametrize("file", [CONFIG, FIRST])
def test_a_redirect_to_this_machine_s_files(file, hub, nothing_else):
    headers = {"Location": "file:///etc/passwd"}
    hub.fault(Fault("headers", path=f"*/{file}", headers=headers, times=None))
    hub.fault(Fault("status", path=f"*/{file}", code=302, times=None, headers=headers))
    refused(NAME, match="file://|not a Hub")


@in_turn("file", [CONFIG, SECOND], "after", [0, 1])
@pytest.mark.parametrize("packed", [False, True])
def test_a_body_without_end(packed, file, after, hub, nothing_else, tmp_path):
    """What is more than the listing says is not written, packed or not."""
    body = bytes(2 << 20)
    headers = {"Content-Encoding": "gzip"} if packed else {}
    body = gzip.compress(body, 1) if packed else body
    stored = hub.repo(NAME).find("main").files[file]
    path = f"/lfs/get/{stored.sha256}" if stored.lfs else f"*/{file}"
    how = {"path": path, "code": 200, "body": body, "headers": headers, "times": None}
    hub.fault(Fault("status", method="GET", skip=after if stored.lfs else 0, **how))
    with pytest.raises(fm.CheckpointError, match=f"{file}.*(more than its|not safetensors)"):
        load()
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 1 << 20


def test_another_range_than_was_asked_for(hub, nothing_else):
    path = f"/lfs/get/{hub.repo(NAME).find('main').files[FIRST].sha256}"
    for said in (None, "bytes 5-10/20", "bytes 0-9/10", "bytes */10", "lines 1-2/3", "x"):
        fault = Fault("headers", path=path, headers={"Content-Range": said}, times=None)
        with case(hub, said, fault), pytest.raises(fm.CheckpointError, match="were asked for"):
            load()


ELSEWHERE = [
    "../../x",
    "/etc/passwd",
    "C:x.safetensors",
    "a\\x.safetensors",
    "https://127.0.0.1:9/x.safetensors",
    "hf://other/name/x.safetensors",
    INDEX,
    CONFIG,
    "x\x1b[2J.safetensors",
    "other.safetensors",
    "x" * 300 + ".safetensors",
]


def test_an_index_that_leads_elsewhere(hub, nothing_else):
    good = hub.head(NAME)
    for shard in ELSEWHERE:
        index = json.loads(three_shards()[INDEX])
        index["weight_map"]["lm_head.weight"] = shard
        hub.commit(NAME, {INDEX: json.dumps(index).encode()})
        with case(hub, shard):
            with pytest.raises(fm.CheckpointError, match="lm_head.weight") as caught:
                load()
            assert "\x1b" not in str(caught.value) and len(str(caught.value)) < 1000
            assert not hub.requests.of("GET", "*resolve*.safetensors")
    hub.repo(NAME).refs["refs/heads/main"] = good


@pytest.mark.parametrize("where", [CONFIG, FIRST, "*/api/*"])
def test_an_error_s_text_is_safe(where, hub, nothing_else):
    """Neither what a terminal acts on, nor a secret that the server repeats, nor a novel."""
    said = "\x1b[2J\x1b[31m hf_secretsecret Bearer abcdef https://x.y/z?Signature=abc " + "x" * 5000
    headers = {"X-Error-Message": said[:2000].replace("\x1b", "\x7f")}
    details = {"code": 400, "body": json.dumps({"error": said}), "headers": headers}
    path = where if "*" in where else f"*/{where}"
    hub.fault(Fault("status", path=path, times=None, **details))
    said = str(refused(NAME, match="answers 400"))
    assert "\x7f" not in said and "abcdef" not in said


REVISIONS = ["../../x", "/x", "a\\b", "a:b", "~x", "x\0", "a//b", "", "x\x1b[2J", "refs/../../x"]


def test_a_revision_that_leads_elsewhere(hub, unwritten):
    for revision in REVISIONS:
        with case(hub, revision):
            refused(NAME, revision=revision, match="is not a branch, a tag or a commit")
            assert not hub.requests and unwritten()


def test_a_cache_s_note_that_leads_elsewhere(hub, nothing_else, tmp_path):
    """Offline, the branch's commit is read from a file."""
    load()
    for kept in (b"../../../../x", b"\xff\xfe", b"", OTHER.encode(), b"a" * 100):
        (tmp_path / "hf/hub/models--org--name/refs/main").write_bytes(kept)
        with case(hub, kept):
            refused(NAME, local_files_only=True, match="not in the cache")

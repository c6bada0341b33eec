"""Downloads over a bad network and from a bad server: the right tree, or an error that says what to
do; nothing half done is left, and the next load succeeds."""

import huggingface_hub as client
import pytest
from _downloads import (
    CONFIG,
    FIRST,
    INDEX,
    LAST,
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
from loopback import Fault

NOWHERE = "http://127.0.0.1:9/x"
ELEVEN_DAYS = {"Retry-After": "999999"}

# What goes wrong -> the fault, and the error's sentence, or None where the load succeeds after all.
# `times=None`: whenever it is asked for.
BROKEN = {
    "reset": (dict(kind="reset"), None),
    "reset-within": (dict(kind="reset", after=300), None),
    "reset-5-times": (dict(kind="reset", times=5), None),
    "reset-always": (dict(kind="reset", times=None), r"reached at .*tried 6 times"),
    "closed": (dict(kind="close"), None),
    "closed-within": (dict(kind="close", after=300), None),
    "closed-always": (dict(kind="close", times=None), r"reached at .*tried 6 times"),
    "503": (dict(kind="status", code=503), None),
    "503-always": (dict(kind="status", code=503, times=None), r"answers 503 \(tried 6 times\)"),
    "500-5-times": (dict(kind="status", code=500, times=5), None),
    "408": (dict(kind="status", code=408), None),
    "429": (dict(kind="status", code=429, headers={"Retry-After": "3"}), None),
    "429-eleven-days": (dict(kind="status", code=429, headers=ELEVEN_DAYS), None),
    "400": (dict(kind="status", code=400, times=None), "answers 400"),
    "401": (dict(kind="status", code=401, times=None), "hf auth login"),
    "403": (dict(kind="status", code=403, times=None), "hf auth login"),
    "404": (dict(kind="status", code=404, times=None), "answers 404"),
    "redirect-loop": (dict(kind="redirect", times=None), "redirect"),
    "redirect-file": (dict(kind="redirect", to="file:///etc/passwd", times=None), "file://"),
    "redirect-nowhere": (dict(kind="redirect", to=NOWHERE, times=None), r"tried 2 times"),
    "stalled": (dict(kind="stall", seconds=3), None),
}
BODY = BROKEN | {
    "stalled-within": (dict(kind="stall", seconds=3, after=300), None),
    "too-long": (dict(kind="length", n=1), None),
    "too-short": (dict(kind="length", n=-1), None),
    "too-short-always": (dict(kind="length", n=-1, times=None), "tried 6 times"),
    "corrupt": (dict(kind="corrupt", after=100), None),
    "corrupt-always": (dict(kind="corrupt", after=100, times=None), "hash says, twice"),
    "portal": (dict(kind="html"), None),
    "portal-always": (dict(kind="html", times=None), "tried 6 times"),
    "gzip": (dict(kind="gzip", times=None), None),
    "416": (dict(kind="416", times=None), "answers 416"),
    "range-ignored": (dict(kind="ignore_range", times=None), None),
}
NO_HUB = "what answers is not a Hub; a proxy or a login page"
HEAD = BROKEN | {
    "no-commit": (dict(kind="headers", headers={"X-Repo-Commit": None}, times=None), NO_HUB),
    "no-etag": (
        dict(kind="headers", headers={"ETag": None, "X-Linked-Etag": None}, times=None),
        NO_HUB,
    ),
    "gated": (dict(kind="status", code=403, error="GatedRepo", times=None), "gated: ask for acc"),
    "lost-file": (dict(kind="status", code=404, error="EntryNotFound", times=None), "no such file"),
    "416": (dict(kind="416", times=None), "answers 416"),
    "redirect-file": (BROKEN["redirect-file"][0], NO_HUB),
    "redirect-nowhere": (BROKEN["redirect-nowhere"][0], NO_HUB),
}
IN_BETWEEN = (
    "reset-within reset-always closed-within 503 429-eleven-days 404 redirect-loop stalled-within "
    "too-short corrupt corrupt-always portal"
).split()
RANGE = {
    name: BODY[name]
    for name in (
        "reset reset-within reset-always closed-within 503 503-always 429-eleven-days 404 403 "
        "redirect-loop redirect-file stalled too-long too-short portal gzip 416 range-ignored"
    ).split()
} | {
    "portal-always": (dict(kind="html", times=None), "70 bytes came"),
    "corrupt": (dict(kind="corrupt", after=10000), "begins otherwise than .*load it again"),
}
API = BROKEN | {
    "portal": (dict(kind="html", times=None), "gives no JSON; a proxy or a login page"),
    "gated": (dict(kind="status", code=403, error="GatedRepo", times=None), "gated: ask for acc"),
    "no-repository": (dict(kind="status", code=404, error="RepoNotFound", times=None), "no such r"),
    "no-revision": (dict(kind="status", code=404, error="RevisionNotFound", times=None), "no such"),
    "gzip": (dict(kind="gzip", times=None), None),
}


def where(part: str, file: str, hub) -> dict:
    """The requests of a part of a load."""
    if part == "api":
        return {"path": "/api/models/*"}
    if part == "head":
        return {"method": "HEAD", "path": f"*/{file}"}
    stored = hub.repo(NAME).find("main").files[file]
    if not stored.lfs:
        return {"method": "GET", "path": f"*/{file}"}
    # The first bytes of a shard are asked for before the whole of it.
    skip = 1 if part == "body" and file in (FIRST, SECOND, LAST) else 0
    return {"method": "GET", "path": f"/lfs/get/{stored.sha256}", "skip": skip}


# What bodies have by default; elsewhere it is as another of its kind there.
AS_OTHERS = (
    "reset-within reset-5-times closed closed-within closed-always 500-5-times 408 400 401 "
    "redirect-nowhere too-long 416"
).split()


def in_turn(part, files, faults, soak=()):
    """Each fault of one of the files, in turn; of each of them, and what is in `soak`, with
    `--all`."""
    for i, fault in enumerate(faults):
        for file in files:
            by_default = file == files[i % len(files)] and fault not in soak
            marks = () if by_default else pytest.mark.soak
            yield pytest.param(part, file, fault, id=f"{part}-{file}-{fault}", marks=marks)


CASES = [
    *in_turn("api", [""], API, AS_OTHERS),
    *in_turn("head", [CONFIG, SECOND], HEAD, AS_OTHERS),
    *in_turn("body", [SECOND], IN_BETWEEN, IN_BETWEEN),
    *in_turn("body", [CONFIG, LAST, INDEX, FIRST], BODY),  # small and large ones, in turn
    *in_turn("range", [FIRST, LAST], RANGE, AS_OTHERS),
]
TABLES = {"api": API, "head": HEAD, "body": BODY, "range": RANGE}


@pytest.fixture(autouse=True)
def waits(hub, monkeypatch):
    hub.commit(NAME, three_shards())
    return no_pauses(monkeypatch)


@pytest.fixture
def impatient(monkeypatch):
    for name in ("HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT"):
        monkeypatch.setattr(client.constants, name, 0.1)


@pytest.mark.parametrize(("part", "file", "what"), CASES)
def test_a_fault(part, file, what, hub, waits, impatient, tmp_path):
    details, sentence = TABLES[part][what]
    fault = hub.fault(Fault(**where(part, file, hub), **details))
    before = below(tmp_path)
    if sentence is None:
        assert is_whole(load()[1])
    else:
        refused(NAME, file, match=sentence)
    assert fault.hits > 0
    assert all(seconds <= 61 for seconds in waits + hub.waits)
    if what == "429" and part != "head":  # the client asks for a head again at once
        assert max(waits + hub.waits) >= 3
    assert {path.partition("/")[0] for path in below(tmp_path) - before} <= {"hf"}
    assert_clean(tmp_path / "hf")
    # Else what is there now was loaded, and has its hashes; or no file was begun.
    if sentence is not None and part in ("body", "range"):
        hub.faults.clear()
        assert is_whole(load()[1])
        assert_clean(tmp_path / "hf")

"""What goes wrong on the way up: the branch is what it was, or has the whole commit, once."""

import dataclasses
import logging
import os
import resource
import signal
import threading

import _children
import jax
import numpy as np
import pytest
from _paths import LLAMA
from _pushes import REPO, assert_same, commits, pull, puts
from _turns import some_of
from loopback import Fault
from loopback.client import hub_environment

import flaxmodels as fm

PREUPLOAD = {"method": "POST", "path": "/api/models/org/name/preupload/*"}
BATCH = {"method": "POST", "path": "/org/name.git/info/lfs/objects/batch"}
VERIFY = {"method": "POST", "path": "/org/name.git/info/lfs/objects/verify"}
PUT = {"method": "PUT", "port": "cdn"}
COMMIT = {"method": "POST", "path": "/api/models/org/name/commit/*"}
CREATE = {"method": "POST", "path": "/api/repos/create"}
INFO = {"method": "GET", "path": "/api/models/org/name/revision/*"}


@pytest.fixture(scope="module")
def kept():
    """The repository and the large files of a Hub after one push, once there was one."""
    return []


@pytest.fixture
def pushed(logged_in, pair, kept):
    """A Hub with one push in it, and (model, params) that differ from what that was."""
    model, params = pair
    repo = logged_in.repo(REPO)
    if kept:
        before, objects = kept
        repo.exists, repo.refs, repo.commits = True, {**before.refs}, {**before.commits}
        logged_in.objects |= objects
    else:
        model.push_to_hub(params, REPO, progress=False)
        copied = dataclasses.replace(repo, refs={**repo.refs}, commits={**repo.commits})
        kept += [copied, {**logged_in.objects}]
    logged_in.requests.clear()
    return logged_in, model, jax.tree.map(lambda x: np.asarray(x) + 1, params)


def push_again(pushed, **how):
    hub, model, params = pushed
    return model.push_to_hub(params, REPO, progress=False, max_shard_size="20KB", **how)


PASSING = {
    "create 500": Fault("status", code=500, times=2, **CREATE),
    "create reset": Fault("reset", **CREATE),
    "info 503": Fault("status", code=503, times=3, **INFO),
    "preupload 500": Fault("status", code=500, times=3, **PREUPLOAD),
    "preupload reset": Fault("reset", **PREUPLOAD),
    "preupload 429": Fault("status", code=429, headers={"Retry-After": "999999"}, **PREUPLOAD),
    "batch 502": Fault("status", code=502, times=2, **BATCH),
    "PUT 500 once": Fault("status", code=500, **PUT),
    "PUT reset": Fault("reset", times=2, **PUT),
    "PUT is done, its answer lost": Fault("lost", **PUT),
    "verify 500": Fault("status", code=500, **VERIFY),
    "commit 500": Fault("status", code=500, **COMMIT),
    "commit 429": Fault("status", code=429, **COMMIT),
    "commit reset": Fault("reset", **COMMIT),
    "commit 409": Fault("status", code=409, **COMMIT),
    "commit 412": Fault("status", code=412, **COMMIT),
    "commit is made, its answer lost": Fault("lost", **COMMIT),
    "commit is made, 500": Fault("status", code=500, handled=True, **COMMIT),
    "commit is made, 409": Fault("status", code=409, handled=True, **COMMIT),
    "commit is made, a page comes": Fault(
        "status", code=200, body="<html>", handled=True, **COMMIT
    ),
    "commit is made, cut short": Fault("close", after=20, **COMMIT),
}


# The same answers, at another step of a push.
_AS_OTHERS = {"create reset", "preupload 500", "PUT 500 once", "commit 429", "commit 412"}
_AS_OTHERS |= {"info 503", "preupload reset", "batch 502", "verify 500", "commit is made, 409"}
_FAIL_AS_OTHERS = {"preupload 500", "commit reset", "commit 401"}
_FAIL_AS_OTHERS |= {"preupload page", "PUT 500", "verify 404", "commit 400"}


@some_of("name", [*PASSING], *(PASSING.keys() - _AS_OTHERS))
def test_N19_what_passes_is_tried_again_and_makes_one_commit(pushed, name):
    hub = pushed[0]
    fault = hub.fault(PASSING[name])
    fault.seen = fault.hits = 0
    info = push_again(pushed)
    assert fault.hits
    assert info.oid == hub.head(REPO) and len(hub.history(REPO)) == 3
    assert info.commit_url.endswith(f"/{REPO}/commit/{info.oid}")
    assert_same(pull()[1], pushed[2])
    assert "model.safetensors" not in hub.files(REPO)
    assert max(hub.waits, default=0) <= 61


FAILING = {
    "create 403": (Fault("status", code=403, **CREATE), None),  # there is one, so it is no matter
    "info 500": (Fault("status", code=500, times=None, **INFO), r"answers 500 \(tried 6 times\)"),
    "preupload 500": (Fault("status", code=500, times=None, **PREUPLOAD), "answers 500"),
    "preupload page": (Fault("html", times=None, **PREUPLOAD), "gives no JSON; a proxy"),
    "batch refuses": (Fault("lfs_error", **BATCH), "refused: .*no space left for this object"),
    "PUT 500": (Fault("status", code=500, times=None, **PUT), "answers 500"),
    "PUT 403": (Fault("status", code=403, **PUT), "403"),
    "PUT reset": (Fault("reset", times=None, **PUT), "cannot be reached"),
    "verify 404": (Fault("status", code=404, **VERIFY), "answers 404"),
    "verify 500": (Fault("status", code=500, times=None, **VERIFY), None),  # the next try finds it
    "ignored": (
        Fault("json", value=lambda j: _ignoring(j), **PREUPLOAD),
        r"model-00001-of-00003.safetensors: the repository's .gitignore leaves it out",
    ),
    "commit page": (Fault("html", **COMMIT), "gives no JSON; a proxy"),
    "commit 400": (Fault("status", code=400, **COMMIT), "answers 400"),
    "commit 401": (Fault("status", code=401, **COMMIT), "log in with `hf auth login`"),
    "commit 403": (Fault("status", code=403, **COMMIT), "refuses .403.: log in"),
    "commit 412": (Fault("status", code=412, times=None, **COMMIT), "other commits came first"),
    "commit 500": (Fault("status", code=500, times=None, **COMMIT), "answers 500"),
    "commit reset": (Fault("reset", times=None, **COMMIT), "cannot be reached"),
    "card refused": (
        Fault(
            "status",
            code=400,
            body='{"errors": [{"message": "license must be one of"}], "warnings": []}',
            path="/api/validate-yaml",
        ),
        "refused: Invalid metadata in README.md. - license must be one of",
    ),
    "refs 404": (Fault("status", code=404, path="/api/models/org/name/refs"), "answers 404"),
}


def _ignoring(answer):
    return {"files": [file | {"shouldIgnore": True} for file in answer["files"]]}


@some_of("name", [*FAILING], *(FAILING.keys() - _FAIL_AS_OTHERS))
def test_N19_what_does_not_pass_leaves_the_branch_and_says_so(pushed, name):
    hub, _, _ = pushed
    fault, said = FAILING[name]
    fault.seen = fault.hits = 0
    before = hub.head(REPO)
    hub.commit(REPO, {"README.md": b"---\nlicense: odd\n---\n"}, revision="main")
    before = hub.head(REPO)
    hub.fault(fault)
    how = {"revision": "new"} if name == "refs 404" else {}
    if said is None:
        push_again(pushed, **how)
        assert fault.hits and hub.head(REPO) != before
        return
    with pytest.raises(fm.HubError, match=said) as raised:
        push_again(pushed, **how)
    assert (
        fault.hits and hub.head(REPO) == before and list(hub.repo(REPO).refs) == ["refs/heads/main"]
    )
    if name not in ("info 500", "refs 404"):
        assert f"nothing was pushed: {REPO} is what it was" in str(raised.value)
    assert raised.value.__cause__ is None
    hub.faults.clear()
    push_again(pushed)
    assert_same(pull()[1], pushed[2])


def test_N19_a_pull_request_is_opened_once(pushed):
    hub = pushed[0]
    hub.fault(Fault("lost", **COMMIT))
    info = push_again(pushed, create_pr=True)
    assert info.pr_revision == "refs/pr/1" and info.oid == hub.head(REPO, "refs/pr/1")
    assert len(commits(hub)) == 1 and "refs/pr/2" not in hub.repo(REPO).refs
    assert_same(pull(revision="refs/pr/1")[1], pushed[2])


def test_N19_when_it_cannot_be_known_it_says_so(pushed):
    hub = pushed[0]
    hub.fault(Fault("lost", **COMMIT))
    hub.fault(Fault("status", code=500, path="/api/models/*/commits/*", times=None))
    with pytest.raises(fm.HubError, match="whether the commit was made is not known") as raised:
        push_again(pushed)
    assert "nothing was pushed" not in str(raised.value)
    hub.faults.clear()
    made = hub.head(REPO)
    assert push_again(pushed).oid == made and len(hub.history(REPO)) == 3


def test_N19_another_commit_right_after_a_lost_answer(pushed):
    """Ours is found below it, and not made again on top."""
    hub = pushed[0]
    hub.fault(Fault("lost", **COMMIT))
    hub.fault(Fault("hook", call=lambda _: hub.commit(REPO, {"x": b"x"}), when="after", **COMMIT))
    info = push_again(pushed)
    assert [commit.oid for commit in hub.history(REPO)][1] == info.oid
    assert len(hub.history(REPO)) == 4


def test_H2_the_branch_moves_while_files_are_uploaded(pushed):
    """The commit follows the other one, removes what that one brought, and keeps its card."""
    hub, model, params = pushed
    theirs = {
        "model.safetensors": b"theirs",
        "flax_model.msgpack": b"theirs",
        "notes.txt": b"theirs",
        "README.md": b"---\ntags: [theirs]\n---\nTheirs.\n",
    }
    hub.fault(Fault("hook", call=lambda _: hub.commit(REPO, theirs), times=1, **PREUPLOAD))
    push_again(pushed)
    there = hub.files(REPO)
    assert not {"model.safetensors", "flax_model.msgpack"} & set(there)
    assert there["notes.txt"] == b"theirs"
    assert there["README.md"].startswith(b"---\ntags: [theirs, flax, jax]\n")
    assert there["README.md"].endswith(b"---\nTheirs.\n")
    assert len(commits(hub)) == 2 and len(hub.history(REPO)) == 4
    assert len({request.path for request in puts(hub)}) == len(puts(hub))
    assert_same(pull()[1], params)


def test_H2_a_file_that_was_there_and_goes_meanwhile_is_in_the_commit(pushed):
    """It was not sent, for the Hub had it; the branch that is committed to has not."""
    hub, model, _ = pushed
    files = {"model.safetensors": b"other", "config.json": b"{}"}
    hub.fault(Fault("hook", call=lambda _: hub.commit(REPO, files), **COMMIT))
    _, params = pull()
    model.push_to_hub(params, REPO, progress=False, tags="new")
    assert_same(pull()[1], params)
    assert hub.files(REPO)["config.json"] != b"{}" and len(commits(hub)) == 2


def test_two_pushes_at_once(logged_in, pair):
    model, params = pair
    trees = [jax.tree.map(lambda x, by=by: x + by, params) for by in (1, 2)]
    hows = [{"max_shard_size": "20KB"}, {"safe_serialization": False}]
    infos = [None, None]
    meet = threading.Barrier(2)

    def wait(request):
        if meet.n_waiting < 2 and len(commits(logged_in)) <= 2:
            meet.wait(20)

    logged_in.fault(Fault("hook", call=wait, times=2, **COMMIT))

    def run(i):
        infos[i] = model.push_to_hub(trees[i], REPO, progress=False, **hows[i])

    threads = [threading.Thread(target=run, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    order = [commit.oid for commit in logged_in.history(REPO)][:2]
    assert sorted(order) == sorted(info.oid for info in infos if info is not None)
    last = next(i for i, info in enumerate(infos) if info is not None and info.oid == order[0])
    assert_same(pull()[1], trees[last])
    assert_same(pull(revision=order[1])[1], trees[1 - last])


def test_P7_5_nobody_is_logged_in(hub, pair):
    for token in (None, True):
        with pytest.raises(fm.HubError, match="nobody is logged in; log in with `hf auth login`"):
            pair[0].push_to_hub(pair[1], REPO, token=token)
    assert hub.requests == []
    with pytest.raises(fm.HubError, match="log in with `hf auth login`"):
        pair[0].push_to_hub(pair[1], REPO, token=False)
    assert not hub.repo(REPO).exists


@pytest.mark.parametrize("token", ["hf_read", "hf_wrong"])
@pytest.mark.parametrize("is_there", [False, True])
def test_P7_5_a_token_that_may_not_write(pushed, token, is_there):
    hub, model, params = pushed
    name, before = (REPO if is_there else "org/new"), hub.head(REPO)
    with pytest.raises(fm.HubError, match=f"{name}.*log in with `hf auth login`, or give token"):
        model.push_to_hub(params, name, token=token, progress=False)
    assert hub.head(REPO) == before and not hub.repo("org/new").exists
    assert puts(hub) == []


def test_P7_1_an_organisation_that_is_not_ones_own(logged_in, pair):
    said = "You don't have the rights to create a model under the namespace"
    logged_in.fault(Fault("status", code=403, body=f'{{"error": "{said} \\"x\\""}}', **CREATE))
    with pytest.raises(fm.HubError, match=f"x/name: the Hub refuses .403.*{said}"):
        pair[0].push_to_hub(pair[1], "x/name")


def test_a_gated_repository_whose_card_may_not_be_read(pushed):
    hub = pushed[0]
    hub.repo(REPO).gated = "manual"
    before = hub.head(REPO)
    with pytest.raises(fm.HubError, match="gated: ask for access.*nothing was pushed"):
        push_again(pushed)
    assert hub.head(REPO) == before
    hub.repo(REPO).allowed.add("hf_write")
    push_again(pushed)


def test_R7_offline(logged_in, pair, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(fm.HubError, match="HF_HUB_OFFLINE is set, so nothing can be pushed"):
        pair[0].push_to_hub(pair[1], REPO)
    assert logged_in.requests == []


def test_the_hub_is_down(pushed):
    hub = pushed[0]
    hub.stop()
    with pytest.raises(fm.HubError, match="cannot be reached at http://127"):
        push_again(pushed)


@pytest.mark.parametrize("how", ["room", "limit"])
def test_a_full_disk(pushed, monkeypatch, how):
    hub, before = pushed[0], pushed[0].head(REPO)
    if how == "room":
        usage = type("Usage", (), {"free": 10})
        monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
        with pytest.raises(fm.HubError, match="the disk has 10 B left.*nothing was pushed"):
            push_again(pushed)
    else:
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        was = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
        try:
            with pytest.raises(fm.HubError, match="File too large.*nothing was pushed"):
                push_again(pushed)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            signal.signal(signal.SIGXFSZ, was)
    assert hub.head(REPO) == before and puts(hub) == []
    monkeypatch.undo()


PROGRAM = """
import sys
import jax
import flaxmodels as fm
model, params = fm.LlamaForCausalLM.from_pretrained(sys.argv[1], progress=False)
params = jax.tree.map(lambda x: x + 1, params)
print("ready", flush=True)
model.push_to_hub(params, "org/name", max_shard_size="20KB", progress=False)
"""


@some_of("at", ["PUT", "COMMIT"], "COMMIT")
def test_kill_9_in_the_middle(pushed, tmp_path, at):
    hub, before = pushed[0], pushed[0].head(REPO)
    child: list[_children.Child] = []
    where = {"PUT": PUT | {"skip": 1}, "COMMIT": COMMIT}[at]

    def kill(request):
        os.kill(child[0].pid, signal.SIGKILL)
        child[0].wait(20)
        if at == "COMMIT":
            raise ConnectionError("nobody is there who sent this")

    hub.fault(Fault("hook", call=kill, **where))
    child.append(
        _children.Child(
            *("-c", PROGRAM, LLAMA),
            env=hub_environment(hub, tmp_path) | {"HF_TOKEN": "hf_write", "TMPDIR": str(tmp_path)},
        )
    )
    try:
        assert child[0].wait(60) == -signal.SIGKILL
    finally:
        child[0].kill()
    assert hub.head(REPO) == before and len(hub.repo(REPO).commits) == 2
    push_again(pushed)
    assert_same(pull()[1], pushed[2])
    assert hub.history(REPO)[1].oid == before


def test_R7_a_token_is_nowhere(logged_in, pair, monkeypatch, caplog, tmp_path, capsys):
    secret = "hf_write"
    caplog.set_level(logging.DEBUG)
    model, params = pair
    said = []
    folder = tmp_path / "saved"
    said.append(repr(model.push_to_hub(params, REPO, token=secret, progress=False)))
    info = model.save_pretrained(params, folder, push_to_hub=True, repo_id=REPO, token=secret)
    said += [repr(info), str(info), repr(model), *map(str, vars(info).values())]
    faults = [
        Fault("status", code=403, body='{"error": "no: hf_write"}', **COMMIT),
        Fault("status", code=500, body="Bearer hf_write is no good", times=None, **PUT),
        Fault("reset", times=None, **COMMIT),
        Fault("lfs_error", message="hf_write", times=None, **BATCH),
        Fault("redirect", to="https://u:hf_leaked@127.0.0.1/x?q=hf_leaked", times=None, **COMMIT),
        Fault("status", code=401, body="hf_write", times=None, **PREUPLOAD),
    ]
    for by, fault in enumerate(faults, 1):
        logged_in.faults = [fault]
        changed = jax.tree.map(lambda x, by=by: x + by, params)
        with pytest.raises(fm.HubError) as raised:
            model.push_to_hub(changed, REPO, token=secret, progress=False)
        assert fault.hits
        error: BaseException | None = raised.value
        said += [str(error), repr(error)]
        assert error.__cause__ is None and error.__suppress_context__
    assert not [text for text in said if "hf_leaked" in text]
    captured = capsys.readouterr()
    said += [captured.out, captured.err, caplog.text]
    said += [path.read_bytes().decode("latin-1") for path in folder.iterdir()]
    said += [data.decode("latin-1") for data in logged_in.files(REPO).values()]
    assert not [text for text in said if secret in text]
    bodies = [request.body for request in logged_in.requests]
    assert not [body for body in bodies if secret.encode() in body]
    assert {request.token for request in logged_in.requests if request.port == "cdn"} == {None}
    assert {request.token for request in logged_in.requests if request.port == "hub"} == {secret}


@pytest.mark.parametrize("name", [".env", ".git/config", "a/.netrc", "token", "link"])
def test_what_is_private_is_not_published(name, logged_in, tmp_path):
    (tmp_path / "secret").write_text("hf_SECRET")

    def write(folder):
        (folder / "tokenizer.json").write_text("{}")
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(tmp_path / "secret") if name == "link" else path.write_text("hf_SECRET")

    with pytest.raises(fm.CheckpointError, match="hidden files and tokens|leads out of the folder"):
        fm.push_files(write, REPO)
    assert commits(logged_in) == []

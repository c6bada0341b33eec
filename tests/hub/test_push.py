"""From a tree to the Hub: what one push makes of a repository, and how it reads back."""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import _children
import jax
import numpy as np
import pytest
from _paths import LLAMA, ROOT
from _pushes import REPO, assert_same, commits, pull, puts
from loopback.client import hub_environment

import flaxmodels as fm
from flaxmodels import hub
from flaxmodels import params as fp
from flaxmodels import sharding as fs
from flaxmodels.checkpoints.publishing import push_commit as releasing
from flaxmodels.checkpoints.publishing.push import upload
from flaxmodels.commands.cli import main
from flaxmodels.hub import upload as push_module
from flaxmodels.params.formats import FolderFile

WHOLE = {".gitattributes", "README.md", "config.json", "generation_config.json"}
SHARDS = {
    "model-00001-of-00003.safetensors",
    "model-00002-of-00003.safetensors",
    "model-00003-of-00003.safetensors",
    "model.safetensors.index.json",
}
HOW = {
    "single": ({}, {"model.safetensors"}),
    "sharded": ({"max_shard_size": "20KB"}, SHARDS),
    "msgpack": ({"safe_serialization": False}, {"flax_model.msgpack"}),
    "orbax": ({"format": "orbax"}, None),
}


def push(pair, name=REPO, **how):
    return pair[0].push_to_hub(pair[1], name, progress=False, **how)


@pytest.mark.parametrize("how", HOW)
def test_P7_6_8_F5_D19_pushed_and_pulled_is_bit_equal(logged_in, pair, how):
    given, names = HOW[how]
    info = push(pair, **given)
    assert info.oid == logged_in.head(REPO) and info.pr_url is None
    assert info.commit_url == f"{logged_in.endpoint}/{REPO}/commit/{info.oid}"
    assert len(logged_in.history(REPO)) == 2 and len(commits(logged_in)) == 1
    if names is not None:
        assert set(logged_in.files(REPO)) == WHOLE | names
    model, params = pull()
    assert model == pair[0].clone(config=model.config, generation_config=model.generation_config)
    assert_same(params, pair[1])


def test_P7_P10_quantised_weights_are_pushed_in_a_layout(logged_in, pair):
    packed = fp.quantize(pair[1], "float8_block", lambda path, _: path.endswith("_proj/kernel"))
    push((pair[0], packed), quant_method="fp8")
    config = json.loads(logged_in.files(REPO)["config.json"])
    assert config["quantization_config"]["quant_method"] == "fp8"
    _, params = pull()
    path = "model/layers/0/mlp/up_proj/kernel"
    found, expected = (fp.get_leaf(tree, path) for tree in (params, packed))
    np.testing.assert_array_equal(found.dense(np.float32), expected.dense(np.float32))


@pytest.mark.parametrize("scan", [False, True])
def test_R2_leaves_on_eight_devices_stacked_or_not(logged_in, pair, scan):
    mesh = fs.make_mesh(fsdp=4, tensor=2)
    rules = (("vocab", None), *fs.DEFAULT_RULES)
    model, spread = pull(LLAMA, mesh=mesh, rules=rules, scan_layers=scan)
    model.push_to_hub(spread, REPO, max_shard_size="20KB", progress=False)
    push(pair, "org/alone", max_shard_size="20KB")
    spread_files, alone = logged_in.files(REPO), logged_in.files("org/alone")
    assert {name: spread_files[name] for name in SHARDS} == {name: alone[name] for name in SHARDS}
    _, back = pull(mesh=mesh, rules=rules, scan_layers=scan)
    assert_same(back, spread)


def test_P7_6_one_shard_at_a_time_is_on_the_disk(logged_in, pair, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    there = []

    def look(request):
        there.append([path.name for path in tmp_path.rglob("*.safetensors")])

    logged_in.fault(_hook("PUT", "/lfs/put/*", look))
    push(pair, max_shard_size="20KB")
    shards = sorted(SHARDS)[:3]
    assert there[:3] == [[name] for name in shards] and there[3:] == [[]]  # the index is large too
    assert not list(tmp_path.rglob("flaxmodels-push-*"))


def _hook(method, path, call):
    from loopback import Fault

    return Fault("hook", method=method, path=path, times=None, call=call)


def test_what_is_there_is_not_sent_again(logged_in, pair):
    first = push(pair, max_shard_size="20KB")
    sent = len(puts(logged_in))
    again = push(pair, max_shard_size="20KB")
    assert again.oid == first.oid == logged_in.head(REPO)
    assert len(puts(logged_in)) == sent and len(commits(logged_in)) == 1
    model, params = pair
    changed = params | {"lm_head": {"kernel": params["lm_head"]["kernel"] + 1}}
    model.push_to_hub(changed, REPO, max_shard_size="20KB", progress=False)
    assert len(puts(logged_in)) == sent + 1
    assert_same(pull()[1], changed)


def test_P7_stale_weights_go_in_the_same_commit(logged_in, pair):
    push(pair)
    logged_in.commit(
        REPO, {"notes.txt": b"mine", "model.fp16.safetensors": b"x", "sub/model.safetensors": b"y"}
    )
    push(pair, max_shard_size="20KB")
    kept = {"notes.txt", "model.fp16.safetensors", "sub/model.safetensors"}
    assert set(logged_in.files(REPO)) == WHOLE | SHARDS | kept
    assert "model.safetensors" in logged_in.history(REPO)[1].files
    assert_same(pull()[1], pair[1])
    push(pair, safe_serialization=False)
    assert set(logged_in.files(REPO)) == WHOLE | kept | {"flax_model.msgpack"}
    push(pair, format="orbax")
    push(pair)
    assert set(logged_in.files(REPO)) == WHOLE | kept | {"model.safetensors"}


def test_P7_1_own_namespace(logged_in, pair):
    info = push(pair, "mine")
    assert info.repo_url.repo_id == "tester/mine" and logged_in.head("tester/mine") == info.oid


@pytest.mark.parametrize("name", ["a/b/c", "-x", "org/na me", "org/..", "", "org/" + "x" * 100])
def test_P7_1_what_is_no_name_is_refused_before_any_request(logged_in, pair, name):
    with pytest.raises(fm.HubError, match="nor a repository"):
        push(pair, name)
    assert logged_in.requests == []


def test_P7_6_what_can_be_known_before_is_found_before_any_request(logged_in, pair):
    model, params = pair
    with pytest.raises(TypeError, match="repo_id is a dict; give .*, after the params"):
        model.push_to_hub(REPO, params)
    with pytest.raises(ValueError, match="max_shard_size is '5 parsecs'"):
        push(pair, max_shard_size="5 parsecs")
    with pytest.raises(ValueError, match="format is 'h5'; what can be written is safetensors"):
        push(pair, format="h5")
    with pytest.raises(fm.CheckpointError, match="lm_head/kernel is not in the params"):
        model.push_to_hub({"model": params["model"]}, REPO)
    assert logged_in.requests == []


@pytest.mark.parametrize("use_temp_dir", [None, False, True])
def test_P7_2_a_folder_called_like_the_repository(
    logged_in, pair, monkeypatch, tmp_path, use_temp_dir
):
    monkeypatch.chdir(tmp_path)
    folder = Path(REPO)
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    (folder / "tokenizer.json").write_text("{}")
    push(pair, use_temp_dir=use_temp_dir, max_shard_size="20KB", checksums=True)
    weights = {path.name for path in folder.glob("model*")}
    assert bool(weights) is (use_temp_dir is not True)
    there = set(logged_in.files(REPO))
    assert "notes.txt" not in there and ("tokenizer.json" in there) is bool(weights)
    assert weights <= there
    assert_same(pull(f"hf://{REPO}", verify=True)[1], pair[1])


def test_P7_2_a_variant_from_a_folder(logged_in, pair, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    push(pair)
    push(pair, use_temp_dir=False, variant="x")
    assert {"model.safetensors", "model.x.safetensors"} <= set(logged_in.files(REPO))
    assert_same(pull(f"hf://{REPO}", variant="x")[1], pair[1])


def test_P7_2_without_one_it_is_made_if_it_is_asked_for(logged_in, pair, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    push(pair)
    assert list(tmp_path.glob("org")) == []
    push(pair, use_temp_dir=False)
    assert (tmp_path / REPO / "model.safetensors").exists()


def test_P7_3_10_what_the_commit_says(logged_in, pair):
    push(pair)
    assert logged_in.history(REPO)[0].summary == "Upload model"
    changed = jax.tree.map(lambda x: x + 1, pair[1])
    info = pair[0].push_to_hub(
        changed, REPO, commit_message="Plus one", commit_description="All of it", progress=False
    )
    commit = logged_in.history(REPO)[0]
    assert (commit.summary, commit.description) == ("Plus one", "All of it")
    assert (info.commit_message, info.commit_description) == ("Plus one", "All of it")


@pytest.mark.parametrize("private", [None, False, True])
def test_P7_4_private(logged_in, pair, private):
    push(pair, private=private)
    asked = logged_in.requests.of("POST", "/api/repos/create")[0].json()
    assert asked.get("visibility") == {None: None, False: "public", True: "private"}[private]
    push(pair, private=not private)  # it is there already
    assert logged_in.repo(REPO).private is bool(private)


@pytest.mark.parametrize("token", [None, True, "hf_write"])
def test_P7_5_T5_D20_token(logged_in, pair, monkeypatch, token):
    if isinstance(token, str):
        monkeypatch.delenv("HF_TOKEN")
    push(pair, token=token)
    asked = [r for r in logged_in.requests if r.port == "hub"]
    assert {r.token for r in asked} == {"hf_write"}
    assert {r.token for r in logged_in.requests if r.port == "cdn"} == {None}


def test_T5_use_auth_token_is_the_old_name(logged_in, pair, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.warns(FutureWarning, match="give token") as warned:
        push(pair, use_auth_token="hf_write")
    assert warned[0].filename == __file__
    with pytest.warns(FutureWarning), pytest.raises(TypeError, match="give token alone"):
        push(pair, use_auth_token="hf_write", token="hf_write")


def test_P7_7_create_pr(logged_in, pair):
    before = push(pair).oid
    changed = jax.tree.map(lambda x: x * 2, pair[1])
    info = pair[0].push_to_hub(changed, REPO, create_pr=True, progress=False)
    assert (info.pr_num, info.pr_revision) == (1, "refs/pr/1")
    assert logged_in.head(REPO) == before and logged_in.head(REPO, "refs/pr/1") == info.oid
    assert_same(pull()[1], pair[1])
    assert_same(pull(revision="refs/pr/1")[1], changed)


def test_P7_9_revision(logged_in, pair):
    before = push(pair).oid
    changed = jax.tree.map(lambda x: x * 2, pair[1])
    info = pair[0].push_to_hub(changed, REPO, revision="half/done", progress=False)
    assert logged_in.head(REPO) == before and logged_in.head(REPO, "half/done") == info.oid
    assert [c.oid for c in logged_in.history(REPO, "half/done")][1] == before
    assert_same(pull(revision="half/done")[1], changed)
    again = push(pair, revision="half/done")
    assert [c.oid for c in logged_in.history(REPO, "half/done")][:2] == [again.oid, info.oid]
    assert_same(pull(revision="half/done")[1], pair[1])


def test_P7_9_a_branch_on_which_nothing_differs_is_made(logged_in, pair):
    before = push(pair)
    assert push(pair, revision="same").oid == before.oid == logged_in.head(REPO, "same")
    assert len(commits(logged_in)) == 1


def test_P7_9_a_pull_request_that_is_there(logged_in, pair):
    push(pair, create_pr=True)
    changed = jax.tree.map(lambda x: x * 2, pair[1])
    pair[0].push_to_hub(changed, REPO, revision="refs/pr/1", progress=False)
    assert_same(pull(revision="refs/pr/1")[1], changed)
    assert set(logged_in.files(REPO)) == {".gitattributes"}


def test_P7_9_what_is_no_branch(logged_in, pair):
    head = push(pair).oid
    logged_in.repo(REPO).refs["refs/tags/v1"] = head
    for revision, said in (("v1", "a tag"), (head, "a commit"), ("a/../b", "not a branch")):
        with pytest.raises(fm.HubError, match=said):
            push(pair, revision=revision)
    assert set(logged_in.repo(REPO).refs) == {"refs/heads/main", "refs/tags/v1"}


@pytest.mark.parametrize(
    ("old", "advice"),
    [
        ("repo_url", "repo_id"),
        ("repo_path_or_name", "save_pretrained"),
        ("organization", "organisation/name"),
        ("repo_name", "organisation/name"),
    ],
)
def test_P7_12_D21_old_names(logged_in, pair, tmp_path, old, advice):
    with pytest.raises(TypeError, match=f"no {old} any more; give .*{advice}"):
        push(pair, **{old: "x"})
    with pytest.raises(TypeError, match=f"no {old} any more"):
        pair[0].save_pretrained(pair[1], tmp_path / "s", push_to_hub=True, **{old: "x"})
    with pytest.raises(TypeError, match="no colour; for the card it takes language"):
        push(pair, colour="red")
    assert logged_in.requests == [] and list(tmp_path.iterdir()) == []


def test_P7_11_P8_tags(logged_in, pair):
    model, params = pair
    tagged = model.add_model_tags("small").add_model_tags(["a", "small", "b"])
    assert tagged.model_tags == ("small", "a", "b") and model.model_tags == ()
    assert tagged == model and hash(tagged) == hash(model)
    tagged.push_to_hub(params, REPO, tags=["c", "a"], progress=False)
    assert _metadata(logged_in)["tags"] == ["flax", "jax", "small", "a", "b", "c"]
    card = logged_in.files(REPO)["README.md"]
    model.add_model_tags("d").push_to_hub(params, REPO, tags="e", progress=False)
    assert _metadata(logged_in)["tags"] == ["flax", "jax", "small", "a", "b", "c", "d", "e"]
    more = logged_in.files(REPO)["README.md"]
    assert more.replace(b"- d\n- e\n", b"") == card
    assert pull()[0].model_tags == ()  # they are in the card


def _metadata(hub, name=REPO, revision="main"):
    from huggingface_hub import ModelCard

    return ModelCard(hub.files(name, revision)["README.md"].decode()).data.to_dict()


def test_P28_5_9_11_T21_F10_save_and_push(logged_in, pair, tmp_path, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    model, params = pair
    folder = tmp_path / "small-llama"
    folder.mkdir()
    for name in ("notes.txt", "README.txt"):
        (folder / name).write_text("mine")
    info = model.save_pretrained(
        params,
        folder,
        push_to_hub=True,
        max_shard_size="20KB",
        token="hf_write",
        private=True,
        tags=["t"],
        commit_message="From a folder",
        license="mit",
    )
    name = "tester/small-llama"
    assert info.oid == logged_in.head(name) and logged_in.repo(name).private
    assert logged_in.history(name)[0].summary == "From a folder"
    there = logged_in.files(name)
    saved = {path.name: path.read_bytes() for path in folder.iterdir()}
    pushed = set(saved) - {"notes.txt", "README.txt"}
    assert {name: there[name] for name in pushed} == {name: saved[name] for name in pushed}
    assert set(there) - pushed == {"README.md", ".gitattributes"}
    assert (_metadata(logged_in, name)["license"], "t" in _metadata(logged_in, name)["tags"]) == (
        "mit",
        True,
    )
    info = model.save_pretrained(
        jax.tree.map(lambda x: x + 1, params),
        folder,
        push_to_hub=True,
        repo_id=REPO,
        create_pr=True,
        safe_serialization=False,
        token="hf_write",
    )
    assert info.pr_revision == "refs/pr/1" and logged_in.history(REPO)[0].files.keys() == {
        ".gitattributes"
    }
    assert "flax_model.msgpack" in logged_in.files(REPO, "refs/pr/1")
    assert model.save_pretrained(params, folder) is None


def test_P28_5_a_folder_that_is_no_name_is_not_saved(logged_in, pair, tmp_path):
    with pytest.raises(fm.HubError, match="nor a repository"):
        pair[0].save_pretrained(pair[1], tmp_path / "not a name", push_to_hub=True)
    assert list(tmp_path.iterdir()) == [] and logged_in.requests == []


def test_P7_tokenizer_from_a_repository(logged_in, pair, tmp_path):
    tokenizer = {"tokenizer.json": b"{}", "vocab.txt": b"a\nb\n", "merges.txt": b"", "x.txt": b"no"}
    logged_in.commit("org/words", tokenizer)
    push(pair, tokenizer_from="org/words")
    there = logged_in.files(REPO)
    assert {n: there.get(n) for n in tokenizer} == tokenizer | {"x.txt": None}
    pair[0].save_pretrained(pair[1], tmp_path / "saved", tokenizer_from="org/words")
    names = {path.name for path in (tmp_path / "saved").iterdir()}
    assert names == {"tokenizer.json", "vocab.txt", "merges.txt", "config.json"} | {
        "generation_config.json",
        "model.safetensors",
    }
    pair[0].save_pretrained(pair[1], tmp_path / "again", tokenizer_from=tmp_path / "saved")
    assert (tmp_path / "again" / "vocab.txt").read_bytes() == b"a\nb\n"
    before = logged_in.head(REPO)
    with pytest.raises(fm.CheckpointError, match="no files of a tokenizer"):
        push(pair, tokenizer_from=LLAMA)
    with pytest.raises(fm.CheckpointError, match="no files of a tokenizer"):
        pair[0].save_pretrained(pair[1], tmp_path / "saved", tokenizer_from=LLAMA)
    assert logged_in.head(REPO) == before
    assert {path.name for path in (tmp_path / "saved").iterdir()} == names


def test_checksums_are_kept_up(logged_in, pair):
    push(pair, checksums=True)
    pull(verify=True)
    pair[0].push_to_hub(
        jax.tree.map(lambda x: x + 1, pair[1]), REPO, max_shard_size="20KB", progress=False
    )
    pull(verify=True)
    listed = json.loads(logged_in.files(REPO)["checksums.json"])["sha256"]
    assert "model.safetensors" not in listed and SHARDS <= set(listed)
    logged_in.commit(REPO, {"checksums.json": b"of somebody else"})
    push(pair)
    assert logged_in.files(REPO)["checksums.json"] == b"of somebody else"


def test_variants_live_side_by_side(logged_in, pair):
    push(pair)
    half = fp.to_bf16(pair[1])
    pair[0].push_to_hub(half, REPO, variant="bf16", progress=False)
    assert {"model.safetensors", "model.bf16.safetensors"} <= set(logged_in.files(REPO))
    assert_same(pull(variant="bf16")[1], half)
    assert_same(pull()[1], pair[1])


def test_H1_H2_whatever_writes_files_can_be_pushed(logged_in):
    def write(folder: Path) -> None:
        (folder / "deep" / "er").mkdir(parents=True)
        (folder / "tokenizer.json").write_bytes(b"{}")
        (folder / "deep" / "er" / "big.bin").write_bytes(b"x" * 5000)
        (folder / "empty").touch()

    info = fm.push_files(write, REPO, what="tokenizer", tags="words", private=True)
    assert logged_in.files(REPO).keys() - {".gitattributes"} == {
        "tokenizer.json",
        "deep/er/big.bin",
        "empty",
        "README.md",
    }
    commit = logged_in.history(REPO)[0]
    assert (commit.oid, commit.summary) == (info.oid, "Upload tokenizer")
    assert _metadata(logged_in) == {"tags": ["words"]} and logged_in.repo(REPO).private
    again = fm.push_files(
        lambda folder: (folder / "a").write_text("b"),
        REPO,
        create_pr=True,
        commit_message="A",
        commit_description="B",
    )
    assert logged_in.history(REPO, again.pr_revision)[0].summary == "A"
    assert logged_in.head(REPO) == info.oid


def test_H2_what_is_no_argument_is_said_before_any_request(logged_in):
    for how, said in (
        ({"write": "folder"}, "write is 'folder'; expected a function"),
        ({"private": "yes"}, "private is 'yes'; expected True or False"),
        ({"create_pr": 1}, "create_pr is 1; expected True or False"),
        ({"tags": 5}, "5 is no word"),
        ({"tags": ["a", 5]}, "5 is no word"),
        ({"tags": {"a": 1}}, "is no word"),
    ):
        with pytest.raises(TypeError, match=said):
            fm.push_files(**{"write": lambda folder: None, "repo_id": REPO, **how})
    with pytest.raises(fm.HubError, match="5' is not a branch"):
        fm.push_files(lambda folder: None, REPO, revision=5)
    assert not logged_in.requests


def test_H2_an_error_of_the_writer_is_raised_and_nothing_pushed(logged_in):
    def write(folder):
        (folder / "a").write_text("b")
        raise KeyError("the tokenizer's own")

    with pytest.raises(KeyError, match="own"):
        fm.push_files(write, REPO)
    assert set(logged_in.files(REPO)) == {".gitattributes"} and commits(logged_in) == []


def test_upload_and_download_commands(logged_in, pair, tmp_path, capsys):
    folder = tmp_path / "saved"
    pair[0].save_pretrained(pair[1], folder, max_shard_size="20KB")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "notes.txt").write_text("mine")
    arguments = ["--tag", "x", "--tag", "y", "--message", "Here", "--license", "mit", "--private"]
    assert main(["upload", str(folder), REPO, *arguments]) == 0
    url = capsys.readouterr().out.strip()
    assert url == f"{logged_in.endpoint}/{REPO}/commit/{logged_in.head(REPO)}"
    assert set(logged_in.files(REPO)) == WHOLE | SHARDS | {"tokenizer.json"}
    assert logged_in.history(REPO)[0].summary == "Here"
    assert _metadata(logged_in)["tags"][-2:] == ["x", "y"]
    assert main(["upload", str(folder), REPO, "--create-pr", "--tag", "z"]) == 0
    assert capsys.readouterr().out.strip() == f"{logged_in.endpoint}/{REPO}/discussions/1"
    assert main(["download", REPO, "--cache-dir", str(tmp_path / "cache")]) == 0
    back = Path(capsys.readouterr().out.strip())
    assert back.is_relative_to(tmp_path / "cache")
    assert SHARDS | {"tokenizer.json", "config.json"} <= {path.name for path in back.iterdir()}
    assert_same(pull(back)[1], pair[1])
    assert main(["upload", str(tmp_path / "absent"), REPO]) == 1
    assert "absent" in capsys.readouterr().err
    assert main(["download", "org/absent"]) == 1
    assert "no such repository" in capsys.readouterr().err


def test_upload_takes_only_what_we_write(logged_in, pair, tmp_path):
    from flaxmodels.checkpoints.publishing.push import upload

    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(fm.CheckpointError, match="no weights to push.*found pytorch_model.bin"):
        upload(tmp_path, REPO, model=pair[0])
    assert logged_in.requests == []


@pytest.mark.parametrize("how", ["upload", "push_files"])
def test_what_a_user_names_is_pushed_as_it_is_and_code_in_it_is_said(
    logged_in, pair, tmp_path, how
):
    text = '{"auto_map": {"AutoTokenizer": ["mine--tok.Tok", null]}}'
    folder = tmp_path / "saved"
    pair[0].save_pretrained(pair[1], folder, progress=False)
    (folder / "tokenizer_config.json").write_text(text)
    with pytest.warns(UserWarning, match="'tokenizer_config.json' is pushed with auto_map, which"):
        if how == "upload":
            upload(folder, REPO, model=pair[0], params=pair[1])
        else:
            fm.push_files(lambda out: (out / "tokenizer_config.json").write_text(text), REPO)
    assert logged_in.files(REPO)["tokenizer_config.json"] == text.encode()


def test_a_link_that_comes_between_the_check_and_the_upload(logged_in, pair, tmp_path, monkeypatch):
    """Weights too become what the check saw, or nothing."""
    folder, secret = tmp_path / "saved", tmp_path / "token"
    pair[0].save_pretrained(pair[1], folder, progress=False)
    secret.write_text("not for the world")

    def swapped(*args, **how):
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors").symlink_to(secret)
        return hub.pushing(*args, **how)

    monkeypatch.setattr(releasing, "hub", SimpleNamespace(**{**vars(hub), "pushing": swapped}))
    with pytest.raises(fm.HubError, match="leads out of the folder.*nothing was pushed"):
        upload(folder, REPO, model=pair[0], params=pair[1])
    assert not commits(logged_in) and not puts(logged_in)


def test_a_folder_is_uploaded_by_few_copies_at_a_time(logged_in, pair, tmp_path, monkeypatch):
    folder = tmp_path / "saved"
    pair[0].save_pretrained(pair[1], folder, max_shard_size="20KB", progress=False)
    monkeypatch.setattr(push_module, "_MOST_WAITING", 30_000)
    most, copy = [], FolderFile.copy

    def counted(file, target, *args):
        made = copy(file, target, *args)
        most.append(len(list(Path(target).glob("*.safetensors"))))
        return made

    monkeypatch.setattr(FolderFile, "copy", counted)
    upload(folder, REPO, model=pair[0], params=pair[1])
    assert max(most) <= 2 < len(list(folder.glob("*.safetensors")))
    assert_same(pull()[1], pair[1])


def test_a_card_of_the_folder_is_pushed_as_it_is_but_for_metadata(logged_in, pair, tmp_path):
    folder = tmp_path / "saved"
    logged_in.commit(REPO, {"README.md": b"---\ntags:\n- old\n---\nold\n"})
    pair[0].save_pretrained(pair[1], folder)
    (folder / "README.md").write_bytes(b"---\nlicense: mit\n---\nmine\n")
    pair[0].save_pretrained(pair[1], folder, push_to_hub=True, repo_id=REPO)
    there = logged_in.files(REPO)["README.md"]
    assert there.startswith(b"---\nlicense: mit\nlibrary_name: flaxmodels\n")
    assert there.endswith(b"---\nmine\n")
    assert (folder / "README.md").read_bytes() == b"---\nlicense: mit\n---\nmine\n"


def test_a_model_says_where_it_is_from(logged_in, pair):
    push(pair, "org/first")
    model, params = pull("org/first")
    assert model.origin == "org/first" and pair[0].origin is None and model == pull("org/first")[0]
    model.push_to_hub(params, "org/second", progress=False)
    assert _metadata(logged_in, "org/second")["base_model"] == "org/first"
    model.push_to_hub(params, "org/first", progress=False)
    assert "base_model" not in _metadata(logged_in, "org/first")


@pytest.mark.parametrize("progress", [False, True])
def test_bars_are_shown_or_not(logged_in, pair, capsys, monkeypatch, progress):
    from huggingface_hub import utils

    monkeypatch.setattr(
        sys.modules["huggingface_hub.utils.tqdm"], "HF_HUB_DISABLE_PROGRESS_BARS", None
    )
    monkeypatch.setenv("TQDM_POSITION", "-1")  # though this is no terminal
    utils.enable_progress_bars()
    pair[0].push_to_hub(pair[1], REPO, progress=progress)
    assert ("model.safetensors" in capsys.readouterr().err) is progress
    assert not utils.are_progress_bars_disabled()


PROGRAM = """
import json, os, sys
rank, port, source = int(sys.argv[1]), sys.argv[2], sys.argv[3]
os.environ["XLA_FLAGS"] += " --xla_force_host_platform_device_count=4"
import flaxmodels as fm
from flaxmodels import sharding as fs
fs.initialize(coordinator_address=f"127.0.0.1:{port}", num_processes=2, process_id=rank)
mesh = fs.make_mesh(stage=2, fsdp=2, tensor=2)
rules = (("layers", "stage"), ("vocab", None), *fs.DEFAULT_RULES)
model, params = fm.LlamaForCausalLM.from_pretrained(
    source, mesh=mesh, rules=rules, scan_layers=True, progress=False
)
said = []
for name, how in (("org/name", {}), ("org/name", {"create_pr": True, "safe_serialization": False}),
                  ("nobody/name", {}), ("org/name", {"use_temp_dir": False})):
    try:
        info = model.push_to_hub(params, name, max_shard_size="20KB", progress=False, **how)
        said.append([info.oid, info.commit_url, info.pr_url])
    except fm.CheckpointError as error:
        said.append(str(error))
print(json.dumps(said))
"""


def test_R6_one_process_pushes_and_all_get_the_commit(logged_in, pair, tmp_path):
    import socket

    from loopback import Fault

    refusal = {"code": 403, "path": "/api/models/nobody/*", "times": None}
    logged_in.fault(Fault("status", **refusal))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = hub_environment(logged_in, tmp_path)
    processes = [
        _children.Child(
            *("-c", PROGRAM, str(rank), port, LLAMA),
            env=environment | ({"HF_TOKEN": "hf_write"} if rank == 0 else {}),
            cwd=tmp_path,
        )
        for rank in range(2)
    ]
    try:
        outs = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert all(process.returncode == 0 for process in processes), outs
    first, second = (json.loads(out.splitlines()[-1]) for out, _ in outs)
    assert first[:2] == second[:2] and first[3] == second[3]
    assert second[2].startswith("process 0 failed: HubError: ") and "403" in first[2]
    assert first[0][0] == logged_in.history(REPO)[-2].oid
    assert first[1][2].endswith("/discussions/1")
    assert len(commits(logged_in)) == 3 and {r.token for r in commits(logged_in)} == {"hf_write"}
    assert_same(pull()[1], pair[1])
    assert_same(pull(revision="refs/pr/1")[1], pair[1])
    assert os.path.exists(tmp_path / REPO / "model.safetensors.index.json")


def test_docs_snippets_of_up_run(logged_in, tmp_path):
    import re

    text = (ROOT / "docs" / "hub.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text.partition("## Up")[2], re.DOTALL)
    assert len(blocks) >= 2
    script = tmp_path / "up.py"
    script.write_text("\n".join(blocks))
    run = _children.run(
        script,
        env=hub_environment(logged_in, tmp_path) | {"HF_TOKEN": "hf_write"},
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert "model.safetensors" in logged_in.files("org/name")

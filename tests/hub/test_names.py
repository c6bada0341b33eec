"""What a repository, a folder or a file of one may be called, and at which revision."""

import os
import shutil

import jax
import pytest
from _downloads import (
    CONFIG,
    INDEX,
    NAME,
    SHARDS,
    asked,
    assert_same,
    files_of,
    is_whole,
    load,
    no_pauses,
    refused,
)
from _paths import GOLDENS, LLAMA, SHARDED

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels.hub import HubError, push_files

TORCH = GOLDENS / "formats" / "torch" / "llama"
TF = GOLDENS / "formats" / "tf"
PUBLIC = "https://huggingface.co"
AUTO = fm.AutoModelForCausalLM


@pytest.fixture(autouse=True)
def commit(hub, monkeypatch):
    no_pauses(monkeypatch)
    return hub.commit(NAME, files_of(SHARDED) | {"README.md": b"x"})


ADDRESSES = {
    "id": "org/name",
    "hf": "hf://org/name",
    "hf-slash": "hf://org/name/",
    "hf-revision": "hf://org/name@main",
    "hf-ref": "hf://org/name@refs/pr/1",
    "hf-ref-quoted": "hf://org/name@refs%2Fpr%2F1",
    "hf-branch": "hf://org/name@side%2Fway",
    "page": "{hub}/org/name",
    "page-slash": "{hub}/org/name/",
    "tree": "{hub}/org/name/tree/main",
    "tree-ref": "{hub}/org/name/tree/refs/pr/1",
    "tree-ref-quoted": "{hub}/org/name/tree/refs%2Fpr%2F1",
    "tree-branch": "{hub}/org/name/tree/side%2Fway",
    "index": "{hub}/org/name/resolve/main/model.safetensors.index.json",
    "index-query": "{hub}/org/name/resolve/main/model.safetensors.index.json?download=true",
    "index-blob": "{hub}/org/name/blob/main/model.safetensors.index.json",
    "index-raw": "{hub}/org/name/raw/v1/model.safetensors.index.json",
    "hf-index": "hf://org/name@v1/model.safetensors.index.json",
    "public": PUBLIC + "/org/name",
    "public-www": "https://www.huggingface.co/org/name/tree/main",
    "public-short": "https://hf.co/org/name/resolve/main/model.safetensors.index.json",
}


def test_P13_1a_addresses(hub, commit):
    refs = ("refs/pr/1", "refs/heads/side/way", "refs/tags/v1")
    hub.repo(NAME).refs |= dict.fromkeys(refs, commit)
    for kind, name in ADDRESSES.items():
        hub.requests.clear()
        _, params, info = load(name.format(hub=hub.endpoint), output_loading_info=True)
        assert is_whole(params) and info.revision == commit and hub.requests, kind


FOLDERS = [
    "{hub}/org/deep/tree/main/a/b c",
    "{hub}/org/deep/tree/main/a/b%20c",
    "hf://org/deep/a/b c",
]
FILES = [
    "{hub}/org/deep/resolve/main/a/b%20c/model.safetensors",
    "hf://org/deep/a/b c/model.safetensors",
]


@pytest.mark.parametrize("name", [*FOLDERS, *FILES])
def test_P13_27_a_folder_of_a_repository_by_its_address(name, hub):
    hub.commit("org/deep", files_of(LLAMA, "a/b c/") | files_of(SHARDED))
    assert_same(load(name.format(hub=hub.endpoint))[1], LLAMA)
    assert all(path.startswith("a/b c/") for path in asked(hub))


@pytest.mark.parametrize("where", ["a", "a/b", "a/b/"])
def test_P13_27_subfolder(where, hub, commit):
    hub.commit("org/deep", files_of(LLAMA, f"{where.rstrip('/')}/") | files_of(SHARDED))
    _, params, info = load("org/deep", subfolder=where.rstrip("/"), output_loading_info=True)
    assert_same(params, LLAMA)
    assert info.revision == hub.head("org/deep")
    assert_same(load("hf://org/deep/" + where, force_download=True)[1], LLAMA)
    assert is_whole(load("org/deep")[1])
    with pytest.raises(HubError, match="org/deep@.*: the repository has no b/c"):
        load("org/deep", subfolder="b/c")
    with pytest.raises(fm.CheckpointError, match="is not a folder of a repository"):
        load("org/deep", subfolder="../x")


@pytest.mark.parametrize(
    "name",
    [
        "hf://org",
        "hf://",
        "hf://datasets/org/name",
        "{hub}/org",
        "{hub}/org/name/discussions/1",
        "{hub}/",
    ],
)
def test_an_address_that_is_none(name, hub):
    with pytest.raises(fm.CheckpointError, match="expected .*organisation/name"):
        load(name.format(hub=hub.endpoint))
    assert not hub.requests


@pytest.mark.parametrize(
    "name", ["a/b/c", "a b/c", " ", "\t/x", "-x/y", "x/y.git", "x--y/z", "a" * 200]
)
def test_a_name_that_is_none(name, hub):
    with pytest.raises(HubError, match="no such folder(, nor a repository| or file)") as caught:
        load(name)
    assert str(caught.value).startswith((repr(name), repr(name)[:100]))  # blanks can be seen
    assert not hub.requests


def test_P13_1b_a_folder_is_taken_before_a_repository(hub, tmp_path, monkeypatch):
    shutil.copytree(LLAMA, tmp_path / "org" / "name")
    monkeypatch.chdir(tmp_path)
    assert_same(load(NAME)[1], LLAMA)
    with pytest.warns(UserWarning, match="org/name is on this machine, and has no revisions: 'v2'"):
        load(NAME, revision="v2")
    assert not hub.requests
    with pytest.raises(fm.CheckpointError, match="no such folder or file"):
        load("./org/other")


def test_T9_1_F7_1_one_file_and_a_configuration(hub):
    """`from_pt` with a configuration object, as PyTorch's files have none beside them."""
    hub.commit(
        "org/file", {"x/pytorch_model.bin": (TORCH / "single/pytorch_model.bin").read_bytes()}
    )
    config = fm.LlamaConfig.from_pretrained(TORCH / "single")
    name = f"{PUBLIC}/org/file/resolve/main/x/pytorch_model.bin"
    assert_same(load(name, from_pt=True, config=config)[1], TORCH / "single")
    with pytest.raises(fm.ConfigError, match="org/file@.*/x has no config.json"):
        load(name)


def test_P13_1c_a_tensorflow_index_and_a_configuration(hub):
    hub.commit("org/tf", files_of(TF / "google"))
    config = fm.BertConfig.from_pretrained(TF / "h5")
    expected = fm.BertForPreTraining.load_tf_weights(config, TF / "google")
    for end in ("bert_model.ckpt.index", "bert_model.ckpt"):
        name = f"{PUBLIC}/org/tf/resolve/main/{end}"
        _, params = fm.BertForPreTraining.from_pretrained(
            name, config=config, from_tf=True, progress=False
        )
        assert fp.diff(params, expected).equal


def test_P13_1e_no_name(hub):
    config = fm.AutoConfig.from_pretrained(NAME)
    hub.requests.clear()
    assert is_whole(load(None, config=config, state_dict=load(SHARDED)[1])[1])
    assert not hub.requests


def test_P13_4_a_state_dict_instead_of_the_repository_s_weights(hub):
    params = jax.tree.map(lambda x: x + 1, load(SHARDED)[1])
    assert fp.diff(load(NAME, state_dict=params)[1], params).equal
    assert asked(hub) == {CONFIG, "generation_config.json"}


# Revisions


REVISIONS = {
    "branch": "side",
    "branch-with-slashes": "a/b/c",
    "tag": "v1.0",
    "commit": None,
    "refs": "refs/pr/7",
    "full": "refs/heads/side",
}


def test_P13_15_T9_2_F7_5_revision(hub):
    other = hub.commit(NAME, files_of(LLAMA), revision="elsewhere", delete=[INDEX, *SHARDS])
    names = ["heads/side", "heads/a/b/c", "tags/v1.0", "pr/7"]
    hub.repo(NAME).refs |= {f"refs/{name}": other for name in names}
    for kind, name in REVISIONS.items():
        revision = name or other
        _, params, info = load(revision=revision, output_loading_info=True)
        assert_same(params, LLAMA)
        assert info.revision == other, kind
        assert_same(AUTO.from_pretrained(NAME, revision=revision, progress=False)[1], LLAMA)
    assert is_whole(load()[1])


@pytest.mark.parametrize("revision", ["v9", "refs/pr/9", "f" * 40, "a/b"])
def test_P13_15_a_revision_that_is_not_there(revision, hub):
    refused(NAME, revision, revision=revision, match="no such revision: give a branch, a tag")


def test_P13_15_an_address_s_revision_comes_first(hub, commit):
    hub.commit(NAME, {CONFIG: b"{}"})
    assert is_whole(load(f"hf://{NAME}@{commit}", revision="main")[1])
    for address in (f"hf://{NAME}@main", f"{hub.endpoint}/{NAME}/tree/main"):
        with pytest.raises(fm.CheckpointError, match="names revision 'main', and revision is 'v2'"):
            load(address, revision="v2")


class Bytes(os.PathLike):
    def __fspath__(self):
        return b"x"


OPTIONS = {
    "revision": [5, b"main", ["main"]],
    "token": [5, b"hf_secret", ["hf_secret"]],
    "subfolder": [5, b"x", Bytes()],
    "cache_dir": [5, b"/tmp/x", ["x"], Bytes()],
    "proxies": ["http://x", 5, {"http": 5}, {"http": ""}, [("http", "x")], {1: "x"}],
    "local_files_only": ["yes", 1],
    "force_download": ["no", 0],
}


CONTRADICTIONS = [
    ({"cache_dir": "a\0b"}, "cache_dir is 'a.x00b'; no path has a null character"),
    ({"proxies": {"htp": "host:1"}}, "proxies: 'htp' is not http, https, all or http://host"),
    (
        {"local_files_only": True, "force_download": True},
        "local_files_only and force_download contradict",
    ),
]


@pytest.mark.parametrize("token", ["", " ", "hf_abcdefgh\nX: y", "hf_é", " hf_write", "hf_x\0"])
def test_P13_14_a_token_that_no_request_can_have(token, hub, pair, logged_in):
    fm.AutoConfig.from_pretrained(LLAMA, token=token)  # nobody is asked
    model, params = pair
    for call in (lambda: load(token=token), lambda: model.push_to_hub(params, NAME, token=token)):
        with pytest.raises(HubError, match="token is empty, or has blanks or") as caught:
            call()
        assert "abcdefgh" not in str(caught.value)
    assert not hub.requests


def test_P7_a_message_that_is_no_text(hub, pair, logged_in):
    for name in ("commit_message", "commit_description"):
        with pytest.raises(TypeError, match=f"{name} is 3; expected text"):
            pair[0].push_to_hub(pair[1], NAME, **{name: 3})
        with pytest.raises(TypeError, match=f"{name} is 3; expected text"):
            push_files(lambda folder: None, NAME, **{name: 3})
    assert not hub.requests


def test_P13_32_an_option_of_another_type_is_named_and_nobody_is_asked(hub):
    """Of a folder as well, where it would have no effect."""
    for name, values in OPTIONS.items():
        for value in values:
            for call in (fm.load_tokenizer, load, fm.AutoConfig.from_pretrained):
                for where in (NAME, LLAMA):
                    with pytest.raises(TypeError, match=name) as caught:
                        call(where, **{name: value})
                    assert "secret" not in str(caught.value)
    with pytest.raises(ValueError, match="cache_dir is empty; leave it out"):
        load(NAME, cache_dir="")
    for given, said in CONTRADICTIONS:
        with pytest.raises(ValueError, match=said):
            load(LLAMA, **given)
    with pytest.raises(TypeError, match="download does not take revison"):
        fm.download(NAME, revison="main")
    assert not hub.requests


@pytest.mark.parametrize("subfolder", ["..", "/etc", "a/../..", "a\0b"])
def test_P13_27_a_subfolder_that_leads_elsewhere(subfolder, hub, tmp_path):
    shutil.copytree(LLAMA, tmp_path / "one" / "two")
    for where in (NAME, tmp_path / "one", "https://127.0.0.1:9/x"):
        with pytest.raises(fm.CheckpointError, match="is not a folder of a repository, nor inside"):
            load(where, subfolder=subfolder)
    assert not hub.requests
    assert_same(load(tmp_path / "one", subfolder="two/")[1], LLAMA)

"""Checkpoints at addresses that are not the Hub's: web servers, with ranges and without, and what
fsspec knows."""

import gc
import os
import tempfile

import fsspec
import pytest
from _downloads import (
    CONFIG,
    FIRST,
    INDEX,
    SECOND,
    SHARDS,
    assert_same,
    files_of,
    is_whole,
    load,
    no_pauses,
)
from _paths import GOLDENS, LLAMA, SHARDED
from loopback.web import serving

import flaxmodels as fm
from flaxmodels.hub import HubError
from flaxmodels.params.checkpoint.stream import stream

TF = GOLDENS / "formats" / "tf"


@pytest.fixture(autouse=True)
def waits(hub, monkeypatch, tmp_path):
    """The Hub is there, has a login, and must not be asked; temporary files are within sight."""
    monkeypatch.setenv("HF_TOKEN", "hf_write")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    yield no_pauses(monkeypatch)
    assert not hub.requests
    if os.listdir(tmp_path / "temporary"):  # of stores in cycles
        gc.collect()
    assert os.listdir(tmp_path / "temporary") == []


@pytest.fixture
def web():
    files = files_of(SHARDED, "models/llama/") | {"models/llama/README.md": b"x"}
    with serving(files | files_of(LLAMA, "single/")) as served:
        yield served
    assert not [h for _, _, headers in served.asked if "Bearer" in (h := str(headers))]


def test_P13_1a_a_web_folder_by_ranges(web):
    _, params, info = load(f"{web.url}/models/llama/", output_loading_info=True, token="hf_write")
    assert is_whole(params) and info.revision is None
    assert web.whole() == [] and not [path for path in web.paths() if path.endswith("README.md")]
    assert set(info.bytes_read) == {f"{web.url}/models/llama/{shard}" for shard in SHARDS}


def test_P13_27_a_subfolder_of_a_web_folder(web):
    assert is_whole(load(f"{web.url}/models", subfolder="llama")[1])


@pytest.mark.parametrize("ranges", [True, False])
def test_T9_1_F7_1_a_web_file(ranges, web):
    web.ranges = ranges
    assert_same(load(f"{web.url}/single/model.safetensors")[1], LLAMA)
    config = fm.LlamaConfig.from_pretrained(SHARDED)
    assert is_whole(load(f"{web.url}/models/llama/{INDEX}", config=config)[1])


def test_a_web_file_without_a_config(web):
    web.files = {"x/model.safetensors": files_of(LLAMA)["model.safetensors"]}
    config = fm.LlamaConfig.from_pretrained(LLAMA)
    assert_same(load(f"{web.url}/x/model.safetensors", config=config)[1], LLAMA)
    with pytest.raises(fm.ConfigError, match=f"{web.url}/x has no config.json"):
        load(f"{web.url}/x/model.safetensors")


@pytest.mark.parametrize("sized", [True, False])
def test_a_server_without_ranges_gives_each_file_once(sized, web):
    web.ranges, web.sized = False, sized
    assert is_whole(load(f"{web.url}/models/llama")[1])
    wanted = {f"models/llama/{name}" for name in (CONFIG, INDEX, *SHARDS)}
    assert sorted(web.whole()) == sorted(wanted | {"models/llama/generation_config.json"})


FORMATS = {
    "msgpack": (GOLDENS / "flax-llama-causal-lm/checkpoint", fm.LlamaForCausalLM),
    "msgpack-sharded": (GOLDENS / "flax-llama-causal-lm/sharded", fm.LlamaForCausalLM),
    "h5": (TF / "gpt2", fm.GPT2LMHeadModel),
    "orbax": (None, fm.LlamaForCausalLM),
}


@pytest.mark.parametrize("name", FORMATS)
def test_formats_in_a_store(name, tmp_path):
    folder, cls = FORMATS[name]
    if folder is None:
        folder = tmp_path / "orbax"
        model, params = load(SHARDED)
        model.save_pretrained(params, folder, format="orbax", progress=False)
    system = fsspec.filesystem("memory")
    for path, data in files_of(folder).items():
        system.pipe_file(f"/bucket/{name}/{path}", data)
    try:
        params = cls.from_pretrained(f"memory://bucket/{name}", progress=False)[1]
        assert_same(params, folder, cls)
    finally:
        system.rm("/bucket", recursive=True)


@pytest.mark.parametrize("scheme", ["file", "memory"])
def test_a_sharded_folder_in_a_store(scheme):
    """Standing for gs:// and s3://, whose packages are not here."""
    url = f"file://{SHARDED}"
    if scheme == "memory":
        url = "memory://bucket/sharded"
        for path, data in files_of(SHARDED).items():
            fsspec.filesystem("memory").pipe_file(f"/bucket/sharded/{path}", data)
    _, params, info = load(url, output_loading_info=True)
    assert is_whole(params)
    assert set(info.bytes_read) == {f"{url}/{shard}" for shard in SHARDS}
    assert_same(load(f"file://{LLAMA}/model.safetensors")[1], LLAMA)
    with pytest.raises(fm.CheckpointError, match="no checkpoint: looked for .* has no config.json"):
        load("memory://bucket/none", config=fm.LlamaConfig.from_pretrained(SHARDED))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("gs://bucket/x", "gs://bucket/x: .*install gcsfs"),
        ("s3://bucket/x", "s3://bucket/x: .*[Ii]nstall s3fs"),
        ("gopher://host/x", "gopher://host/x: .*gopher"),
    ],
)
def test_a_scheme_whose_package_is_missing(url, message):
    with pytest.raises(fm.CheckpointError, match=message):
        load(url)


@pytest.mark.parametrize("status", [503, 429])
@pytest.mark.parametrize("file", [CONFIG, INDEX, SECOND])
def test_a_server_that_is_busy(status, file, web, waits):
    web.answers = {f"models/llama/{file}": [status] * 3}
    assert is_whole(load(f"{web.url}/models/llama")[1])
    assert len(waits) == 3


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_shard_that_may_not_be_read(status, web):
    web.answers = {f"models/llama/{SECOND}": [status] * 9}
    with pytest.raises(fm.CheckpointError, match=f"shard '{SECOND}' is missing"):
        load(f"{web.url}/models/llama")


def test_errors_of_a_server_have_no_secrets(web):
    secret = web.url.replace("//", "//user:hf_password@") + "/models/llama"
    web.answers = {f"models/llama/{SECOND}": [500] * 6}
    with pytest.raises(
        HubError, match=f"{SECOND}: the server answers 500 .tried 6 times"
    ) as caught:
        load(secret)
    assert "password" not in str(caught.value) and "user" not in str(caught.value)
    web.answers = {f"models/llama/{CONFIG}": [500] * 6}
    with pytest.raises(HubError, match="the server answers 500") as caught:
        load(f"{web.url}/models/llama", token="hf_write")
    assert "hf_write" not in str(caught.value)


def test_a_server_that_is_down(waits):
    with pytest.raises(HubError, match="127.0.0.1:9/x/config.json: the server cannot be reached"):
        load("http://127.0.0.1:9/x")
    assert len(waits) == 1 and waits[0] <= 1  # nobody there: said soon


def test_a_file_that_changes_while_it_is_read(web, monkeypatch):
    url = f"{web.url}/models/llama"
    plan = fm.load_plan(url)
    web.files[f"models/llama/{FIRST}"] = web.files[f"models/llama/{FIRST}"][:5000]
    with pytest.raises(HubError, match=rf"{FIRST}: .*(asked for|answers 416)"):
        stream(plan, progress=False)


def test_a_page_instead_of_files(web):
    """Some servers have a page, and status 200, for whatever is not there."""
    page = b"<!DOCTYPE html><html>" + b" " * 500
    web.files |= {f"page/{name}": page for name in ("model.safetensors", CONFIG)}
    with pytest.raises(fm.ConfigError, match=CONFIG):
        load(f"{web.url}/page")
    config = fm.LlamaConfig.from_pretrained(SHARDED)
    with pytest.raises(fm.CheckpointError, match="model.safetensors: starts with HTML"):
        load(f"{web.url}/page", config=config)


def test_P13_13_P13_36_addresses_are_not_asked_offline(web, monkeypatch):
    with pytest.raises(fm.CheckpointError, match="local_files_only"):
        load(f"{web.url}/models/llama", local_files_only=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(fm.CheckpointError, match="(?i)offline"):
        load(f"{web.url}/models/llama")
    assert not web.asked


def test_an_address_is_not_downloaded(web):
    with pytest.raises(fm.CheckpointError, match="not a repository; its weights are read where"):
        fm.download(f"{web.url}/models/llama")


@pytest.mark.parametrize("ranges", [True, False])
def test_P13_1c_P13_6_a_tensorflow_checkpoint_on_the_web(ranges, web):
    web.ranges = ranges
    web.files |= files_of(TF / "google", "tf/")
    config = fm.BertConfig.from_pretrained(TF / "h5")
    url = f"{web.url}/tf/bert_model.ckpt.index"
    model, params = fm.BertForPreTraining.from_pretrained(
        url, config=config, from_tf=True, progress=False
    )
    expected = fm.BertForPreTraining.load_tf_weights(config, TF / "google")
    assert fm.params.diff(params, expected).equal

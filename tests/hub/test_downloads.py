"""From a name to a tree: what may be called how, which files are asked for, and that they are of
one commit."""

import json
import shutil
import threading
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _downloads import (
    CONFIG,
    FIRST,
    INDEX,
    LAST,
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
from _paths import GOLDENS, SHARDED
from _paths import LLAMA as SINGLE
from _turns import in_turn, some_of
from loopback import Fault
from loopback.web import proxying

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels import sharding as fs
from flaxmodels.hub import HubError, resolve

FLAX = GOLDENS / "flax-llama-causal-lm"
TORCH = GOLDENS / "formats" / "torch" / "llama"
TF = GOLDENS / "formats" / "tf"
PUBLIC = "https://huggingface.co"
AUTO = fm.AutoModelForCausalLM
LLAMA = fm.LlamaForCausalLM
README = {"README.md": b"# x", ".gitattributes": b"x", "onnx/model.onnx": b"x" * 2000}


@pytest.fixture(autouse=True)
def commit(hub, monkeypatch):
    no_pauses(monkeypatch)
    return hub.commit(NAME, files_of(SHARDED) | README)


def listed(hub):
    """How often the Hub was asked what there is."""
    return len(hub.requests.of("GET", "/api/*"))


# Formats: each alone, and which comes before which


@pytest.fixture(scope="module")
def orbax(tmp_path_factory):
    folder = tmp_path_factory.mktemp("orbax") / "saved"
    model, params = load(SINGLE)
    model.save_pretrained(params, folder, format="orbax", progress=False)
    return folder


FORMATS = {
    "P13.1a-safetensors": (SINGLE, LLAMA, {}),
    "P13.1a-safetensors-sharded": (SHARDED, LLAMA, {}),
    "P13.1d-F7.1-msgpack": (FLAX / "checkpoint", LLAMA, {"from_flax": True}),
    "P13.1d-msgpack-sharded": (FLAX / "sharded", LLAMA, {}),
    "P13.1a-orbax": (None, LLAMA, {}),
    "T9.3-F7.4-bin": (TORCH / "single", LLAMA, {"from_pt": True}),
    "T9.1-bin-legacy": (TORCH / "legacy", LLAMA, {}),
    "T9.3-bin-sharded": (TORCH / "sharded", LLAMA, {"from_pt": True}),
    "P13.6-h5": (TF / "gpt2", fm.GPT2LMHeadModel, {"from_tf": True}),
    "P13.6-h5-sharded": (TF / "sharded", fm.BertForMaskedLM, {}),
    "P13.1c-tensorflow": (TF / "google", fm.BertForPreTraining, {"config": TF / "h5"}),
}


# Shards of HDF5 are found as those of other formats are.
@some_of("name", [*FORMATS], *(FORMATS.keys() - {"P13.6-h5-sharded"}))
def test_each_format(name, hub, orbax, tmp_path):
    folder, cls, options = FORMATS[name]
    files = files_of(folder or orbax)
    files.pop("expected.npz", None)
    commit = hub.commit("org/other", files | README)
    config = {"config": options["config"]} if "config" in options else {}
    expected = cls.from_pretrained(folder or orbax, progress=False, **config)[1]
    _, params, info = cls.from_pretrained(
        "org/other", progress=False, output_loading_info=True, **options
    )
    assert fp.diff(params, expected).equal
    assert info.revision == commit and listed(hub) == 1
    assert asked(hub) == set(files)  # and not the README
    kept = tmp_path / "hf/hub/models--org--other/snapshots" / commit
    assert set(files_of(kept)) == set(files)
    hub.requests.clear()
    again = cls.from_pretrained("org/other", local_files_only=True, progress=False, **options)[1]
    assert fp.diff(again, expected).equal and not hub.requests


def test_one_file_of_gguf(hub):
    """Its header alone is read before the configuration is known; nothing else is asked for."""
    path = GOLDENS / "gguf" / "qwen2.gguf"
    hub.commit("org/gguf", {"q8.gguf": path.read_bytes(), "q4.gguf": b"GGUF"} | README)
    expected = fm.Qwen2ForCausalLM.from_pretrained(path)[1]
    name = {"gguf_file": "q8.gguf", "progress": False}
    params = fm.AutoModelForCausalLM.from_pretrained("org/gguf", **name)[1]
    assert fp.diff(params, expected).equal and asked(hub) == {"q8.gguf"}
    config = fm.AutoConfig.from_pretrained("org/gguf", **name)
    assert config == fm.AutoConfig.from_pretrained(path)
    params = fm.AutoModelForCausalLM.from_pretrained("hf://org/gguf/q8.gguf", progress=False)[1]
    assert fp.diff(params, expected).equal
    with pytest.raises(fm.CheckpointError, match="q4.gguf: 4 bytes is too small for GGUF"):
        fm.AutoModelForCausalLM.from_pretrained("org/gguf", gguf_file="q4.gguf")
    with pytest.raises(fm.ConfigError, match="files of GGUF: give gguf_file='q4.gguf'"):
        fm.AutoModelForCausalLM.from_pretrained("org/gguf")


ALL = {
    "model.safetensors": SINGLE / "model.safetensors",
    "flax_model.msgpack": FLAX / "checkpoint/flax_model.msgpack",
    "pytorch_model.bin": TORCH / "single/pytorch_model.bin",
    "tf_model.h5": TF / "gpt2/tf_model.h5",
}
CHOICES = {
    "P13.29-none": ({}, "model.safetensors"),
    "P13.29-T9.7-safetensors": ({"use_safetensors": True}, "model.safetensors"),
    "P13.29-T9.7-no-safetensors": ({"use_safetensors": False}, "flax_model.msgpack"),
    "P13.7-from-flax": ({"from_flax": True}, "flax_model.msgpack"),
    "T9.3-F7.4-from-pt": ({"from_pt": True}, "pytorch_model.bin"),
    "P13.6-from-tf": ({"from_tf": True}, "tf_model.h5"),
}


@pytest.mark.parametrize("name", CHOICES)
def test_one_format_of_several(name, hub):
    options, chosen = CHOICES[name]
    files = {CONFIG: (SINGLE / CONFIG).read_bytes()}
    hub.commit("org/all", files | {file: path.read_bytes() for file, path in ALL.items()} | README)
    source = fm.LlamaConfig.from_pretrained(SINGLE)
    if chosen == "tf_model.h5":
        with pytest.raises(fm.CheckpointError, match="h5"):  # it is GPT-2's
            load("org/all", config=source, **options)
    else:
        load("org/all", **options)
    assert asked(hub) == {CONFIG, chosen}


def test_P13_29_safetensors_that_are_not_there(hub):
    hub.commit("org/bin", files_of(TORCH / "single"))
    with pytest.raises(fm.CheckpointError, match="looked for model.safetensors.*pytorch_model.bin"):
        load("org/bin", use_safetensors=True)
    assert asked(hub) == {CONFIG}


@pytest.mark.parametrize("sharded", [False, True])
def test_P13_28_variant(sharded, hub, tmp_path):
    model, params = load(SINGLE)
    half = fp.to_bf16(params)
    size = {"max_shard_size": "20KB"} if sharded else {}
    model.save_pretrained(half, tmp_path / "v", variant="fp16", progress=False, **size)
    shutil.copy(SINGLE / "model.safetensors", tmp_path / "v")
    hub.commit("org/variant", files_of(tmp_path / "v"))
    assert fp.diff(load("org/variant", variant="fp16")[1], half).equal
    assert "model.safetensors" not in asked(hub)
    assert_same(load("org/variant")[1], SINGLE)
    with pytest.raises(fm.CheckpointError, match="looked for model.bf16.safetensors"):
        load("org/variant", variant="bf16")


# Configurations


@in_turn("kind", ["object", "folder", "file", "repository", "address"], "cls", [LLAMA, AUTO])
def test_P13_3_T9_2_F7_3_config(kind, cls, hub):
    hub.commit("org/config", {CONFIG: (SHARDED / CONFIG).read_bytes()})
    hub.commit(NAME, {}, delete=[CONFIG])
    config = {
        "object": fm.LlamaConfig.from_pretrained(SHARDED),
        "folder": SHARDED,
        "file": SHARDED / CONFIG,
        "repository": "org/config",
        "address": f"{PUBLIC}/org/config/tree/main",
    }[kind]
    assert is_whole(cls.from_pretrained(NAME, config=config, progress=False)[1])
    with pytest.raises(fm.ConfigError, match=f"{NAME}@.* has no config.json"):
        cls.from_pretrained(NAME, progress=False)


def test_P13_3_auto_config(hub):
    config = fm.LlamaConfig.from_pretrained(SHARDED)
    assert fm.AutoConfig.from_pretrained(NAME) == config
    assert asked(hub) == {CONFIG, "generation_config.json"}
    changed = fm.AutoConfig.from_pretrained(NAME, revision="main", rms_norm_eps=0.5)
    assert changed == config.replace(rms_norm_eps=0.5)


def test_D28_a_configuration_class_reads_a_repository(hub, commit):
    config = fm.LlamaConfig.from_pretrained(SHARDED)
    values = json.loads((SHARDED / CONFIG).read_text())
    hub.commit(NAME, {CONFIG: json.dumps(values | {"rms_norm_eps": 0.5}).encode()})
    assert fm.LlamaConfig.from_pretrained(NAME, revision=commit) == config
    assert fm.LlamaConfig.from_pretrained(NAME, vocab_size=9).rms_norm_eps == 0.5
    assert asked(hub) == {CONFIG, "generation_config.json"}  # and no weights


@pytest.mark.parametrize(
    "call",
    [fm.LlamaConfig.from_pretrained, fm.AutoConfig.from_pretrained, LLAMA.from_pretrained],
    ids=["class", "auto", "model"],
)
def test_D28_an_error_about_a_configuration_names_the_repository(call, hub):
    values = json.loads((SHARDED / CONFIG).read_text())
    hub.commit(NAME, {CONFIG: json.dumps(values | {"hidden_size": -1}).encode()})
    where = f"{NAME}@{hub.head(NAME)[:12]}"
    with pytest.raises(fm.ConfigError, match=f"hidden_size.*; it is of {where}"):
        call(NAME)


def test_P13_2_P13_32_T9_2_F7_2_F7_6_fields_and_keywords(hub):
    model, params = load(NAME, jnp.bfloat16, output_attentions=True)
    assert model.dtype == jnp.bfloat16 and model.config.output_attentions
    assert is_whole(params)  # what is computed in changes no param
    model, params = load(NAME, dtype="float16", param_dtype="bfloat16")
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("bfloat16")}
    with pytest.raises(TypeError, match="nonsense"):
        load(NAME, nonsense=1)


def test_auto_classes_resolve_once(hub, commit):
    _, params, info = AUTO.from_pretrained(NAME, progress=False, output_loading_info=True)
    assert is_whole(params) and info.revision == commit
    assert listed(hub) == 1 and asked(hub) == {*files_of(SHARDED)}
    heads = [r.name for r in hub.requests.of("HEAD")]
    assert len(heads) == len(set(heads)) == len(files_of(SHARDED))


def test_P13_8_T9_4_F7_5_ignore_mismatched_sizes(hub):
    config = fm.LlamaConfig.from_pretrained(SHARDED).replace(vocab_size=7)
    with pytest.raises(fm.CheckpointError, match="ignore_mismatched_sizes"):
        load(NAME, config=config)
    assert asked(hub) == {CONFIG, INDEX, "generation_config.json", *SHARDS}
    assert not hub.requests.of("HEAD", "*/model-0*")  # their first bytes were enough
    with pytest.warns(UserWarning, match="not initialized from pretrained model"):
        *_, info = load(NAME, config=config, ignore_mismatched_sizes=True, output_loading_info=True)
    assert {path for path, *_ in info.mismatched_keys} >= {"model/embed_tokens/embedding"}


def test_P13_12_T9_6_loading_info(hub, commit):
    *_, info = load(NAME, output_loading_info=True)
    assert (
        info.missing_keys == info.unexpected_keys == info.mismatched_keys == info.error_msgs == []
    )
    assert info.revision == commit
    sizes = {Path(path).name: count for path, count in info.bytes_read.items()}
    assert set(sizes) == set(SHARDS)


def test_P13_34_P13_35_warnings_name_the_repository(hub):
    hub.commit("org/bert", files_of(GOLDENS / "bert-masked-lm" / "checkpoint"))
    with pytest.warns(UserWarning) as caught:
        fm.BertForSequenceClassification.from_pretrained("org/bert", progress=False)
    said = [str(warning.message) for warning in caught]
    assert len(said) == 2 and all("models--org--bert" in text for text in said)


# Old keywords


@in_turn("value", [True, False], "cls", [LLAMA, AUTO])
def test_P13_10_T9_5_F7_5_resume_download(value, cls, hub):
    with pytest.warns(FutureWarning, match="resume_download is ignored") as caught:
        params = cls.from_pretrained(NAME, resume_download=value, progress=False)[1]
    assert is_whole(params)
    assert len(caught) == 1 and caught[0].filename == __file__


@pytest.mark.parametrize("cls", [LLAMA, AUTO])
def test_P13_14_use_auth_token(cls, hub):
    hub.repo(NAME).private = True
    with pytest.warns(FutureWarning, match="use_auth_token is now token") as caught:
        assert is_whole(cls.from_pretrained(NAME, use_auth_token="hf_read", progress=False)[1])
    assert len(caught) == 1 and caught[0].filename == __file__
    with pytest.warns(FutureWarning), pytest.raises(TypeError, match="give token"):
        cls.from_pretrained(NAME, use_auth_token="hf_read", token="hf_read")
    with warnings.catch_warnings():
        assert is_whole(cls.from_pretrained(NAME, token="hf_read", progress=False)[1])


# One commit


@in_turn("at", [0, 3, 9, 12], "cls", [LLAMA, AUTO])
def test_P13_15_all_files_are_of_one_commit(at, cls, hub, commit):
    """The branch moves after any number of requests."""
    moved = {name: data[::-1] for name, data in files_of(SHARDED).items()}
    move = Fault("hook", call=lambda _: hub.commit(NAME, moved), when="after", skip=at)
    hub.fault(move)
    _, params, info = cls.from_pretrained(NAME, progress=False, output_loading_info=True)
    assert move.hits == 1 and hub.head(NAME) != commit
    assert is_whole(params) and info.revision == commit and listed(hub) == 1
    assert {r.name.split("/resolve/")[1][:40] for r in hub.requests.of(path="*/resolve/*")} == {
        commit
    }


# Where it is kept, and whether it is asked for


def test_P13_5_P13_9_T9_2_F7_3_F7_5_cache_dir_and_force_download(hub, commit, tmp_path):
    for cls in (LLAMA, AUTO):
        assert is_whole(cls.from_pretrained(NAME, cache_dir=tmp_path / "c", progress=False)[1])
    assert listed(hub) == 2 and len(hub.requests.of("HEAD")) == len(files_of(SHARDED))
    assert set(files_of(tmp_path / f"c/models--org--name/snapshots/{commit}")) == {
        *files_of(SHARDED)
    }
    hub.requests.clear()
    assert is_whole(load(cache_dir=tmp_path / "c", force_download=True)[1])
    assert len(hub.requests.of("HEAD")) == len(files_of(SHARDED))


def test_P13_13_T9_2_F7_5_local_files_only(hub):
    refused(NAME, local_files_only=True, match="load it once with a network")
    assert not hub.requests
    load()
    hub.requests.clear()
    assert is_whole(load(local_files_only=True)[1]) and not hub.requests


@pytest.mark.parametrize("key", ["http", "http://", "http://127.0.0.1"])
def test_P13_11_T9_6_F7_5_proxies(key, hub, monkeypatch):
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.delenv("no_proxy")
    with proxying() as (proxy, through):
        for address in (proxy, f"http://{proxy}"):
            hub.requests.clear()
            through.clear()
            assert is_whole(load(proxies={key: address}, force_download=True)[1])
            assert len(through) == len(hub.requests) > 10
        through.clear()
        assert is_whole(load(force_download=True)[1]) and not through
    with pytest.raises(HubError, match="cannot be reached"):
        load(proxies={key: proxy}, force_download=True)  # it is gone


def test_download(hub, commit):
    """All of a checkpoint, with its tokenizer, and nothing else."""
    hub.commit(NAME, {"tokenizer.json": b"{}", "tokenizer_config.json": b"{}", "x.bin": b"x"})
    folder = fm.download(NAME, progress=False)
    assert set(files_of(folder)) == {*files_of(SHARDED), "tokenizer.json", "tokenizer_config.json"}
    assert is_whole(load(folder)[1])
    folder = fm.download(NAME, revision=commit, progress=False)
    assert set(files_of(folder)) == {*files_of(SHARDED)}


# Only what is needed, as soon as it is here


def test_a_plan_reads_the_starts_of_shards_alone(hub):
    data = np.zeros(40_000, np.float32)
    from safetensors.numpy import save

    hub.commit("org/large", {"model.safetensors": save({"w": data}), CONFIG: b"{}"})
    source = resolve("org/large").open()
    assert source.tensors["w"].shape == data.shape
    [request] = hub.requests.of(port="cdn")
    assert request.headers["Range"] == f"bytes=0-{(64 << 10) - 1}" and request.sent == 64 << 10


def test_leaves_are_loaded_while_shards_come(hub, monkeypatch):
    """The last shard is not sent before a leaf of another is on its device."""
    placed, wait_for = threading.Event(), jax.block_until_ready

    def waited_for(leaf):
        ready = wait_for(leaf)
        placed.set()
        return ready

    monkeypatch.setattr(jax, "block_until_ready", waited_for)
    last = hub.repo(NAME).find("main").files[LAST].sha256
    in_time = []
    wait = Fault(
        "hook", path=f"/lfs/get/{last}", skip=1, call=lambda _: in_time.append(placed.wait(30))
    )
    hub.fault(wait)
    assert is_whole(load()[1])
    assert in_time == [True]


def test_P13_15_leaves_are_placed_on_a_mesh(hub):
    mesh = fs.make_mesh(fsdp=2, tensor=2, devices=jax.devices()[:4])
    _, params = load(mesh=mesh, rules=(("vocab", None), *fs.DEFAULT_RULES))
    assert is_whole(params)
    assert {len(leaf.devices()) for leaf in jax.tree.leaves(params)} == {4}
    assert {FIRST, LAST} <= asked(hub)

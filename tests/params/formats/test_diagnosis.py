"""What a folder or a file is that holds no checkpoint: the error says it, and the way."""

import json
import os
import shutil
import sys

import jax
import numpy as np
import pytest
from _files import put, write_safetensors
from _paths import GOLDENS, LLAMA

import flaxmodels as fm
from flaxmodels import params as fp

ONE = np.ones(2, np.float32)
ADAPTER = json.dumps({"peft_type": "LORA", "base_model_name_or_path": "org/base"})
CONFIG = '{"model_type": "llama"}'
# What is in a folder without config.json -> what the error says.
FOLDERS = {
    "meta": (["consolidated.00.pth", "consolidated.01.pth", "params.json"], "Meta's own download"),
    "meta, one": (["params.json", "tokenizer.model"], "Meta's own download .*'original'"),
    "mistral": (["consolidated.safetensors", "params.json"], "Mistral's own download"),
    "pipeline": (["model_index.json", "unet/config.json"], r"diffusers: .*subfolder=.*\('unet'\)"),
    "sentences": (["modules.json", "0_Transformer/config.json"], "sentence-tra.*'0_Transformer'"),
    "quantised": (["quantize_config.json", "gptq_model-4bit.safetensors"], "is quantised"),
    "google": (["bert_config.json", "bert_model.ckpt.index"], "give it as config= .*BertForPreTr"),
    "saved model": (["saved_model.pb", "variables/x"], "SavedModel"),
    "weights": (["model.safetensors"], "weights without their configuration: give config="),
    "torch": (["pytorch_model.bin"], "weights without their configuration"),
    "variant": (["model.fp16.safetensors"], "give variant='fp16'"),
    "variant, shards": (["model.bf16-00001-of-00002.safetensors"], "give variant='bf16'"),
    "variant, index": (["pytorch_model.bin.index.fp16.json"], "give variant='fp16'"),
    "lightning": (["epoch=3.ckpt"], "Lightning .*rename it to .pt.*weights_only=False"),
    "gguf": (["llama-q4.gguf"], "give gguf_file='llama-q4.gguf'"),
    "ggml": (["llama-q4.ggml"], "GGML"),
    "onnx": (["model.onnx"], "ONNX"),
    "tflite": (["model.tflite"], "TensorFlow Lite"),
    "coreml": (["model.mlpackage/Manifest.json"], "Core ML"),
    "torchserve": (["bert.mar"], "TorchServe"),
    "nemo": (["megatron.nemo"], "NeMo"),
    "numpy": (["params.npz"], "NumPy .*state_dict="),
    "pickle": (["weights.pkl"], "a pickle, which may run code"),
    "archive": (["model.tar.gz"], "unpack it first"),
    "rust": (["rust_model.ot"], "weights for Rust"),
    "other name": (["my-weights.safetensors"], "the path of 'my-weights.safetensors', and config="),
    "pt": (["model_state.pt"], "the path of 'model_state.pt', and config="),
    "trainer": (["checkpoint-500/x", "checkpoint-1500/x", "runs/x"], "subfolder='checkpoint-1500'"),
    "flax": (["checkpoint_90/x", "checkpoint_100/x"], "subfolder='checkpoint_100'"),
    "cache": (["blobs/1", "refs/main", "snapshots/a/x"], "the Hub's cache has .*/snapshots'"),
    "shards": ([f"model-0000{i}-of-00002.safetensors" for i in (1, 2)], "json of all is not here"),
    "inside": (["best/model.safetensors"], "give subfolder='best'"),
    "table": (["ckpt.data-00000-of-00001"], "the .index that belongs to it is not here"),
    "empty": ([], "the folder is empty"),
    "other": (["notes.txt"], "the folder holds notes.txt"),
}


def fill(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        content = ADAPTER if name == "adapter_config.json" else "{}"
        put(folder, name, content)
    return folder


@pytest.mark.parametrize("case", FOLDERS)
def test_a_folder_without_a_configuration(case, tmp_path):
    names, message = FOLDERS[case]
    fill(tmp_path, names)
    for cls in (fm.AutoModel, fm.LlamaForCausalLM, fm.AutoConfig):
        with pytest.raises(fm.ConfigError, match=message) as caught:
            cls.from_pretrained(tmp_path)
        assert str(tmp_path / "config.json") in str(caught.value)


CONFIGURED = {name: case for name, case in FOLDERS.items() if name not in (
    "weights", "torch", "empty", "other", "google", "saved model",
)} | {
    "no weights": ([], "there is a configuration and no weights"),
}  # fmt: skip


@pytest.mark.parametrize("case", CONFIGURED)
def test_a_folder_without_weights(case, tmp_path):
    names, message = CONFIGURED[case]
    fill(tmp_path, names)
    shutil.copy(LLAMA / "config.json", tmp_path)
    with pytest.raises(fm.CheckpointError, match=message) as caught:
        fm.LlamaForCausalLM.from_pretrained(tmp_path)
    assert str(tmp_path) in str(caught.value) and "looked for" in str(caught.value)


@pytest.mark.parametrize(
    "asked", [{"use_safetensors": True}, {"framework": "flax"}, {"variant": "ema"}], ids=str
)
def test_weights_that_are_there_and_were_not_asked_for(asked, tmp_path):
    fill(tmp_path, ["pytorch_model.bin", "notes.txt"])
    message = (
        "no checkpoint: 'pytorch_model.bin' is there, .*leave out use_safetensors=, .*looked for"
    )
    with pytest.raises(fm.CheckpointError, match=message):
        fp.open_checkpoint(tmp_path, **asked)


FILES = {
    "x.gguf": (b"GGUF\3\0\0\0", "8 bytes is too small for GGUF"),
    "x.ggml": (b"", "GGML"),
    "weights": (b"GGUF\3\0\0\0", "a name that ends in .gguf"),
    "model.onnx": (b"", "ONNX"),
    "x.ckpt": (b"PK\3\4", "rename it to .pt"),
    "archive": (b"PK\3\4", "a zip archive: of PyTorch"),
    "packed": (b"\x1f\x8b\x08", "gzip"),
    "hdf": (b"\x89HDF\r\n\x1a\n", "HDF5: call it tf_model.h5"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "x.nemo": (b"", "NeMo"),
    "checkpoint_7": (b"\x81\xa6params\x80", "a name that ends in .msgpack"),
    "notes.md": (b"# hello", "not a checkpoint folder"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file(name, tmp_path):
    content, message = FILES[name]
    with pytest.raises(fm.CheckpointError, match=message) as caught:
        fp.open_checkpoint(put(tmp_path, name, content))
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "git lfs pull"),
        ("<!DOCTYPE html><html>sign in</html>", "web page"),
    ],
)
@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json", "checksums.json"])
def test_pointers_and_pages_in_place_of_json(name, content, message, tmp_path):
    shutil.copytree(LLAMA, tmp_path / "a")
    if "index" in name:
        (tmp_path / "a" / "model.safetensors").unlink()
    put(tmp_path / "a", name, content)
    with pytest.raises((fm.ConfigError, fm.CheckpointError), match=message) as caught:
        fm.LlamaForCausalLM.from_pretrained(tmp_path / "a", verify=name == "checksums.json")
    assert name in str(caught.value)


@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "loop", "dangling"])
@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
def test_a_configuration_that_is_no_file(name, kind, tmp_path):
    shutil.copytree(LLAMA, tmp_path / "a")
    path = tmp_path / "a" / name
    path.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        os.symlink({"device": "/dev/zero", "loop": path, "dangling": "/no"}[kind], path)
    if name == "config.json":
        with pytest.raises(fm.ConfigError, match="not a regular|be opened|No such") as caught:
            fm.LlamaForCausalLM.from_pretrained(tmp_path / "a")
        assert name in str(caught.value)


def test_one_shard_of_several():
    folder = GOLDENS / "llama-sharded" / "checkpoint"
    shard = next(folder.glob("model-00002-of-*"))
    with pytest.raises(fm.CheckpointError, match="one shard of several: give their folder"):
        fm.LlamaForCausalLM.from_pretrained(shard, config=folder)


def test_a_configuration_of_a_folder_that_is_not_there(tmp_path):
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(fm.ConfigError, match="gone: No such file or folder$"):
        fm.GenerationConfig.from_pretrained(tmp_path / "gone")


def test_an_adapter_alone(tmp_path):
    fill(tmp_path, ["adapter_config.json", "adapter_model.safetensors"])
    with pytest.raises(fm.CheckpointError, match="adapter .*'org/base'.*load_adapter"):
        fp.open_checkpoint(tmp_path)
    with pytest.raises(fm.ConfigError, match="adapter .*'org/base'.*load_adapter"):
        fm.AutoConfig.from_pretrained(tmp_path)
    for cls in (fm.AutoModel, fm.LlamaForCausalLM):
        with pytest.raises(fm.CheckpointError, match="org/base, the base that adapter_config.json"):
            cls.from_pretrained(tmp_path)


def test_an_adapter_beside_its_base(tmp_path):
    shutil.copytree(LLAMA, tmp_path / "a")
    fill(tmp_path / "a", ["adapter_config.json", "adapter_model.safetensors"])
    with pytest.warns(UserWarning, match="adapter .*'org/base'.* opened without it"):
        fp.open_checkpoint(tmp_path / "a")
    put(tmp_path / "a", "adapter_config.json", "broken")
    with pytest.warns(UserWarning, match="model.load_adapter"):
        fp.open_checkpoint(tmp_path / "a")
    with pytest.raises(fm.CheckpointError, match="adapter_config.json: not the configuration"):
        fm.LlamaForCausalLM.from_pretrained(tmp_path / "a", progress=False)


def test_googles_bert_by_the_way_that_the_error_says(tmp_path):
    folder = shutil.copytree(GOLDENS / "formats" / "tf" / "google", tmp_path / "a")
    shutil.copy(GOLDENS / "formats" / "tf" / "h5" / "config.json", folder / "bert_config.json")
    with pytest.raises(fm.ConfigError, match="bert_config.json"):
        fm.BertForPreTraining.from_pretrained(folder)
    config = folder / "bert_config.json"
    fm.BertForPreTraining.from_pretrained(folder, config=config, progress=False)


def test_steps_of_orbax_without_a_configuration(tmp_path):
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as checkpointer:
        for step in (1, 20):
            checkpointer.save(tmp_path / "run" / str(step) / "default", {"a": jax.numpy.ones(2)})
    with pytest.raises(fm.ConfigError, match="orbax, which keeps no configuration: give config="):
        fm.AutoModel.from_pretrained(tmp_path / "run")


LIES = {
    "flax, says pt": (["a.kernel", "a.bias", "b.embedding"], "pt", "flax"),
    "torch, says flax": (["a.weight", "a.bias"], "flax", "torch"),
    "torch, says tf": (["a.weight", "a.bias"], "tf", "torch"),
    "tf, says pt": (["m/a/kernel:0", "m/a/bias:0"], "pt", "tf"),
}


@pytest.mark.parametrize("case", LIES)
def test_a_format_that_lies(case, tmp_path):
    names, said, layout = LIES[case]
    tensors = dict.fromkeys(names, ONE)
    path = write_safetensors(tmp_path / "model.safetensors", tensors, {"format": said})
    with pytest.warns(UserWarning, match=f"format says '{said}', and its names are spelled"):
        assert fp.open_checkpoint(path).layout == layout


def test_a_format_that_lies_loads(tmp_path):
    folder = shutil.copytree(LLAMA, tmp_path / "a")
    tensors = {n: t.read() for n, t in fp.open_checkpoint(folder).tensors.items()}
    write_safetensors(folder / "model.safetensors", tensors, {"format": "flax"})
    with pytest.warns(UserWarning, match="format says 'flax'"):
        _, params = fm.LlamaForCausalLM.from_pretrained(folder, progress=False)
    _, expected = fm.LlamaForCausalLM.from_pretrained(LLAMA, progress=False)
    assert jax.tree.all(jax.tree.map(np.array_equal, params, expected))


D33 = {
    "./runs/last": "no such folder or file",
    "/no/such/run": "no such folder or file",
    "~/runs/last": "expanduser",
    "runs/last": "in the folder 'runs', which is here; the Hub's is hf://runs/last",
    "out/a/b": "give 'out/a' and subfolder='b'",
    "my run/last": "no such folder, nor a repository",
    "last.safetensors": "no such folder or file",
    "runs/best.ckpt": "no such folder, nor a repository",
    "x.gguf": "no such folder or file",
    "runs/": "no such folder or file",
}


@pytest.mark.parametrize("name", D33)
def test_D33_a_mistyped_path_asks_no_network(name, tmp_path, monkeypatch):
    (tmp_path / "runs" / "first").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys.modules["flaxmodels.hub.resolve"], "find", None)
    shutil.rmtree(tmp_path / "runs") if name == "runs/" else None
    with pytest.raises(fm.CheckpointError, match=D33[name]):
        fm.AutoModel.from_pretrained(name)


def test_D33_the_nearest_is_named(tmp_path, monkeypatch):
    (tmp_path / "runs" / "final").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(fm.CheckpointError, match="nearest here: 'runs/final'"):
        fm.AutoModel.from_pretrained("runs/finale")

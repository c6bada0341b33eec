"""`from_pretrained`: where weights may come from, and what they may be called there."""

import json
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _files import pack, put, same
from _paths import GOLDENS, LLAMA
from safetensors.numpy import load_file, save_file

import flaxmodels as fm
from flaxmodels import auto
from flaxmodels import params as fp
from flaxmodels import sharding as fs

FLAX = GOLDENS / "flax-llama-causal-lm" / "checkpoint"


def load(folder, *fields, **options):
    return fm.LlamaForCausalLM.from_pretrained(folder, *fields, progress=False, **options)


@pytest.fixture(scope="module")
def expected():
    return fp.flatten(load(LLAMA)[1])


def assert_equal(params, expected):
    params = fp.flatten(params)
    assert params.keys() == expected.keys()
    for path, leaf in params.items():
        assert same(np.asarray(leaf), np.asarray(expected[path])), path


@pytest.mark.parametrize("kind", ["torch names", "tree", "numpy tree", "part on devices"])
def test_P13_4_state_dict_is_used_instead_of_saved_weights(kind, expected):
    changed = {path: leaf + 1 for path, leaf in expected.items()}
    if kind == "torch names":
        state = {name: array + 1 for name, array in load_file(LLAMA / "model.safetensors").items()}
    elif kind == "tree":
        state = fp.unflatten(changed)
    elif kind == "numpy tree":
        state = jax.tree.map(np.asarray, fp.unflatten(changed))
    else:
        device = jax.devices()[3]
        state = jax.tree.map(lambda x: jax.device_put(x, device), fp.unflatten(changed))
    assert_equal(load(LLAMA, state_dict=state)[1], changed)


def test_P13_4_a_state_dict_is_placed_cast_and_checked(expected):
    mesh = fs.make_mesh(fsdp=4, tensor=2)
    rules = (("vocab", None), *fs.DEFAULT_RULES)
    tree = fp.unflatten(expected)
    _, params = load(LLAMA, state_dict=tree, mesh=mesh, rules=rules, param_dtype="bfloat16")
    assert_equal(params, {path: leaf.astype(jnp.bfloat16) for path, leaf in expected.items()})
    assert len(params["lm_head"]["kernel"].sharding.device_set) == 8
    del tree["model"]["norm"]
    with pytest.raises(fp.CheckpointError, match="model/norm/scale"):
        load(LLAMA, state_dict=tree)
    with pytest.raises(fp.CheckpointError, match="state_dict: 'a' is no array: object"):
        load(LLAMA, state_dict={"a": object()})


def test_P13_1e_no_path_with_config_and_state_dict(expected):
    config = fm.LlamaConfig.from_pretrained(LLAMA)
    state = fp.unflatten(expected)
    assert_equal(load(None, config=config, state_dict=state)[1], expected)
    with pytest.raises(TypeError, match="needs a name or path, or config and state_dict"):
        load(None, config=config)
    with pytest.raises(TypeError, match="needs a name or path, or config and state_dict"):
        load(None, state_dict=state)


def test_P13_7_F7_1_T9_1_a_file_and_a_config(expected, tmp_path):
    """Without a folder, `config` says what the file is."""
    shutil.copy(LLAMA / "model.safetensors", tmp_path / "weights.safetensors")
    config = fm.LlamaConfig.from_pretrained(LLAMA)
    assert_equal(load(tmp_path / "weights.safetensors", config=config)[1], expected)
    assert_equal(load(tmp_path / "weights.safetensors", config=LLAMA)[1], expected)
    with pytest.raises(fm.ConfigError, match="config.json"):
        load(tmp_path / "weights.safetensors")
    shutil.copy(LLAMA / "config.json", tmp_path)
    assert_equal(load(tmp_path / "weights.safetensors")[1], expected)
    with pytest.raises(fm.CheckpointError, match="https://example.invalid.*HF_HUB_OFFLINE"):
        load("https://example.invalid/pytorch_model.bin", config=config)


def test_P13_6_P13_7_F7_4_of_which_framework(tmp_path):
    """`from_flax` passes over safetensors of PyTorch's only if there is something of Flax's."""
    shutil.copytree(FLAX, tmp_path / "f")
    flax = fp.flatten(load(FLAX)[1])
    torch = {name: array + 1 for name, array in load_file(LLAMA / "model.safetensors").items()}
    save_file(torch, tmp_path / "f/model.safetensors", metadata={"format": "pt"})
    assert_equal(load(tmp_path / "f", use_safetensors=False)[1], flax)
    (tmp_path / "f/model.safetensors").unlink()
    assert_equal(load(tmp_path / "f", from_flax=True)[1], flax)
    with pytest.raises(fm.CheckpointError, match="written by pt, and flax was asked for"):
        load(LLAMA, from_flax=True)
    for other in ("from_pt", "from_tf"):
        with pytest.raises(fm.CheckpointError, match="looked for .*the folder holds"):
            load(tmp_path / "f", **{other: True})
    with pytest.raises(TypeError, match="give one of from_pt, from_flax, not all"):
        load(tmp_path / "f", from_pt=True, from_flax=True)


def test_P13_27_subfolder(tmp_path, expected):
    shutil.copytree(LLAMA, tmp_path / "repo" / "inner" / "model")
    assert_equal(load(tmp_path / "repo", subfolder="inner/model")[1], expected)
    with pytest.raises(fm.CheckpointError, match="repo/other': no such folder"):
        load(tmp_path / "repo", subfolder="other")


@pytest.mark.parametrize("size", ["5GB", "20KB"])
@pytest.mark.parametrize("format", ["safetensors", "msgpack"])
def test_P13_28_P28_8_D9_variants_live_side_by_side(format, size, tmp_path, expected):
    model, params = load(LLAMA)
    options = {"format": format, "max_shard_size": size}
    model.save_pretrained(params, tmp_path, **options)
    half = fp.to_bf16(params)
    model.save_pretrained(half, tmp_path, variant="bf16", **options)
    model.save_pretrained(half, tmp_path, variant="bf16", **options)
    names = os.listdir(tmp_path)
    stem, ending = ("model", format) if format == "safetensors" else ("flax_model", format)
    if size == "5GB":
        assert {f"{stem}.{ending}", f"{stem}.bf16.{ending}"} <= set(names)
    else:
        index = f"{stem}.{ending}.index"
        assert {f"{index}.json", f"{index}.bf16.json"} <= set(names)
        assert sum(name.startswith(f"{stem}.bf16-") for name in names) > 1
    assert_equal(load(tmp_path)[1], expected)
    assert_equal(load(tmp_path, variant="bf16")[1], fp.flatten(half))
    with pytest.raises(fm.CheckpointError, match="looked for model.fp16.safetensors"):
        load(tmp_path, variant="fp16")  # no silent fall back to the plain one


def test_P13_29_use_safetensors(tmp_path, expected):
    model, params = load(LLAMA)
    model.save_pretrained(params, tmp_path / "safe")
    with pytest.raises(fm.CheckpointError, match="looked for flax_model.msgpack"):
        load(tmp_path / "safe", use_safetensors=False)
    model.save_pretrained(params, tmp_path / "msgpack", safe_serialization=False)
    with pytest.raises(fm.CheckpointError, match="looked for model.safetensors, "):
        load(tmp_path / "msgpack", use_safetensors=True)
    for folder, options in (("safe", {"use_safetensors": True}), ("msgpack", {})):
        assert_equal(load(tmp_path / folder, **options)[1], expected)


def test_P13_31_key_mapping(tmp_path, expected):
    shutil.copytree(LLAMA, tmp_path / "m")
    tensors = {
        name.replace("model.layers", "blocks").replace("self_attn.q_proj", "attn.query"): array
        for name, array in load_file(LLAMA / "model.safetensors").items()
    }
    save_file(tensors, tmp_path / "m/model.safetensors", metadata={"format": "pt"})
    mapping = {r"^blocks": "model.layers", r"attn\.query": "self_attn.q_proj"}
    assert_equal(load(tmp_path / "m", key_mapping=mapping)[1], expected)
    with pytest.raises(fm.CheckpointError, match="are not in the checkpoint"):
        load(tmp_path / "m", key_mapping={r"^blocks": "model.layers"})
    with pytest.raises(fm.CheckpointError, match="key_mapping calls both .* 'x'"):
        load(tmp_path / "m", key_mapping={r".*layernorm.*": "x"})


def test_loading_info_reports_what_was_read(tmp_path):
    cache = tmp_path / "models--org--name" / "snapshots" / ("0" * 40)
    shutil.copytree(LLAMA, cache)
    *_, info = load(cache, output_loading_info=True)
    assert info.revision == "0" * 40
    file = str(cache / "model.safetensors")
    assert info.bytes_read.keys() == {file}
    assert 0 <= info.bytes_read[file] - os.path.getsize(file) <= 256  # its start is looked at twice
    assert info.seconds > 0
    *_, info = load(LLAMA, output_loading_info=True)
    assert info.revision is None


def test_P28_3_part_of_the_params_is_saved(tmp_path, expected):
    model, params = load(LLAMA)
    model.save_pretrained(params, tmp_path, select=lambda path, _: "norm" in path)
    found = fp.open_checkpoint(tmp_path)
    assert found.tensors and all("norm" in name for name in found.tensors)
    part = fp.select(params, lambda path, _: path.startswith("lm_head"))
    model.save_pretrained(part, tmp_path, select=True)
    assert list(fp.open_checkpoint(tmp_path).tensors) == ["lm_head.weight"]


def test_P28_4_save_function(tmp_path):
    model, params = load(LLAMA)
    calls = []

    def write(arrays, path):
        calls.append((set(arrays), os.path.basename(path)))
        np.savez(path, **arrays)
        os.rename(f"{path}.npz", path)

    model.save_pretrained(params, tmp_path / "s", save_function=write, max_shard_size="20KB")
    index = json.loads((tmp_path / "s/model.safetensors.index.json").read_text())
    assert {name for names, _ in calls for name in names} == index["weight_map"].keys()
    for names, file in calls:
        assert np.load(tmp_path / "s" / file).keys() == names

    def fail(arrays, path):
        raise OSError(28, "No space left on device")

    before = sorted(os.listdir(tmp_path / "s"))
    with pytest.raises(fm.CheckpointError, match="No space left on device; the weights take"):
        model.save_pretrained(params, tmp_path / "s", save_function=fail)
    assert sorted(os.listdir(tmp_path / "s")) == before


def shards(folder, model, params):
    model.save_pretrained(params, folder, safe_serialization=False, max_shard_size="20KB")
    return sorted(folder.glob("flax_model-*.msgpack"))


def test_F8_load_flax_sharded_weights(tmp_path):
    from flax.serialization import msgpack_restore

    model, params = load(LLAMA)
    files = shards(tmp_path, model, params)
    assert len(files) > 2
    found = fp.load_flax_sharded_weights(files)
    assert_equal(found, fp.flatten(params_by_flax(files, msgpack_restore)))
    device = jax.sharding.SingleDeviceSharding(jax.devices()[5])
    moved = fp.load_flax_sharded_weights(files[::-1], dtype="bfloat16", shardings=device)
    assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(moved))
    assert all(leaf.devices() == {jax.devices()[5]} for leaf in jax.tree.leaves(moved))


def params_by_flax(files, restore):
    leaves = {}
    for file in files:
        leaves |= fp.flatten(restore(file.read_bytes()))
    return fp.unflatten(leaves)


def test_F8_D23_the_nesting_of_the_files_is_kept(tmp_path):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    from flax.serialization import msgpack_serialize

    for i, name in enumerate("ab"):
        tree = {"model": {"params": {name: array + i}}}
        put(tmp_path, f"{i}.msgpack", msgpack_serialize(tree))
    files = [tmp_path / "0.msgpack", tmp_path / "1.msgpack"]
    found = fp.load_flax_sharded_weights(files)
    assert_equal(found, {"model/params/a": array, "model/params/b": array + 1})


def test_F8_bad_shards(tmp_path):
    model, params = load(LLAMA)
    files = shards(tmp_path, model, params)
    with pytest.raises(fm.CheckpointError, match="is in another shard too"):
        fp.load_flax_sharded_weights([*files, files[0]])
    with pytest.raises(fm.CheckpointError, match="cannot be opened"):
        fp.load_flax_sharded_weights([tmp_path / "gone.msgpack"])
    with pytest.raises(fm.CheckpointError, match="no files"):
        fp.load_flax_sharded_weights([])
    clash = [put(tmp_path, f"{i}.msgpack", content) for i, content in enumerate(clashing())]
    with pytest.raises(fm.CheckpointError, match="runs through the leaf"):
        fp.load_flax_sharded_weights(clash)


def clashing():
    from _files import extension

    one = extension((1,), "float32", b"\0" * 4)
    return pack({"a": one}), pack({"a": {"b": one}})


@pytest.mark.parametrize("golden", ["llama-sharded", "gpt2-sharded", "bert-sharded"])
def test_S1_load_sharded_checkpoint(golden):
    folder = GOLDENS / golden / "checkpoint"
    cls = auto.architecture(str(folder))
    model, expected = cls.from_pretrained(folder, progress=False)
    template = model.abstract_params()
    params, result = fp.load_sharded_checkpoint(template, folder, naming=model.naming)
    assert_equal(params, fp.flatten(expected))
    assert result == fp.LoadResult([], []) and result._fields == ("missing_keys", "unexpected_keys")


def test_S1_S2_strict_compares_names_before_any_weight_is_read(tmp_path, monkeypatch):
    model, params = load(LLAMA)
    model.save_pretrained(params, tmp_path, max_shard_size="20KB")
    template = fp.flatten(model.abstract_params())
    gone = template.pop("model/norm/scale")
    template["extra/scale"] = gone
    template = fp.unflatten(template)
    read = []
    fill = fp.Tensor.fill
    monkeypatch.setattr(fp.Tensor, "fill", lambda *args: (read.append(1), fill(*args)))
    with pytest.raises(fm.CheckpointError, match="missing 'extra/scale'; unexpected 'model.norm.w"):
        fp.load_sharded_checkpoint(template, tmp_path)
    assert not read
    params, result = fp.load_sharded_checkpoint(template, tmp_path, strict=False)
    assert result.missing_keys == ["extra/scale"]
    assert result.unexpected_keys == ["model.norm.weight"]
    assert "extra" not in params and read


def test_S1_D3_prefer_safe(tmp_path):
    model, params = load(LLAMA)
    template = model.abstract_params()
    model.save_pretrained(params, tmp_path / "a")
    other = jax.tree.map(lambda x: x + 1, params)
    model.save_pretrained(other, tmp_path / "b", safe_serialization=False)
    shutil.copy(tmp_path / "b/flax_model.msgpack", tmp_path / "a")
    for prefer_safe, tree in ((True, params), (False, other)):
        found, _ = fp.load_sharded_checkpoint(
            template, tmp_path / "a", prefer_safe=prefer_safe, naming=model.naming
        )
        assert_equal(found, fp.flatten(tree))
    (tmp_path / "a/flax_model.msgpack").unlink()
    found, _ = fp.load_sharded_checkpoint(template, tmp_path / "a", prefer_safe=False)
    assert_equal(found, fp.flatten(params))
    with pytest.raises(fm.CheckpointError, match="no checkpoint"):
        fp.load_sharded_checkpoint(template, tmp_path)


TORCH = GOLDENS / "formats" / "torch" / "llama"
TF = GOLDENS / "formats" / "tf"


@pytest.mark.parametrize("kind", ["single", "legacy", "sharded"])
def test_P13_30_T9_3_F7_4_what_torch_saved(kind, expected, tmp_path):
    """Taken by itself where there is nothing else; `from_pt` takes nothing of others'."""
    shutil.copytree(TORCH / kind, tmp_path / "f")
    assert_equal(load(tmp_path / "f")[1], expected)
    assert_equal(load(tmp_path / "f", from_pt=True, weights_only=True)[1], expected)
    assert_equal(load(tmp_path / "f", weights_only=False, scan_layers=True)[1], stacked())
    with pytest.raises(fm.CheckpointError, match="no checkpoint"):
        load(tmp_path / "f", from_flax=True)
    with pytest.raises(fm.CheckpointError, match="no checkpoint"):
        load(tmp_path / "f", use_safetensors=True)


def stacked():
    return fp.flatten(load(LLAMA, scan_layers=True)[1])


def test_T9_1_F7_1_a_torch_file_with_from_pt_and_a_config(expected):
    """The example of the page."""
    config = fm.LlamaConfig.from_pretrained(TORCH / "single")
    path = TORCH / "legacy" / "pytorch_model.bin"
    assert_equal(load(path, from_pt=True, config=config)[1], expected)


@pytest.mark.parametrize("end", [".index", ""])
def test_P13_1c_P13_6_a_tf_checkpoint_with_from_tf_and_a_config(end):
    """The example of the page: the index file, and a config object."""
    config = fm.BertConfig.from_pretrained(TF / "h5")
    path = TF / "google" / f"bert_model.ckpt{end}"
    _, params = fm.BertForPreTraining.from_pretrained(path, from_tf=True, config=config)
    _, same_as = fm.BertForPreTraining.from_pretrained(TF / "h5", from_tf=True)
    assert_equal(params, fp.flatten(same_as))


def test_I21_R1_the_order_in_which_formats_are_taken(expected, tmp_path):
    shutil.copytree(TORCH / "single", tmp_path / "f")
    model, params = load(LLAMA)
    other = jax.tree.map(lambda leaf: leaf + 1, params)
    model.save_pretrained(other, tmp_path / "o", format="msgpack")
    shutil.copy(tmp_path / "o/flax_model.msgpack", tmp_path / "f")
    assert_equal(load(tmp_path / "f")[1], fp.flatten(other))  # msgpack before torch
    assert_equal(load(tmp_path / "f", from_pt=True)[1], expected)
    shutil.copy(LLAMA / "model.safetensors", tmp_path / "f")
    assert_equal(load(tmp_path / "f")[1], expected)  # safetensors first
    (tmp_path / "f/model.safetensors").write_bytes(b"broken")
    with pytest.raises(fm.CheckpointError, match="model.safetensors: 6 bytes is too small"):
        load(tmp_path / "f")  # an error is no reason to try another
    assert_equal(load(tmp_path / "f", from_pt=True)[1], expected)  # a framework's own come first


def test_P13_1b_P13_1d_what_was_saved_is_found_without_flags(expected, tmp_path):
    model, params = load(LLAMA)
    for format in ("safetensors", "msgpack", "orbax"):
        model.save_pretrained(params, tmp_path / format, format=format)
        assert_equal(load(tmp_path / format)[1], expected)
        _, found = fm.AutoModelForCausalLM.from_pretrained(tmp_path / format)
        assert_equal(found, expected)
    assert_equal(load(tmp_path / "msgpack", from_flax=True)[1], expected)


def test_P13_2_F7_2_F7_3_fields_by_position(expected):
    model, params = load(LLAMA, jnp.bfloat16, True)
    assert model.dtype == jnp.bfloat16 and model.scan_layers
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))  # F7.2
    model, _ = fm.AutoModelForCausalLM.from_pretrained(LLAMA, jnp.float16)
    assert model.dtype == jnp.float16
    with pytest.raises(
        TypeError, match=r"takes [0-9]+ fields of the model by position \(dtype, .*\), got 50"
    ):
        load(LLAMA, *range(50))
    with pytest.raises(TypeError, match="dtype"):
        load(LLAMA, jnp.float16, dtype=jnp.float16)


@pytest.mark.parametrize("safe", [True, False])
def test_T21_F10_presets_of_old_calls_keep_their_meaning(safe, tmp_path, expected):
    """`safe_serialization=False` is flax msgpack here, never h5 or pickle (D19)."""
    model, params = load(LLAMA)
    model.save_pretrained(params, tmp_path, max_shard_size="20KB", safe_serialization=safe)
    endings = {path.suffix for path in tmp_path.iterdir()} - {".json"}
    assert endings == {".safetensors" if safe else ".msgpack"}
    assert_equal(load(tmp_path)[1], expected)


def test_P28_2_only_the_main_process_writes(tmp_path):
    model, params = load(LLAMA)
    model.save_pretrained(params, tmp_path / "s", is_main_process=False)
    assert not (tmp_path / "s").exists()

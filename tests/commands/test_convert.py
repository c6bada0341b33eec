"""`flaxmodels convert`: any format to any, verified, and what it refuses."""

import json
import shutil
from pathlib import Path

import _children
import numpy as np
import pytest
from _paths import GOLDENS, ROOT
from _turns import in_turn

import flaxmodels as fm
from flaxmodels import auto
from flaxmodels import params as fp
from flaxmodels.commands import cli
from flaxmodels.commands import convert as convert_module
from flaxmodels.commands.convert import convert
from flaxmodels.params.save.write import write_checkpoint

SOURCES = ("bert-pre-training", "gpt2-lm-head", "flax-gpt2-lm-head", "llama-tied", "llama-sharded")


def params_of(folder, **how):
    cls = auto.architecture(str(folder))
    return fp.flatten(cls.from_pretrained(folder, progress=False, **how)[1])


def assert_same(one, two):
    assert one.keys() == two.keys()
    for path, leaf in one.items():
        assert leaf.dtype == two[path].dtype, path
        np.testing.assert_array_equal(leaf, two[path], err_msg=path)


@in_turn("golden", SOURCES, "first", ["safetensors", "msgpack"])
def test_there_and_back(golden, first, tmp_path):
    source = GOLDENS / golden / "checkpoint"
    second = "msgpack" if first == "safetensors" else "safetensors"
    size = convert(source, tmp_path / "1", format=first, max_shard_size="20KB", progress=False)
    assert convert(tmp_path / "1", tmp_path / "2", format=second, progress=False) == size
    assert_same(params_of(tmp_path / "1"), params_of(source))
    assert_same(params_of(tmp_path / "2"), params_of(source))


def test_dtype_is_chosen(tmp_path):
    source = GOLDENS / "llama-causal-lm" / "checkpoint"
    convert(source, tmp_path / "a", dtype="bfloat16", progress=False)
    assert {str(x.dtype) for x in params_of(tmp_path / "a").values()} == {"bfloat16"}
    assert json.loads((tmp_path / "a/config.json").read_text())["dtype"] == "bfloat16"
    mixed = {"norm": "float32", ".*": "float16"}
    convert(source, tmp_path / "b", format="msgpack", dtype=mixed, progress=False)
    found = params_of(tmp_path / "b")
    assert found["model/norm/scale"].dtype == "float32"
    assert found["lm_head/kernel"].dtype == "float16"


def test_variant_checksums_and_companions(tmp_path):
    source = tmp_path / "source"
    convert(GOLDENS / "llama-causal-lm" / "checkpoint", source, progress=False)
    (source / "tokenizer.json").write_text("{}")
    (source / "notes.txt").write_text("mine")
    convert(source, tmp_path / "a", variant="fp16", checksums=True, progress=False)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "checksums.json",
        "config.json",
        "generation_config.json",
        "model.fp16.safetensors",
        "tokenizer.json",
    ]
    convert(tmp_path / "a", tmp_path / "b", weights={"variant": "fp16"}, progress=False)
    assert_same(params_of(tmp_path / "b"), params_of(source, verify=False))
    assert_same(params_of(tmp_path / "a", variant="fp16", verify=True), params_of(source))


def test_without_a_config_names_stay(tmp_path):
    golden = GOLDENS / "gpt2-lm-head" / "checkpoint" / "model.safetensors"
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes(golden.read_bytes())
    convert(alone, tmp_path / "a", max_shard_size="20KB", progress=False)
    one, two = fp.open_checkpoint(alone), fp.open_checkpoint(tmp_path / "a")
    assert one.tensors.keys() == two.tensors.keys() and len(two.files) > 1
    for name, tensor in one.tensors.items():
        np.testing.assert_array_equal(tensor.read(), two[name].read())
    with pytest.raises(fm.CheckpointError, match="no config.json beside it, so it is not known"):
        convert(alone, tmp_path / "b", format="msgpack", progress=False)
    assert not (tmp_path / "b").exists()


def test_what_was_not_written_as_it_was_read_is_noticed(tmp_path, monkeypatch):
    source = GOLDENS / "llama-causal-lm" / "checkpoint"
    save = convert_module.save

    def flip(model, params, folder, *how):
        save(model, params, folder, *how)
        path = Path(folder) / "model.safetensors"
        content = bytearray(path.read_bytes())
        content[-5] ^= 1
        path.write_bytes(content)

    monkeypatch.setattr(convert_module, "save", flip)
    with pytest.raises(fm.CheckpointError, match="has sha256 .*not written as it was read"):
        convert(source, tmp_path / "a", progress=False)
    convert(source, tmp_path / "a", progress=False, verify=False)


def test_the_command(tmp_path, capsys):
    source = str(GOLDENS / "llama-causal-lm" / "checkpoint")
    target = str(tmp_path / "a")
    assert cli.main(["convert", source, target, "--format", "msgpack", "--checksums"]) == 0
    assert "verified" in capsys.readouterr().out
    assert (tmp_path / "a/flax_model.msgpack").exists()
    assert cli.main(["plan", target]) == 0
    assert "missing 0, unexpected 0" in capsys.readouterr().out
    assert cli.main(["convert", str(tmp_path / "gone" / "a"), target]) == 1
    assert "flaxmodels: " in capsys.readouterr().err
    assert cli.main(["convert", source, target, "--format", "pickle"]) == 1
    assert "format is 'pickle'; what can be written is" in capsys.readouterr().err


def test_the_script_and_the_module(tmp_path):
    source = GOLDENS / "llama-causal-lm" / "checkpoint"
    script = ROOT / "scripts" / "convert.py"
    for i, command in enumerate(([script], ["-m", "flaxmodels", "convert"])):
        target = tmp_path / str(i)
        run = _children.run(*command, source, target, "--dtype", "float16")
        assert run.returncode == 0, run.stderr
        assert {str(x.dtype) for x in params_of(target).values()} == {"float16"}


@pytest.mark.filterwarnings("ignore:.*the model has the tokens 0 to 39")
@in_turn(
    *("source", ["torch/llama/sharded", "torch/llama/legacy", "tf/h5", "tf/sharded", "tf/gpt2"]),
    *("format", ["safetensors", "msgpack", "orbax"]),
)
def test_from_every_format_to_every_format(source, format, tmp_path):
    source = GOLDENS / "formats" / source
    convert(source, tmp_path / "a", format=format, progress=False)
    assert_same(params_of(tmp_path / "a"), params_of(source))
    if format == "orbax":
        convert(tmp_path / "a", tmp_path / "b", progress=False)
        assert_same(params_of(tmp_path / "b"), params_of(source))


def test_memory_stays_at_one_tensor(tmp_path):
    """A 100 MB file of ten tensors, in a process that may take 50 MB more than it has."""
    tree = {f"t{i}": np.full((5 << 20, 2), i, np.uint8) for i in range(10)}
    (tmp_path / "a").mkdir()
    write_checkpoint(tmp_path / "a", tree, tree, progress=False)
    program = """
import resource, sys
from flaxmodels.commands.convert import convert
convert(sys.argv[1], sys.argv[3], progress=False)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
convert(sys.argv[2], sys.argv[4], progress=False, max_shard_size="25MB", dtype="uint8")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    small = GOLDENS / "llama-causal-lm" / "checkpoint"
    targets = tmp_path / "small", tmp_path / "large"
    run = _children.run("-c", program, small, tmp_path / "a", *targets)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 50_000, run.stdout
    assert len(list((tmp_path / "large").glob("*.safetensors"))) == 5


@pytest.mark.parametrize("config", [True, False])
def test_a_folder_onto_itself_loses_nothing(config, tmp_path):
    folder = shutil.copytree(GOLDENS / "llama-causal-lm" / "checkpoint", tmp_path / "a")
    if not config:
        (folder / "config.json").unlink()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    convert(folder, folder, progress=False, max_shard_size="20KB")
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert after["generation_config.json"] == before["generation_config.json"]
    assert before.keys() - after.keys() == {"model.safetensors"}


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"verify": "no"}, "verify is 'no'; expected True or False"),
        ({"drop": 5}, "drop is 5; expected regular expressions, as text"),
        ({"weights": "fp16"}, "weights is 'fp16'; expected a map"),
        ({"weights": {"framwork": "pt"}}, "weights does not take framwork; it takes"),
    ],
)
def test_an_argument_of_another_kind_is_an_error(how, said, tmp_path):
    with pytest.raises(TypeError, match=said):
        convert(GOLDENS / "llama-causal-lm" / "checkpoint", tmp_path / "a", progress=False, **how)
    assert not (tmp_path / "a").exists()


def test_a_pattern_of_dtypes_that_nothing_matches_is_an_error(tmp_path):
    source = GOLDENS / "llama-causal-lm" / "checkpoint"
    with pytest.raises(ValueError, match="dtype: pattern 'nrom' matches no path"):
        convert(source, tmp_path / "a", dtype={"nrom": "float32", ".*": "float16"}, progress=False)
    assert not (tmp_path / "a").exists()

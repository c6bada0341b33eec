"""`convert` accounts for every tensor of its source: it is in the result, or it is named."""

import json
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from _files import same, write_safetensors
from _paths import GOLDENS
from _turns import in_turn

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels.commands import cli
from flaxmodels.commands import convert as convert_module
from flaxmodels.commands.convert import convert

WHOLE = {
    "llama": "LlamaForCausalLM",
    "gpt2": "GPT2DoubleHeadsModel",
    "bert": "BertForPreTraining",
}
SOURCES = {"llama": "llama-causal-lm", "gpt2": "gpt2-double-heads", "bert": "bert-pre-training"}
PREFIX = re.compile(r"^(model|transformer|bert)\.")


@pytest.fixture(autouse=True, scope="module")
def auto_imported():
    import flaxmodels.auto  # noqa: F401


def tensors_of(path):
    return {name: tensor.read() for name, tensor in fp.open_checkpoint(path).tensors.items()}


def copied(tmp_path, family, tensors=None, **config):
    """A folder with a golden's checkpoint, other tensors and another config."""
    golden, folder = GOLDENS / SOURCES[family] / "checkpoint", tmp_path / "source"
    folder.mkdir()
    values = json.loads((golden / "config.json").read_text()) | config
    values = {name: value for name, value in values.items() if value != "absent"}
    (folder / "config.json").write_text(json.dumps(values))
    tensors = tensors_of(golden) if tensors is None else tensors
    write_safetensors(folder / "model.safetensors", tensors, {"format": "pt"})
    return folder, tensors


def assert_all_there(tensors, folder):
    """Every tensor is in the result, bit for bit, but for a prefix of the backbone."""
    found = tensors_of(folder)
    short = {PREFIX.sub("", name): array for name, array in found.items()}
    for name, array in tensors.items():
        there = found.get(name, short.get(PREFIX.sub("", name)))
        assert there is not None and same(there, array), name


ARCHITECTURES = {
    "absent": "absent",
    "null": None,
    "empty": [],
    "unknown": ["MyModelForEverything"],
    "base": "base",
    "another head": "another",
}
OTHERS = {
    "llama": ("LlamaModel", "LlamaForSequenceClassification"),
    "gpt2": ("GPT2Model", "GPT2ForTokenClassification"),
    "bert": ("BertModel", "BertForMaskedLM"),
}


@in_turn("case", [*ARCHITECTURES], "family", [*WHOLE])
def test_a_class_that_is_guessed_narrows_nothing(family, case, tmp_path, capsys):
    named = ARCHITECTURES[case]
    if case in ("base", "another head"):
        named = [OTHERS[family][case != "base"]]
    folder, tensors = copied(tmp_path, family, architectures=named)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert cli.main(["convert", str(folder), str(tmp_path / "a")]) == 0
    assert "verified" in capsys.readouterr().out
    assert_all_there(tensors, tmp_path / "a")
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert config["architectures"] == [WHOLE[family]]
    assert any(f"is a {WHOLE[family]} by its tensors" in str(w.message) for w in caught)


def test_a_backbone_that_is_called_a_head(tmp_path):
    golden = GOLDENS / "llama-causal-lm" / "checkpoint"
    tensors = {n: t for n, t in tensors_of(golden).items() if n != "lm_head.weight"}
    folder, _ = copied(tmp_path, "llama", tensors)
    with pytest.warns(UserWarning, match="is a LlamaModel by its tensors"):
        convert(folder, tmp_path / "a", progress=False)
    assert_all_there(tensors, tmp_path / "a")


EXTRA = {
    "a second head": ("llama", {"score.weight": (3, 32)}),
    "of the backbone": ("llama", {"model.layers.0.mlp.extra.weight": (2, 2)}),
    "a layer more": ("gpt2", {"transformer.h.9.ln_1.weight": (32,)}),
    "of a wrapper": ("bert", {"ema.decay": ()}),
    "a tower": ("llama", {f"vision.{i}.weight": (2,) for i in range(30)}),
}


@in_turn("case", [*EXTRA], "format", ["safetensors", "msgpack"])
def test_a_tensor_without_a_place_stops_it(case, format, tmp_path, capsys):
    family, shapes = EXTRA[case]
    extra = {name: np.full(shape, 7, np.float32) for name, shape in shapes.items()}
    folder, tensors = copied(tmp_path, family)
    write_safetensors(folder / "model.safetensors", tensors | extra, {"format": "pt"})
    command = ["convert", str(folder), str(tmp_path / "a"), "--format", format]
    assert cli.main(command) == 1
    said = capsys.readouterr()
    assert min(extra) in said.err and "--drop" in said.err and "verified" not in said.out
    assert not (tmp_path / "a").exists()
    pattern = min(extra).partition(".")[0] if case == "a tower" else min(extra)
    assert cli.main([*command, "--drop", f"^{pattern}"]) == 0
    assert "verified" in capsys.readouterr().out
    if format == "safetensors":
        assert_all_there(tensors, tmp_path / "a")


def test_drop_must_be_found_and_be_an_expression(tmp_path, capsys):
    folder, _ = copied(tmp_path, "llama")
    for pattern, message in (("no_such", "is found in no name"), ("(", "no regular expression")):
        with pytest.raises(fm.CheckpointError, match=message):
            convert(folder, tmp_path / "a", drop=pattern, progress=False)
    assert cli.main(["convert", str(folder), str(tmp_path / "a"), "--drop", "h.0.x"]) == 1
    assert "is found in no name; there are" in capsys.readouterr().err
    with pytest.warns(UserWarning, match="is a LlamaModel by its tensors"):
        convert(folder, tmp_path / "a", drop=["lm_head"], progress=False)
    assert not any("lm_head" in name for name in tensors_of(tmp_path / "a"))


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("llama", "model.layers.0.self_attn.rotary_emb.inv_freq"),
        ("gpt2", "transformer.h.0.attn.bias"),
        ("bert", "bert.embeddings.position_ids"),
    ],
)
def test_buffers_are_left_out_aloud(family, name, tmp_path):
    folder, tensors = copied(tmp_path, family)
    buffers = {name: np.arange(4, dtype=np.float32)}
    write_safetensors(folder / "model.safetensors", tensors | buffers, {"format": "pt"})
    with pytest.warns(UserWarning, match=f"buffers that follow .*{name}"):
        convert(folder, tmp_path / "a", progress=False)
    assert_all_there(tensors, tmp_path / "a")


@pytest.mark.parametrize("format", ["safetensors", "msgpack", "orbax"])
def test_tied_tensors(format, tmp_path):
    """Equal ones are one; of two that differ both are kept, and the model is no longer tied."""
    folder, tensors = copied(tmp_path, "llama", tie_word_embeddings=True)
    table = tensors["model.embed_tokens.weight"]
    for i, head in enumerate((table, table + np.float32(1))):
        content = tensors | {"lm_head.weight": head}
        write_safetensors(folder / "model.safetensors", content, {"format": "pt"})
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            convert(folder, tmp_path / str(i), format=format, progress=False)
        _, params = fm.AutoModelForCausalLM.from_pretrained(tmp_path / str(i), progress=False)
        config = json.loads((tmp_path / str(i) / "config.json").read_text())
        assert config["tie_word_embeddings"] == (i == 0)
        assert bool(caught) == (i == 1)
        if i == 1:
            assert same(np.asarray(params["lm_head"]["kernel"]), np.ascontiguousarray(head.T))


def test_what_jax_would_cast_stays(tmp_path):
    """64-bit numbers, which JAX holds only with x64."""
    golden = GOLDENS / "llama-causal-lm" / "checkpoint"
    tensors = {n: t.astype(np.float64) * 1.1 for n, t in tensors_of(golden).items()}
    folder, _ = copied(tmp_path, "llama", tensors)
    convert(folder, tmp_path / "a", progress=False)
    assert_all_there(tensors, tmp_path / "a")
    (folder / "config.json").unlink()
    tensors |= {"count": np.asarray([2**40, -1])}
    write_safetensors(folder / "model.safetensors", tensors, {"format": "pt"})
    convert(folder, tmp_path / "b", progress=False)
    assert_all_there(tensors, tmp_path / "b")


@pytest.mark.parametrize("fault", ["value", "name", "more", "dtype", "swapped"])
def test_what_is_called_verified_was_compared_with_the_source(fault, tmp_path, monkeypatch, capsys):
    folder, _ = copied(tmp_path, "llama")
    save = convert_module.save

    def spoil(model, params, target, *how):
        save(model, params, target, *how)
        path = Path(target) / "model.safetensors"
        tensors = tensors_of(path)
        one = "model.layers.0.mlp.up_proj.weight"
        if fault == "value":
            tensors[one] = np.where(tensors[one] == tensors[one].max(), 0, tensors[one])
        if fault == "name":
            tensors["lm_head.bias"] = tensors.pop("lm_head.weight")
        if fault == "more":
            tensors["score.weight"] = np.ones(2, np.float32)
        if fault == "dtype":
            tensors[one] = tensors[one].astype(np.float16)
        if fault == "swapped":
            other = one.replace("up", "gate")
            tensors[one], tensors[other] = tensors[other], tensors[one]
        path.unlink()
        write_safetensors(path, tensors, {"format": "pt"})

    monkeypatch.setattr(convert_module, "save", spoil)
    assert cli.main(["convert", str(folder), str(tmp_path / "a")]) == 1
    said = capsys.readouterr()
    assert (
        "verified" not in said.out
        and "was to be written|not written".split("|")[fault not in ("name", "more")] in said.err
    )


def test_a_family_that_is_not_known(tmp_path):
    """Names stay, and the configuration, but for what names code, at any depth, or is no JSON."""
    folder, tensors = copied(
        tmp_path,
        "llama",
        model_type="rwkv9",
        torch_dtype="float32",
        auto_map={"AutoModel": "x.Y"},
        text_config={"kernel_config": {"a": "x/y"}, "width": 3},
        theta=float("inf"),
    )
    with (
        pytest.warns(UserWarning, match="rwkv9.*keep their names, and config.json is copied"),
        pytest.warns(UserWarning, match="auto_map, text_config.kernel_config: names code, and is"),
        pytest.warns(UserWarning, match="'theta': Infinity or NaN, which is no JSON, and is left"),
    ):
        convert(folder, tmp_path / "a", dtype="bfloat16", progress=False)
    assert {str(t.dtype) for t in tensors_of(tmp_path / "a").values()} == {"bfloat16"}
    assert tensors_of(tmp_path / "a").keys() == tensors.keys()
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert config["model_type"] == "rwkv9" and config["torch_dtype"] == "bfloat16"
    assert "auto_map" not in config and "theta" not in config
    assert config["text_config"] == {"width": 3}
    with pytest.raises(fm.ConfigError, match="rwkv9"):
        convert(folder, tmp_path / "b", format="msgpack", progress=False)


CLASHES = {
    "leaf and module": ["block", "block/w"],
    "dots": ["a.b.c", "a.b"],
    "empty part": ["x/", "x"],
    "deep": ["a/b/c/d/w", "a/b"],
}


@pytest.mark.parametrize("case", CLASHES)
@pytest.mark.parametrize("format", ["safetensors", "msgpack", "orbax"])
def test_names_that_are_no_tree(case, format, tmp_path):
    tensors = dict.fromkeys(CLASHES[case], np.ones(2, np.float32))
    path = write_safetensors(tmp_path / "odd.safetensors", tensors, {"format": "flax"})
    with pytest.raises(fm.CheckpointError, match="odd.safetensors"):
        convert(path, tmp_path / "a", format=format, progress=False)
    if format == "safetensors":
        path = write_safetensors(tmp_path / "odd.safetensors", tensors, {"format": "pt"})
        convert(path, tmp_path / "a", progress=False)
        assert_all_there(tensors, tmp_path / "a")


def test_the_state_of_a_training_is_named(tmp_path):
    """Of TensorFlow, whose checkpoints keep it among the variables."""
    source = shutil.copytree(GOLDENS / "formats" / "tf" / "google", tmp_path / "source")
    shutil.copy(GOLDENS / "formats" / "tf" / "h5" / "config.json", source)
    passed_over = fp.open_checkpoint(source).passed_over
    assert "bert/pooler/dense/kernel/adam_m" in passed_over
    with pytest.warns(UserWarning, match="not converted, the state of a training: .*adam_m"):
        convert(source, tmp_path / "a", progress=False)
    with pytest.warns(UserWarning, match="the state of a training"):
        convert(source, tmp_path / "b", drop="adam_[mv]$", progress=False)


def test_a_result_is_never_half_written_over_a_good_one(tmp_path):
    folder, tensors = copied(tmp_path, "llama")
    shutil.copytree(folder, tmp_path / "a")
    content = tensors | {"odd": np.ones(2, np.float32)}
    write_safetensors(folder / "model.safetensors", content, {"format": "pt"})
    with pytest.raises(fm.CheckpointError, match="'odd'"):
        convert(folder, tmp_path / "a", progress=False)
    assert_all_there(tensors, tmp_path / "a")

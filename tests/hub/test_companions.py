"""What travels with weights, and that nothing of a stranger's link does."""

import json
import os

import jax
import pytest
from _drawn import tiny_llama
from _files import put

import flaxmodels as fm
from flaxmodels import hub
from flaxmodels import params as fp
from flaxmodels.checkpoints.publishing.push import _files
from flaxmodels.commands import cli
from flaxmodels.commands.convert import convert
from flaxmodels.params.formats import FolderFile, folder_file

SECRET = "not for the world"
ALONG = [
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.txt", "vocab.json",
    "merges.txt", "special_tokens_map.json", "added_tokens.json", "spiece.model", "spiece.vocab",
    "sentencepiece.bpe.model", "source.spm", "preprocessor_config.json", "processor_config.json",
    "chat_template.jinja", "additional_chat_templates/rag.jinja", "modules.json",
    "sentence_bert_config.json", "1_Pooling/config.json", "2_Dense/model.safetensors",
    "config_sentence_transformers.json", "generation_config.json", "LICENSE", "NOTICE.md",
]  # fmt: skip
APART = [
    "notes.txt", "model.py", "tokenizer.py", "config.json", "model.safetensors", "README.md",
    "training_args.bin", "0_Transformer/config.json", "onnx/model.onnx", "vocabulary/vocab.txt",
    ".gitattributes", "runs/events",
]  # fmt: skip


@pytest.fixture
def llama(tmp_path_factory):
    """A small model, saved."""
    model = fm.LlamaForCausalLM(
        tiny_llama(
            vocab_size=16,
            hidden_size=8,
            intermediate_size=12,
            num_hidden_layers=1,
            max_position_embeddings=16,
        ),
        generation_config=fm.GenerationConfig(temperature=0.5),
    )
    template = model.abstract_params()
    params = fp.initialize(template, jax.random.key(0))
    folder = tmp_path_factory.mktemp("llama") / "saved"
    model.save_pretrained(params, folder, progress=False)
    return model, params, folder


def fill(folder, names, text="mine"):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        put(folder, name, text)


def names_of(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_one_list_for_convert_save_and_upload(llama, tmp_path):
    model, params, folder = llama
    made = {"config.json", "generation_config.json", "model.safetensors"}
    fill(folder, [name for name in ALONG if name not in made])
    fill(folder, [name for name in APART if name not in made])
    assert {file.name for file in hub.companions(str(folder))} == {*ALONG}
    convert(folder, tmp_path / "converted", progress=False)
    assert names_of(tmp_path / "converted") == {*ALONG, *made}
    for _ in range(2):
        model.save_pretrained(params, tmp_path / "saved", tokenizer_from=folder, progress=False)
    assert names_of(tmp_path / "saved") == {*ALONG, *made}
    assert (tmp_path / "saved" / "generation_config.json").read_text() != "mine"
    assert {file.name for file in _files(folder, None)} == {*ALONG, *made, "README.md"}


def ways(llama, tmp_path):
    """Each way by which a file of a folder gets out of it."""
    model, params, folder = llama
    return {
        "convert": lambda: convert(folder, tmp_path / "a", format="msgpack", progress=False),
        "save": lambda: model.save_pretrained(
            params, tmp_path / "b", tokenizer_from=folder, progress=False
        ),
        "upload": lambda: _files(folder, None),
    }


def assert_refused(llama, tmp_path, name, of=("convert", "save", "upload"), said="leads out of"):
    for way in of:
        with pytest.raises(fm.CheckpointError, match=said) as caught:
            ways(llama, tmp_path)[way]()
        assert name in str(caught.value)
        assert SECRET not in str(caught.value)
    for path in tmp_path.rglob("*"):
        assert path.is_symlink() or not path.is_file() or SECRET not in path.read_text("latin-1")


CODED = {
    "tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["a/b--tok.Tok", None]}, "pad": "é"},
    "processor_config.json": {"image": {"auto_map": {"AutoImageProcessor": "proc.P"}}, "size": 3},
    "preprocessor_config.json": {"trust_remote_code": True, "size": [1.0, 2]},
    "2_Dense/config.json": {"code_revision": "abc", "in_features": 4},
}
PLAIN = {
    "vocab.json": '{"auto_map": 1, "trust_remote_code": 2}',  # tokens
    "config_sentence_transformers.json": '{ "auto_map":null,"x" : 1.50 }\r\n',
    "special_tokens_map.json": "{}",
    "image_processor.json": '{"auto_map": {"AutoModel": "Plain"}, "x": ',  # no JSON
}


@pytest.mark.parametrize("way", ["convert", "save"])
def test_keys_that_name_code_are_not_handed_on(way, llama, tmp_path):
    """Each file and key is named; what has no such keys is the same byte for byte."""
    _, _, folder = llama
    fill(folder, CODED)
    for name, values in CODED.items():
        put(folder, name, json.dumps(values))
    for name, text in PLAIN.items():
        put(folder, name, text)
    with pytest.warns(UserWarning) as caught:
        ways(llama, tmp_path)[way]()
    said = "\n".join(str(warning.message) for warning in caught)
    made = tmp_path / ("a" if way == "convert" else "b")
    for name, values in CODED.items():
        (key,) = {"auto_map", "image", "trust_remote_code", "code_revision"} & values.keys()
        key = "image.auto_map" if key == "image" else key
        assert f"{folder / name}: {key}: names code, and is left out of the copy" in said
        kept = {k: v for k, v in values.items() if not key.startswith(k)}
        assert json.loads((made / name).read_text()) == kept | ({"image": {}} if "." in key else {})
    for name, text in PLAIN.items():
        assert (made / name).read_bytes() == text.encode()
    assert len(caught) == len(CODED)


def test_a_configuration_too_deep_to_be_looked_into(llama, tmp_path):
    put(llama[2], "tokenizer_config.json", "[" * 200_000 + "]" * 200_000)
    assert_refused(llama, tmp_path, "tokenizer_config.json", ("convert", "save"), "too deeply")


@pytest.fixture
def secret(tmp_path_factory):
    return put(tmp_path_factory.mktemp("home"), "token", SECRET)


@pytest.mark.parametrize("name", ["vocab.txt", "LICENSE", "1_Pooling/config.json", "source.spm"])
def test_a_link_out_of_the_folder(name, llama, secret, tmp_path):
    fill(llama[2], ["1_Pooling/notes.txt", "tokenizer_config.json"])
    os.symlink(secret, llama[2] / name)
    assert_refused(llama, tmp_path, name)


def test_a_chain_of_links_and_one_that_climbs(llama, secret, tmp_path):
    os.symlink(os.path.relpath(secret, llama[2]), llama[2] / "second")
    os.symlink("second", llama[2] / "merges.txt")
    assert_refused(llama, tmp_path, "merges.txt")


def test_a_folder_on_the_way_is_a_link(llama, secret, tmp_path):
    os.symlink(secret.parent, llama[2] / "additional_chat_templates")
    assert_refused(llama, tmp_path, "additional_chat_templates/token")


def test_a_link_that_leads_nowhere_yet(llama, secret, tmp_path):
    os.symlink(secret.parent / "later", llama[2] / "tokenizer.json")
    assert_refused(llama, tmp_path, "tokenizer.json")


@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
def test_a_configuration_behind_a_link_is_read_and_not_copied(name, llama, tmp_path_factory):
    _, _, folder = llama
    outside = tmp_path_factory.mktemp("outside")
    os.rename(folder / name, outside / name)
    os.symlink(outside / name, folder / name)
    fm.AutoModelForCausalLM.from_pretrained(folder, progress=False)
    assert_refused(llama, tmp_path_factory.mktemp("to"), name, of=("convert", "upload"))


def test_weights_behind_a_link_are_read_and_not_published(llama, tmp_path_factory):
    _, _, folder = llama
    outside = tmp_path_factory.mktemp("outside")
    os.rename(folder / "model.safetensors", outside / "x")
    os.symlink(outside / "x", folder / "model.safetensors")
    target = tmp_path_factory.mktemp("to")
    convert(folder, target / "converted", progress=False)
    assert_refused(llama, target, "model.safetensors", of=("upload",))


def test_a_readme_behind_a_link(llama, secret, tmp_path, capsys):
    os.symlink(secret, llama[2] / "README.md")
    assert_refused(llama, tmp_path, "README.md", of=("upload",))
    os.unlink(llama[2] / "README.md")
    os.symlink(tmp_path / "made", llama[2] / "README.md")
    assert cli.main(["card", str(llama[2])]) == 1
    assert "README.md: there is one already" in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("kind", ["fifo", "folder", "loop"])
def test_what_is_no_file(kind, llama, tmp_path):
    path = llama[2] / "vocab.txt"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        os.symlink(path, path)
    if kind == "folder":  # of somebody's own
        assert "vocab.txt" not in {file.name for file in hub.companions(str(llama[2]))}
    else:
        assert_refused(llama, tmp_path, "vocab.txt", said="not a regular file|symbolic links")


def test_links_inside_the_folder_and_to_the_hubs_cache_are_fine(llama, tmp_path):
    _, _, folder = llama
    put(folder, "blob", "inside")
    os.symlink("blob", folder / "vocab.txt")
    blobs = tmp_path / "hub" / "models--org--name" / "blobs"
    snapshot = blobs.parent / "snapshots" / ("a" * 40)
    for made in (blobs, snapshot):
        made.mkdir(parents=True)
    put(blobs, "b" * 40, "cached")
    os.symlink(f"../../blobs/{'b' * 40}", snapshot / "tokenizer.json")
    os.symlink(snapshot / "tokenizer.json", folder / "tokenizer.json")
    convert(folder, tmp_path / "out", progress=False)
    assert (tmp_path / "out" / "vocab.txt").read_text() == "inside"
    assert (tmp_path / "out" / "tokenizer.json").read_text() == "cached"
    assert not (tmp_path / "out" / "tokenizer.json").is_symlink()
    FolderFile(str(snapshot), "tokenizer.json").check()


@pytest.mark.parametrize("name", ["vocab.txt", "1_Pooling/config.json"])
def test_a_link_that_comes_between_the_check_and_the_copy(
    name, llama, secret, tmp_path, monkeypatch
):
    """The file, or a folder on the way to it, becomes a link after its path was looked at."""
    _, _, folder = llama
    fill(folder, [name])
    put(secret.parent, "config.json", SECRET)
    look, top = os.path.realpath, folder / name.partition("/")[0]

    def swap(path, **how):
        real = look(path, **how)
        if not top.is_symlink():
            os.rename(top, folder / "gone")
            os.symlink(secret if top.name == name else secret.parent, top)
        return real

    monkeypatch.setattr(folder_file.os.path, "realpath", swap)
    with pytest.raises(fm.CheckpointError, match="cannot be copied"):
        FolderFile(str(folder), name).copy(tmp_path)
    assert top.is_symlink() and not names_of(tmp_path)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "", ".", "a//b", "x\0y"])
def test_names_that_are_not_in_the_folder(name, tmp_path):
    with pytest.raises(fm.CheckpointError, match="is not the name of a file in it|leads out"):
        FolderFile(str(tmp_path), name).open()

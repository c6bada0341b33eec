"""Texts out of files and servers in errors and warnings: short, and nothing a terminal acts on."""

import os
import pickle

import pytest
from _files import put, put_index

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels.hub import HubError
from flaxmodels.params.errors import printable, warn
from flaxmodels.params.formats import FolderFile

ODD = {
    "escape": "\x1b[2J\x07evil",
    "right-to-left": "\u202ecod.exe",
    "isolate": "\u2067abc\u2069",
    "line": "a\nflaxmodels: all is well",
    "carriage": "shown\rhidden",
    "separator": "a\u2028b",
    "surrogate": "\udcff\udcfe",
    "null": "a\0b",
    "zero width": "pass\u200bword",
}


@pytest.mark.parametrize("kind", [fp.CheckpointError, HubError, fm.ConfigError])
@pytest.mark.parametrize("odd", ODD)
def test_an_error_can_be_printed(odd, kind):
    error = kind(f"folder/{ODD[odd]}: not there")
    assert str(error).isprintable() and str(error).endswith(": not there")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    str(error).encode()


@pytest.mark.parametrize("text", ["x" * 10**6, "\x1b" * 10**6, "\u202e" * 3999])
def test_an_error_is_short_and_keeps_its_ends(text):
    said = str(fp.CheckpointError(f"the file {text} try again"))
    assert len(said) < 4000 and said.startswith("the file ") and said.endswith(" try again")
    assert "characters" in said


def test_what_people_write_stays():
    said = "/home/Zoë/模型/модель.safetensors: naïve – 'ok'"
    assert str(fp.CheckpointError(said)) == printable(said) == said


@pytest.mark.parametrize("odd", [name for name in ODD if name != "null"])
def test_names_of_files_in_a_folder(odd, tmp_path):
    os.close(os.open(os.fsencode(tmp_path) + b"/" + os.fsencode(ODD[odd]), os.O_CREAT))
    with pytest.raises(fp.CheckpointError, match="the folder holds") as caught:
        fp.open_checkpoint(tmp_path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("odd", [name for name in ODD if name != "null"])
def test_paths_that_callers_give(odd, tmp_path):
    for path in (f"{tmp_path}/{ODD[odd]}", f"{tmp_path}/{ODD[odd]}.safetensors"):
        with pytest.raises(fp.CheckpointError) as caught:
            fm.AutoModel.from_pretrained(path)
        assert str(caught.value).isprintable()


def test_where_a_link_leads(tmp_path):
    os.symlink("/\x1b[2J/" + "x" * 200, tmp_path / "vocab.txt")
    with pytest.raises(fp.CheckpointError, match="leads out") as caught:
        FolderFile(str(tmp_path), "vocab.txt").open()
    assert str(caught.value).isprintable()


def test_a_shard_with_a_long_name(tmp_path):
    index = put_index(tmp_path, {"a" * 10**5: "b" * 10**5 + ".safetensors"})
    with pytest.raises(fp.CheckpointError) as caught:
        fp.open_checkpoint(index)
    assert len(str(caught.value)) < 4000


def test_a_config_with_long_values(tmp_path):
    put(tmp_path, "config.json", '{"model_type": "' + "x" * 10**6 + '"}')
    with pytest.raises(fm.ConfigError) as caught:
        fm.AutoConfig.from_pretrained(tmp_path)
    assert len(str(caught.value)) < 4000


def test_a_warning():
    with pytest.warns(UserWarning) as caught:
        warn(f"\x1b{'x' * 10**5}")
    (said,) = caught
    assert str(said.message).isprintable() and len(str(said.message)) < 4000
    assert said.filename == __file__

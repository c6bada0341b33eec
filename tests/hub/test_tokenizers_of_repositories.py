"""Tokenizers of repositories: their files, of one commit, and no weights."""

import pytest
from _paths import GOLDENS

import flaxmodels as fm

FOLDER = GOLDENS / "tokenizers" / "byte-bpe-chat"
HELLO = [{"role": "user", "content": "x"}]


def test_a_tokenizer_of_a_repository(hub):
    files = {path.name: path.read_bytes() for path in FOLDER.iterdir()}
    commit = hub.commit("org/talks", files | {"model.safetensors": b"never asked for"})
    hub.commit("org/talks", {"chat_template.jinja": b"another"})
    tok = fm.load_tokenizer("org/talks", revision=commit, token="hf_read")
    assert tok.encode("a b") == fm.load_tokenizer(FOLDER).encode("a b")
    assert tok.padding_side == "left" and "<|im_start|>" in tok.chat(HELLO)
    assert fm.load_tokenizer("hf://org/talks").chat(HELLO) == "another"
    assert fm.load_tokenizer("org/talks", local_files_only=True).chat(HELLO) == "another"
    assert hub.requests.of("GET", "*model.safetensors") == []


def test_a_repository_without_one(hub):
    hub.commit("org/bare", {"config.json": b"{}"})
    with pytest.raises(fm.CheckpointError, match="no files of a tokenizer"):
        fm.load_tokenizer("org/bare")

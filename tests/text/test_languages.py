"""Multilingual tokenizers say languages as Transformers' do, and refuse those that they lack."""

import json

import pytest
from _paths import GOLDENS

import flaxmodels as fm

SPOKEN = {
    path.parent.name: found
    for path in sorted(GOLDENS.glob("tokenizers/*/expected.json"))
    if (found := json.loads(path.read_text()).get("languages"))
}


def load(name, **options):
    return fm.load_tokenizer(GOLDENS / "tokenizers" / name, **options)


def test_one_of_every_form_is_there():
    assert len(SPOKEN) >= 4


@pytest.mark.parametrize("name", SPOKEN)
def test_languages_are_said_as_by_the_reference(name):
    expected = SPOKEN[name]
    source, target = expected["codes"]
    text, pair = expected["texts"]
    tok = load(name, src_lang=source or None, tgt_lang=target)
    assert tok.encode(text) == expected["source"]
    assert tok.encode(text, pair) == expected["pair"]
    assert tok.as_target().encode(text) == expected["target"]
    assert tok.language_id(target) == expected["id"]
    assert (tok.src_lang, tok.tgt_lang) == (source or None, target)
    other = load(name).with_languages(source or None, target)
    assert other.encode(text) == expected["source"]
    if tok.unk_token_id not in expected["target"]:
        assert tok.decode(expected["target"], skip_special_tokens=True).strip() == text


@pytest.mark.parametrize(
    ("name", "code", "near"),
    [
        ("m2m-model", "fra", "'fr'"),
        ("marian-model", "fr", "'fra'"),
        ("mbart-model", "de_AT", "'de_DE'"),
        ("nllb-file", "fra", "'fra_Latn'"),
    ],
)
def test_a_language_that_is_not_there_is_refused_with_near_ones(name, code, near):
    with pytest.raises(ValueError, match=f"no language '{code}'; it has .*nearest: .*{near}"):
        load(name, tgt_lang=code)
    with pytest.raises(ValueError, match="no language"):
        load(name).language_id(code)
    with pytest.raises(ValueError, match="no language ''"):
        load(name, src_lang="", tgt_lang="")
    with pytest.raises(TypeError, match="a language is 5; expected its code"):
        load(name).with_languages(5)


def test_a_mark_of_an_unknown_language_is_refused():
    with pytest.raises(ValueError, match="no language 'fr'"):
        load("marian-model").encode(">>fr<< The import statement")
    assert load("marian-model").languages == ("deu", "fra")


def test_a_tokenizer_without_languages_says_so():
    tok = load("wordpiece")
    assert tok.languages == () and tok.src_lang is None and tok.as_target() is tok
    with pytest.raises(ValueError, match="the tokenizer has no languages"):
        load("wordpiece", src_lang="en")


def test_files_that_do_not_fit_are_named(tmp_path):
    for path in (GOLDENS / "tokenizers" / "marian-model").glob("*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    vocab = json.loads((tmp_path / "vocab.json").read_text())
    (tmp_path / "vocab.json").write_text(json.dumps({**vocab, "<pad>": len(vocab) + 5}))
    with pytest.raises(fm.CheckpointError, match="its ids are not 0, 1"):
        fm.load_tokenizer(tmp_path)
    (tmp_path / "vocab.json").write_text(json.dumps(dict.fromkeys(["</s>"], 0)))
    with pytest.raises(fm.CheckpointError, match="no unknown token '<unk>'"):
        fm.load_tokenizer(tmp_path)


def test_settings_of_a_caller_are_no_tokens():
    plain = load("wordpiece")
    tok = load("wordpiece", padding_side="left", model_max_length=7)
    assert (tok.padding_side, tok.model_max_length) == ("left", 7)
    assert tok.special_tokens == plain.special_tokens and len(tok) == len(plain)

"""Small tokenizers of every kind answer as Transformers and SentencePiece do (their goldens say
which versions)."""

import json
import shutil

import check_tokenizers
import pytest
from _paths import GOLDENS

import flaxmodels as fm

FOLDERS = sorted(path.parent for path in GOLDENS.glob("tokenizers/*/expected.json"))


@pytest.fixture(scope="module", params=FOLDERS, ids=lambda folder: folder.name)
def golden(request):
    expected = json.loads((request.param / "expected.json").read_text())
    return fm.load_tokenizer(request.param), expected


def test_there_is_one_of_every_kind():
    assert len(FOLDERS) >= 21


def test_answers_are_the_same(golden):
    tok, expected = golden
    found = json.loads(json.dumps(check_tokenizers.everything(tok)))
    wrong = [
        f"{key}: {check_tokenizers.of(key)}: {found.get(key)}, not {answer}"
        for key, answer in expected["answers"].items()
        if found.get(key) != answer
    ]
    assert "\n".join(wrong) == ""


def test_the_type_of_a_model_names_the_class_of_its_tokenizer(tmp_path):
    """Numbers of transformers 5.23.0, with tokenizers 0.23.3."""
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(GOLDENS / "tokenizers" / "gpt2-files" / name, tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt_neox"}')
    tok = fm.load_tokenizer(tmp_path)
    ids = tok.encode("Hello e\u0301 x 12")
    assert (
        ids == [40, 69, 76, 310, 221, 128, 103, 221, 88, 221, 17, 18]
        and tok.pad_token_id == len(tok) - 1 == 420
    )
    assert (tok.eos_token, tok.pad_token) == ("<|endoftext|>", "<|padding|>")

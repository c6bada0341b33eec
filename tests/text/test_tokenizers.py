"""Small tokenizers of every kind answer as Transformers and SentencePiece do (their goldens say
which versions)."""

import json

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

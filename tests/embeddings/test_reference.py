"""Encoders as sentence-transformers computes them: `tests/goldens/embeddings`, made by
`scripts/goldens/models/make_embedding_goldens.py`."""

import dataclasses

import numpy as np
import pytest
from _embedders import ARRAYS, GOLDEN, write
from _embeddings import CASES, CROSS, PAIRS, texts_of
from _weights import uniform, weights
from safetensors.numpy import load_file

import flaxmodels as fm
from flaxmodels.embeddings.pooling import MODES, Pooling


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    name = request.param
    entry, made = GOLDEN["cases"][name], CASES[name]
    folder = tmp_path_factory.mktemp(name)
    write(folder, entry, made["tokenizer"], made.get("settings"))
    return name, fm.SentenceEncoder.from_pretrained(folder)


def test_embeddings_are_those_of_the_reference(case):
    name, encoder = case
    size = 2 if name == "bert-without-prompt" else None  # its texts are cut to one length
    for call, options in CASES[name]["calls"].items():
        found = encoder.encode(texts_of(name), batch_size=size, **options)
        np.testing.assert_allclose(found, ARRAYS[f"{name}.{call}"], rtol=1e-5, atol=2e-5)


def test_similarities_are_those_of_the_reference(case):
    name, encoder = case
    first = ARRAYS[f"{name}.{next(iter(CASES[name]['calls']))}"]
    expected = ARRAYS[f"{name}.similarity"]
    found = encoder.similarity(first[:2], first)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    pairs = encoder.similarity_pairwise(first[:2], first[:2])
    np.testing.assert_allclose(pairs, np.diag(expected), rtol=1e-4, atol=1e-4)


def test_a_saved_encoder_has_the_files_of_the_reference(case, tmp_path):
    """What sentence-transformers 5.7 wrote itself, under the names that all its versions read."""
    name, encoder = case
    encoder.save_pretrained(tmp_path, progress=False)
    again = fm.SentenceEncoder.from_pretrained(tmp_path)
    assert type(again.embedder.model) is type(encoder.embedder.model)
    assert again.embedder.pooling == encoder.embedder.pooling
    assert again.embedder.layers == encoder.embedder.layers
    for field in ("max_length", "prompts", "default_prompt_name", "similarity_fn_name"):
        assert getattr(again, field) == getattr(encoder, field)
    assert again.tokenizer.is_lowercasing == encoder.tokenizer.is_lowercasing
    for place, shapes in GOLDEN["cases"][name]["tensors"].items():
        saved = load_file(tmp_path / place / "model.safetensors")
        assert {key: list(array.shape) for key, array in saved.items()} == shapes
        start = "" if place == "." else f"{place}."
        for key, array in saved.items():
            drawn = weights({start + key: array.shape})
            np.testing.assert_array_equal(array, drawn[start + key])
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.json")}
    assert GOLDEN["cases"][name]["files"].keys() <= files


@pytest.mark.parametrize("mode", MODES)
def test_pooling_is_that_of_the_reference(mode):
    x = uniform("pooled", (4, 6, 5))
    found = [name for name in ARRAYS if name.startswith(f"pooling.{mode}.")]
    assert len(found) >= 2
    for name in found:
        side, prompt = name.split(".")[2:]
        pooling = Pooling((mode,), include_prompt=prompt == "0")
        y = pooling(x, ARRAYS[side], int(prompt) or None)
        np.testing.assert_allclose(y, ARRAYS[name], rtol=1e-5, atol=1e-6)


PREDICT = [
    ({"pairs": None}, "pairs is a NoneType; expected a list of pairs"),
    ({"pairs": {"a": "b"}}, "pairs is a dict; expected a list of pairs"),
    ({"pairs": [3]}, "pair 0 is '3'; expected two texts"),
    ({"pairs": [{"a", "b"}]}, "pair 0 is .*; expected two texts"),
    ({"pairs": ["ab"] * 3}, "expected two texts"),
    ({"pairs": "ab"}, "pair 0 is 'a'; expected two texts"),
    ({"pairs": [("a", 3)]}, "text 0 is int; expected str"),
    ({"activation": "sigmoid"}, "activation is 'sigmoid'; expected a function"),
    ({"activation": lambda x: x.sum()}, r"activation made \(\) of logits \(3, 1\)"),
    ({"apply_softmax": "no"}, "apply_softmax is 'no'; expected True or False"),
    ({"batch_size": 0}, "batch_size is 0; expected at least 1"),
]
RANK = [
    ({"documents": "abc"}, "documents is a str; expected a list of str"),
    ({"top_k": -1}, "top_k is -1; expected at least 0"),
    ({"top_k": 1.5}, "top_k is 1.5; expected a whole number"),
    ({"return_documents": "no"}, "return_documents is 'no'; expected True or False"),
    ({"query": None}, "text 0 is NoneType; expected str"),
]


def refused_by(encoder, tmp_path):
    for given, message in PREDICT:
        with pytest.raises((TypeError, ValueError), match=message):
            encoder.predict(**{"pairs": PAIRS} | given)
    for given, message in RANK:
        with pytest.raises((TypeError, ValueError), match=message):
            encoder.rank(**{"query": "a", "documents": ["b"]} | given)
    with pytest.raises(ValueError, match="activation is 'sigmoidd'; expected one of"):
        dataclasses.replace(encoder, activation="sigmoidd")
    with pytest.raises(fm.CheckpointError, match="'gelu_new' has no name in files"):
        dataclasses.replace(encoder, activation="gelu_new").save_pretrained(tmp_path / "none")


@pytest.mark.parametrize("name", CROSS)
def test_scores_are_those_of_the_reference(name, tmp_path):
    folder = write(tmp_path / "given", GOLDEN["cross"][name], "wordpiece")
    encoder = fm.CrossEncoder.from_pretrained(folder)
    scores = encoder.predict(PAIRS)
    np.testing.assert_allclose(scores, ARRAYS[f"{name}.scores"], rtol=1e-5, atol=1e-5)
    assert encoder.predict([]).shape == (0, *scores.shape[1:])
    if encoder.num_labels > 1:
        softmax = encoder.predict(PAIRS, apply_softmax=True)
        np.testing.assert_allclose(softmax, ARRAYS[f"{name}.softmax"], rtol=1e-5, atol=1e-5)
        with pytest.raises(ValueError, match="ranked by one score: use predict"):
            encoder.rank("query", ["document"])
    else:
        np.testing.assert_allclose(encoder.predict(PAIRS[1]), scores[1], rtol=1e-5)
        ranked = encoder.rank(PAIRS[0][0], [b for _, b in PAIRS], return_documents=True)
        assert [one["corpus_id"] for one in ranked] == ARRAYS[f"{name}.ranked"].tolist()
        assert ranked[0]["text"] == PAIRS[ranked[0]["corpus_id"]][1]
        documents = (b for _, b in PAIRS)
        assert encoder.rank(PAIRS[0][0], documents, top_k=2, return_documents=True) == ranked[:2]
        np.testing.assert_array_equal(encoder.predict(pair for pair in PAIRS), scores)
        refused_by(encoder, tmp_path)
    encoder.save_pretrained(tmp_path / "saved", progress=False)
    again = fm.CrossEncoder.from_pretrained(tmp_path / "saved")
    for field in ("num_labels", "activation", "max_length"):
        assert getattr(again, field) == getattr(encoder, field)

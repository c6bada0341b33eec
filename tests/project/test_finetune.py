"""The fine-tune of `scripts/finetune_classifier.py`, on a tiny model and a few passages."""

import _linear
import _passages
import finetune_classifier as script
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxmodels import params as fp
from flaxmodels import sharding as fs

TINY = {"vocab_size": 60, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
TINY |= {"num_attention_heads": 2, "hidden_dropout_prob": 0.0, "initializer_range": 0.25}


@pytest.fixture
def vectors(monkeypatch):
    for name, value in TINY.items():
        monkeypatch.setitem(script.CONFIG, name, value)
    monkeypatch.setattr(script, "RATE", 2e-2)
    two = fs.make_mesh(devices=jax.devices()[:2], data=2)  # orbax cuts a copy for each device
    monkeypatch.setattr(script.fs, "make_mesh", lambda **axes: two)
    table = np.random.default_rng(0).standard_normal((60, 16)).astype(np.float32)
    return _passages.Vectors({f"word{i}": i for i in range(3, 60)}, table)


@pytest.fixture
def data():
    """A package's passages are of words of its own, 5 of 55."""
    rng = np.random.default_rng(0)
    labels = rng.integers(4, size=64).astype(np.int32)
    ids = 3 + 5 * labels[:, None] + rng.integers(5, size=(64, 8)).astype(np.int32)
    ids[:, 0], ids[::2, 6:] = _passages.CLS, _passages.PAD
    return ids, labels


class CutOff:
    """Passages that end a run after some steps."""

    def __init__(self, ids, steps):
        self.ids, self.left = ids, steps

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, rows):
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return self.ids[rows]


@pytest.mark.soak  # the same of examples/finetune.py is in test_examples.py
def test_it_learns_and_goes_on_after_a_cut_as_if_there_had_been_none(vectors, data, tmp_path):
    model, params = script.pretrained(vectors, 0)
    before, places = jax.device_get(params), jax.tree.map(lambda leaf: leaf.sharding, params)

    def run(ids, folder):
        how = {"steps": 40, "seed": 0, "every": 16, "folder": str(tmp_path / folder)}
        return script.finetune(model, jax.device_put(before, places), ids, data[1], **how)

    after = run(data[0], "whole")
    for path, leaf in fp.flatten(after).items():
        assert leaf.dtype == (jnp.float32 if "LayerNorm" in path else jnp.bfloat16)
        assert len(leaf.sharding.device_set) == 2
    assert script.accuracy(model, after, *data) > script.accuracy(model, params, *data) + 0.5
    after = jax.device_get(after)
    same = {row.path for row in fp.diff(after, before).rows if row.equal}
    assert same == {"bert/embeddings/word_embeddings/embedding"}

    with pytest.raises(KeyboardInterrupt):
        run(CutOff(data[0], 20), "cut")
    rest = CutOff(data[0], 40 - 16)
    assert fp.diff(jax.device_get(run(rest, "cut")), after).equal and not rest.left


def test_splits_share_no_docstring():
    splits = [_passages.passages(name) for name in _passages.SPLITS]
    held_out = {" ".join(words) for words in splits[2].words}
    again = sum(" ".join(words) in held_out for split in splits[:2] for words in split.words)
    assert 500 < len(splits[0].words) < len(splits[2].words)
    assert again < 0.01 * len(held_out)  # parts of longer ones that quote each other
    for split in splits:
        assert sorted(set(split.labels)) == list(range(len(_passages.PACKAGES)))
        assert all(5 <= len(words) < _passages.LENGTH for words in split.words)


def test_vectors_are_near_where_the_words_around_are_the_same(monkeypatch, tmp_path):
    rng = np.random.default_rng(0)
    nouns, lines = {"cat": "purr meow", "lion": "purr meow", "car": "road fuel"}, []
    for noun in rng.choice(list(nouns), 600):
        lines.append(f"the {noun} {rng.choice(nouns[noun].split())} and some{rng.integers(9)}")
    code = tmp_path / "code.py"
    code.write_text('"""zebra"""\n# ' + " ".join(lines))
    monkeypatch.setattr(_passages._text, "library", lambda: [code])
    monkeypatch.setattr(_passages, "VOCABULARY", 24)
    found = _passages.vectors.__wrapped__(4)
    assert "zebra" not in found.rows  # a docstring
    assert not found.table[: _passages.CLS + 1].any()
    cat, lion, car = (found.table[found.rows[word]] for word in nouns)
    assert np.dot(cat, lion) > 2 * abs(np.dot(cat, car))
    ids = found.ids(_passages.Passages([["the", "cat", "zebra"]], np.zeros(1, np.int32)))
    assert ids[0, :5].tolist() == [2, found.rows["the"], found.rows["cat"], 1, 0]


def test_the_baseline_learns_what_is_linear(monkeypatch):
    monkeypatch.setattr(_linear, "PENALTIES", _linear.PENALTIES[2:4])

    def split(seed):
        labels = np.random.default_rng(seed).permutation(np.arange(88, dtype=np.int32) % 11)
        words = [[f"word{label}", f"other{i % 13}"] for i, label in enumerate(labels)]
        return _passages.Passages(words, labels)

    unknown = _passages.Passages([["new"]] * 88, split(2).labels)
    assert _linear.accuracy(split(0), split(1), split(2)) == [1.0, 1.0]
    assert _linear.accuracy(split(0), split(1), unknown)[1] < 0.2

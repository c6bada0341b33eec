"""What `encode` does with texts: few programs, any order, a mesh, and what it refuses."""

import dataclasses
import json
import os
from typing import Any

import jax
import numpy as np
import pytest
from _embedders import GOLDEN, write
from _embeddings import CASES
from _paths import GOLDENS

import flaxmodels as fm
from flaxmodels import sharding as fs
from flaxmodels.embeddings import sentence_encoder
from flaxmodels.embeddings.batches import LENGTHS, Row, Shapes, batches
from flaxmodels.embeddings.layers import Dense
from flaxmodels.embeddings.pooling import Pooling
from flaxmodels.embeddings.similarity import SIMILARITIES, all_pairs
from flaxmodels.params.formats import FolderFile

WORDS = "the sky was clear and he walked along the river for a long while".split()
PROGRAMS: Any = sentence_encoder._embed
SHORT = [" ".join(WORDS[i : i + 2]) for i in range(8)]
"""Of one length: a batch of eight is of a shape that the first test compiles."""
TEXTS = [" ".join(WORDS[i % 13 :][: 1 + i % 12] * (1 + i // 45)) for i in range(90)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("bert"), GOLDEN["cases"]["bert"], "wordpiece")


@pytest.fixture(scope="module")
def encoder(folder):
    return fm.SentenceEncoder.from_pretrained(folder)


def changed(folder, tmp_path, name, change):
    """The folder with one of its JSON files changed."""
    for path in folder.rglob("*"):
        if path.is_file():
            target = tmp_path / path.relative_to(folder)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    values = json.loads((tmp_path / name).read_text())
    (tmp_path / name).write_text(json.dumps(change(values)))
    return tmp_path


def test_a_program_is_compiled_for_each_length_and_one_for_the_rest(encoder):
    texts = [text for text in TEXTS[:60] if len(text.split()) < 6]
    lengths = [len(ids) for ids, _ in encoder.tokenizer.encode_rows(texts)]
    wanted = {Shapes(longest=64).length(length) for length in lengths}
    assert len(wanted) == 2
    before = PROGRAMS._cache_size()
    first = encoder.encode(texts, batch_size=8, progress=False)
    compiled = PROGRAMS._cache_size() - before
    assert compiled <= len(wanted) + 1
    order = np.random.default_rng(0).permutation(len(texts))
    again = encoder.encode([texts[i] for i in order], batch_size=8, progress=False)
    assert PROGRAMS._cache_size() - before == compiled
    np.testing.assert_allclose(again, first[order], atol=1e-5)


def test_batches_hold_every_row_once_and_are_full_but_the_last():
    rng = np.random.default_rng(1)
    sizes = rng.integers(1, 60, 301)
    rows = [Row(i, np.full(n, i + 1, np.int32), np.zeros(n, np.int32)) for i, n in enumerate(sizes)]
    parts = [rows[:100], rows[100:220], rows[220:]]
    shapes = Shapes(batch_size=16, longest=50, multiple=8)
    found = list(batches(parts, shapes, 0))
    assert sorted(i for batch in found for i in batch.indices) == list(range(301))
    assert {batch.ids.shape[0] for batch in found[:-1]} == {16}
    assert found[-1].ids.shape[0] % 8 == 0
    for batch in found:
        assert batch.ids.shape[1] in (*LENGTHS, 50) or batch.ids.shape[1] > 50
        for i, ids, length in zip(batch.indices, batch.ids, batch.lengths, strict=False):
            assert (ids[:length] == i + 1).all() and (ids[length:] == 0).all()
    assert sum(batch.ids.size for batch in found) < 1.35 * sizes.sum()


def test_lengths_grow_by_a_third_at_most():
    assert sorted(set(LENGTHS)) == list(LENGTHS)
    assert all(b / a <= 1.34 for a, b in zip(LENGTHS[2:], LENGTHS[3:], strict=False))


def test_a_mesh_gives_the_same(encoder):
    texts = SHORT
    expected = encoder.encode(texts, batch_size=8)
    mesh = fs.make_mesh(data=2, devices=jax.devices()[:2])
    np.testing.assert_allclose(encoder.encode(texts, mesh=mesh), expected, atol=1e-5)
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    there = dataclasses.replace(encoder, params=jax.device_put(encoder.params, whole))
    np.testing.assert_allclose(there.encode(texts, progress=False), expected, atol=1e-5)
    with pytest.raises(ValueError, match="no rule names the mesh axes 'rows'"):
        encoder.encode(texts, mesh=fs.make_mesh(rows=-1))


def test_apply_is_pure_and_takes_padding_on_either_side(encoder):
    right = encoder.tokenizer(SHORT)
    left = encoder.tokenizer(SHORT, padding_side="left")

    def loss(dense, given):
        found = encoder.embedder.apply(encoder.params | {"2_Dense": dense}, **given)
        return found.sum(), found

    both = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (_, found), grads = both(encoder.params["2_Dense"], right)
    np.testing.assert_allclose(found, encoder.encode(SHORT, batch_size=8), atol=1e-5)
    assert both(encoder.params["2_Dense"], left)[0][1].shape == found.shape
    assert np.abs(grads["kernel"]).max() > 0
    assert hash(encoder.embedder) == hash(dataclasses.replace(encoder).embedder)


def test_one_text_and_none(encoder):
    assert encoder.encode("A text.").shape == (12,)
    assert encoder.encode([]).shape == (0, 12)
    assert encoder.encode([], truncate_dim=5).shape == (0, 5)


def test_prompts(encoder):
    prompt = CASES["bert"]["prompts"]["query"]
    query = encoder.encode("A text.", prompt_name="query")
    np.testing.assert_array_equal(encoder.encode_query("A text."), query)
    np.testing.assert_array_equal(encoder.encode("A text.", prompt=prompt), query)
    np.testing.assert_array_equal(encoder.encode_document("A text."), encoder.encode("A text."))


REFUSED = [
    ({"prompt_name": "answer"}, "no prompt 'answer'; there are: 'document', 'passage', 'query'"),
    ({"prompt_name": ""}, "no prompt ''"),
    ({"prompt_name": ["query"]}, "no prompt ..query"),
    ({"prompt_name": "query", "prompt": "find: "}, "prompt_name or prompt, and not both"),
    ({"prompt": 3}, "prompt is 3; expected str"),
    ({"batch_size": 0}, "batch_size is 0; expected at least 1"),
    ({"batch_size": 2.5}, "batch_size is 2.5; expected a whole number"),
    ({"truncate_dim": 0}, "truncate_dim is 0; expected at least 1"),
    ({"truncate_dim": 13}, "truncate_dim is 13; expected at most 12"),
    ({"progress": "no"}, "progress is 'no'; expected True or False"),
    ({"normalize": "no"}, "normalize is 'no'; expected True or False"),
    ({"texts": ["A text.", None]}, "text 1 is NoneType; expected str"),
    ({"texts": None}, "texts is a NoneType; expected a list of str"),
    ({"texts": {"a": 1}}, "texts is a dict; expected a list of str"),
    ({"texts": b"abc"}, "texts is a bytes; expected a list of str"),
    ({"texts": np.array("a")}, "texts is a ndarray; expected a list of str"),
]
FIELDS = [
    ({"similarity_fn_name": "nearest"}, "similarity_fn_name is 'nearest'"),
    ({"default_prompt_name": "search"}, "there is no prompt 'search'"),
    ({"max_length": 0}, "max_length is 0; expected at least 1"),
    ({"truncate_dim": True}, "truncate_dim is True; expected a whole number"),
    ({"prompts": ["a"]}, "prompts is .*; expected texts by their names"),
    ({"prompts": {"query": 3}}, "the prompt 'query' is 3; expected str"),
]


def test_what_a_caller_gives_acts_or_raises(encoder):
    for given, message in REFUSED:
        with pytest.raises((TypeError, ValueError), match=message):
            encoder.encode(**{"texts": TEXTS[:1]} | given)
    for given, message in FIELDS:
        with pytest.raises((TypeError, ValueError), match=message):
            dataclasses.replace(encoder, **given)
    with pytest.raises(ValueError, match=r"shapes \(1, 12\) and \(1, 5\)"):
        encoder.similarity(np.zeros(12), np.zeros(5))
    with pytest.raises(TypeError, match="embeddings are arrays"):
        encoder.similarity("a", "b")
    with pytest.raises(ValueError, match="params have no 2_Dense/bias"):
        dataclasses.replace(encoder, params={"model": encoder.params["model"]}).encode(TEXTS[:1])


def test_texts_are_not_run_inside_of_a_trace(encoder):
    with pytest.raises(TypeError, match="this call is traced.*embedder.apply"):
        jax.jit(lambda x: dataclasses.replace(encoder, params=x).encode("a"))(encoder.params)


def test_gradients_of_similarities_are_numbers_where_vectors_are_zeros_or_the_same():
    def total(a):
        return {name: all_pairs(name, a, np.zeros((1, 3))).sum() for name in SIMILARITIES}

    grads = jax.jit(jax.jacrev(total))(np.zeros((2, 3), np.float32))
    assert all(np.isfinite(grad).all() for grad in grads.values()), grads


def test_the_largest_of_no_token_is_zero():
    pooling = Pooling(("max", "mean", "lasttoken"))
    pooled = jax.jit(lambda *given: pooling(*given))(np.ones((1, 2, 3)), np.zeros((1, 2)))
    np.testing.assert_array_equal(pooled, np.zeros((1, 9)))


def test_a_text_without_tokens_is_named(tmp_path):
    case = CASES["qwen3"]
    write(tmp_path, GOLDEN["cases"]["qwen3"], case["tokenizer"], case["settings"])
    with pytest.raises(ValueError, match="text 1 has no tokens"):
        fm.SentenceEncoder.from_pretrained(tmp_path).encode(["A text.", ""])


MODULE = {"idx": 2, "name": "2", "path": "2_X", "type": "custom_st.Reader"}


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("modules.json", lambda m: [*m, MODULE], "is a 'custom_st.Reader', which is not known"),
        ("modules.json", lambda m: [m[0], *m[2:]], "expected Transformer, Pooling"),
        ("modules.json", lambda m: {"a": 1}, "expected a list of modules"),
        ("modules.json", lambda m: [m[0] | {"path": "../x"}], "is no folder inside of this one"),
        ("1_Pooling/config.json", lambda p: p | {"pooling_mode": "best"}, "no mode of pooling"),
        (
            "1_Pooling/config.json",
            lambda p: p | {"pooling_mode": []},
            "pooling_mode is empty",
        ),
        ("1_Pooling/config.json", lambda p: p | {"pooling_mode": None}, "pooling_mode is empty"),
        ("2_Dense/config.json", lambda d: d | {"in_features": 23}, "takes vectors of 23 features"),
        ("2_Dense/config.json", lambda d: d | {"out_features": 9}, "its config.json says"),
        ("2_Dense/config.json", lambda d: d | {"activation_function": "os.system"}, "'os.system'"),
        (
            "2_Dense/config.json",
            lambda d: d | {"in_features": "x"},
            "in_features is .x.; expected a number",
        ),
        ("config_sentence_transformers.json", lambda c: c | {"prompts": ["a"]}, "prompts is"),
        (
            "config_sentence_transformers.json",
            lambda c: c | {"default_prompt_name": "x"},
            "default_prompt_name is 'x'",
        ),
        (
            "config_sentence_transformers.json",
            lambda c: c | {"similarity_fn_name": "near"},
            "similarity_fn_name is 'near'",
        ),
        ("sentence_bert_config.json", lambda c: c | {"max_seq_length": "1"}, "max_seq_length is"),
        (
            "sentence_bert_config.json",
            lambda c: c | {"modality_config": {"message": {}}},
            "plain texts alone",
        ),
    ],
)
def test_bad_files_are_named(folder, tmp_path, name, change, message):
    with pytest.raises(fm.CheckpointError, match=message):
        fm.SentenceEncoder.from_pretrained(changed(folder, tmp_path, name, change))


def test_flags_of_no_mode_are_the_mean_with_a_warning(folder, tmp_path):
    flags = {"pooling_mode_mean_tokens": False, "word_embedding_dimension": 24}
    changed(folder, tmp_path, "1_Pooling/config.json", lambda p: flags)
    with pytest.warns(UserWarning, match="no mode of pooling is on: the mean"):
        encoder = fm.SentenceEncoder.from_pretrained(tmp_path)
    assert encoder.embedder.pooling.modes == ("mean",)


def test_a_model_alone_is_pooled_by_the_mean_with_a_warning(folder, tmp_path):
    changed(folder, tmp_path, "modules.json", lambda m: m)
    (tmp_path / "modules.json").unlink()
    with pytest.warns(UserWarning, match=r"no modules.json: the mean over tokens"):
        encoder = fm.SentenceEncoder.from_pretrained(tmp_path)
    assert encoder.embedder.layers == () and encoder.embedding_dim == 24


def test_params_of_another_shape_are_not_saved(encoder, tmp_path):
    wide = Dense(24, 11)
    layers = (("2_Dense", wide), *encoder.embedder.layers[1:])
    embedder = dataclasses.replace(encoder.embedder, layers=layers)
    with pytest.raises(fm.CheckpointError, match="params of 2_Dense"):
        dataclasses.replace(encoder, embedder=embedder).save_pretrained(tmp_path)


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("notes", [False, True])
def test_a_second_save_is_one_step_and_leaves_other_files(encoder, tmp_path, notes):
    """Into a folder with a stranger's file, and into one that holds nothing else."""
    folder = tmp_path / "saved"
    encoder.save_pretrained(folder, progress=False)
    if notes:
        (folder / "notes.txt").write_text("mine")
    layers = encoder.embedder.layers[:1]
    less = dataclasses.replace(encoder.embedder, layers=layers)
    changed = {"2_Dense": jax.tree.map(lambda x: x * 2, encoder.params["2_Dense"])}
    less = dataclasses.replace(encoder, embedder=less, params=encoder.params | changed)
    before = folder.stat().st_ino
    less.save_pretrained(folder, progress=False)
    assert (folder.stat().st_ino == before) == notes  # else new and old changed places
    assert (folder / "notes.txt").exists() == notes
    again = fm.SentenceEncoder.from_pretrained(folder)
    assert again.embedder.layers == layers
    assert again.embedder.pooling == less.embedder.pooling
    jax.tree.map(
        np.testing.assert_array_equal, again.params, {k: less.params[k] for k in again.params}
    )
    folders = {path.name for path in folder.iterdir() if path.is_dir()}
    assert folders == {"1_Pooling", "2_Dense"}


@pytest.mark.parametrize("notes", [False, True])
def test_a_save_that_fails_leaves_the_old_one(encoder, tmp_path, notes, monkeypatch):
    encoder.save_pretrained(tmp_path, progress=False)
    if notes:
        (tmp_path / "notes.txt").write_text("mine")
    old = contents(tmp_path)
    other = dataclasses.replace(encoder, params=jax.tree.map(lambda x: x + 1, encoder.params))

    def full(file):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(FolderFile, "open", full)
        with pytest.raises(OSError, match="No space left"):
            other.save_pretrained(tmp_path, progress=False)
    assert contents(tmp_path) == old
    replace = os.replace

    def killed(source, target):
        if str(target).endswith("2_Dense/model.safetensors"):
            raise OSError(5, "Input/output error")
        replace(source, target)

    if notes:  # in place: file by file
        monkeypatch.setattr(os, "replace", killed)
        with pytest.raises(fm.CheckpointError, match="Input/output error"):
            other.save_pretrained(tmp_path, progress=False)
        assert contents(tmp_path) == old


def test_the_tokenizer_that_a_caller_names_is_saved(encoder, tmp_path):
    other = GOLDENS / "tokenizers" / "unigram"
    encoder.save_pretrained(tmp_path, tokenizer_from=other, progress=False)
    saved = (tmp_path / "tokenizer.json").read_bytes()
    assert saved == (other / "tokenizer.json").read_bytes()

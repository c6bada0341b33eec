"""What `load_tokenizer` takes, what a tokenizer's calls do, and what bad files are told."""

import copy
import json
import pickle
import shutil
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _nasty import CHATS, TEXTS
from _paths import GOLDENS

import flaxmodels as fm
from flaxmodels.params.scalars import WrongKind
from flaxmodels.text import TemplateError, TextStream

FOLDER = GOLDENS / "tokenizers"
BERT, TALKS, NO_PAD = FOLDER / "wordpiece", FOLDER / "byte-bpe-chat", FOLDER / "byte-bpe-old-added"


@pytest.fixture(scope="module")
def bert():
    return fm.load_tokenizer(BERT)


@pytest.fixture(scope="module")
def talks():
    return fm.load_tokenizer(TALKS)


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(TALKS, tmp_path / "copy")


# --- arrays ---


def test_rows_are_padded_to_the_longest(bert):
    batch = bert(["a", "a longer one"], ["b", "c d"])
    assert set(batch) == {"input_ids", "attention_mask", "token_type_ids"}
    assert all(array.dtype == np.int32 for array in batch.values())
    short = bert.encode("a", "b")
    length = len(short)
    assert batch["input_ids"][0].tolist()[:length] == short
    assert set(batch["input_ids"][0, length:]) == {bert.pad_token_id}
    assert batch["attention_mask"].sum(axis=1).tolist() == [
        length,
        len(bert.encode("a longer one", "c d")),
    ]
    assert batch["token_type_ids"][0].tolist()[:length] == [0, 0, 0, 1, 1]


def test_a_decoder_is_padded_on_the_left(talks):
    batch = talks(["a", "a longer one"])
    assert set(batch) == {"input_ids", "attention_mask"}
    assert batch["attention_mask"][0, 0] == 0 and batch["attention_mask"][0, -1] == 1
    right = talks(["a", "a longer one"], padding_side="right")
    assert right["attention_mask"][0].tolist() == batch["attention_mask"][0, ::-1].tolist()


def test_lengths(bert):
    text = "one two three four five six seven"
    assert bert(text, pad_to=40)["input_ids"].shape == (1, 40)
    assert bert(text, pad_to_multiple_of=32)["input_ids"].shape[1] % 32 == 0
    cut = bert(text, max_length=6)["input_ids"][0]
    assert cut.shape == (6,) and cut[0] == bert.cls_token_id and cut[-1] == bert.sep_token_id
    assert bert(text, max_length=6, padding="max_length")["input_ids"].shape == (1, 6)
    assert bert("a", padding="max_length")["input_ids"].shape == (1, bert.model_max_length)
    assert bert("a " * 99, truncation=True)["input_ids"].shape == (1, bert.model_max_length)
    assert bert("a " * 99)["input_ids"].shape == (1, 101)
    alone = bert.encode(text)
    both = bert(text, text, max_length=len(alone) + 3, truncation="only_second")["input_ids"][0]
    assert both.tolist()[: len(alone)] == alone and len(both) == len(alone) + 3
    with pytest.raises(ValueError, match="too short"):
        bert(text, text, max_length=6, truncation="only_second")
    with pytest.raises(ValueError, match=f"{len(alone)} tokens, more than pad_to=4"):
        bert(text, pad_to=4)


def test_the_side_that_is_cut():
    tok = fm.load_tokenizer(FOLDER / "bpe-never")
    whole = tok.encode("one two three")
    assert tok("one two three", max_length=3)["input_ids"][0].tolist() == whole[-3:]
    other = fm.load_tokenizer(FOLDER / "bpe-never", truncation_side="right")
    assert other("one two three", max_length=3)["input_ids"][0].tolist() == whole[:3]


@pytest.mark.parametrize(
    "call, error, says",
    [
        (lambda tok: tok(["a", "a b c"], padding=False), ValueError, "rows of one length"),
        (lambda tok: tok(3), TypeError, "a text, or a list"),
        (lambda tok: tok(["a", 3]), TypeError, "a text is int"),
        (lambda tok: tok(["a"], ["b", "c"]), ValueError, "one for each"),
        (lambda tok: tok("a", padding="longer"), ValueError, "padding='longer'"),
        (lambda tok: tok("a", padding_side="top"), ValueError, "left or right"),
        (lambda tok: tok("a", max_length=4, truncation="first"), ValueError, "only_first"),
        (lambda tok: tok("a", max_length=1), ValueError, "max_length=1 has no room for the spec"),
        (lambda tok: tok.encode_rows(["a"], ["b"], max_length=2), ValueError, "has no room"),
        (lambda tok: tok.decode([[1, 2]]), ValueError, "batch_decode"),
        (lambda tok: tok.decode([1.5]), TypeError, "whole numbers"),
        (lambda tok: tok.decode([-1]), ValueError, "no negative"),
    ],
)
def test_wrong_calls(bert, call, error, says):
    with pytest.raises(error, match=says):
        call(bert)


def test_without_a_padding_token_it_says_what_to_give():
    tok = fm.load_tokenizer(NO_PAD)
    with pytest.raises(ValueError, match=r"pad_token='<\|endoftext\|>'"):
        tok(["a", "a b c"])
    assert tok("a")["input_ids"].shape == (1, len(tok.encode("a")))
    with pytest.raises(ValueError, match="give max_length"):
        tok("a", truncation=True)
    tok = fm.load_tokenizer(NO_PAD, pad_token=tok.eos_token, padding_side="left")
    assert tok(["a", "a b c"])["input_ids"][0, 0] == tok.eos_token_id


def test_decoding_takes_arrays_and_batches(bert):
    ids = bert(["hello, world!", "a"])["input_ids"]
    assert bert.batch_decode(ids, skip_special_tokens=True) == ["hello, world!", "a"]
    unigram = fm.load_tokenizer(FOLDER / "unigram")
    ids = unigram.encode("a , b", add_special_tokens=False)
    assert unigram.decode(ids) == "a , b"
    assert unigram.decode(ids, clean_up_tokenization_spaces=True) == "a, b"
    ids = bert(["a"])["input_ids"]
    assert bert.decode(ids[0, 0]) == "[CLS]" and bert.decode([]) == ""


def test_what_the_library_cannot_do_is_a_value_error(folder):
    whole = json.loads((folder / "tokenizer.json").read_text())
    away = {"type": "Replace", "pattern": {"String": "<think>"}, "content": ""}
    strip = {"type": "Strip", "content": " ", "start": 0, "stop": 1}  # panics where nothing is left
    whole["decoder"] = {"type": "Sequence", "decoders": [away, strip]}
    put(folder, "tokenizer.json", json.dumps(whole))
    tok = fm.load_tokenizer(folder)
    with pytest.raises(ValueError, match="could not be decoded"):
        tok.decode([tok.convert_tokens_to_ids("<think>")])


def test_tokens_and_ids(talks):
    assert talks.convert_tokens_to_ids("<|im_end|>") == talks.eos_token_id == 2
    assert talks.convert_ids_to_tokens([1, 2]) == ["<|im_start|>", "<|im_end|>"]
    assert talks.convert_ids_to_tokens(10**6) is None
    assert talks.convert_tokens_to_ids(["no such token"]) == [None]
    assert talks.special_tokens["image_token"] == "<|vision|>"
    assert talks.get_added_vocab()["<think>"] == talks.get_vocab()["<think>"] < len(talks)
    assert talks.bos_token is None and talks.bos_token_id is None
    assert "left" in repr(talks) and talks


def test_threads_that_cut_do_not_disturb_each_other(bert):
    wrong = []

    def work(length: int) -> None:
        for _ in range(50):
            if bert("a b c d e f g h i j", max_length=length)["input_ids"].shape[1] != length:
                wrong.append(length)

    threads = [threading.Thread(target=work, args=(n,)) for n in (3, 5, 7, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("name", ["byte-bpe-chat", "llama-model", "t5-model"])
def test_tokens_one_by_one_make_the_same_text(name):
    tok = fm.load_tokenizer(FOLDER / name)
    for text in TEXTS[8:40]:
        ids = tok.encode(text)
        stream = TextStream(tok)
        pieces = [stream.put(token) for token in ids]
        whole = "".join(pieces) + stream.end()
        expected = tok.decode(ids, skip_special_tokens=True)
        if "\ufffd" not in expected:
            assert whole == expected


# --- chats ---


def test_a_template_is_chosen(talks):
    tok = fm.load_tokenizer(FOLDER / "fallback-bpe")
    messages = [{"role": "user", "content": " hi "}]
    plain = tok.chat(messages)
    assert plain.startswith("<s>") and "[INST] hi [/INST]" in plain
    assert tok.chat(messages, tools=[{"name": "f"}]).startswith('[{"name": "f"}]')
    assert tok.chat(messages, template="{{ messages[0].content }}!") == " hi !"
    assert tok.chat([messages, messages]) == [plain, plain]
    with pytest.raises(TemplateError, match=r"chat_template, 'default', line 7.*Only user"):
        tok.chat([{"role": "system", "content": "x"}])
    with pytest.raises(TemplateError, match="no chat template"):
        fm.load_tokenizer(BERT).chat(messages)


def test_a_chat_as_arrays(talks):
    messages, options = CHATS["several turns"]
    text = talks.chat(messages, **options)
    batch = talks.chat([messages, messages[:2]], tokenize=True)
    assert batch["input_ids"][0].tolist() == talks.encode(text, add_special_tokens=False)
    assert batch["attention_mask"][1, 0] == 0


def test_what_is_wrong_with_messages(talks):
    with pytest.raises(ValueError, match="messages is empty"):
        talks.chat([])
    with pytest.raises(TypeError, match="expected a mapping"):
        talks.chat([["hello"]])
    user = [{"role": "user", "content": "a"}]
    with pytest.raises(ValueError, match="give one of them"):
        talks.chat(user, add_generation_prompt=True, continue_final_message=True)
    with pytest.raises(ValueError, match="no text in 'thoughts'"):
        talks.chat(user, continue_final_message="thoughts")
    with pytest.raises(TemplateError, match="leaves out the end"):
        talks.chat(user, continue_final_message=True, template="{{ messages[0].role }}")
    with pytest.raises(TypeError, match="tools holds a function.*JSON schema"):
        talks.chat(user, tools=[test_lengths])
    with pytest.raises(TypeError, match="does not take chat_template: give template="):
        talks.chat(user, chat_template="x")
    with pytest.raises(TypeError, match="return_assistant_tokens_mask: it is not done"):
        talks.chat(user, return_assistant_tokens_mask=True)
    deep = []
    for _ in range(100):
        deep = [deep]
    with pytest.raises(TypeError, match="more than 64 deep"):
        talks.chat([{"role": "user", "content": deep}])


def test_a_message_is_continued_where_a_template_trims(talks):
    messages = [{"role": "assistant", "content": "The answer is  "}]
    assert talks.chat(messages, continue_final_message=True).endswith("The answer is  ")
    trims = "{{ messages[0].content | trim }}<end>"
    assert talks.chat(messages, continue_final_message=True, template=trims) == "The answer is"


# --- files ---


def put(folder, name, content):
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def changed(folder, name, **values):
    known = json.loads((folder / name).read_text())
    put(folder, name, json.dumps(known | values))


BAD = {
    "cut short": ("tokenizer.json", b'{"version": "1.0", "mod', "tokenizer.json: no tokenizer"),
    "no JSON": ("tokenizer.json", b"\x00\xff\x00", "tokenizer.json: no tokenizer"),
    "deep": ("tokenizer.json", b"[" * 100_000, "tokenizer.json: no tokenizer"),
    "deep settings": ("tokenizer_config.json", b"[" * 100_000, "nested too deeply"),
    "a list": ("tokenizer_config.json", b"[]", "expected a JSON object"),
    "a pointer": (
        "tokenizer.json",
        b"version https://git-lfs.github.com/spec/v1\n",
        "git lfs pull",
    ),
    "a web page": ("tokenizer_config.json", b"<!doctype html>", "web page"),
    "no UTF-8": ("chat_template.jinja", b"\xff\xfe{{", "not UTF-8"),
    "a long template": ("chat_template.jinja", b"a" * (2 << 20), "at most"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_files(folder, what):
    name, content, says = BAD[what]
    put(folder, name, content)
    with pytest.raises(fm.CheckpointError, match=says):
        fm.load_tokenizer(folder)


SETTINGS = {
    "a side": ({"padding_side": "top"}, "padding_side is 'top'; expected left or right"),
    "a token": ({"added_tokens_decoder": {"3": 5}}, "added_tokens_decoder, 3 is '5'"),
    "tokens": ({"added_tokens_decoder": [1]}, "expected a dict"),
    "many": (
        {"added_tokens_decoder": {str(i): "x" for i in range(100_001)}},
        "100001 added tokens",
    ),
    "names": ({"model_input_names": "ids"}, "expected a list"),
    "a template": ({"chat_template": 3}, "expected a text, or a list"),
    "templates": ({"chat_template": [{"name": "x"}]}, "objects of name and template"),
}


@pytest.mark.parametrize("what", SETTINGS)
def test_bad_settings(folder, what):
    values, says = SETTINGS[what]
    (folder / "chat_template.jinja").unlink()
    changed(folder, "tokenizer_config.json", **values)
    with pytest.raises(fm.CheckpointError, match=says):
        fm.load_tokenizer(folder)


def test_what_a_file_says_wrongly_may_be_kept_with_a_warning(folder):
    changed(folder, "tokenizer_config.json", model_max_length=-3)
    with pytest.warns(UserWarning, match="no length"):
        assert fm.load_tokenizer(folder).model_max_length is None
    added = {"9999": {"content": "<far>", "special": True}}
    changed(folder, "tokenizer_config.json", model_max_length=9, added_tokens_decoder=added)
    with pytest.warns(UserWarning, match="not 9999"):
        assert fm.load_tokenizer(folder).encode("<far>") != [9999]


def test_templates_of_files_go_first(folder):
    changed(folder, "tokenizer_config.json", chat_template="old")
    (folder / "additional_chat_templates").mkdir()
    put(folder, "additional_chat_templates/short.jinja", "short\r\n{{ messages[0].content }}")
    tok = fm.load_tokenizer(folder)
    assert set(tok.chat_templates) == {"default", "short"}
    messages = [{"role": "user", "content": "x"}]
    assert tok.chat(messages, template="short") == "short\nx"
    assert "old" not in tok.chat(messages)
    for name in ("chat_template.jinja", "additional_chat_templates/short.jinja"):
        (folder / name).unlink()
    assert fm.load_tokenizer(folder).chat(messages) == "old"
    changed(folder, "tokenizer_config.json", chat_template=None)
    put(folder, "chat_template.json", json.dumps({"chat_template": "older"}))
    assert fm.load_tokenizer(folder).chat(messages) == "older"


def vocabulary(tmp_path, name, content, cls=None):
    put(tmp_path, name, content)
    if cls:
        put(tmp_path, "tokenizer_config.json", json.dumps({"tokenizer_class": cls}))
    return tmp_path


REFUSED = {
    "tekken": ("tekken.json", b"{}", None, "tekken.json: a tokenizer in a form that is not read"),
    "nothing known": ("vocab.json", b"{}", None, "no tokenizer.json, nor another vocabulary"),
    "of its own": ("vocab.txt", b"a\n", "RoFormerTokenizer", "splits texts in a way of its own"),
    "no protobuf": ("tokenizer.model", b"\xff" * 50, None, "no model of SentencePiece"),
    "empty": ("spiece.model", b"", None, "no model of SentencePiece"),
    "of others": ("spiece.model", b"", "XLNetTokenizer", "ids of its own"),
    "no special": ("vocab.txt", b"a\nb\n", "BertTokenizer", "lacks '.CLS.'"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_read_is_refused_with_what_would_do(tmp_path, what):
    name, content, cls, says = REFUSED[what]
    with pytest.raises(fm.CheckpointError, match=says):
        fm.load_tokenizer(vocabulary(tmp_path, name, content, cls))


def test_bad_merges_name_the_line(tmp_path):
    shutil.copy(FOLDER / "gpt2-files" / "vocab.json", tmp_path)
    put(tmp_path, "merges.txt", "#version: 0.2\na b\na b c\n")
    with pytest.raises(fm.CheckpointError, match="merges.txt, line 3: expected two tokens"):
        fm.load_tokenizer(tmp_path)
    put(tmp_path, "merges.txt", "zzz yyy\n")
    with pytest.raises(fm.CheckpointError, match="no tokenizer"):
        fm.load_tokenizer(tmp_path)
    put(tmp_path, "vocab.json", '{"a": -1}')
    with pytest.raises(fm.CheckpointError, match="tokens and their ids"):
        fm.load_tokenizer(tmp_path)


def test_any_cut_of_a_model_is_refused_or_read(tmp_path):
    whole = (FOLDER / "llama-model" / "tokenizer.model").read_bytes()
    for end in range(1, len(whole), len(whole) // 40):
        put(tmp_path, "tokenizer.model", whole[:end])
        try:
            assert fm.load_tokenizer(tmp_path).encode("a b") is not None
        except fm.CheckpointError as error:
            assert "tokenizer.model" in str(error)


def test_wrong_keywords_and_names(tmp_path):
    with pytest.raises(TypeError, match="does not take use_fast"):
        fm.load_tokenizer(BERT, use_fast=True)
    with pytest.raises(fm.CheckpointError, match="no such folder"):
        fm.load_tokenizer(tmp_path / "nothing")
    with pytest.raises(fm.CheckpointError, match="no files of a tokenizer"):
        fm.load_tokenizer(GOLDENS / "gpt2-lm-head" / "checkpoint")


def test_a_missing_library_is_an_error_that_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install flaxmodels\[tokenizers\]"):
        fm.load_tokenizer(BERT)


MESSAGES = [{"role": "user", "content": "Hi"}]
MISTAKES = {  # a call of a tokenizer -> the error, and what it says
    "bytes": (lambda tok: tok(b"abc"), TypeError, "texts is bytes; expected a text, or a list"),
    "mapping": (lambda tok: tok({"text": "a"}), TypeError, "texts is dict"),
    "set": (lambda tok: tok({"a", "b"}), TypeError, "texts is set"),
    "a pair more": (lambda tok: tok(["a"], ["b", "c"]), ValueError, "1 texts, and 2 pairs"),
    "length 0": (lambda tok: tok("a", max_length=0), ValueError, "max_length is 0; expected at"),
    "length -1": (lambda tok: tok("a", max_length=-1), ValueError, "max_length is -1"),
    "length 2.0": (lambda tok: tok("a", max_length=2.0), TypeError, "max_length is 2.0; expected"),
    "length True": (lambda tok: tok("a", max_length=True), TypeError, "max_length is True"),
    "length 2**40": (lambda tok: tok("a", max_length=2**40), ValueError, "at most 2147483647"),
    "length of rows": (lambda tok: tok.encode_rows(["a"], max_length=0), ValueError, "is 0"),
    "pad_to text": (lambda tok: tok("a", pad_to="8"), TypeError, "pad_to is '8'; expected a whole"),
    "multiple of 0": (lambda tok: tok("a", pad_to_multiple_of=0), ValueError, "multiple_of is 0"),
    "no padding": (lambda tok: tok("a", padding=False, pad_to=9), ValueError, "padding=False, and"),
    "no cut": (lambda tok: tok("a", truncation=False, max_length=1), ValueError, "truncation=Fal"),
    "a cut of no name": (lambda tok: tok("a", truncation="longest"), ValueError, "truncation='lon"),
    "half a surrogate": (lambda tok: tok("a\ud800"), ValueError, "half of a surrogate pair"),
    "traced ids": (lambda tok: jax.jit(tok.decode)(jnp.arange(2)), TypeError, "transformation"),
    "a bool": (lambda tok: tok.decode(True), TypeError, "ids are bool"),
    "a token -1": (lambda tok: tok.convert_ids_to_tokens(-1), ValueError, "hold -1"),
    "a token's number": (lambda tok: tok.convert_tokens_to_ids(5), TypeError, "tokens is int"),
    "a message alone": (lambda tok: tok.chat(MESSAGES[0]), TypeError, "messages is dict; expected"),
    "messages once": (lambda tok: tok.chat(iter(MESSAGES)), TypeError, "messages is list_iterator"),
    "an empty chat": (lambda tok: tok.chat([MESSAGES, []]), ValueError, "an empty one"),
    "a tool alone": (lambda tok: tok.chat(MESSAGES, tools={"name": "f"}), TypeError, "tools is di"),
    "template": (lambda tok: tok.chat(MESSAGES, template="defualt"), TemplateError, "but default"),
    "template 5": (lambda tok: tok.chat(MESSAGES, template=5), TypeError, "template is int"),
    "a side of no name": (lambda tok: tok(["a"], padding_side=""), ValueError, "padding_side=''"),
    "special 'no'": (lambda tok: tok("a", add_special_tokens="no"), WrongKind, "expected True or"),
    "skip 'no'": (lambda tok: tok.decode([1], skip_special_tokens="no"), WrongKind, "skip_special"),
    "types 'no'": (lambda tok: tok("a", return_token_type_ids="no"), WrongKind, "return_token_ty"),
    "a prompt 'no'": (lambda tok: tok.chat(MESSAGES, add_generation_prompt="no"), WrongKind, "add"),
    "continue 5": (lambda tok: tok.chat(MESSAGES, continue_final_message=5), WrongKind, "contin"),
    "tokenize 'no'": (lambda tok: tok.chat(MESSAGES, tokenize="no"), WrongKind, "tokenize is 'no'"),
    "tools once": (lambda tok: tok.chat(MESSAGES, tools=iter([{}])), TypeError, "tools is list_it"),
    "a token 2**40": (lambda tok: tok.convert_ids_to_tokens(2**40), ValueError, "at most 21474836"),
    "no text of a token": (lambda _: fm.load_tokenizer(TALKS, pad_token=""), WrongKind, "is ''"),
    "side": (lambda _: fm.load_tokenizer(TALKS, padding_side="Left"), ValueError, "'Left'; expect"),
    "no length": (lambda _: fm.load_tokenizer(TALKS, model_max_length=-1), ValueError, "is -1"),
    "no token": (lambda _: fm.load_tokenizer(TALKS, pad_token=5), WrongKind, "pad_token is 5; exp"),
    "no name": (lambda _: fm.load_tokenizer(None), TypeError, "name_or_path is None; expected a f"),
}


def test_what_a_caller_gives_acts_or_raises(talks):
    for what, (call, error, said) in MISTAKES.items():
        with pytest.raises(error) as caught:
            call(talks)
        assert isinstance(caught.value, error) and said in str(caught.value), what
    assert (
        talks("a b c", truncation=False, padding="max_length", max_length=9)["input_ids"].size == 9
    )
    assert talks((text for text in "ab"), (text for text in "cd"))["input_ids"].shape[0] == 2


def test_a_tokenizer_can_be_sent_to_another_process(talks):
    for copied in (pickle.loads(pickle.dumps(talks)), copy.deepcopy(talks)):
        assert copied.encode("a b") == talks.encode("a b")
        assert copied.chat(MESSAGES) == talks.chat(MESSAGES)

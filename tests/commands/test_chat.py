"""`flaxmodels chat`: turns, texts that are continued, pipes and terminals."""

import io
import re
import sys

import numpy as np
import pytest
from _drawn import params_of
from _paths import GOLDENS

import flaxmodels as fm
from flaxmodels.commands import chat as command
from flaxmodels.commands.cli import main

TALKS = GOLDENS / "tokenizers" / "byte-bpe-chat"


@pytest.fixture(scope="module")
def conversation():
    tok = fm.load_tokenizer(TALKS)
    config = fm.LlamaConfig(
        vocab_size=len(tok),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    model = fm.LlamaForCausalLM.from_config(config)
    params = params_of(model)
    wishes = {"max_new_tokens": 5, "temperature": 0, "system": "Be brief."}
    return command.Conversation(model, params, tok, **wishes)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_turns_are_kept_and_forgotten(conversation):
    conversation.forget()
    first = "".join(piece for piece, _ in conversation.answer("Hello"))
    again = "".join(piece for piece, _ in conversation.answer("And?"))
    assert conversation.messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": first},
        {"role": "user", "content": "And?"},
        {"role": "assistant", "content": again},
    ]
    conversation.forget()
    assert conversation.messages == [{"role": "system", "content": "Be brief."}]


def test_an_answer_that_is_ended_is_kept_as_far_as_it_came(conversation):
    conversation.forget()
    answer = conversation.answer("Hello")
    seen = next(answer)[0] + next(answer)[0]
    answer.close()
    assert conversation.messages[-1] == {"role": "assistant", "content": seen}


def test_the_text_is_that_of_generate(conversation):
    conversation.forget()
    said = "".join(piece for piece, _ in conversation.answer("Hello"))
    tok, messages = conversation.tokenizer, conversation.messages[:-1]
    inputs = tok.chat(messages, tokenize=True)
    out = conversation.model.generate(
        conversation.params, **inputs, max_new_tokens=5, eos_token_id=tok.eos_token_id
    )
    new = out.sequences[0, inputs["input_ids"].shape[1] :][: int(out.lengths[0])]
    assert said == tok.decode(new, skip_special_tokens=True)


def test_a_terminal_gets_turns_and_commands(conversation, monkeypatch):
    lines = iter(["Hello", "/new", "Hello", ""])
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines))
    out, notes = io.StringIO(), io.StringIO()
    conversation.forget()
    command.chat(conversation, Terminal(), out, notes)
    first, second, _ = out.getvalue().split("\n")
    assert first == second
    assert notes.getvalue().startswith("chat; an empty line")
    assert len(re.findall(r"\[5 tokens, [\d.]+ tokens/s", notes.getvalue())) == 2


def test_an_interrupted_answer_and_a_wrong_text_do_not_end_it(conversation, monkeypatch):
    lines = iter(["one", "two"])

    def typed(prompt):
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    def answer(text):
        raise KeyboardInterrupt if text == "one" else ValueError("no room")

    monkeypatch.setattr("builtins.input", typed)
    monkeypatch.setattr(conversation, "answer", answer)
    notes = io.StringIO()
    command.chat(conversation, Terminal(), io.StringIO(), notes)
    assert "[ended]" in notes.getvalue() and "flaxmodels: no room" in notes.getvalue()


def test_what_a_terminal_would_act_on_is_escaped(conversation, monkeypatch):
    monkeypatch.setattr(conversation, "answer", lambda text: iter([("a\x1b[2J\n\tb", 1)]))
    out = io.StringIO()
    command.chat(conversation, io.StringIO("x"), out, io.StringIO())
    assert out.getvalue() == "a\\x1b[2J\n\tb\n"


def test_a_pipe_is_one_text_and_the_bundled_model_continues_it(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("The for statement is\n"))
    folder = fm.bundled_checkpoint()
    assert main(["chat", folder, "--max-new-tokens", "12", "--temperature", "0"]) == 0
    printed = capsys.readouterr()
    tok = fm.load_tokenizer(folder)
    model, params = fm.AutoModelForCausalLM.from_pretrained(folder, param_dtype="auto")
    ids = tok("The for statement is")["input_ids"]
    new = np.stack([*model.stream(params, ids, max_new_tokens=12)], 1)[0]
    assert printed.out == tok.decode(new) + "\n"
    assert re.match(r"\[12 tokens, ", printed.err)


def test_a_folder_without_a_tokenizer_is_an_error(monkeypatch, capsys):
    assert main(["chat", str(GOLDENS / "gpt2-lm-head" / "checkpoint")]) == 1
    assert "no files of a tokenizer" in capsys.readouterr().err

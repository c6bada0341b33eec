"""Templates of strangers: what they cannot do, and what is said of it."""

import os
import threading
import time

import pytest
from _turns import some_of

from flaxmodels.text import template_process
from flaxmodels.text.template_process import TemplateError, render

SEES = {"a": 1, "name": "Zoë", "list": [1, {"b": "<&>"}]}


def test_what_templates_of_models_use():
    text = (
        "{% for item in list %}{% if loop.first %}{% continue %}{% endif %}\n"
        "  {{ item | tojson }}{% endfor %}\n"
        "{%- generation %}{% set x = 1 %}{{ name }}{% endgeneration %}{{ x }}|{{ nothing }}|"
        "{{ strftime_now('%Y') | length }}"
    )
    assert render(text, SEES, "f") == '  {"b": "<&>"}Zoë||4'


LOOP = "{% for i in range(99999) %}"
MANY = {
    "a range too long": ("\n{% for i in range(10**9) %}{% endfor %}", "line 2", "Range too big"),
    "a loop for ever": (f"{LOOP}{LOOP}{{% endfor %}}{{% endfor %}}", "", "0.2 s of computing"),
    "a number too large": ("{{ 9 ** (9 ** 9) }}", "", "0.2 s of computing"),
    "a string too long": ("\n\n{{ 'a' * 10**10 }}", "line 3", "512 MiB"),
    "doubling": (
        "{% set n = namespace(x='ab' * 1000) %}\n" + LOOP + "{% set n.x = n.x ~ n.x %}{% endfor %}",
        "line 2",
        "512 MiB",
    ),
    "a width too large": ("{{ '%99999999999d' | format(1) }}", "line 1", "512 MiB"),
    "too much text": (LOOP + "{{ 'a' * 1000 }}{% endfor %}", "", "16777216 characters"),
    "a macro in itself": (
        "{% macro f() %}\n{{ f() }}{% endmacro %}\n{{ f() }}",
        "line 2",
        "too deep",
    ),
    "another file": ("\n{% include '/etc/passwd' %}", "line 2", "none beside it"),
    "an import": ("{% import 'os' as os %}", "line 1", "none beside it"),
    "a parent": ("{% extends 'base' %}", "line 1", "none beside it"),
    "internals": ("{{ ''.__class__.__mro__ }}", "line 1", "unsafe"),
    "globals": ("\n{{ cycler.__init__.__globals__ }}", "line 2", "unsafe"),
    "what changes a list": ("{{ list.append(1) }}", "line 1", "unsafe"),
    "an unknown tag": ("\n\n\n{% call_model %}", "line 4", "unknown tag 'call_model'"),
    "an unknown filter": ("\n{{ a | shout }}", "line 2", "No filter named 'shout'"),
    "an unknown test": ("{{ a is loud }}", "line 1", "No test named 'loud'"),
    "half a tag": ("a\n{% if a", "line 2", "end of"),
    "what is not there": ("\n{{ a.b.c }}", "line 2", "has no attribute 'b'"),
    "its own refusal": ("\n{{ raise_exception('Roles must alternate') }}", "line 2", "alternate"),
    "an error of Python": ("{{ 1 / 0 }}", "line 1", "ZeroDivisionError"),
}


@some_of("what", [*MANY], *(MANY.keys() - {"a loop for ever"}))  # a number is what is hard to stop
def test_a_hostile_template_is_an_error_with_its_line(what, monkeypatch):
    template, line, reason = MANY[what]
    short = "computing" in reason  # by a process that may compute less
    if short:
        template_process._stop()
        monkeypatch.setattr(template_process, "_SECONDS", 0.2)
    threads, start = threading.active_count(), time.monotonic()
    with pytest.raises(TemplateError) as caught:
        render(template, SEES, "chat_template.jinja")
    message = str(caught.value)
    assert message.startswith("chat_template.jinja") and line in message and reason in message
    assert time.monotonic() - start < 40  # on a busy machine
    assert threading.active_count() == threads
    assert render("{{ name }}", SEES, "f") == "Zoë"
    if short:
        template_process._stop()


def test_one_process_serves_all_and_knows_no_secret(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    template_process._stop()
    render("a", {}, "f")
    first = template_process._process
    render("b", {}, "f")
    assert template_process._process is first
    with open(f"/proc/{first.pid}/environ", "rb") as file:
        assert b"hf_secret" not in file.read()
    with open(f"/proc/{first.pid}/limits") as file:
        limits = {line[:24].strip(): line.split()[-3] for line in file if "Max" in line}
    assert limits["Max open files"] == "3" and limits["Max file size"] == "0"


def test_a_process_that_was_killed_is_started_again():
    render("a", {}, "f")
    template_process._process.kill()
    template_process._process.wait()
    assert render("b", {}, "f") == "b"


def test_a_forked_child_has_its_own():
    render("a", {}, "f")
    parents = template_process._process
    child = {}

    def in_child():
        template_process._owner = -1  # what os.getpid() tells in a fork
        child["text"] = render("c", {}, "f")

    in_child()
    assert child["text"] == "c" and template_process._process is not parents
    assert parents.returncode == 0
    os.kill(parents.pid, 9)
    os.waitpid(parents.pid, 0)


def test_threads_wait_for_each_other():
    texts: dict[int, str] = {}

    def work(number: int) -> None:
        for _ in range(20):
            texts[number] = render("{{ n }}" * 100, {"n": number}, "f")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == {n: str(n) * 100 for n in range(4)}


@pytest.mark.parametrize("version, says", [("3.1.5", "3.1.6 or later"), (None, "pip install")])
def test_an_old_jinja_or_none_is_an_error_that_says_what_to_install(monkeypatch, version, says):
    if version:
        monkeypatch.setattr("importlib.metadata.version", lambda name: version)
    else:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=says):
        render("a", {}, "f")

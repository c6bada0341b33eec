"""Chats as text: the templates of a folder, and the messages that they render."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from .. import params as fp
from ..documents.json_values import Json
from ..params.errors import quoted, some
from .files import Files
from .settings import CONFIG
from .template_process import TemplateError, render

_FILE = "chat_template.jinja"
_OLD_FILE = "chat_template.json"  # of processors
_FOLDER = "additional_chat_templates/"
_DEEPEST = 64
_MARK = "CONTINUE_FROM_HERE_6b1f "  # its space tells whether a template trims what it is given
_REASONING = ("reasoning_content", "thinking", "reasoning")


@dataclasses.dataclass(frozen=True)
class Template:
    """A chat template: its text, and the file for errors."""

    text: str
    path: str


def read_templates(files: Files) -> dict[str, Template]:
    """Reads the chat templates of a folder -> {name: template}, "default" among them or alone.

    Files of templates go before those in `tokenizer_config.json`.

    Raises:
        CheckpointError: what should be a template is none.
    """
    found = {}
    if _FILE in files:
        found["default"] = Template(files.template(_FILE), files.path(_FILE))
    for name in sorted(files.names):
        inside = name.removeprefix(_FOLDER)
        if inside != name and inside.endswith(".jinja") and "/" not in inside:
            found[inside.removesuffix(".jinja")] = Template(files.template(name), files.path(name))
    for name in (CONFIG, _OLD_FILE):
        if not found:
            found = _in_config(files.json(name).get("chat_template"), files.path(name))
    return found


def _in_config(value: object, path: str) -> dict[str, Template]:
    path = f"{path}, chat_template"
    match value:
        case None:
            return {}
        case str():
            return {"default": Template(value, path)}
        case list():
            named = [(_get(one, "name"), _get(one, "template")) for one in value]
        case dict():
            named = [*value.items()]
        case _:
            named = [(None, None)]
    found = {}
    for name, text in named:
        if not isinstance(name, str) or not isinstance(text, str):
            raise fp.CheckpointError(
                f"{path} is {quoted(value)}; expected a text, or a list of objects of name and "
                "template"
            )
        found[name] = Template(text, f"{path}, {quoted(name)}")
    return found


def _get(value: object, key: str) -> Json:
    return value.get(key) if isinstance(value, Mapping) else None


def choose(
    templates: Mapping[str, Template], asked: str | None, tools: object, folder: str
) -> Template:
    """Chooses the template of a chat: the one of a name, a text of the caller's own, or the
    folder's for tools, or its default.

    Raises:
        TemplateError: there is none.
    """
    if asked is not None:
        if asked not in templates and "{" not in asked:
            raise TemplateError(
                f"{folder}: no chat template called {quoted(asked)}, but "
                f"{some(sorted(templates)) or 'none'}; a template of your own has {{{{ }}}} in it"
            )
        return templates.get(asked) or Template(asked, "template")
    if tools is not None and "tool_use" in templates:
        return templates["tool_use"]
    if "default" in templates:
        return templates["default"]
    if templates:
        raise TemplateError(
            f"{folder}: no default chat template; give template= one of {some(sorted(templates))}"
        )
    raise TemplateError(
        f"{folder}: no chat template ({_FILE}, or chat_template in {CONFIG}): the model may not be "
        "one for chats; a template of your own is template="
    )


_TRANSFORMERS = {  # keywords of `apply_chat_template` that are no variables of a template
    "chat_template": "template=",
    "return_assistant_tokens_mask": "",
    "sanitize_control_tokens": "",
    **dict.fromkeys(
        ("padding", "truncation", "max_length", "tokenizer_kwargs"),
        "tok(tok.chat(messages), add_special_tokens=False, ...)",
    ),
    **dict.fromkeys(("return_tensors", "return_dict"), "tokenize=True, which returns arrays"),
}


def check_call(
    messages: object, template: object, lists: Mapping[str, Json], variables: Mapping[str, Json]
) -> None:
    """Checks what a chat is made of.

    Args:
        template: of the caller; None where there is none.
        lists: tools and documents.
        variables: of the template.

    Raises:
        ValueError: no messages.
        TypeError: messages that are no list; lists of something else than mappings; a template
            that is no text; a keyword of Transformers that is no variable, with what to write.
    """
    if messages is not None and not isinstance(messages, Sequence):
        raise TypeError(
            f"messages is {type(messages).__name__}; expected a list of messages, or of chats"
        )
    if not messages or not all(messages):
        raise ValueError("messages is empty, or has an empty one; give at least one")
    if template is not None and not isinstance(template, str):
        raise TypeError(f"template is {type(template).__name__}; expected a name, or a text")
    for name, values in lists.items():
        if isinstance(values, str) or not isinstance(values, Sequence | None):
            raise TypeError(f"{name} is {type(values).__name__}; expected a list of mappings")
        for value in values or ():
            if not isinstance(value, Mapping):
                raise TypeError(
                    f"{name} holds a {type(value).__name__}; expected mappings: of a function, its "
                    "JSON schema"
                )
    for name in variables.keys() & _TRANSFORMERS.keys():
        instead = _TRANSFORMERS[name]
        raise TypeError(
            f"chat does not take {name}: " + (f"give {instead}" if instead else "it is not done")
        )


def chat_text(
    template: Template,
    messages: Sequence[Mapping[str, object]],
    values: Mapping[str, object],
    continue_final_message: bool | str = False,
) -> str:
    """Renders a chat.

    Args:
        messages: each a mapping with its role, and with content or what the template reads.
        values: other variables of the template.
        continue_final_message: end the text inside of the last message, or of that field of it.

    Raises:
        TemplateError: as `render`; or the template drops the end of the message to be continued.
        TypeError: a message that is no mapping.
    """
    for message in messages:
        if not isinstance(message, Mapping):
            raise TypeError(
                f"a message is {type(message).__name__}; expected a mapping such as "
                "{'role': 'user', 'content': 'Hello'}"
            )
    plain = [_message(message) for message in messages]
    final, field = None, ""
    if continue_final_message:
        field = continue_final_message if isinstance(continue_final_message, str) else "content"
        final = _mark(plain[-1], field)
    text = render(template.text, {"messages": plain, **_plain(values)}, template.path)
    return text if final is None else _up_to_mark(text, final, field, template)


def _message(message: Mapping[str, object]) -> dict[str, Json]:
    """Returns a message of plain values without its Nones. Thoughts are there under the names by
    which templates know them."""
    plain = _plain({name: value for name, value in message.items() if value is not None})
    thoughts = next((plain[name] for name in _REASONING if plain.get(name) is not None), None)
    if thoughts is None:
        return plain
    return {"thinking": thoughts, **plain, "reasoning_content": thoughts}


def _plain(value: object, depth: int = 0) -> Json:
    """Returns the value as JSON has it. What JSON has no form for, as an image, becomes a name of
    its type: templates look whether it is there, and no further."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if depth > _DEEPEST:
        raise TypeError(f"a value of a chat is nested more than {_DEEPEST} deep")
    if isinstance(value, Mapping):
        return {str(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: _plain(getattr(value, name), depth + 1) for name in names}
    return f"<{type(value).__name__}>"


def _mark(message: dict[str, Json], field: str) -> str:
    """Puts a mark at the end of a field of a message -> what the field held."""
    value = message.get(field)
    if isinstance(value, list):
        for part in reversed(value):
            if isinstance(part, dict) and isinstance(part.get("text"), str):
                text = part["text"]
                part["text"] = text + _MARK
                return text
    if not isinstance(value, str):
        raise ValueError(f"continue_final_message: the last message has no text in {field!r}")
    names = [n for n in _REASONING if message.get(n) == value] if field in _REASONING else [field]
    for name in names:
        message[name] = value + _MARK
    return value


def _up_to_mark(text: str, final: str, field: str, template: Template) -> str:
    place = text.rfind(_MARK.strip())
    if place < 0 or final.strip() not in text:
        raise TemplateError(
            f"{template.path}: the template leaves out the end of the last message's {field}, so "
            "that it cannot be continued"
        )
    start = text[:place]
    return start if text[place:].startswith(_MARK) else start.rstrip()

"""Chatting: chats as text, or as arrays, by the templates of a tokenizer."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..documents.json_values import Json
from ..params.scalars import flag
from .chat_templates import chat_text, check_call, choose
from .vocabulary import Vocabulary

Messages = Sequence[Mapping[str, Json]]


class Chats(Vocabulary):
    """Adds chats to a tokenizer."""

    def __call__(
        self, texts: str | Sequence[str], *, add_special_tokens: bool = True
    ) -> dict[str, np.ndarray]:
        """Turns texts into arrays."""
        raise TypeError(f"{type(self).__name__} defines no __call__")

    def chat(
        self,
        messages: Messages | Sequence[Messages],
        tools: Sequence[Mapping[str, Json]] | None = None,
        documents: Sequence[Mapping[str, Json]] | None = None,
        *,
        add_generation_prompt: bool | None = None,
        continue_final_message: bool | str = False,
        tokenize: bool = False,
        template: str | None = None,
        **variables: Json,
    ) -> Any:
        """Renders a chat, or each of a list of chats, by the folder's template.

        A template is code of a stranger: it runs in Jinja's sandbox, in a process of its own that
        reaches no file, for 2 s of CPU time at most (`flaxmodels/text/template_process.py`).

        Args:
            messages: [{"role": "user", "content": "Hello"}, ...].
            tools: JSON schemas of functions that the model may call.
            documents: [{"title": ..., "text": ...}, ...] to answer from.
            add_generation_prompt: begin an answer; None is True, unless a message is continued.
            continue_final_message: end inside of the last message, or of that field of it, so that
                the model goes on with it.
            tokenize: return what `tok(text, add_special_tokens=False)` returns, instead of text.
            template: the name of one of `chat_templates`, or a text of your own.
            **variables: of the template, as enable_thinking=False.

        Returns:
            the text, or a list of texts; or arrays int32 [B, T].

        Raises:
            TemplateError: there is no template, or it cannot be rendered: file, line, why.
            TypeError: messages, tools or documents that are no mappings; a keyword of Transformers
                that is no variable, with what to write.
            ImportError: jinja2 is not installed.
        """
        if not isinstance(continue_final_message, str):
            flag("continue_final_message", continue_final_message)
        begins = not continue_final_message
        if add_generation_prompt is not None:
            begins = flag("add_generation_prompt", add_generation_prompt)
        check_call(messages, template, {"tools": tools, "documents": documents}, variables)
        if begins and continue_final_message:
            raise ValueError(
                "add_generation_prompt begins another message than the one that "
                "continue_final_message goes on with: give one of them"
            )
        chosen = choose(self.chat_templates, template, tools, self.folder)
        values = {**self.special_tokens, "tools": tools, "documents": documents}
        values |= {"add_generation_prompt": begins, **variables}
        is_batch = not isinstance(messages[0], Mapping)
        chats: Any = messages if is_batch else [messages]
        texts = [chat_text(chosen, chat, values, continue_final_message) for chat in chats]
        if flag("tokenize", tokenize):
            return self(texts, add_special_tokens=False)
        return texts if is_batch else texts[0]

"""`flaxmodels chat`: a conversation with a model in a terminal, or an answer to what is piped."""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any, TextIO

import jax
import numpy as np

from .. import params as fp
from ..auto import AutoModelForCausalLM
from ..config.generation_config import GenerationConfig
from ..documents.json_values import Json
from ..hub import download
from ..models.base import PretrainedModel
from ..params.errors import printable
from ..params.scalars import whole
from ..params.tree.cast import DtypeLike
from ..text import TextStream, Tokenizer, load_tokenizer

_HELP = "an empty line or Ctrl-D ends it, Ctrl-C ends an answer, /new begins another conversation"


class Conversation:
    """A model, its tokenizer, and what has been said.

    Without a chat template there are no turns: each text is continued by itself.

    Args:
        max_new_tokens: of an answer.
        system: what the model is told first.
        seed: of the draw.
        draw: temperature (0 for the most probable token), top_k and top_p; None for what the
            model's files say.
    """

    def __init__(
        self,
        model: PretrainedModel,
        params: fp.Params,
        tokenizer: Tokenizer,
        *,
        max_new_tokens: int = 512,
        system: str | None = None,
        seed: int = 0,
        **draw: float | None,
    ):
        self.model, self.params, self.tokenizer = model, params, tokenizer
        self.max_new_tokens, self.system = max_new_tokens, system
        self.draw = {name: value for name, value in draw.items() if value is not None}
        self.key = jax.random.key(whole("seed", seed, -(1 << 63), (1 << 63) - 1))
        self.default = model.generation_config or GenerationConfig.of(model.config)
        if system is not None and not self.has_turns:
            raise ValueError("system is of chats, and the tokenizer has no chat template")
        odd = self.draw.keys() - {"temperature"}
        if odd and not self.draws:
            raise ValueError(
                f"{', '.join(sorted(odd))}: nothing is drawn; give a temperature above 0 as well"
            )
        self.forget()

    @property
    def has_turns(self) -> bool:
        return bool(self.tokenizer.chat_templates)

    @property
    def draws(self) -> bool:
        """Whether tokens are drawn, or are the most probable."""
        return bool(self.draw.get("temperature", self.default.do_sample))

    def forget(self) -> None:
        """Begins anew, with the system's prompt alone."""
        said = [] if self.system is None else [{"role": "system", "content": self.system}]
        self.messages: list[dict[str, str]] = said

    def answer(self, text: str) -> Iterator[tuple[str, int]]:
        """Answers a text, or continues it -> pairs of (text as it comes, tokens so far).

        Raises:
            ValueError: no room is left for an answer; as `stream` and `chat`.
        """
        if self.has_turns:
            self.messages.append({"role": "user", "content": text})
            inputs = self.tokenizer.chat(self.messages, tokenize=True)
        else:
            inputs = self.tokenizer(text)
        said, count, stream = "", 0, TextStream(self.tokenizer)
        try:
            for token in self._tokens(inputs["input_ids"]):
                count += 1
                piece = stream.put(int(token[0]))
                said += piece
                yield piece, count
            rest = stream.end()
            said += rest
            yield rest, count
        finally:
            if self.has_turns:  # what was seen counts as said, also of an answer that was ended
                self.messages.append({"role": "assistant", "content": said})

    def _tokens(self, ids: np.ndarray) -> Iterator[np.ndarray]:
        if ids.shape[1] == 0:
            raise ValueError("there is no text to continue")
        limit, most = self.model.config.text.position_limit, self.max_new_tokens
        if limit is not None and ids.shape[1] >= limit:
            raise ValueError(
                f"the conversation has {ids.shape[1]} tokens, and the model {limit} positions: "
                "/new begins another"
            )
        end = self.tokenizer.eos_token_id
        asked: dict[str, Json] = {
            "max_new_tokens": most if limit is None else min(most, limit - ids.shape[1]),
            "eos_token_id": tuple(
                dict.fromkeys(x for x in (*self.default.eos, end) if x is not None)
            ),
            "do_sample": self.draws,
        }
        if self.draws:
            self.key, asked["key"] = jax.random.split(self.key)
            asked |= self.draw
        yield from self.model.stream(self.params, ids, np.ones_like(ids), **asked)


def open_conversation(
    name_or_path: str, dtype: DtypeLike | None = None, **wishes: Any
) -> Conversation:
    """Loads a model and its tokenizer. Params stay in the dtype in which they are stored, and are
    computed with in it, or in `dtype`; on a CPU, where 16 bits are slow, in float32.

    Raises:
        CheckpointError: as a load.
    """
    folder = download(name_or_path)
    tokenizer = load_tokenizer(folder)
    if dtype is None:
        dtype = "float32" if jax.default_backend() == "cpu" else "auto"
    model, params = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, param_dtype="auto")
    if not model.can_generate():
        raise fp.CheckpointError(f"{folder}: {type(model).__name__} cannot generate")
    return Conversation(model, params, tokenizer, **wishes)


def chat(
    conversation: Conversation, source: TextIO, out: TextIO, notes: TextIO, show: bool = True
) -> None:
    """Talks: with a user at a terminal, turn by turn; of what is piped in, all is one text.

    Args:
        source: where texts come from.
        out: gets the answers.
        notes: gets what is said about them.
        show: whether the speed is printed.
    """
    if not source.isatty():
        _say(conversation, source.read().rstrip("\n"), out, notes, show)
        return
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  lines can be edited, and come back
    begins = "chat" if conversation.has_turns else "no chat template: texts are continued"
    print(f"{begins}; {_HELP}", file=notes)
    while True:
        try:
            text = input("> ")
        except EOFError:
            print(file=out)
            return
        if not text.strip():
            return
        if text.strip() == "/new":
            conversation.forget()
            continue
        try:
            _say(conversation, text, out, notes, show)
        except KeyboardInterrupt:
            print("\n[ended]", file=notes)
        except ValueError as error:
            print(f"flaxmodels: {printable(error)}", file=notes)


def _say(conversation: Conversation, text: str, out: TextIO, notes: TextIO, show: bool) -> None:
    """Prints an answer as it comes, and how fast it came."""
    start, times = time.perf_counter(), []
    for piece, count in conversation.answer(text):
        if count > len(times):
            times.append(time.perf_counter())
        out.write(_shown(piece))
        out.flush()
    out.write("\n")
    out.flush()
    if show and len(times) > 2:
        speed = (len(times) - 2) / (times[-1] - times[1])  # the first two may be compiled for
        waited = times[0] - start
        print(
            f"[{len(times)} tokens, {speed:.1f} tokens/s, the first after {waited:.1f} s]",
            file=notes,
        )


def _shown(text: str) -> str:
    """Returns a text without what a terminal would act on, but for new lines and tabs."""
    return "".join(c if c.isprintable() or c in "\n\t" else printable(c) for c in text)


def run(name_or_path: str, *, show: bool = True, **wishes: Any) -> None:
    """Runs the command, with the arguments of `open_conversation` and `Conversation`."""
    chat(open_conversation(name_or_path, **wishes), sys.stdin, sys.stdout, sys.stderr, show)

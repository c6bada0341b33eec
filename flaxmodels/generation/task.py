"""What a call of `generate` or `stream` asks: its keywords, checked, as one value."""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypedDict

import jax
import numpy as np

from ..calls.signature import take
from ..config import unimplemented_settings as settings
from ..config.generation_config import GenerationConfig
from ..core.model import Model
from ..params.errors import warn
from ..params.types import Params
from . import arguments
from .prompts import Prompt, begin_decoder, read_prompt
from .sampling import Choice, Draw

Ids = jax.Array | np.ndarray | None


class Settings(TypedDict, total=False):
    """The keywords of `generate` that are settings."""

    max_new_tokens: int | None
    max_length: int | None
    do_sample: bool | None
    temperature: float | jax.Array | None
    top_k: int | None
    top_p: float | jax.Array | None
    eos_token_id: int | tuple[int, ...] | None
    pad_token_id: int | None
    decoder_start_token_id: int | None
    forced_bos_token_id: int | None
    forced_eos_token_id: int | tuple[int, ...] | None


class Keywords(Settings, total=False):
    """The keywords of `generate`, which says what they mean, and of `stream`."""

    decoder_input_ids: Ids
    decoder_attention_mask: Ids
    generation_config: GenerationConfig | None
    key: jax.Array | None


_SETTINGS = tuple(Settings.__annotations__)
_OTHERS = tuple(Keywords.__annotations__.keys() - Settings.__annotations__.keys())
DEFAULTS = dict.fromkeys(("decoder_input_ids", "decoder_attention_mask", "generation_config"))
DEFAULTS |= dict.fromkeys((*_SETTINGS, "key"))
"""{keyword: its default}: None, which leaves it to the configurations."""


class Task(NamedTuple):
    """A batch to be continued, and how.

    Attributes:
        model: without a `generation_config`, and with logits that are made: one program for all
            that differ in these.
        steps: new tokens, at most.
    """

    model: Model
    prompt: Prompt
    settings: GenerationConfig
    draw: Draw
    steps: int

    @property
    def choice(self) -> Choice:
        """How each token is chosen."""
        asked, begins = self.settings, self.prompt.continued.ids.shape[1] == 1
        first = asked.forced_bos_token_id if begins else None
        most = (asked.top_k or None) if asked.do_sample else None
        return Choice(bool(asked.do_sample), most, first, asked.forced_last)


def task_of(
    call: str,
    model: Model,
    params: Params,
    input_ids: object,
    attention_mask: object,
    given: Mapping[str, Any],
) -> Task:
    """Checks the arguments of a call, and merges its settings; raises as `generate`.

    Args:
        call: its name, for errors.
        given: `Keywords`, and settings of Transformers that change nothing.
    """
    if not model.can_generate():
        raise TypeError(
            f"{type(model).__name__} cannot generate: it has no head that says the next token"
        )
    arguments.check_params(params)
    begins = ("decoder_start_token_id", "decoder_input_ids", "decoder_attention_mask")
    idle = [name for name in begins if given.get(name) is not None]
    if idle and not model.is_encoder_decoder:
        raise TypeError(
            f"{type(model).__name__} has no encoder: its decoder begins with the prompt, and "
            f"{idle[0]} would have no effect"
        )
    given = {**given}
    asked, others = take(_SETTINGS, given), DEFAULTS | take(_OTHERS, given)
    settings.neutral(call, given, DEFAULTS)
    # Values that only the running program knows cannot be part of what it is compiled for.
    traced = {
        name: asked.pop(name)
        for name in ("temperature", "top_p")
        if arguments.is_traced_number(name, asked.get(name))
    }
    options = arguments.settle(model, asked, others["generation_config"], traced)
    prompt = read_prompt(
        input_ids,
        attention_mask,
        pad=options.pad_token_id,
        eos=options.eos,
        vocab_size=model.prompt_vocab_size,
    )
    if (start := arguments.start_token(model, options)) is not None:
        begun = others["decoder_input_ids"], others["decoder_attention_mask"]
        size = getattr(model.config.text, "vocab_size", None)
        pad = options.pad_token_id
        prompt = begin_decoder(prompt, start, *begun, pad=pad, vocab_size=size)
    length = prompt.continued.ids.shape[1]
    if asked.get("forced_bos_token_id") is not None and length > 1:
        warn(
            f"forced_bos_token_id has no effect: it is the token after a single one, and {length} "
            "are there already"
        )
    draw = arguments.draw_of(options, traced, others["key"])
    count = arguments.count_tokens(model.config, length, options)
    model = model.clone(generation_config=None, defer_logits=False)
    return Task(model, prompt, options, draw, count)

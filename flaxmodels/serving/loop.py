"""The loop that continues prompts by exported programs."""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

from ..calls.known_values import is_traced
from ..calls.signature import take
from ..config import unimplemented_settings
from ..config.generation_config import GenerationConfig
from ..generation.arguments import check_finite, draw_of, is_traced_number
from ..generation.decoding import DecodeOptions, Ends, decode
from ..generation.decoding import GenerateOutput as Continuation
from ..generation.prompts import Prompt, begin_decoder, read_prompt
from ..generation.task import DEFAULTS, Settings, Task
from .errors import ServingError
from .generating import PREFILL, Facts, ServedPasses
from .manifest import Manifest

Ids: TypeAlias = jax.Array | np.ndarray | list[list[int]]
_SETTINGS = (*Settings.__annotations__,)


class Half(NamedTuple):
    """What an encoder, or a decoder, is given: ids, and their mask."""

    ids: Ids | None
    mask: Ids | None


def continued(
    passes: ServedPasses,
    manifest: Manifest,
    params: Mapping[str, jax.Array],
    prompt: Half,
    decoder: Half,
    key: jax.Array | None,
    given: Mapping[str, object],
) -> Continuation:
    """Continues prompts; see `Served.generate`.

    Args:
        given: settings of generation.
    """
    facts = manifest.generation
    assert facts is not None
    options, traced = _settled(facts, given)
    rows = _prompt(manifest, facts, options, prompt, decoder)
    steps = _steps(facts, options, rows.continued.ids.shape[1])
    draw = draw_of(options, traced, key)
    eager = not is_traced(dict(params), rows, draw)
    task = Task(passes, rows, options, draw, steps)  # pyright: ignore[reportArgumentType]
    chosen = DecodeOptions(steps, task.choice, eager)
    ends = Ends.of(options)
    output, failure = decode(passes, chosen, dict(params), rows, draw, ends)  # pyright: ignore
    if eager:
        check_finite(failure)
    return output


def _settled(
    facts: Facts, given: Mapping[str, Any]
) -> tuple[GenerationConfig, dict[str, jax.Array]]:
    """Returns the settings of a call, and those numbers that the running program alone knows."""
    asked = dict(given)
    config = asked.pop("generation_config", None)
    if not isinstance(config, GenerationConfig | None):
        raise TypeError(
            f"generation_config is a {type(config).__name__}; expected a GenerationConfig, as "
            "GenerationConfig(**settings)"
        )
    own = take(_SETTINGS, asked)
    unimplemented_settings.neutral("generate", asked, DEFAULTS)
    numbers = ("temperature", "top_p")
    traced = {name: own.pop(name) for name in numbers if is_traced_number(name, own.get(name))}
    caller = GenerationConfig().given(**own).over(config or GenerationConfig())
    options = caller.over(facts.settings)
    options.check(facts.decoder_vocab_size)
    return options, traced


def _prompt(
    manifest: Manifest, facts: Facts, options: GenerationConfig, prompt: Half, decoder: Half
) -> Prompt:
    rows = read_prompt(
        *prompt, pad=options.pad_token_id, eos=options.eos, vocab_size=facts.vocab_size
    )
    reads_two = "decoder_input_ids" in manifest.programs[PREFILL].inputs
    if not reads_two:
        if any(x is not None for x in decoder):
            raise TypeError(
                "the model has no encoder: its decoder begins with the prompt, and "
                "decoder_input_ids would have no effect"
            )
        return rows
    start = options.decoder_start_token_id
    start = options.bos_token_id if start is None else start
    if start is None:
        raise ValueError("give decoder_start_token_id: the export does not say it")
    most = manifest.bounds.get("length", rows.ids.shape[1])
    if rows.ids.shape[1] > most:
        raise ServingError(f"a prompt of {rows.ids.shape[1]} tokens; it was exported for {most}")
    size = facts.decoder_vocab_size
    return begin_decoder(rows, start, *decoder, pad=options.pad_token_id, vocab_size=size)


def _steps(facts: Facts, options: GenerationConfig, length: int) -> int:
    """Returns how many new tokens there are at most."""
    slots = facts.slots
    steps = options.count(length, slots)
    if length + steps > slots:
        raise ServingError(
            f"a prompt of {length} tokens and {steps} new ones are {length + steps}; the export's "
            f"caches hold {slots}: give a smaller max_new_tokens, or export with a greater "
            "max_length"
        )
    return steps

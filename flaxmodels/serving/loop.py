"""The loop that continues prompts by exported programs."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import jax
import numpy as np

from ..config import unimplemented_settings
from ..config.generation_config import GenerationConfig
from ..generation.arguments import check_finite, draw_of
from ..generation.decoding import DecodeOptions, decode
from ..generation.decoding import GenerateOutput as Continuation
from ..generation.prompts import Prompt, begin_decoder, read_prompt
from ..generation.task import DEFAULTS, Settings, Task
from .errors import ServingError
from .generating import PREFILL, ServedPasses
from .manifest import Manifest

Ids: TypeAlias = jax.Array | np.ndarray | list[list[int]]
_SETTINGS = (*Settings.__annotations__,)


def continued(
    passes: ServedPasses,
    manifest: Manifest,
    params: Mapping[str, jax.Array],
    prompt: tuple[Any, Any],
    decoder: tuple[Any, Any],
    key: jax.Array | None,
    given: Mapping[str, Any],
) -> Continuation:
    """Continues prompts; see `Served.generate`.

    Args:
        prompt, decoder: ids and mask of each.
        given: settings of generation.
    """
    asked = dict(given)
    config = asked.pop("generation_config", None) or GenerationConfig()
    own = {name: asked.pop(name) for name in _SETTINGS if name in asked}
    unimplemented_settings.neutral("generate", asked, DEFAULTS)
    told = manifest.generation
    default = GenerationConfig(**told["settings"])
    options = GenerationConfig().given(**own).over(config).over(default)
    options.check(told["decoder_vocab_size"])
    rows = _prompt(manifest, options, prompt, decoder)
    length = rows.continued.ids.shape[1]
    steps = _steps(manifest, options, length)
    draw = draw_of(options, {}, key)
    task = Task(passes, rows, options, draw, steps)  # pyright: ignore[reportArgumentType]
    chosen = DecodeOptions(steps, task.choice, options.eos, options.pad, True)
    output, failure = decode(passes, chosen, dict(params), rows, draw)  # pyright: ignore
    check_finite(failure)
    return output


def _prompt(
    manifest: Manifest,
    options: GenerationConfig,
    prompt: tuple[Any, Any],
    decoder: tuple[Any, Any],
) -> Prompt:
    told = manifest.generation
    rows = read_prompt(
        *prompt, pad=options.pad_token_id, eos=options.eos, vocab_size=told["vocab_size"]
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
    size = told["decoder_vocab_size"]
    return begin_decoder(rows, start, *decoder, pad=options.pad_token_id, vocab_size=size)


def _steps(manifest: Manifest, options: GenerationConfig, length: int) -> int:
    """Returns how many new tokens there are at most."""
    slots = manifest.slots or 0
    steps = options.count(length, slots)
    if length + steps > slots:
        raise ServingError(
            f"a prompt of {length} tokens and {steps} new ones are {length + steps}; the export's "
            f"caches hold {slots}: give a smaller max_new_tokens, or export with a greater "
            "max_length"
        )
    return steps

"""Generation: `generate` continues prompts by one compiled program."""

from typing import Any

import jax
import numpy as np

from ..calls.concrete import is_traced
from ..config import unimplemented_settings as settings
from ..config.generation_config import GenerationConfig
from ..core.model import Model
from ..params.types import Params
from .arguments import (
    check_finite,
    check_memory,
    check_params,
    count_tokens,
    draw_of,
    is_traced_number,
    no_room,
    settle,
    start_token,
)
from .decoding import DecodeOptions, Draw, decode
from .decoding import GenerateOutput as GenerateOutput
from .passes import Passes
from .prompts import Prompt, read_prompt


class Generates(Passes):
    """Adds `generate` to models with a head over the vocabulary and a cache."""

    def generate(
        self,
        params: Params,
        input_ids: jax.Array | np.ndarray,
        attention_mask: jax.Array | np.ndarray | None = None,
        *,
        generation_config: GenerationConfig | None = None,
        max_new_tokens: int | None = None,
        max_length: int | None = None,
        do_sample: bool | None = None,
        temperature: float | jax.Array | None = None,
        top_k: int | None = None,
        top_p: float | jax.Array | None = None,
        eos_token_id: int | tuple[int, ...] | None = None,
        pad_token_id: int | None = None,
        decoder_start_token_id: int | None = None,
        forced_bos_token_id: int | None = None,
        forced_eos_token_id: int | tuple[int, ...] | None = None,
        key: jax.Array | None = None,
        **others: Any,
    ) -> GenerateOutput:
        """Continues prompts, greedily or by sampling. A setting that is None comes from
        `generation_config`, then from `self.generation_config`; see `docs/generation.md`.

        One program does prefill and decode loop; it is compiled for the shapes and choices of
        the first call and reused by the next one with the same. Temperature and top-p may change
        without compiling again. Works under `jit`, `vmap` and `shard_map`, where values that only
        the running program knows are not checked. Outside of them it waits for its result, to
        see that all logits were finite.

        Args:
            input_ids: int [B, T].
            attention_mask: [B, T], nonzero for tokens; rows may be padded on either side. If None,
                `pad_token_id` is padding, unless it is an end-of-sequence token too.
            generation_config: settings for this call.
            max_new_tokens: length of the continuation (20 if nothing says otherwise).
            max_length: length with the prompt; `max_new_tokens` overrides it.
            do_sample: draw the next token; else take the most probable.
            temperature, top_k, top_p: of the draw, applied in this order; 0 for all tokens.
            eos_token_id: a row that produced one of these is finished; () for none.
            pad_token_id: what follows then; the first end-of-sequence token if there is none.
            decoder_start_token_id: what the decoder of an encoder-decoder begins with;
                `bos_token_id` if nothing says it. The output has it in front, and `max_length`
                counts it, in the place of the prompt, which the encoder reads.
            forced_bos_token_id: the first new token after a single one, as a language's code.
            forced_eos_token_id: the last token of a row that has not ended before.
            key: one `jax.random.key`, needed to draw and else not used. Each row draws from it; for
                a key per row, map `generate` over rows and keys with `jax.vmap`.
            **others: settings of Transformers that change nothing, as `num_beams=1`.

        Raises:
            TypeError: the class cannot generate; a name that is no setting; ids that are no
                integers.
            ValueError: arguments out of range, a prompt that is no batch, or too long, ids that
                the vocabulary does not have; logits that are not finite, by row and step.
            NotImplementedError: a setting of Transformers that is not done yet.
        """
        if not self.can_generate():
            raise TypeError(
                f"{type(self).__name__} has no head over the vocabulary and cannot generate"
            )
        check_params(params)
        asked = {
            "max_new_tokens": max_new_tokens,
            "max_length": max_length,
            "do_sample": do_sample,
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "eos_token_id": eos_token_id,
            "pad_token_id": pad_token_id,
            "decoder_start_token_id": decoder_start_token_id,
            "forced_bos_token_id": forced_bos_token_id,
            "forced_eos_token_id": forced_eos_token_id,
        }
        settings.neutral("generate", others, [*asked, *_NO_SETTINGS])
        # Values that only the running program knows cannot be part of what it is compiled for.
        scales = [k for k in ("temperature", "top_p") if is_traced_number(k, asked[k])]
        traced = {name: asked.pop(name) for name in scales}
        options = settle(self, asked, generation_config, traced)
        prompt = read_prompt(
            input_ids,
            attention_mask,
            pad=options.pad_token_id,
            eos=options.eos,
            vocab_size=self.prompt_vocab_size,
        )
        return _run(self, params, prompt, options, draw_of(options, traced, key))


_NO_SETTINGS = ("input_ids", "attention_mask", "generation_config", "key")


def _run(
    model: Model, params: Params, prompt: Prompt, settings: GenerationConfig, draw: Draw
) -> GenerateOutput:
    """Runs the program; raises `ValueError` if it needs too much memory, or if logits are not
    finite."""
    batch, length = prompt.ids.shape
    start = start_token(model, settings)
    length = length if start is None else 1
    count = count_tokens(model.config, length, settings)
    eager = not is_traced(params, prompt, draw)
    top_k = settings.top_k or None
    options = DecodeOptions(
        count,
        bool(settings.do_sample),
        top_k,
        settings.eos,
        settings.pad,
        stop_on_failure=eager,
        start=start,
        forced_first=settings.forced_bos_token_id,
        forced_last=settings.forced_last,
    )
    plain = model.clone(generation_config=None)  # one program for all that differ in it
    check_memory(plain, batch, length, count)
    try:
        output, failure = decode(plain, options, params, prompt, draw)
        if eager:
            check_finite(failure)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise ValueError(no_room(batch, length, count)) from error
    return output

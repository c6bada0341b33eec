"""Generation: `generate` continues prompts by one compiled program."""

import contextlib
from typing import Unpack

import jax
import numpy as np

from ..calls.known_values import is_traced
from ..calls.signature import shows
from ..params.types import Params
from ..placement.leaves import is_placed
from .arguments import check_finite, check_memory, memory_named
from .decoding import DecodeOptions, Ends, decode
from .decoding import GenerateOutput as GenerateOutput
from .generation_agreement import together, wait_for
from .passes import Passes
from .staged import decode_in_stages
from .task import DEFAULTS, Keywords, Task, task_of


class Generates(Passes):
    """Adds `generate` to models with a head over the vocabulary and a cache."""

    @shows(DEFAULTS)
    def generate(
        self,
        params: Params,
        input_ids: jax.Array | np.ndarray,
        attention_mask: jax.Array | np.ndarray | None = None,
        **settings: Unpack[Keywords],
    ) -> GenerateOutput:
        """Continues prompts, greedily or by sampling. A setting that is None comes from
        `generation_config`, then from `self.generation_config`; see `docs/generation.md`.

        One program does prefill and decode loop; it is compiled for the shapes and choices of
        the first call and reused by the next one with the same. Temperature, top-p and the tokens
        that end a row may change without compiling again. Works under `jit`, `vmap` and
        `shard_map`, where values that only the running program knows are not checked. Outside of
        them it waits for its result, to see that all logits were finite. Params that a
        `device_map` has offloaded or spread are run in stages, a pass for each token.

        Args:
            input_ids: int [B, T].
            attention_mask: [B, T], nonzero for tokens; rows may be padded on either side. If None,
                `pad_token_id` is padding, unless it is an end-of-sequence token too.
            decoder_input_ids: int [B, U], what the decoder of an encoder-decoder has said already;
                `decoder_start_token_id` comes before it, unless a row begins with it, or the ids
                are traced.
            decoder_attention_mask: [B, U], nonzero for tokens; if None all are. Padding is moved to
                the left, and positions count places, as in Transformers.
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
            **settings: the keywords above, and settings of Transformers that change nothing, as
                `num_beams=1`.

        Raises:
            TypeError: the class cannot generate; a name that is no setting; ids that are no
                integers.
            ValueError: arguments out of range, a prompt that is no batch, or too long, ids that
                the vocabulary does not have; logits that are not finite, by row and step.
            NotImplementedError: a setting of Transformers that is not done yet.
            fp.CheckpointError: the processes of a run that hold the params together ask for
                different things, or one of them died.
        """
        task = task_of("generate", self, params, input_ids, attention_mask, {**settings})
        return _run(params, task)


def _run(params: Params, task: Task) -> GenerateOutput:
    """Runs the program; raises `ValueError` if it needs too much memory, or if logits are not
    finite."""
    batch, length = task.prompt.continued.ids.shape
    eager = not is_traced(params, task.prompt, task.draw)
    options = DecodeOptions(task.steps, task.choice, eager)
    ends = Ends.of(task.settings)
    check_memory(task.model, batch, length, task.steps)
    run = decode_in_stages if is_placed(params) else decode
    agreeing = together("generate", params, task) if eager else contextlib.nullcontext()
    with memory_named(batch, length, task.steps), agreeing:
        output, failure = run(task.model, options, params, task.prompt, task.draw, ends)
        if eager:
            wait_for(failure)
            check_finite(failure)
    return output

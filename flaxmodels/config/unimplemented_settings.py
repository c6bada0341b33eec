"""Settings of generation of Transformers 5.23 that `generate` does not implement yet.

A setting that would change the tokens is named: in a warning where a file has it, in an error where
a caller gives it. Its default changes nothing and may be given by anyone.
"""

import difflib
from collections.abc import Iterable, Mapping

from ..documents.json_values import ConfigError, Json, JsonObject, freeze, shown


def _each(names: str, values: tuple[Json, ...]) -> dict[str, tuple[Json, ...]]:
    return dict.fromkeys(names.split(), values)


CHANGE: Mapping[str, tuple[Json, ...]] = {
    **_each(
        "assistant_early_exit dola_layers exponential_decay_length_penalty max_time top_h "
        "watermarking_config",
        (),
    ),
    **_each(
        "bad_words_ids begin_suppress_tokens constraints force_words_ids stop_strings "
        "suppress_tokens",
        ((),),
    ),
    "cache_implementation": ("dynamic", "static", "hybrid"),
    **_each(
        "diversity_penalty encoder_no_repeat_ngram_size epsilon_cutoff eta_cutoff min_length "
        "min_new_tokens min_p no_repeat_ngram_size penalty_alpha",
        (0,),
    ),
    **_each(
        "early_stopping output_attentions output_hidden_states output_logits output_scores "
        "remove_invalid_values token_healing",
        (False,),
    ),
    **_each(
        "encoder_repetition_penalty guidance_scale length_penalty num_beam_groups num_beams "
        "num_return_sequences repetition_penalty typical_p",
        (1,),
    ),
    "sequence_bias": ({},),
}
"""Settings that change the tokens, or what is returned -> the values, beside None, that do not."""

KEEP: Mapping[str, tuple[Json, ...]] = {
    "assistant_confidence_threshold": (0.4,),
    **_each(
        "assistant_ensemble_weight cache_config compile_config continuous_batching_config "
        "max_cache_len prefill_chunk_size prompt_lookup_num_tokens speculation_type",
        (),
    ),
    **_each("assistant_lookbehind target_lookbehind", (10,)),
    **_each("disable_compile is_assistant low_memory use_mtp", (False,)),
    "max_matching_ngram_size": (2,),
    "num_assistant_tokens": (20,),
    "num_assistant_tokens_schedule": ("constant",),
    **_each("renormalize_logits return_dict_in_generate", (False, True)),
    "use_cache": (True,),
}
"""Settings of speed and memory, and of models of other kinds, which change no token: in a file all
values are fine. A caller may give the values here, and None."""

_BOOKKEEPING = frozenset({"_commit_hash", "_from_model_config", "transformers_version"})

_ARGUMENTS = frozenset(
    "assistant_model assistant_tokenizer cache custom_generate inputs_embeds logits_processor "
    "negative_prompt_attention_mask negative_prompt_ids past_key_values position_ids "
    "prefix_allowed_tokens_fn stopping_criteria streamer synced_gpus token_type_ids tokenizer "
    "use_model_defaults".split()
)
"""Arguments of Transformers' `generate` beside settings, which this one does not take."""

_INSTEAD = {
    "inputs": "input_ids=",
    "prng_key": "key=, a jax.random.key(seed)",
    "rng": "key=, a jax.random.key(seed)",
    "seed": "key=jax.random.key(seed)",
    "trace": "nothing: it is always compiled",
    "trust_remote_code": "nothing: no code of a checkpoint is run",
}


def is_setting(name: str) -> bool:
    """Tells whether Transformers has a setting of this name that is not done here."""
    return name in CHANGE or name in KEEP or name in _BOOKKEEPING


def not_done(values: JsonObject) -> dict[str, Json]:
    """Selects the settings of a file that would give other tokens than `generate` does."""
    return {
        name: value
        for name, value in values.items()
        if name in CHANGE and not _is_neutral(value, CHANGE[name])
    }


def neutral(owner: str, given: JsonObject, fields: Iterable[str]) -> dict[str, Json]:
    """Checks settings that a caller gives and that are no field: they must change nothing.

    Args:
        owner: what takes them, for errors.
        fields: the names that act.

    Returns:
        those that are not None.

    Raises:
        NotImplementedError: a setting, or an argument of Transformers' `generate`, that would
            change something.
        TypeError: a name that is none.
    """
    for name, value in given.items():
        same = CHANGE.get(name, KEEP.get(name))
        if same is None and name not in _ARGUMENTS and name not in _BOOKKEEPING:
            raise TypeError(f"{owner} has no {name!r}{_hint(name, fields)}")
        if name not in _BOOKKEEPING and not _is_neutral(value, same or (False,)):
            raise NotImplementedError(
                f"{owner}: {name} = {_text(value)} is not implemented yet; leave it out"
            )
    return {name: value for name, value in given.items() if value is not None and is_setting(name)}


def _is_neutral(value: Json, same: tuple[Json, ...]) -> bool:
    try:
        return value is None or freeze(value) in map(freeze, same)
    except ConfigError:  # an object of another library, an array under a transformation
        return False


def _hint(name: str, fields: Iterable[str]) -> str:
    if name in _INSTEAD:
        return f"; give {_INSTEAD[name]}"
    fields = [*fields]
    near = difflib.get_close_matches(name, [*fields, *CHANGE, *KEEP], 1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(fields)}"


def _text(value: Json) -> str:
    try:
        return shown(freeze(value))
    except ConfigError:
        return f"a {type(value).__name__}"

"""Settings of generation of Transformers 5.23 that `generate` does not implement yet."""

from collections.abc import Mapping

from .by_name import by_name

CHANGE: Mapping[str, tuple[object, ...]] = by_name(
    {
        (
            "assistant_early_exit dola_layers exponential_decay_length_penalty max_time top_h "
            "watermarking_config"
        ): (),
        (
            "bad_words_ids begin_suppress_tokens constraints force_words_ids stop_strings "
            "suppress_tokens"
        ): ((),),
        "cache_implementation": ("dynamic", "static", "hybrid"),
        (
            "diversity_penalty encoder_no_repeat_ngram_size epsilon_cutoff eta_cutoff min_length "
            "min_new_tokens min_p no_repeat_ngram_size penalty_alpha"
        ): (0,),
        (
            "early_stopping output_attentions output_hidden_states output_logits output_scores "
            "remove_invalid_values token_healing"
        ): (False,),
        (
            "encoder_repetition_penalty guidance_scale length_penalty num_beam_groups num_beams "
            "num_return_sequences repetition_penalty typical_p"
        ): (1,),
        "sequence_bias": ({},),
    }
)
"""Settings that change the tokens, or what is returned -> the values, beside None, that do not."""

KEEP: Mapping[str, tuple[object, ...]] = by_name(
    {
        "assistant_confidence_threshold": (0.4,),
        (
            "assistant_ensemble_weight cache_config compile_config continuous_batching_config "
            "max_cache_len prefill_chunk_size prompt_lookup_num_tokens speculation_type"
        ): (),
        "assistant_lookbehind target_lookbehind": (10,),
        "disable_compile is_assistant low_memory use_mtp": (False,),
        "max_matching_ngram_size": (2,),
        "num_assistant_tokens": (20,),
        "num_assistant_tokens_schedule": ("constant",),
        "renormalize_logits return_dict_in_generate": (False, True),
        "use_cache": (True,),
    }
)
"""Settings of speed and memory, and of models of other kinds, which change no token: in a file all
values are fine. A caller may give the values here, and None."""

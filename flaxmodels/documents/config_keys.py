"""Keys of `config.json` that are no field of a family: which change nothing, which a caller may
give, and what to write instead of the others."""

import difflib
from collections.abc import Collection

from ..calls import keyword_table
from .json_values import Json
from .remote_code import CODE

NOTES = keyword_table.NOTES.union(
    "_commit_hash _name_or_path architectures layer_types model_tags n_ctx "
    "summary_type transformers_version unk_token_id".split()
)
"""Keys that act by being written into `config.json`."""

QUANTISED = "quantization_config"

_DTYPE = (
    "save_pretrained writes the dtype of the weights; what they are loaded as is param_dtype= of "
    "from_pretrained"
)
INSTEAD = {
    "dtype": _DTYPE,
    "torch_dtype": _DTYPE,
    "attn_implementation": "it is a field of the model; give it to from_pretrained or to its class",
    "gradient_checkpointing": "it is remat= of the model",
}
"""Keys that a caller gives to the model, and not to its configuration -> what to write."""

HARMLESS = NOTES.union(
    CODE,
    keyword_table.CONFIGURED,
    INSTEAD,
    "_attn_implementation_autoset bad_words_ids begin_suppress_tokens cache_implementation "
    "decoder_start_token_id directionality diversity_penalty do_sample early_stopping "
    "encoder_no_repeat_ngram_size "
    "exponential_decay_length_penalty forced_bos_token_id forced_eos_token_id length_penalty "
    "max_length min_length mlm_probability model_type no_repeat_ngram_size num_beam_groups "
    "num_beams num_return_sequences output_scores pooler_fc_size pooler_num_attention_heads "
    "pooler_num_fc_layers pooler_size_per_head pooler_type remove_invalid_values "
    "repetition_penalty return_dict_in_generate summary_activation summary_first_dropout "
    "summary_proj_to_labels summary_use_proj suppress_tokens temperature top_k top_p "
    "typical_p".split(),
)
"""Keys of every Transformers configuration that change nothing in a forward pass: a file's are
kept, written back, and not worth a warning."""


def refusal(cls: str, key: str, value: Json, names: Collection[str]) -> TypeError | None:
    """Makes the error for a caller's key that would have no effect; returns None for a note, and
    for a value that asks for what happens anyway.

    Args:
        names: of what the class takes.
    """
    if key in NOTES or (value is None and key in HARMLESS):
        return None
    keyword = keyword_table.KEYWORDS.get(key)
    if keyword is not None and any(type(value) is type(f) and value == f for f in keyword.fine):
        return None
    if use := INSTEAD.get(key) or (keyword and keyword.use):
        use = use.replace("{cls}", cls).replace("{name}", key)
        return TypeError(f"{cls} does not take {key}: {use}")
    if key in HARMLESS:
        return TypeError(f"{cls} does not take {key}: it changes nothing here; leave it out")
    near = difflib.get_close_matches(key, names, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(sorted(names))}"
    return TypeError(
        f"{cls} has no field {key!r}: {hint} (a whole config.json is read by from_dict, and notes "
        "of your own go into extra=)"
    )

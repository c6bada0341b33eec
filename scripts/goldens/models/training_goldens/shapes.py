"""Tiny configurations of both libraries' golden losses: `losses.py`, `tf.py`."""

from typing import Any

B, T, V = 3, 6, 24
"""Rows, tokens, words of the vocabulary."""
ENCODER = {
    "vocab_size": V,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "max_position_embeddings": 16,
}
ALBERT = ENCODER | {"embedding_size": 8}
BART = {
    "vocab_size": V,
    "d_model": 8,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 8,
    "decoder_ffn_dim": 8,
    "max_position_embeddings": 16,
    "pad_token_id": 0,
    "decoder_start_token_id": 2,
    "eos_token_id": 2,
}
CONFIGS = {
    "Albert": ALBERT,
    "Bart": BART,
    "Electra": ALBERT,
    "GPT2": {"vocab_size": V, "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 16},
    "MBart": BART,
    "T5": {
        "vocab_size": V,
        "d_model": 8,
        "d_kv": 4,
        "d_ff": 8,
        "num_layers": 1,
        "num_heads": 2,
        "pad_token_id": 0,
        "decoder_start_token_id": 0,
        "eos_token_id": 1,
    },
}


def config_of(head: str) -> dict[str, Any]:
    """Returns the configuration of a class, by what its name begins with; an encoder's if none."""
    return next((c for prefix, c in CONFIGS.items() if head.startswith(prefix)), ENCODER)

"""Phi 3 and 4: fused projections, longrope, a part of each head turns."""

CONFIG = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "initializer_range": 0.05,
    "rms_norm_eps": 3e-3,
    "sliding_window": 5,
    "pad_token_id": 0,
}
CLASSES = {
    "Phi3Model": "AutoModel",
    "Phi3ForCausalLM": "AutoModelForCausalLM",
    "Phi3ForSequenceClassification": "AutoModelForSequenceClassification",
    "Phi3ForTokenClassification": "AutoModelForTokenClassification",
}
VARIANTS = {
    "no-window": {"sliding_window": None},
    "tied": {"tie_word_embeddings": True},
    "long": {
        "original_max_position_embeddings": 8,
        "rope_scaling": {
            "type": "longrope",
            "short_factor": [1.0, 1.1, 1.2, 1.3],
            "long_factor": [1.0, 1.5, 2.0, 4.0],
        },
    },
    "short-partial": {
        "partial_rotary_factor": 0.75,
        "original_max_position_embeddings": 16,
        "rope_scaling": {
            "type": "longrope",
            "short_factor": [1.0, 1.1, 1.3],
            "long_factor": [1.0, 1.5, 4.0],
        },
    },
}
_LONG = VARIANTS["long"]
WALK = {
    name: (None, _LONG) for name in ("max_position_embeddings", "original_max_position_embeddings")
}

"""OLMo 3: OLMo 2 with three windows to one full layer; only full layers are rescaled."""

CONFIG = {
    "hidden_size": 24,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "initializer_range": 0.05,
    "rms_norm_eps": 3e-3,
    "sliding_window": 5,
    "rope_parameters": {
        "full_attention": {
            "rope_type": "yarn",
            "rope_theta": 500.0,
            "factor": 4.0,
            "original_max_position_embeddings": 16,
        },
        "sliding_attention": {"rope_type": "default", "rope_theta": 500.0},
    },
}
CLASSES = {
    "Olmo3Model": "AutoModel",
    "Olmo3ForCausalLM": "AutoModelForCausalLM",
    "Olmo3ForSequenceClassification": "AutoModelForSequenceClassification",
}
VARIANTS = {
    "biases": {"attention_bias": True, "tie_word_embeddings": True, "num_hidden_layers": 2},
    "old-keys": {
        "rope_parameters": None,
        "rope_theta": 500.0,
        "rope_scaling": {
            "rope_type": "yarn",
            "factor": 8.0,
            "original_max_position_embeddings": 16,
        },
    },
    "all-windows": {"layer_types": ["sliding_attention"] * 2, "num_hidden_layers": 2},
}
_ROPES = {"full_attention": {"rope_type": "dynamic", "factor": 2.0}}
WALK = {"max_position_embeddings": ([5], {"rope_parameters": _ROPES})}
UNREAD = {"classifier_dropout": "of token classification, which the family has not"}

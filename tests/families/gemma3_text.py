"""Gemma 3: norms on queries and keys, five windows to one full layer, a rotation for each."""

STANDS_FOR = "windows and full layers, a rotation for each"
CONFIG = {
    "hidden_size": 24,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "initializer_range": 0.05,
    "rms_norm_eps": 3e-3,
    "head_dim": 10,
    "query_pre_attn_scalar": 14,
    "sliding_window": 5,
    "rope_parameters": {
        "full_attention": {"rope_type": "linear", "rope_theta": 5000.0, "factor": 4.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
    },
}
CLASSES = {
    "Gemma3TextModel": "AutoModel",
    "Gemma3ForCausalLM": "AutoModelForCausalLM",
    "Gemma3TextForSequenceClassification": "AutoModelForSequenceClassification",
}
VARIANTS = {
    "two-way": {"use_bidirectional_attention": True, "sliding_window": 8, "num_hidden_layers": 3}
    | {"sliding_window_pattern": 2},
    "cap": {"final_logit_softcapping": 3.0, "num_hidden_layers": 2},
    "biases": {"attention_bias": True, "num_hidden_layers": 2},
    "old-keys": {
        "rope_parameters": None,
        "rope_theta": 5000.0,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        "rope_local_base_freq": 50.0,
        "sliding_window_pattern": 2,
        "num_hidden_layers": 3,
    },
}
_ROPES = {"full_attention": {"rope_type": "dynamic", "factor": 2.0}}
_FULL = {"sliding_window_pattern": 1}  # so that the one layer of a short walk is
WALK = {
    "max_position_embeddings": ([5], {"rope_parameters": _ROPES} | _FULL),
    "sliding_window_pattern": ([1], {}),
}
UNREAD = {"classifier_dropout": "of token classification, which the family has not"}

"""SmolLM 3: Llama where every fourth layer does not turn."""

CONFIG = {
    "hidden_size": 24,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "initializer_range": 0.05,
    "rms_norm_eps": 3e-3,
}
CLASSES = {
    "SmolLM3Model": "AutoModel",
    "SmolLM3ForCausalLM": "AutoModelForCausalLM",
    "SmolLM3ForSequenceClassification": "AutoModelForSequenceClassification",
    "SmolLM3ForTokenClassification": "AutoModelForTokenClassification",
    "SmolLM3ForQuestionAnswering": "AutoModelForQuestionAnswering",
}
windowed = {"use_sliding_window": True, "sliding_window": 5}
VARIANTS = {
    "biases": {"attention_bias": True, "mlp_bias": True, "num_hidden_layers": 2},
    "untied": {"tie_word_embeddings": False, "num_hidden_layers": 2},
    "listed": {"no_rope_layers": [0, 1, 1], "num_hidden_layers": 3},
    "interval": {"no_rope_layer_interval": 2, "num_hidden_layers": 3},
    "windows": windowed,
}
WALK = {
    "no_rope_layers": ([(0, 1, 1, 0, 1)], {}),
    "use_sliding_window": (None, {"sliding_window": 5}),
    "sliding_window": ([6], {"use_sliding_window": True, "sliding_window": 5}),
}
WALK = dict.fromkeys(("layer_types", "sliding_window", "use_sliding_window"), (None, windowed))
WALK |= {"no_rope_layers": ([(0, 1, 1, 1, 0)], {})}

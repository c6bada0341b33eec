"""Qwen 2: biases on queries, keys and values; windows on the later layers, if on any."""

CONFIG = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "initializer_range": 0.05,
    "rms_norm_eps": 3e-3,
}
CLASSES = {
    "Qwen2Model": "AutoModel",
    "Qwen2ForCausalLM": "AutoModelForCausalLM",
    "Qwen2ForSequenceClassification": "AutoModelForSequenceClassification",
    "Qwen2ForTokenClassification": "AutoModelForTokenClassification",
    "Qwen2ForQuestionAnswering": "AutoModelForQuestionAnswering",
}
windowed = {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}
VARIANTS = {
    "windows": windowed,
    "unused-window": {"use_sliding_window": False, "sliding_window": 5, "max_window_layers": 1},
    "tied": {"tie_word_embeddings": True},
    "yarn": {
        "rope_theta": 500.0,
        "rope_scaling": {
            "type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 16,
        },
    },
}
WALK = dict.fromkeys(
    ("layer_types", "max_window_layers", "sliding_window", "use_sliding_window"), (None, windowed)
)

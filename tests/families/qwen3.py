"""Qwen 3: RMSNorm over each head of queries and keys, heads of any width."""

CONFIG = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "initializer_range": 0.05,
    "rms_norm_eps": 3e-3,
    "head_dim": 10,
}
CLASSES = {
    "Qwen3Model": "AutoModel",
    "Qwen3ForCausalLM": "AutoModelForCausalLM",
    "Qwen3ForSequenceClassification": "AutoModelForSequenceClassification",
    "Qwen3ForTokenClassification": "AutoModelForTokenClassification",
    "Qwen3ForQuestionAnswering": "AutoModelForQuestionAnswering",
}
windowed = {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}
VARIANTS = {
    "biases": {"attention_bias": True},
    "windows": windowed,
    "tied": {"tie_word_embeddings": True},
}
WALK = dict.fromkeys(
    ("layer_types", "max_window_layers", "sliding_window", "use_sliding_window"), (None, windowed)
)

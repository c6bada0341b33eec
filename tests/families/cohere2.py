"""Cohere 2: Cohere with three windows, which turn, to one full layer, which does not."""

CONFIG = {
    "hidden_size": 24,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "initializer_range": 0.05,
    "layer_norm_eps": 3e-3,
    "logit_scale": 0.3,
    "sliding_window": 5,
}
CLASSES = {
    "Cohere2Model": "AutoModel",
    "Cohere2ForCausalLM": "AutoModelForCausalLM",
}
VARIANTS = {
    "biases": {"attention_bias": True, "num_hidden_layers": 2},
    "old-keys": {"sliding_window_pattern": 2, "num_hidden_layers": 3},
    "untied": {"tie_word_embeddings": False, "num_hidden_layers": 2},
}
UNREAD = dict.fromkeys(("classifier_dropout", "num_labels"), "of heads that the family has not")

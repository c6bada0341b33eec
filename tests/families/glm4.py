"""GLM 4: norms around the branches, pairs of half a head turn, gate and up fused."""

CONFIG = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "initializer_range": 0.05,
    "rms_norm_eps": 3e-3,
    "head_dim": 12,
}
CLASSES = {
    "Glm4Model": "AutoModel",
    "Glm4ForCausalLM": "AutoModelForCausalLM",
    "Glm4ForSequenceClassification": "AutoModelForSequenceClassification",
    "Glm4ForTokenClassification": "AutoModelForTokenClassification",
}
VARIANTS = {
    "no-biases": {"attention_bias": False},
    "whole": {"partial_rotary_factor": 1.0},
    "tied": {"tie_word_embeddings": True},
}

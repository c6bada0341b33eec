"""Phi 1 to 2: one LayerNorm a layer, parallel branches, half of each head turns, biases."""

CONFIG = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "initializer_range": 0.05,
    "layer_norm_eps": 3e-3,
}
CLASSES = {
    "PhiModel": "AutoModel",
    "PhiForCausalLM": "AutoModelForCausalLM",
    "PhiForSequenceClassification": "AutoModelForSequenceClassification",
    "PhiForTokenClassification": "AutoModelForTokenClassification",
}
VARIANTS = {
    "grouped": {"num_key_value_heads": 2},
    "head-norms": {"qk_layernorm": True},
    "quarter": {"partial_rotary_factor": 0.25},
    "tied": {"tie_word_embeddings": True},
}

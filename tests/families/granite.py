"""Granite: Llama with four multipliers."""

CONFIG = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "initializer_range": 0.05,
    "rms_norm_eps": 3e-3,
    "embedding_multiplier": 3.0,
    "logits_scaling": 1.7,
    "residual_multiplier": 0.6,
    "attention_multiplier": 0.3,
}
CLASSES = {
    "GraniteModel": "AutoModel",
    "GraniteForCausalLM": "AutoModelForCausalLM",
}
VARIANTS = {
    "biases": {"attention_bias": True, "mlp_bias": True},
    "tied": {"tie_word_embeddings": True},
}
UNREAD = dict.fromkeys(("classifier_dropout", "num_labels"), "no class of the family has labels")

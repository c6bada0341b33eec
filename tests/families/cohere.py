"""Cohere: one LayerNorm without bias, parallel branches, pairs turn, logits scaled."""

CONFIG = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "initializer_range": 0.05,
    "layer_norm_eps": 3e-3,
    "logit_scale": 0.3,
}
CLASSES = {
    "CohereModel": "AutoModel",
    "CohereForCausalLM": "AutoModelForCausalLM",
}
VARIANTS = {
    "head-norms": {"use_qk_norm": True},
    "biases": {"attention_bias": True},
    "untied": {"tie_word_embeddings": False},
}
UNREAD = dict.fromkeys(("classifier_dropout", "num_labels"), "of heads that the family has not")

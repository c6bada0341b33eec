"""BLOOM: ALiBi from the places of tokens, a norm on embeddings, fused (head; q, k, v)."""

CONFIG = {
    "hidden_size": 24,
    "n_layer": 3,
    "n_head": 4,
    "initializer_range": 0.05,
    "layer_norm_epsilon": 3e-3,
}
CLASSES = {
    "BloomModel": "AutoModel",
    "BloomForCausalLM": "AutoModelForCausalLM",
    "BloomForSequenceClassification": "AutoModelForSequenceClassification",
    "BloomForTokenClassification": "AutoModelForTokenClassification",
    "BloomForQuestionAnswering": "AutoModelForQuestionAnswering",
}
VARIANTS = {
    "post-norm-residual": {"apply_residual_connection_post_layernorm": True},
    "six-heads": {"n_head": 6},
    "untied": {"tie_word_embeddings": False},
}
TAKES_POSITIONS = False  # it has none but the distances of ALiBi

"""Gemma: norms times 1 + weight, embeddings times sqrt(D), gated GELU, tied."""

CONFIG = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "initializer_range": 0.05,
    "rms_norm_eps": 3e-3,
    "head_dim": 10,
}
CLASSES = {
    "GemmaModel": "AutoModel",
    "GemmaForCausalLM": "AutoModelForCausalLM",
    "GemmaForSequenceClassification": "AutoModelForSequenceClassification",
    "GemmaForTokenClassification": "AutoModelForTokenClassification",
}
VARIANTS = {
    "biases": {"attention_bias": True},
    "untied": {"tie_word_embeddings": False},
    "old-gelu": {"hidden_act": "gelu"},
}
# `use_bidirectional_attention` is no variant: the reference heeds it in batches without padding and
# with `sdpa`, and nowhere else; no published checkpoint has it.

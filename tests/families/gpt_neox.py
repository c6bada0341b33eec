"""GPT-NeoX: fused (head; q, k, v), parallel branches with a norm each, a quarter turns."""

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
    "GPTNeoXModel": "AutoModel",
    "GPTNeoXForCausalLM": "AutoModelForCausalLM",
    "GPTNeoXForSequenceClassification": "AutoModelForSequenceClassification",
    "GPTNeoXForTokenClassification": "AutoModelForTokenClassification",
    "GPTNeoXForQuestionAnswering": "AutoModelForQuestionAnswering",
}
VARIANTS = {
    "sequential": {"use_parallel_residual": False},
    "no-biases": {"attention_bias": False},
    "old-keys": {"rotary_pct": 0.5, "rotary_emb_base": 500},
    "tied": {"tie_word_embeddings": True},
}
WALK = {
    "rope_parameters": (None, {"rotary_pct": 0.5}),
    "max_position_embeddings": (
        [5],
        {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "partial_rotary_factor": 1.0}},
    ),
}

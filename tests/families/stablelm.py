"""StableLM: LayerNorm, a quarter of each head turns; norms on heads, parallel branches."""

CONFIG = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "initializer_range": 0.05,
    "layer_norm_eps": 3e-3,
}
CLASSES = {
    "StableLmModel": "AutoModel",
    "StableLmForCausalLM": "AutoModelForCausalLM",
    "StableLmForSequenceClassification": "AutoModelForSequenceClassification",
    "StableLmForTokenClassification": "AutoModelForTokenClassification",
}
VARIANTS = {
    "head-norms": {"qk_layernorm": True},
    "parallel": {"use_parallel_residual": True},
    "stablelm-2-12b": {"qk_layernorm": True, "use_parallel_residual": True},
    "biases": {"use_qkv_bias": True},
    "half": {"partial_rotary_factor": 0.5, "tie_word_embeddings": True},
}
_DYNAMIC = {"rope_type": "dynamic", "factor": 2.0, "partial_rotary_factor": 0.5}
_HALF = {"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.5}
WALK = {
    "max_position_embeddings": ([5], {"rope_parameters": _DYNAMIC}),
    "rope_parameters": ([_HALF], {}),  # the quarter that turns has one frequency, which is 1
}

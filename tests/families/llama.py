"""Llama: RMSNorm before each sublayer, rotary grouped-query attention, SwiGLU."""

STANDS_FOR = "pre-norm with RMSNorm, rotary grouped queries, gated MLP"
CONFIG = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "initializer_range": 0.05,
    "rms_norm_eps": 3e-3,
}
CLASSES = {
    "LlamaModel": "AutoModel",
    "LlamaForCausalLM": "AutoModelForCausalLM",
    "LlamaForSequenceClassification": "AutoModelForSequenceClassification",
    "LlamaForTokenClassification": "AutoModelForTokenClassification",
    "LlamaForQuestionAnswering": "AutoModelForQuestionAnswering",
}
VARIANTS = {
    "biases": {"attention_bias": True, "mlp_bias": True},
    "wide-heads": {"head_dim": 16},
    "tied": {"tie_word_embeddings": True},
    "llama3": {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 500.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        }
    },
}

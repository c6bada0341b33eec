"""Ministral 3: queries grow with the logarithm of the position; yarn."""

CONFIG = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "initializer_range": 0.05,
    "rms_norm_eps": 3e-3,
    "head_dim": 10,
    "rope_parameters": {
        "rope_type": "yarn",
        "rope_theta": 1000.0,
        "factor": 4.0,
        "original_max_position_embeddings": 4,
        "beta_fast": 16.0,
        "beta_slow": 0.5,
        "mscale": 0.7,
        "mscale_all_dim": 1.3,
        "llama_4_scaling_beta": 0.3,
    },
}
CLASSES = {
    "Ministral3Model": "AutoModel",
    "Ministral3ForCausalLM": "AutoModelForCausalLM",
    "Ministral3ForSequenceClassification": "AutoModelForSequenceClassification",
    "Ministral3ForTokenClassification": "AutoModelForTokenClassification",
    "Ministral3ForQuestionAnswering": "AutoModelForQuestionAnswering",
}
VARIANTS = {
    "window": {"sliding_window": 5},
    "tied": {"tie_word_embeddings": True},
}

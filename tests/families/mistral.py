"""Mistral: Llama with heads of any width, and a window on every layer."""

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
    "sliding_window": 5,
}
CLASSES = {
    "MistralModel": "AutoModel",
    "MistralForCausalLM": "AutoModelForCausalLM",
    "MistralForSequenceClassification": "AutoModelForSequenceClassification",
    "MistralForTokenClassification": "AutoModelForTokenClassification",
    "MistralForQuestionAnswering": "AutoModelForQuestionAnswering",
}
VARIANTS = {
    "no-window": {"sliding_window": None},
    "head-dim-from-width": {"head_dim": None},
    "tied": {"tie_word_embeddings": True},
}

"""StarCoder 2: LayerNorm, a plain MLP, biases everywhere, tied."""

CONFIG = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "initializer_range": 0.05,
    "norm_epsilon": 3e-3,
    "sliding_window": 5,
}
CLASSES = {
    "Starcoder2Model": "AutoModel",
    "Starcoder2ForCausalLM": "AutoModelForCausalLM",
    "Starcoder2ForSequenceClassification": "AutoModelForSequenceClassification",
    "Starcoder2ForTokenClassification": "AutoModelForTokenClassification",
}
VARIANTS = {
    "no-biases": {"use_bias": False},
    "no-window": {"sliding_window": None},
    "untied": {"tie_word_embeddings": False},
}

"""OLMo 2: norms after the branches, and over all heads of queries and of keys."""

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
    "Olmo2Model": "AutoModel",
    "Olmo2ForCausalLM": "AutoModelForCausalLM",
    "Olmo2ForSequenceClassification": "AutoModelForSequenceClassification",
}
VARIANTS = {
    "biases": {"attention_bias": True},
    "tied": {"tie_word_embeddings": True},
}
UNREAD = {"classifier_dropout": "of token classification, which the family has not"}

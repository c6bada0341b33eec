"""GTE: post-norm, rotary, a gated MLP, biases but for its first product."""

STANDS_FOR = "post-norm, rotary, gated MLP"
CONFIG = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "initializer_range": 0.05,
    "layer_norm_eps": 3e-3,
    "type_vocab_size": 3,
}
CLASSES = {
    "GteModel": "AutoModel",
    "GteForMaskedLM": "AutoModelForMaskedLM",
    "GteForSequenceClassification": "AutoModelForSequenceClassification",
    "GteForTokenClassification": "AutoModelForTokenClassification",
}
VARIANTS = {"untied": {"tie_word_embeddings": False}}
ENCODES = True

"""Nomic BERT: post-norm, rotary, a gated MLP, biases in norms alone."""

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
    "NomicBertModel": "AutoModel",
    "NomicBertForMaskedLM": "AutoModelForMaskedLM",
    "NomicBertForSequenceClassification": "AutoModelForSequenceClassification",
    "NomicBertForTokenClassification": "AutoModelForTokenClassification",
}
VARIANTS = {"wide-heads": {"head_dim": 10}}
ENCODES = True
SAME = {"cls.predictions.bias": "cls.predictions.decoder.bias"}

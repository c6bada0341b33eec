"""DistilBERT: no token types, no pooler, and names of its own."""

CONFIG = {
    "dim": 24,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 40,
    "max_position_embeddings": 64,
    "initializer_range": 0.05,
}
CLASSES = {
    "DistilBertModel": "AutoModel",
    "DistilBertForMaskedLM": "AutoModelForMaskedLM",
    "DistilBertForSequenceClassification": "AutoModelForSequenceClassification",
    "DistilBertForTokenClassification": "AutoModelForTokenClassification",
    "DistilBertForQuestionAnswering": "AutoModelForQuestionAnswering",
    "DistilBertForMultipleChoice": "AutoModelForMultipleChoice",
}
VARIANTS = {
    "untied": {"tie_word_embeddings": False},
    "relu": {"activation": "relu"},
}
CHANGED = {
    "DistilBertForQuestionAnswering": {"num_labels": 2},
}
ENCODES = True

"""ALBERT: layers that share params in groups, and embeddings of their own width."""

STANDS_FOR = "layers that share params, embeddings of their own width"
CONFIG = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "initializer_range": 0.05,
    "layer_norm_eps": 3e-3,
    "type_vocab_size": 3,
    "embedding_size": 12,
}
CLASSES = {
    "AlbertModel": "AutoModel",
    "AlbertForPreTraining": "AutoModelForPreTraining",
    "AlbertForMaskedLM": "AutoModelForMaskedLM",
    "AlbertForSequenceClassification": "AutoModelForSequenceClassification",
    "AlbertForTokenClassification": "AutoModelForTokenClassification",
    "AlbertForQuestionAnswering": "AutoModelForQuestionAnswering",
    "AlbertForMultipleChoice": "AutoModelForMultipleChoice",
}
VARIANTS = {
    "untied": {"tie_word_embeddings": False},
    "groups": {"num_hidden_groups": 2, "inner_group_num": 2},
}
CHANGED = {
    "AlbertForQuestionAnswering": {"num_labels": 2},
}
ENCODES = True
SAME = {"predictions.bias": "predictions.decoder.bias"}

"""MPNet: a bias for distances that all layers share."""

CONFIG = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "initializer_range": 0.05,
    "layer_norm_eps": 3e-3,
    "pad_token_id": 1,
    "bos_token_id": 0,
}
CLASSES = {
    "MPNetModel": "AutoModel",
    "MPNetForMaskedLM": "AutoModelForMaskedLM",
    "MPNetForSequenceClassification": "AutoModelForSequenceClassification",
    "MPNetForTokenClassification": "AutoModelForTokenClassification",
    "MPNetForQuestionAnswering": "AutoModelForQuestionAnswering",
    "MPNetForMultipleChoice": "AutoModelForMultipleChoice",
}
VARIANTS = {
    "untied": {"tie_word_embeddings": False},
    "relu": {"hidden_act": "relu"},
}
CHANGED = {
    "MPNetForQuestionAnswering": {"num_labels": 2},
}
ENCODES = True
SAME = {"lm_head.bias": "lm_head.decoder.bias"}
UNREAD = {"pad_token_id": "the reference has padding at 1, whatever it is"}

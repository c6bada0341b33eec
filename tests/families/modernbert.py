"""ModernBERT: pre-norm without biases, windows on both sides in two of three layers, gated MLP."""

STANDS_FOR = "pre-norm, unnormed first layer, windows on both sides"
CONFIG = {
    "hidden_size": 24,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "initializer_range": 0.05,
    "norm_eps": 3e-3,
    "local_attention": 7,
}
CLASSES = {
    "ModernBertModel": "AutoModel",
    "ModernBertForMaskedLM": "AutoModelForMaskedLM",
    "ModernBertForSequenceClassification": "AutoModelForSequenceClassification",
    "ModernBertForTokenClassification": "AutoModelForTokenClassification",
    "ModernBertForQuestionAnswering": "AutoModelForQuestionAnswering",
    "ModernBertForMultipleChoice": "AutoModelForMultipleChoice",
}
VARIANTS = {
    "biases": {
        "attention_bias": True,
        "mlp_bias": True,
        "norm_bias": True,
        "classifier_bias": True,
        "decoder_bias": False,
    },
    "untied": {"tie_word_embeddings": False},
    "every-second": {"global_attn_every_n_layers": 2, "classifier_activation": "relu"},
}
CHANGED = {
    "ModernBertForSequenceClassification": {"classifier_pooling": "mean"},
    "ModernBertForQuestionAnswering": {"num_labels": 2},
}
ENCODES = True
_ROPES = {"full_attention": {"rope_type": "dynamic", "factor": 2.0}}
WALK = {
    "classifier_pooling": (["cls"], {}),
    "max_position_embeddings": ([5], {"rope_parameters": _ROPES}),
    "global_attn_every_n_layers": ([1], {"num_hidden_layers": 2}),
    "local_attention": (None, {"num_hidden_layers": 2}),
}

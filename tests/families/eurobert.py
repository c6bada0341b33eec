"""EuroBERT: Llama that attends both ways; three ways of pooling."""

CONFIG = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "initializer_range": 0.05,
    "rms_norm_eps": 3e-3,
    "rope_parameters": {"rope_type": "default", "rope_theta": 250000.0},
}
CLASSES = {
    "EuroBertModel": "AutoModel",
    "EuroBertForMaskedLM": "AutoModelForMaskedLM",
    "EuroBertForSequenceClassification": "AutoModelForSequenceClassification",
    "EuroBertForTokenClassification": "AutoModelForTokenClassification",
}
VARIANTS = {
    "biases": {"attention_bias": True, "mlp_bias": True},
}
ENCODES = True
WALK = {"classifier_pooling": (["mean"], {})}
UNREAD = {"classifier_dropout": "the reference drops nothing before its classifiers"}

"""ELECTRA: embeddings of their own width, and a discriminator."""

CONFIG = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "initializer_range": 0.05,
    "layer_norm_eps": 3e-3,
    "type_vocab_size": 3,
    "embedding_size": 12,
}
CLASSES = {
    "ElectraModel": "AutoModel",
    "ElectraForMaskedLM": "AutoModelForMaskedLM",
    "ElectraForCausalLM": "AutoModelForCausalLM",
    "ElectraForPreTraining": "AutoModelForPreTraining",
    "ElectraForSequenceClassification": "AutoModelForSequenceClassification",
    "ElectraForTokenClassification": "AutoModelForTokenClassification",
    "ElectraForQuestionAnswering": "AutoModelForQuestionAnswering",
    "ElectraForMultipleChoice": "AutoModelForMultipleChoice",
}
VARIANTS = {
    "untied": {"tie_word_embeddings": False},
    "same-width": {"embedding_size": 24},
    "cross": {"add_cross_attention": True},
}
CHANGED = {
    "ElectraForCausalLM": {"is_decoder": True},
    "ElectraForQuestionAnswering": {"num_labels": 2},
}
ENCODES = True
WALK = {"summary_type": (["mean"], {})}

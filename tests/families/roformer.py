"""RoFormer: rotary positions of neighbouring numbers."""

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
    "RoFormerModel": "AutoModel",
    "RoFormerForMaskedLM": "AutoModelForMaskedLM",
    "RoFormerForCausalLM": "AutoModelForCausalLM",
    "RoFormerForSequenceClassification": "AutoModelForSequenceClassification",
    "RoFormerForTokenClassification": "AutoModelForTokenClassification",
    "RoFormerForQuestionAnswering": "AutoModelForQuestionAnswering",
    "RoFormerForMultipleChoice": "AutoModelForMultipleChoice",
}
VARIANTS = {
    "untied": {"tie_word_embeddings": False},
    "values": {"rotary_value": True},
    "same-width": {"embedding_size": 24},
    "cross": {"add_cross_attention": True},
}
CHANGED = {
    "RoFormerForCausalLM": {"is_decoder": True},
    "RoFormerForQuestionAnswering": {"num_labels": 2},
}
ENCODES = True
SAME = {"cls.predictions.bias": "cls.predictions.decoder.bias"}
COMPUTED = ("embed_positions.weight",)

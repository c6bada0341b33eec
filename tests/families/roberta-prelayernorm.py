"""RoBERTa-PreLayerNorm: norms before attention and MLP, and one at the end."""

CONFIG = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "initializer_range": 0.05,
    "layer_norm_eps": 3e-3,
    "type_vocab_size": 3,
    "pad_token_id": 1,
    "bos_token_id": 0,
}
CLASSES = {
    "RobertaPreLayerNormModel": "AutoModel",
    "RobertaPreLayerNormForMaskedLM": "AutoModelForMaskedLM",
    "RobertaPreLayerNormForCausalLM": "AutoModelForCausalLM",
    "RobertaPreLayerNormForSequenceClassification": "AutoModelForSequenceClassification",
    "RobertaPreLayerNormForTokenClassification": "AutoModelForTokenClassification",
    "RobertaPreLayerNormForQuestionAnswering": "AutoModelForQuestionAnswering",
    "RobertaPreLayerNormForMultipleChoice": "AutoModelForMultipleChoice",
}
VARIANTS = {
    "untied": {"tie_word_embeddings": False},
    "cross": {"add_cross_attention": True},
}
CHANGED = {
    "RobertaPreLayerNormForCausalLM": {"is_decoder": True},
    "RobertaPreLayerNormForQuestionAnswering": {"num_labels": 2},
}
ENCODES = True
FIRST_POSITION = 2
SAME = {"lm_head.bias": "lm_head.decoder.bias"}

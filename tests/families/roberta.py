"""RoBERTa: BERT whose positions begin after that of padding."""

STANDS_FOR = "positions counted from the ids that are not padding"
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
    "RobertaModel": "AutoModel",
    "RobertaForMaskedLM": "AutoModelForMaskedLM",
    "RobertaForCausalLM": "AutoModelForCausalLM",
    "RobertaForSequenceClassification": "AutoModelForSequenceClassification",
    "RobertaForTokenClassification": "AutoModelForTokenClassification",
    "RobertaForQuestionAnswering": "AutoModelForQuestionAnswering",
    "RobertaForMultipleChoice": "AutoModelForMultipleChoice",
}
VARIANTS = {
    "untied": {"tie_word_embeddings": False},
    "relu": {"hidden_act": "relu"},
    "cross": {"add_cross_attention": True},
}
CHANGED = {
    "RobertaForCausalLM": {"is_decoder": True},
    "RobertaForQuestionAnswering": {"num_labels": 2},
}
ENCODES = True
FIRST_POSITION = 2
SAME = {"lm_head.bias": "lm_head.decoder.bias"}

"""XLM-RoBERTa: RoBERTa under another name."""

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
    "XLMRobertaModel": "AutoModel",
    "XLMRobertaForMaskedLM": "AutoModelForMaskedLM",
    "XLMRobertaForCausalLM": "AutoModelForCausalLM",
    "XLMRobertaForSequenceClassification": "AutoModelForSequenceClassification",
    "XLMRobertaForTokenClassification": "AutoModelForTokenClassification",
    "XLMRobertaForQuestionAnswering": "AutoModelForQuestionAnswering",
    "XLMRobertaForMultipleChoice": "AutoModelForMultipleChoice",
}
VARIANTS = {
    "untied": {"tie_word_embeddings": False},
}
CHANGED = {
    "XLMRobertaForCausalLM": {"is_decoder": True},
    "XLMRobertaForQuestionAnswering": {"num_labels": 2},
}
ENCODES = True
FIRST_POSITION = 2
SAME = {"lm_head.bias": "lm_head.decoder.bias"}

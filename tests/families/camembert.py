"""CamemBERT: RoBERTa under another name."""

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
    "CamembertModel": "AutoModel",
    "CamembertForMaskedLM": "AutoModelForMaskedLM",
    "CamembertForCausalLM": "AutoModelForCausalLM",
    "CamembertForSequenceClassification": "AutoModelForSequenceClassification",
    "CamembertForTokenClassification": "AutoModelForTokenClassification",
    "CamembertForQuestionAnswering": "AutoModelForQuestionAnswering",
    "CamembertForMultipleChoice": "AutoModelForMultipleChoice",
}
VARIANTS = {
    "untied": {"tie_word_embeddings": False},
}
CHANGED = {
    "CamembertForCausalLM": {"is_decoder": True},
    "CamembertForQuestionAnswering": {"num_labels": 2},
}
ENCODES = True
FIRST_POSITION = 2
SAME = {"lm_head.bias": "lm_head.decoder.bias"}

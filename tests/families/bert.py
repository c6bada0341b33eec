"""BERT: post-norm encoder, token types, pooler; a decoder with `is_decoder`."""

STANDS_FOR = "post-norm encoder, token types"
CONFIG = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "initializer_range": 0.05,
    "layer_norm_eps": 3e-3,
    "type_vocab_size": 3,
}
CLASSES = {
    "BertModel": "AutoModel",
    "BertForMaskedLM": "AutoModelForMaskedLM",
    "BertLMHeadModel": "AutoModelForCausalLM",
    "BertForPreTraining": "AutoModelForPreTraining",
    "BertForNextSentencePrediction": "AutoModelForNextSentencePrediction",
    "BertForSequenceClassification": "AutoModelForSequenceClassification",
    "BertForTokenClassification": "AutoModelForTokenClassification",
    "BertForQuestionAnswering": "AutoModelForQuestionAnswering",
    "BertForMultipleChoice": "AutoModelForMultipleChoice",
}
VARIANTS = {
    "untied": {"tie_word_embeddings": False},
    "gelu-new": {"hidden_act": "gelu_new"},
    "cross": {"add_cross_attention": True},
}
CHANGED = {
    "BertLMHeadModel": {"is_decoder": True},
    "BertForQuestionAnswering": {"num_labels": 2},
}
ENCODES = True
SAME = {"cls.predictions.bias": "cls.predictions.decoder.bias"}

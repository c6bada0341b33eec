"""UMT5: T5 with a table of bias in every layer, and a scaled head."""

CONFIG = {
    "d_model": 20,
    "d_kv": 5,
    "d_ff": 40,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 10,
    "layer_norm_epsilon": 3e-3,
}
CLASSES = {
    "UMT5Model": "AutoModel",
    "UMT5ForConditionalGeneration": "AutoModelForSeq2SeqLM",
    "UMT5EncoderModel": None,
    "UMT5ForSequenceClassification": "AutoModelForSequenceClassification",
    "UMT5ForTokenClassification": "AutoModelForTokenClassification",
    "UMT5ForQuestionAnswering": "AutoModelForQuestionAnswering",
}
CHANGED = {"UMT5ForQuestionAnswering": {"num_labels": 2}}
DECODES = True
UNREAD = {"is_decoder": "the halves of a model say it"}

"""mT5: T5 with a gate and a head that is not scaled."""

CONFIG = {
    "d_model": 24,
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
    "MT5Model": "AutoModel",
    "MT5ForConditionalGeneration": "AutoModelForSeq2SeqLM",
    "MT5EncoderModel": None,
    "MT5ForSequenceClassification": "AutoModelForSequenceClassification",
    "MT5ForTokenClassification": "AutoModelForTokenClassification",
    "MT5ForQuestionAnswering": "AutoModelForQuestionAnswering",
}
CHANGED = {"MT5ForQuestionAnswering": {"num_labels": 2}}
DECODES = True
UNREAD = {"is_decoder": "the halves of a model say it"}

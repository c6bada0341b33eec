"""T5: stacks of different depths, bias by distance, a head that is the scaled table of tokens."""

STANDS_FOR = "encoder and decoder with a learned bias by distance, products without a scale"
CONFIG = {
    "d_model": 20,
    "d_kv": 6,
    "d_ff": 48,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 10,
    "layer_norm_epsilon": 3e-3,
    "decoder_start_token_id": 0,
}
CLASSES = {
    "T5Model": "AutoModel",
    "T5ForConditionalGeneration": "AutoModelForSeq2SeqLM",
    "T5EncoderModel": None,
    "T5ForSequenceClassification": "AutoModelForSequenceClassification",
    "T5ForTokenClassification": "AutoModelForTokenClassification",
    "T5ForQuestionAnswering": "AutoModelForQuestionAnswering",
}
CHANGED = {"T5ForQuestionAnswering": {"num_labels": 2}}
VARIANTS = {
    "v1.1": {"feed_forward_proj": "gated-gelu", "scale_decoder_outputs": False},
    "silu": {"feed_forward_proj": "silu", "relative_attention_max_distance": 128},
}
DECODES = True
UNREAD = {"is_decoder": "the halves of a model say it"}

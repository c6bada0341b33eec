"""LongT5: T5 whose encoder attends by blocks, and to sums of blocks."""

STANDS_FOR = "attention by blocks, and to sums of them"
CONFIG = {
    "d_model": 20,
    "d_kv": 5,
    "d_ff": 40,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "local_radius": 3,
    "global_block_size": 4,
    "encoder_attention_type": "transient-global",
    "feed_forward_proj": "gated-gelu",
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 10,
    "layer_norm_epsilon": 3e-3,
    "decoder_start_token_id": 0,
}
CLASSES = {
    "LongT5Model": "AutoModel",
    "LongT5ForConditionalGeneration": "AutoModelForSeq2SeqLM",
    "LongT5EncoderModel": None,
}
VARIANTS = {
    "local": {"encoder_attention_type": "local"},
    "short": {"global_block_size": 16, "local_radius": 20, "scale_decoder_outputs": False},
}
DECODES = True
WALK = {"encoder_attention_type": (["local", "transient-global"], {})}
UNREAD = {
    "is_decoder": "the halves of a model say it",
    "pad_token_id": "labels and generation read it",
    "decoder_start_token_id": "labels and generation read it",
    "num_labels": "no class has labels",
}

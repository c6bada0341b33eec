"""Marian: post-norm, sinusoids, one vocabulary or two."""

LIKE = "blenderbot-small"
PREFIX = "Marian"
CONFIG = {
    "activation_function": "swish",
    "decoder_start_token_id": 0,
    "forced_eos_token_id": 2,
}
CLASSES = {
    "MarianModel": "AutoModel",
    "MarianMTModel": "AutoModelForSeq2SeqLM",
    "MarianForCausalLM": "AutoModelForCausalLM",
}
VARIANTS = {
    "apart": {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": 67},
    "untied": {"tie_word_embeddings": False, "scale_embedding": True},
}
COMPUTED = ("embed_positions.weight",)
GENERATING = "apart"
WALK = {"decoder_vocab_size": (None, {"share_encoder_decoder_embeddings": False})}

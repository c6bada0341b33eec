"""M2M-100: pre-norm, sinusoids counted from the padding token on."""

CONFIG = {
    "d_model": 24,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 28,
    "max_position_embeddings": 64,
    "init_std": 0.05,
    "pad_token_id": 1,
    "bos_token_id": 0,
}
CLASSES = {
    "M2M100Model": "AutoModel",
    "M2M100ForConditionalGeneration": "AutoModelForSeq2SeqLM",
}
VARIANTS = {
    "unscaled": {"scale_embedding": False},
}
SAME = {"model.shared.weight": "model.encoder.embed_tokens.weight"}
DECODES = True
GENERATING = "unscaled"
UNREAD = {
    "is_encoder_decoder": "other readers of the file look for it",
    "is_decoder": "the model's halves say it",
    "num_labels": "no class has labels",
    "decoder_start_token_id": "generation and what is made of labels read it",
    "forced_bos_token_id": "generation reads it",
    "forced_eos_token_id": "generation reads it",
    "max_position_embeddings": "sinusoids go on beyond them, as the reference's do",
}

"""Blenderbot: pre-norm, learned positions without an offset."""

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
    "encoder_no_repeat_ngram_size": 0,
}
CLASSES = {
    "BlenderbotModel": "AutoModel",
    "BlenderbotForConditionalGeneration": "AutoModelForSeq2SeqLM",
    "BlenderbotForCausalLM": "AutoModelForCausalLM",
}
VARIANTS = {
    "scaled": {"scale_embedding": True},
}
SAME = {"model.shared.weight": "model.encoder.embed_tokens.weight"}
DECODES = True
UNREAD = {
    "is_encoder_decoder": "other readers of the file look for it",
    "is_decoder": "the model's halves say it",
    "num_labels": "no class has labels",
    "decoder_start_token_id": "generation and what is made of labels read it",
    "forced_bos_token_id": "generation reads it",
    "forced_eos_token_id": "generation reads it",
}

"""BART: post-norm encoder and decoder of different depths, heads and widths."""

CONFIG = {
    "d_model": 24,
    "encoder_layers": 3,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 28,
    "max_position_embeddings": 64,
    "init_std": 0.05,
}
CLASSES = {
    "BartModel": "AutoModel",
    "BartForConditionalGeneration": "AutoModelForSeq2SeqLM",
    "BartForSequenceClassification": "AutoModelForSequenceClassification",
    "BartForQuestionAnswering": "AutoModelForQuestionAnswering",
    "BartForCausalLM": "AutoModelForCausalLM",
}
CHANGED = {"BartForQuestionAnswering": {"num_labels": 2}}
VARIANTS = {
    "untied": {"tie_word_embeddings": False},
    "scaled": {"scale_embedding": True, "activation_function": "relu"},
}
SAME = {"model.shared.weight": "model.encoder.embed_tokens.weight"}
DECODES = True
GENERATING = "untied"  # a tied head says the last token again
STANDS_FOR = "a decoder over an encoder"
UNREAD = {
    "is_encoder_decoder": "other readers of the file look for it",
    "is_decoder": "the model's halves say it",
    "forced_bos_token_id": "generation reads it",
    "forced_eos_token_id": "generation reads it",
}

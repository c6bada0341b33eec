"""XGLM: BART's decoder with norms before, and sinusoids two rows off."""

CONFIG = {
    "d_model": 24,
    "num_layers": 3,
    "attention_heads": 4,
    "ffn_dim": 40,
    "max_position_embeddings": 64,
    "init_std": 0.05,
}
CLASSES = {
    "XGLMModel": "AutoModel",
    "XGLMForCausalLM": "AutoModelForCausalLM",
}
VARIANTS = {
    "unscaled": {"scale_embedding": False},
    "relu": {"activation_function": "relu"},
    "untied": {"tie_word_embeddings": False},
    "padding-row": {"pad_token_id": 5, "d_model": 28},
    "cross": {"add_cross_attention": True},
}
UNREAD = {
    "max_position_embeddings": "sinusoids go on beyond them, as the reference's do",
    "num_labels": "no class has labels",
}

"""GPT-2: learned positions, LayerNorm before, kernels stored (in, out)."""

STANDS_FOR = "pre-norm with LayerNorm, learned positions, kernels stored (in, out)"
CONFIG = {
    "n_embd": 24,
    "n_layer": 3,
    "n_head": 4,
    "n_inner": 40,
    "n_positions": 64,
    "initializer_range": 0.05,
    "layer_norm_epsilon": 3e-3,
}
CLASSES = {
    "GPT2Model": "AutoModel",
    "GPT2LMHeadModel": "AutoModelForCausalLM",
    "GPT2ForSequenceClassification": "AutoModelForSequenceClassification",
    "GPT2ForTokenClassification": "AutoModelForTokenClassification",
    "GPT2ForQuestionAnswering": "AutoModelForQuestionAnswering",
    "GPT2DoubleHeadsModel": None,
}
VARIANTS = {
    "untied": {"tie_word_embeddings": False},
    "unscaled": {"scale_attn_weights": False},
    "by-layer": {"scale_attn_by_inverse_layer_idx": True, "activation_function": "gelu"},
    "cross": {"add_cross_attention": True},
}

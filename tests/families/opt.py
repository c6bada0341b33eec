"""OPT: learned positions of tokens, two rows off; norms before, or after with narrow tables."""

STANDS_FOR = "the layer of fairseq: pre- or post-norm, positions counted from the mask"
CONFIG = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "ffn_dim": 40,
    "max_position_embeddings": 64,
    "init_std": 0.05,
}
CLASSES = {
    "OPTModel": "AutoModel",
    "OPTForCausalLM": "AutoModelForCausalLM",
    "OPTForSequenceClassification": "AutoModelForSequenceClassification",
    "OPTForQuestionAnswering": "AutoModelForQuestionAnswering",
}
VARIANTS = {
    "opt-350m": {"do_layer_norm_before": False, "word_embed_proj_dim": 16},
    "no-biases": {"enable_bias": False},
    "no-affine": {"layer_norm_elementwise_affine": False},
    "no-last-norm": {"_remove_final_layer_norm": True},
    "untied": {"tie_word_embeddings": False, "activation_function": "gelu"},
}
TAKES_POSITIONS = False  # it counts tokens itself

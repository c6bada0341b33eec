"""Falcon in three shapes: 7b (one key and value), 40b and 180b (groups), rw (ALiBi)."""

STANDS_FOR = "parallel attention and MLP, fused projections, rotary or ALiBi"
CONFIG = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.05,
    "layer_norm_epsilon": 3e-3,
}
CLASSES = {
    "FalconModel": "AutoModel",
    "FalconForCausalLM": "AutoModelForCausalLM",
    "FalconForSequenceClassification": "AutoModelForSequenceClassification",
    "FalconForTokenClassification": "AutoModelForTokenClassification",
    "FalconForQuestionAnswering": "AutoModelForQuestionAnswering",
}
VARIANTS = {
    "falcon-40b": {"new_decoder_architecture": True, "num_kv_heads": 2},
    "falcon-11b": {
        "new_decoder_architecture": True,
        "num_kv_heads": 2,
        "num_ln_in_parallel_attn": 1,
        "ffn_hidden_size": 40,
    },
    "falcon-rw": {"alibi": True, "multi_query": False, "parallel_attn": False, "bias": True},
    "alibi-six-heads": {"alibi": True, "num_attention_heads": 6, "hidden_size": 36},
    "sequential": {"parallel_attn": False},
    "many-keys": {"multi_query": False},
    "untied": {"tie_word_embeddings": False, "activation": "gelu_pytorch_tanh"},
}
_GROUPS = {"new_decoder_architecture": True, "num_kv_heads": 2}
WALK = {"num_kv_heads": (None, _GROUPS), "num_ln_in_parallel_attn": ([1], _GROUPS)}
FUSED = ("falcon-rw", "alibi-six-heads")  # the formula adds the bias twice
WALK = {
    "attention_dropout": (None, {"alibi": True}),
    "num_kv_heads": (None, {"new_decoder_architecture": True}),
    "num_ln_in_parallel_attn": (None, {"new_decoder_architecture": True}),
}

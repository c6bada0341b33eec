"""Gemma 2: four norms a layer, windows in turn, soft caps on scores and logits."""

CONFIG = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "initializer_range": 0.05,
    "rms_norm_eps": 3e-3,
    "head_dim": 10,
    "query_pre_attn_scalar": 14,
    "sliding_window": 5,
    "attn_logit_softcapping": 4.0,
    "final_logit_softcapping": 3.0,
}
CLASSES = {
    "Gemma2Model": "AutoModel",
    "Gemma2ForCausalLM": "AutoModelForCausalLM",
    "Gemma2ForSequenceClassification": "AutoModelForSequenceClassification",
    "Gemma2ForTokenClassification": "AutoModelForTokenClassification",
}
VARIANTS = {
    "no-caps": {"attn_logit_softcapping": None, "final_logit_softcapping": None},
    "biases": {"attention_bias": True},
    "full-first": {"layer_types": ["full_attention", "sliding_attention", "full_attention"]},
    "untied": {"tie_word_embeddings": False},
}
# `use_bidirectional_attention` is no variant: the reference heeds it in batches without padding and
# with `sdpa`, and nowhere else; no published checkpoint has it.

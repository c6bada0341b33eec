"""GPT-J: one LayerNorm a layer, parallel branches, pairs turn, a head with a bias."""

CONFIG = {
    "n_embd": 32,
    "n_layer": 3,
    "n_head": 4,
    "n_inner": 40,
    "n_positions": 64,
    "rotary_dim": 4,
    "initializer_range": 0.05,
    "layer_norm_epsilon": 3e-3,
}
CLASSES = {
    "GPTJModel": "AutoModel",
    "GPTJForCausalLM": "AutoModelForCausalLM",
    "GPTJForSequenceClassification": "AutoModelForSequenceClassification",
    "GPTJForQuestionAnswering": "AutoModelForQuestionAnswering",
}
VARIANTS = {
    "inner-from-width": {"n_inner": None},
    "gelu": {"activation_function": "gelu"},
    "tied": {"tie_word_embeddings": True},
}
CHANGED = {"GPTJForQuestionAnswering": {"num_labels": 2}}
UNREAD = {"n_positions": "more are refused, as where there is a table of them"}

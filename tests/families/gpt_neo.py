"""GPT-Neo: learned positions, windows in turn, scores that are not scaled."""

STANDS_FOR = "local and global layers by a list, products without a scale"
CONFIG = {
    "hidden_size": 24,
    "num_layers": 3,
    "num_heads": 4,
    "intermediate_size": 40,
    "attention_types": [[["global", "local"], 1], [["global"], 1]],
    "window_size": 5,
    "max_position_embeddings": 64,
    "initializer_range": 0.05,
    "layer_norm_epsilon": 3e-3,
}
CLASSES = {
    "GPTNeoModel": "AutoModel",
    "GPTNeoForCausalLM": "AutoModelForCausalLM",
    "GPTNeoForSequenceClassification": "AutoModelForSequenceClassification",
    "GPTNeoForTokenClassification": "AutoModelForTokenClassification",
    "GPTNeoForQuestionAnswering": "AutoModelForQuestionAnswering",
}
VARIANTS = {
    "local-first": {"attention_types": [[["local"], 2], [["global"], 1]]},
    "inner-from-width": {"intermediate_size": None},
    "untied": {"tie_word_embeddings": False},
}

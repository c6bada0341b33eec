"""DeBERTa: disentangled attention by distance, one projection for q, k and v."""

CONFIG = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "initializer_range": 0.05,
    "layer_norm_eps": 3e-3,
    "relative_attention": True,
    "max_relative_positions": 8,
    "pos_att_type": ["c2p", "p2c"],
    "position_biased_input": False,
    "type_vocab_size": 0,
}
CLASSES = {
    "DebertaModel": "AutoModel",
    "DebertaForMaskedLM": "AutoModelForMaskedLM",
    "DebertaForSequenceClassification": "AutoModelForSequenceClassification",
    "DebertaForTokenClassification": "AutoModelForTokenClassification",
    "DebertaForQuestionAnswering": "AutoModelForQuestionAnswering",
}
VARIANTS = {
    "position-to-content": {"pos_att_type": "p2c", "max_relative_positions": -1},
    "absolute": {
        "relative_attention": False,
        "pos_att_type": [],
        "position_biased_input": True,
        "type_vocab_size": 2,
    },
    "not-legacy": {"legacy": False},
    "untied": {"tie_word_embeddings": False},
}
CHANGED = {"DebertaForQuestionAnswering": {"num_labels": 2}}
ENCODES = True
SAME = {"cls.predictions.bias": "cls.predictions.decoder.bias"}
WALK = {
    "pos_att_type": ([["c2p"]], {}),
    "max_position_embeddings": ([9], {"max_relative_positions": -1}),
}

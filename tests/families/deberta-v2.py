"""DeBERTa v2 and v3: disentangled attention with log buckets and shared projections, a convolution
beside the first layer."""

STANDS_FOR = "disentangled attention, a convolution beside the first layer"
CONFIG = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "initializer_range": 0.05,
    "layer_norm_eps": 3e-3,
    "relative_attention": True,
    "position_buckets": 6,
    "max_relative_positions": -1,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "type_vocab_size": 0,
    "conv_kernel_size": 3,
    "conv_act": "gelu",
    "pooler_dropout": 0.0,
    "pooler_hidden_act": "gelu",
}
CLASSES = {
    "DebertaV2Model": "AutoModel",
    "DebertaV2ForMaskedLM": "AutoModelForMaskedLM",
    "DebertaV2ForSequenceClassification": "AutoModelForSequenceClassification",
    "DebertaV2ForTokenClassification": "AutoModelForTokenClassification",
    "DebertaV2ForQuestionAnswering": "AutoModelForQuestionAnswering",
    "DebertaV2ForMultipleChoice": "AutoModelForMultipleChoice",
}
VARIANTS = {
    "v3": {"conv_kernel_size": 0, "pos_att_type": "p2c|c2p"},
    "apart": {"share_att_key": False, "norm_rel_ebd": "none", "position_buckets": -1},
    "content-to-position": {"pos_att_type": ["c2p"], "share_att_key": False, "conv_kernel_size": 0},
    "absolute": {
        "relative_attention": False,
        "pos_att_type": [],
        "position_biased_input": True,
        "type_vocab_size": 2,
        "norm_rel_ebd": "none",
        "conv_kernel_size": 0,
    },
    "not-legacy": {"legacy": False},
    "untied": {"tie_word_embeddings": False, "conv_groups": 2, "conv_act": "tanh"},
}
CHANGED = {"DebertaV2ForQuestionAnswering": {"num_labels": 2}}
ENCODES = True
SAME = {"cls.predictions.bias": "cls.predictions.decoder.bias"}
WALK = {
    "norm_rel_ebd": (["none"], {}),
    "pos_att_type": ([["c2p"]], {}),
    "max_relative_positions": ([9], {}),
    "max_position_embeddings": ([9], {}),
}

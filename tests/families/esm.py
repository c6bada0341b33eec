"""ESM: norms first, learned or rotary positions, masked tokens that count as dropped.

A fresh checkpoint of 5.23 has names that are its own: a table of renamings for files of old times
acts on its way out too, so that norms of layers have `gamma` and `beta`, and the frequencies of the
rotation are in a layer called "*". It reads these and the Hub's, which alone others read, and which
we write; `tests/models/test_encoders.py` reads the fresh ones too.
"""

import re


def HUB(tensors):
    found = {}
    for name, value in tensors.items():
        name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
        name = re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)
        names = [name.replace("*", str(layer)) for layer in range(CONFIG["num_hidden_layers"])]
        found |= dict.fromkeys(names, value)
    return found


CONFIG = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "initializer_range": 0.05,
    "layer_norm_eps": 3e-3,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "mask_token_id": 17,
    "position_embedding_type": "rotary",
    "token_dropout": True,
}
CLASSES = {
    "EsmModel": "AutoModel",
    "EsmForMaskedLM": "AutoModelForMaskedLM",
    "EsmForSequenceClassification": "AutoModelForSequenceClassification",
    "EsmForTokenClassification": "AutoModelForTokenClassification",
}
VARIANTS = {
    "untied": {"tie_word_embeddings": False},
    "absolute": {
        "position_embedding_type": "absolute",
        "emb_layer_norm_before": True,
        "token_dropout": False,
    },
}
ENCODES = True
_FREQUENCIES = "encoder.layer.{}.attention.self.rotary_embeddings.inv_freq"
SAME = {prefix + _FREQUENCIES.format(1): prefix + _FREQUENCIES.format(0) for prefix in ("", "esm.")}
WALK = {
    "mask_token_id": ([8], {"mask_token_id": 9}),
    "position_embedding_type": (["absolute"], {}),
    "max_position_embeddings": (None, {"position_embedding_type": "absolute"}),
}

"""Encoders that sentence-transformers was asked about (`make_embedding_goldens.py`): what
they are made of, the texts, and the calls."""

TEXTS = [
    "The sky was clear.",
    "A",
    "He walked along the river for a long while, and then came back by the other bank of it.",
    "Read the manual first",
    "",
    "rain, wind and more rain: the harbour stayed closed until the evening",
]
PAIRS = [(TEXTS[0], TEXTS[5]), (TEXTS[2], TEXTS[1]), (TEXTS[3], TEXTS[2])]
PROMPTS = {"query": "find what answers: ", "passage": ""}
TANH, PLAIN = "torch.nn.modules.activation.Tanh", "torch.nn.modules.linear.Identity"

BERT = {
    "vocab_size": 704,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
}
DECODER = BERT | {"num_key_value_heads": 2, "head_dim": 10, "pad_token_id": 0}
GEMMA = DECODER | {
    "use_bidirectional_attention": True,
    "sliding_window": 8,
    "query_pre_attn_scalar": 14,
    "layer_types": ["sliding_attention", "full_attention"],
}
CASES = {
    "bert": {
        "model": ("bert", BERT),
        "tokenizer": "wordpiece",
        "pooling": {"pooling_mode": "mean"},
        "dense": [(24, 10, True, TANH), (10, 12, False, PLAIN)],
        "norm": True,
        "normalize": True,
        "prompts": PROMPTS,
        "similarity": "dot",
        "calls": {"plain": {}, "query": {"prompt_name": "query"}},
    },
    "bert-without-prompt": {
        "model": ("bert", BERT),
        "tokenizer": "wordpiece",
        "pooling": {"pooling_mode": ["cls", "weightedmean"], "include_prompt": False},
        "prompts": PROMPTS,
        "default": "query",
        "similarity": "euclidean",
        "text": {"max_seq_length": 14, "do_lower_case": True},
        "calls": {"plain": {}, "cut": {"truncate_dim": 5}},
    },
    "qwen3": {
        "model": ("qwen3", DECODER),
        "tokenizer": "byte-bpe-chat",
        "settings": {"padding_side": "left"},
        "pooling": {"pooling_mode": "lasttoken"},
        "normalize": True,
        "calls": {"plain": {}},
    },
    "gemma3": {
        "model": ("gemma3_text", GEMMA),
        "tokenizer": "unigram",
        "settings": {"tokenizer_class": "PreTrainedTokenizerFast"},
        "pooling": {"pooling_mode": "mean"},
        "dense": [(24, 32, False, PLAIN), (32, 24, False, PLAIN)],
        "normalize": True,
        "similarity": "manhattan",
        "calls": {"plain": {}},
    },
}
CROSS = {
    "reranker": BERT | {"num_labels": 1},
    "labels": BERT | {"num_labels": 3},
}


def texts_of(case: str) -> list[str]:
    """The texts of a case: a tokenizer that adds nothing makes nothing of an empty one."""
    return [text for text in TEXTS if text or case.startswith("bert")]

"""BigBird: BERT that attends by blocks where texts are long. These are short; long ones are in
tests/models/test_big_bird.py."""

CONFIG = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "initializer_range": 0.05,
    "layer_norm_eps": 3e-3,
    "type_vocab_size": 3,
    "sep_token_id": 49,
    "attention_type": "original_full",
}
CLASSES = {
    "BigBirdModel": "AutoModel",
    "BigBirdForMaskedLM": "AutoModelForMaskedLM",
    "BigBirdForCausalLM": "AutoModelForCausalLM",
    "BigBirdForPreTraining": "AutoModelForPreTraining",
    "BigBirdForSequenceClassification": "AutoModelForSequenceClassification",
    "BigBirdForTokenClassification": "AutoModelForTokenClassification",
    "BigBirdForQuestionAnswering": "AutoModelForQuestionAnswering",
    "BigBirdForMultipleChoice": "AutoModelForMultipleChoice",
}
VARIANTS = {
    "untied": {"tie_word_embeddings": False},
    "rescaled": {"rescale_embeddings": True, "use_bias": False},
}
CHANGED = {
    "BigBirdForCausalLM": {"is_decoder": True},
    "BigBirdForQuestionAnswering": {"num_labels": 2},
}
ENCODES = True
SAME = {"cls.predictions.bias": "cls.predictions.decoder.bias"}
WALK = {
    "attention_type": (["block_sparse"], {"block_size": 1, "num_random_blocks": 1}),
    "sep_token_id": ([8], {"sep_token_id": 9}),
}
UNREAD = {
    "block_size": "attention is full here; tests/models/test_big_bird.py",
    "num_random_blocks": "attention is full here; tests/models/test_big_bird.py",
}

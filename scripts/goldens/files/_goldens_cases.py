"""Lists what make_goldens.py makes: tiny configurations and their variants, as tables."""

TOKENS = {"vocab_size": 61, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
BERT = TOKENS | {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 32,
}
GPT2 = TOKENS | {"n_embd": 24, "n_layer": 2, "n_head": 4, "n_inner": 40, "n_positions": 32}
LLAMA = BERT | {"num_key_value_heads": 2}
FAMILIES = {"bert": BERT, "gpt2": GPT2, "llama": LLAMA}
SMALL = {  # wide heads: the more rotary frequencies, the more a golden sees
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
}

# name -> (class, config changes, what is stored besides the outputs). "all": hidden states,
# attentions and every gradient; "states": the former two; "head": gradients of what the head adds.
HEADS = {
    "bert-masked-lm": ("BertForMaskedLM", {}, "all"),
    "gpt2-lm-head": ("GPT2LMHeadModel", {}, "all"),
    "llama-causal-lm": ("LlamaForCausalLM", {}, "all"),
    "bert-lm-head": ("BertLMHeadModel", {"is_decoder": True}, "all"),
    "bert-model": ("BertModel", {}, "states"),
    "bert-pre-training": ("BertForPreTraining", {}, "all"),
    "bert-next-sentence-prediction": ("BertForNextSentencePrediction", {}, "head"),
    "bert-sequence-classification": ("BertForSequenceClassification", {"num_labels": 3}, "head"),
    "bert-token-classification": ("BertForTokenClassification", {"num_labels": 3}, "head"),
    "bert-question-answering": ("BertForQuestionAnswering", {}, "head"),
    "bert-multiple-choice": ("BertForMultipleChoice", {}, "head"),
    "gpt2-model": ("GPT2Model", {}, "states"),
    "gpt2-double-heads": ("GPT2DoubleHeadsModel", {}, "head"),
    "gpt2-sequence-classification": ("GPT2ForSequenceClassification", {"num_labels": 3}, "head"),
    "gpt2-token-classification": ("GPT2ForTokenClassification", {"num_labels": 3}, "head"),
    "gpt2-question-answering": ("GPT2ForQuestionAnswering", {}, "head"),
    "llama-model": ("LlamaModel", {}, "states"),
    "llama-sequence-classification": ("LlamaForSequenceClassification", {"num_labels": 3}, "head"),
    "llama-token-classification": ("LlamaForTokenClassification", {"num_labels": 3}, "head"),
    "llama-question-answering": ("LlamaForQuestionAnswering", {}, "head"),
}
BERT_VARIANTS = {
    "untied": {"tie_word_embeddings": False},
    "gelu-new": {"hidden_act": "gelu_new", "classifier_dropout": 0.3, "type_vocab_size": 3},
}
GPT2_VARIANTS = {
    "untied": {"tie_word_embeddings": False},
    "scale-variants": {
        "scale_attn_by_inverse_layer_idx": True,
        "reorder_and_upcast_attn": True,
        "n_inner": 48,
        "activation_function": "gelu",
    },
}
LLAMA_VARIANTS = {
    "biases": {"attention_bias": True, "mlp_bias": True},
    "head-dim": {"head_dim": 16, "hidden_size": 16},
    "tied": {"tie_word_embeddings": True},
    "mha": {"num_key_value_heads": 4, "hidden_act": "gelu"},
}
SHORT, LONG = 16, 64  # positions a scaled model was first trained on, and those it says it has
ROPES = {
    "theta": {"rope_type": "default", "rope_theta": 500.0},
    "linear": {"rope_type": "linear", "factor": 3.0},
    "dynamic": {"rope_type": "dynamic", "factor": 2.0},
    "yarn": {
        "rope_type": "yarn",
        "rope_theta": 100.0,
        "factor": 4.0,
        "original_max_position_embeddings": SHORT,
    },
    "yarn-mscale": {
        "rope_type": "yarn",
        "rope_theta": 100.0,
        "factor": 3.0,
        "beta_fast": 4.0,
        "beta_slow": 0.5,
        "mscale": 0.7,
        "mscale_all_dim": 1.3,
        "truncate": False,
        "original_max_position_embeddings": SHORT,
    },
    "longrope": {
        "rope_type": "longrope",
        "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7],
        "long_factor": [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0],
        "original_max_position_embeddings": SHORT,
    },
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
    "proportional": {"rope_type": "proportional", "partial_rotary_factor": 0.5, "factor": 2.0},
}
FLAX = {
    "bert-masked-lm": ("FlaxBertForMaskedLM", {}),
    "bert-pre-training": ("FlaxBertForPreTraining", {}),
    "bert-sequence-classification": ("FlaxBertForSequenceClassification", {"num_labels": 3}),
    "gpt2-lm-head": ("FlaxGPT2LMHeadModel", {}),
    "llama-causal-lm": ("FlaxLlamaForCausalLM", {}),
}
SHARD_SIZE = "15KB"  # three shards or four
OMITTED_BY_4 = ("tie_word_embeddings", "is_decoder", "add_cross_attention")  # when the default

"""Configurations of decoders with layers of their own: published files, and what is refused."""

import math

import jax
import pytest

import flaxmodels as fm

SUMMARY = {
    "summary_activation": None,
    "summary_first_dropout": 0.1,
    "summary_proj_to_labels": True,
    "summary_type": "cls_index",
    "summary_use_proj": True,
    "gradient_checkpointing": False,
    "tokenizer_class": "GPT2Tokenizer",
}
REFINED_WEB = {
    "alibi": False,
    "apply_residual_connection_post_layernorm": False,
    "bias": False,
    "hidden_dropout": 0.0,
    "hidden_size": 8192,
    "model_type": "RefinedWeb",
    "n_head": 128,
    "n_head_kv": 8,
    "n_layer": 60,
    "parallel_attn": True,
    "vocab_size": 65024,
}
PUBLISHED = {
    "gpt-j-6b": (
        fm.GPTJForCausalLM,
        {"n_embd": 4096, "n_head": 16, "n_inner": None, "n_layer": 28, "n_positions": 2048}
        | {"rotary": True, "rotary_dim": 64, "scale_attn_weights": True, "vocab_size": 50400}
        | SUMMARY,
        6050882784,
    ),
    "gpt-neo-1.3b": (
        fm.GPTNeoForCausalLM,
        {"attention_layers": ["global", "local"] * 12, "intermediate_size": None, "num_heads": 16}
        | {"attention_types": [[["global", "local"], 12]], "attention_dropout": 0, **SUMMARY},
        1315575808,
    ),
    "gpt-neox-20b": (
        fm.GPTNeoXForCausalLM,
        {"attention_probs_dropout_prob": 0, "hidden_act": "gelu_fast", "hidden_dropout_prob": 0}
        | {"rotary_emb_base": 10000, "rotary_pct": 0.25},
        20554567680,
    ),
    "bloom-560m": (
        fm.BloomForCausalLM,
        {"attention_softmax_in_fp32": True, "masked_softmax_fusion": True, "n_embed": 1024}
        | {"n_inner": None, "n_layer": 24, "num_attention_heads": 16, "offset_alibi": 100}
        | {"pretraining_tp": 1, "seq_length": 2048, "skip_bias_add": True, "vocab_size": 250880},
        559214592,
    ),
    "refined-web-40b": (fm.FalconForCausalLM, REFINED_WEB, 41303293952),
    "refined-web-7b": (
        fm.FalconForCausalLM,
        REFINED_WEB
        | {"hidden_size": 4544, "model_type": "RefinedWebModel", "multi_query": True}
        | {"n_head": 71, "n_head_kv": None, "n_layer": 32},
        6921720704,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_files_are_opened_without_a_warning(name):
    cls, values, parameters = PUBLISHED[name]
    config = cls.config_class.from_dict(values)
    leaves = jax.tree.leaves(cls(config, scan_layers=True).abstract_params())
    assert sum(math.prod(leaf.shape) for leaf in leaves) == parameters
    assert type(config).from_dict(config.to_dict()) == config


NEW = {"new_decoder_architecture": True, "num_attention_heads": 64, "hidden_size": 128}
REFUSED = [
    (fm.GPTJConfig, {"rotary_dim": 3}, "rotary_dim is 3; expected an even number from 2 to"),
    (fm.GPTJConfig, {"rotary_dim": 512}, "the width of a head, 256"),
    (fm.GPTJConfig, {"rotary_dim": None}, "rotary_dim must be int"),
    (fm.GPTJConfig, {"rotary": False}, "rotary = False changes the model"),
    (fm.GPTJConfig, {"scale_attn_weights": False}, "scale_attn_weights = False changes the model"),
    (fm.GPTJConfig, {"n_head": 3}, "hidden_size = 4096 is not a multiple"),
    (fm.GPTNeoXConfig, {"hidden_act": "wave"}, "hidden_act = 'wave' is not implemented"),
    (fm.GPTNeoXConfig, {"pruned_heads": {"0": [1]}}, "pruned_heads is not implemented"),
    (fm.BloomConfig, {"pruned_heads": {"0": [1]}}, "q, k and v joined by num_attention_heads"),
    (fm.FalconConfig, NEW | {"parallel_attn": False}, "parallel_attn must be true"),
    (fm.FalconConfig, NEW | {"num_ln_in_parallel_attn": 3}, "num_ln_in_parallel_attn is 3"),
    (fm.FalconConfig, NEW | {"num_kv_heads": 5}, "is not a multiple of num_key_value_heads = 5"),
    (fm.FalconConfig, {"num_ln_in_parallel_attn": 2}, "or with new_decoder_architecture 2"),
    (fm.FalconConfig, {"multi_query": False, "num_kv_heads": 2}, "each of 71 heads has its own"),
    (
        fm.FalconConfig,
        {"apply_residual_connection_post_layernorm": True},
        "changes the model in a way that is not implemented",
    ),
]


@pytest.mark.parametrize(("config", "values", "said"), REFUSED)
def test_what_is_not_implemented_is_refused(config, values, said):
    with pytest.raises(fm.ConfigError, match=said):
        config.from_dict(values)


def test_windows_in_turn_stay_in_turn():
    config = fm.GPTNeoConfig()
    assert config.attention_types == ((("global", "local"), 12),)
    short = [kind.attention for kind in config.replace(num_layers=3).layer_kinds]
    assert short == ["full_attention", "sliding_attention", "full_attention"]
    own = config.replace(num_layers=2, attention_types=[[["local"], 2]])
    with pytest.raises(fm.ConfigError, match="is not of num_hidden_layers = 3 layers"):
        own.replace(num_layers=3)

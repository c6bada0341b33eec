"""The keys of `adapter_config.json` as PEFT 0.21 writes them: what becomes of each, by method."""

from ...strict_json import Json

VERSION = "0.21.2"
"""The PEFT whose files these are, which ours say."""

_EVERY: dict[str, Json] = {
    "auto_mapping": None,
    "inference_mode": True,
    "peft_version": VERSION,
}
_LYCORIS: dict[str, Json] = {
    **_EVERY,
    "init_weights": True,
    "module_dropout": 0.0,
    "rank_dropout": 0.0,
    "use_effective_conv2d": False,
}

_EACH = ("peft_type", "task_type", "base_model_name_or_path", "revision", "target_modules")
_CHOSEN = ("exclude_modules", "modules_to_save")
_LAYERS = ("layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern", "r")
_OF_LORA = ("bias", "fan_in_fan_out", "use_rslora", "use_dora", "lora_bias", "lora_dropout")
_OF_LORA += ("trainable_token_indices", "ensure_weight_tying")


def _same(*names: str) -> dict[str, str]:
    return dict(zip(names, names, strict=True))


NAMES: dict[str, dict[str, str]] = {
    "LORA": {**_same(*_EACH, *_CHOSEN, *_LAYERS, *_OF_LORA), "lora_alpha": "alpha"},
    "LOHA": _same(*_EACH, *_CHOSEN, *_LAYERS, "alpha"),
    "LOKR": _same(*_EACH, *_CHOSEN, *_LAYERS, "alpha", "decompose_both", "decompose_factor"),
    "IA3": _same(*_EACH, *_CHOSEN, "feedforward_modules", "fan_in_fan_out"),
    "TRAINABLE_TOKENS": {**_same(*_EACH), "token_indices": "trainable_token_indices"},
}
"""Method -> {key of the file: field of `PeftConfig`}."""

KEPT: dict[str, dict[str, Json]] = {
    "LORA": {
        **_EVERY,
        "alora_invocation_tokens": None,
        "arrow_config": None,
        "corda_config": None,
        "eva_config": None,
        "init_lora_weights": True,
        "kasa_config": None,
        "layer_replication": None,
        "loftq_config": {},
        "lora_ga_config": None,
        "megatron_config": None,
        "megatron_core": "megatron.core",
        "monteclora_config": None,
        "qalora_group_size": 16,
        "target_parameters": None,
        "use_bdlora": None,
        "use_qalora": False,
        "velora_config": None,
    },
    "LOHA": _LYCORIS,
    "LOKR": {**_LYCORIS, "rank_dropout_scale": False},
    "IA3": {**_EVERY, "init_ia3_weights": True},
    "TRAINABLE_TOKENS": {**_EVERY, "init_weights": True},
}
"""Method -> {key that nothing here reads, and that is written again: PEFT's default}."""

REFUSED = {
    "alora_invocation_tokens": "activated LoRA, which acts from certain tokens on",
    "arrow_config": "Arrow, which chooses among adapters by token",
    "kasa_config": "KaSA, which changes the base",
    "layer_replication": "a base whose layers are repeated",
    "megatron_config": "a base that Megatron computes",
    "monteclora_config": "MonteCLoRA, which draws the adapter anew",
    "target_parameters": "adapters of parameters that belong to no linear layer, such as experts",
    "use_bdlora": "BD-LoRA, whose matrices are blocks",
    "use_qalora": "QA-LoRA, which sums inputs by groups",
    "velora_config": "VeLoRA, which compresses activations",
}
"""Keys of LoRA that change the mathematics, and are refused: what a value asks for."""

CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""How values of `init_lora_weights` begin that take something off the base's weights at first."""

TASKS = "SEQ_CLS SEQ_2_SEQ_LM CAUSAL_LM TOKEN_CLS QUESTION_ANS FEATURE_EXTRACTION".split()

METHODS = {
    "LORA": "lora_ (A and B)",
    "LOHA": "hada_ (LoHa)",
    "LOKR": "lokr_ (LoKr)",
    "IA3": "ia3_l",
    "TRAINABLE_TOKENS": "trainable_tokens_delta",
}
"""Methods that are done, and what names of their tensors hold."""

"""Rotations and layer types of decoders, as the reference computes them from configurations."""

import importlib
import json
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import AutoConfig, AutoModel

POSITIONS = (0, 1, 2, 3, 17, 40, 63)
LONG = (0, 5, 64, 100, 127)
TINY = {
    "hidden_size": 32,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "num_hidden_layers": 4,
    "vocab_size": 8,
    "intermediate_size": 8,
    "max_position_embeddings": 64,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
SHORT, LONGER = [1.0, 1.1, 1.2, 1.3, 1.5, 1.7], [1.0, 2.0, 3.0, 4.0, 6.0, 9.0]

# name: (model_type, config.json beside TINY); each at POSITIONS, and at LONG where the type has
# other frequencies beyond the length of the pretraining
ROTATIONS = {
    "phi": ("phi", {}),
    "phi-old": ("phi", {"partial_rotary_factor": 0.25, "rope_theta": 500.0}),
    "phi-linear": ("phi", {"rope_scaling": {"type": "linear", "factor": 4.0}}),
    "phi-dynamic": ("phi", {"rope_scaling": {"type": "dynamic", "factor": 4.0}}),
    "phi-yarn": ("phi", {"rope_scaling": YARN}),
    "phi-llama3": ("phi", {"rope_scaling": LLAMA3}),
    "stablelm": ("stablelm", {}),
    "stablelm-odd": ("stablelm", {"partial_rotary_factor": 0.7}),
    "glm4": ("glm4", {"head_dim": 16}),
    "gpt_neox": ("gpt_neox", {"rotary_emb_base": 5000}),
    "gpt_neox-pct": ("gpt_neox", {"rotary_pct": 0.5}),
    "phi3": ("phi3", {}),
    "phi3-su": (
        "phi3",
        {
            "original_max_position_embeddings": 16,
            "partial_rotary_factor": 0.75,
            "rope_scaling": {  # the reference looks for this type's length here, and takes that
                "type": "su",
                "short_factor": SHORT,
                "long_factor": LONGER,
                "original_max_position_embeddings": 16,
            },
        },
    ),
    "phi3-yarn-is-longrope": (
        "phi3",
        {
            "original_max_position_embeddings": 16,
            "partial_rotary_factor": 0.75,
            "rope_scaling": {"type": "yarn", "short_factor": SHORT, "long_factor": LONGER},
        },
    ),
    "cohere": ("cohere", {}),
    "cohere2": ("cohere2", {"rope_theta": 50000.0}),
    "ministral3": (
        "ministral3",
        {
            "head_dim": 16,
            "rope_parameters": YARN
            | {
                "rope_theta": 1e6,
                "mscale": 1.0,
                "mscale_all_dim": 1.0,
                "llama_4_scaling_beta": 0.1,
            },
        },
    ),
    "gemma3_text": ("gemma3_text", {"head_dim": 16, "num_hidden_layers": 6}),
    "gemma3_text-old": (
        "gemma3_text",
        {
            "head_dim": 16,
            "num_hidden_layers": 6,
            "rope_theta": 5e5,
            "rope_local_base_freq": 3e3,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        },
    ),
    "olmo3": ("olmo3", {"rope_scaling": YARN, "rope_theta": 5e5}),
    "smollm3": ("smollm3", {}),
    "falcon": ("falcon", {"rope_theta": 2e4}),
    "mistral": ("mistral", {"rope_theta": 1e6}),
    "gemma2": ("gemma2", {"head_dim": 16}),
}

TURNED = {
    "llama": {},
    "phi3": {"partial_rotary_factor": 0.75},
    "cohere": {},
    "glm4": {"head_dim": 16},
    "gptj": {"rotary_dim": 8},
}

DEPTHS = {"num_hidden_layers": 7}
PATTERNS = {
    "mistral": ("mistral", {"sliding_window": 8}),
    "mistral-null": ("mistral", {"sliding_window": None}),
    "starcoder2": ("starcoder2", {"sliding_window": 8}),
    "phi3": ("phi3", {"sliding_window": 8}),
    "qwen2": ("qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 3}),
    "qwen2-void": ("qwen2", {"sliding_window": 8, "max_window_layers": 3}),
    "qwen3": ("qwen3", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 5}),
    "gemma2": ("gemma2", {"sliding_window": 8}),
    "gemma3_text": ("gemma3_text", {"sliding_window": 8}),
    "gemma3_text-pattern": ("gemma3_text", {"sliding_window": 8, "sliding_window_pattern": 3}),
    "gemma3_text-two-way": (
        "gemma3_text",
        {"sliding_window": 9, "use_bidirectional_attention": True},
    ),
    "cohere2": ("cohere2", {"sliding_window": 8}),
    "cohere2-pattern": ("cohere2", {"sliding_window": 8, "sliding_window_pattern": 2}),
    "olmo3": ("olmo3", {"sliding_window": 8}),
    "smollm3": ("smollm3", {}),
    "smollm3-windows": ("smollm3", {"use_sliding_window": True, "sliding_window": 8}),
    "smollm3-list": ("smollm3", {"no_rope_layers": [1, 0, 1, 0, 0, 1, 1]}),
    "smollm3-interval": ("smollm3", {"no_rope_layer_interval": 3}),
    "gpt_neo": ("gpt_neo", {"attention_types": [[["global", "local"], 3], [["local"], 1]]}),
}


def config_of(model_type, values):
    values = json.loads(json.dumps({k: v for k, v in values.items() if k != "model_type"}))
    return AutoConfig.for_model(model_type, **values)


def rotations(config):
    """Returns {layer type, or "default": {"positions", "cos", "sin", ...}} of a model's module."""
    config.pad_token_id = None
    model = AutoModel.from_config(config)
    module = model.rotary_emb
    nested = isinstance(module.rope_type, dict)
    found = {}
    for name in sorted(set(config.layer_types)) if nested else ["default"]:
        kind = module.rope_type[name] if nested else module.rope_type
        lists = [POSITIONS, LONG] if kind in ("dynamic", "longrope") else [POSITIONS]
        for at in lists:
            ids = torch.tensor([at])
            given = (torch.zeros(1), ids, name) if nested else (torch.zeros(1), ids)
            cos, sin = (np.asarray(x[0], np.float32) for x in module(*given))
            found.setdefault(name, []).append(
                {"positions": at, "cos": numbers(cos), "sin": numbers(sin)}
            )
    return found


def numbers(table):
    return [[float(f"{x:.7g}") for x in row] for row in table.tolist()]


def turned(model_type, values, at=(0, 3, 11)):
    """Returns [T, N, H]: queries sin(0, 1, 2, ...) at positions, rotated by a model's function."""
    config = config_of(model_type, TINY | values)
    library = importlib.import_module(f"transformers.models.{model_type}.modeling_{model_type}")
    ids = torch.tensor([at])
    x = torch.from_numpy(np.sin(np.arange(len(at) * 2 * 16, dtype=np.float32))).view(1, -1, 2, 16)
    if model_type == "gptj":
        table = library.create_sinusoidal_positions(64, config.rotary_dim)[ids]
        sin, cos = torch.split(table, table.shape[-1] // 2, dim=-1)
        part = library.apply_rotary_pos_emb(x[..., : config.rotary_dim], sin, cos)
        out = torch.cat([part, x[..., config.rotary_dim :]], dim=-1)[0]
    else:
        config.pad_token_id = None
        cos, sin = AutoModel.from_config(config).rotary_emb(x, ids)
        heads = x.transpose(1, 2)
        out = library.apply_rotary_pos_emb(heads, heads, cos, sin)[0].transpose(1, 2)[0]
    return {
        "config": {"model_type": model_type} | TINY | values,
        "positions": at,
        "out": [numbers(row) for row in out.numpy()],
    }


def query_factors(config):
    from transformers.models.ministral3.modeling_ministral3 import get_llama_4_attn_scale

    rope = config.rope_parameters
    scale = get_llama_4_attn_scale(
        torch.tensor([LONG]), rope["llama_4_scaling_beta"], rope["original_max_position_embeddings"]
    )
    return {"positions": LONG, "factor": [float(x) for x in scale.flatten()]}


def pattern(config):
    """Returns what the layers of the reference's model read."""
    kinds = getattr(config, "layer_types", None)
    if kinds is None and hasattr(config, "attention_layers"):
        names = {"global": "full_attention", "local": "sliding_attention"}
        kinds = [names[kind] for kind in config.attention_layers]
    window = getattr(config, "window_size", getattr(config, "sliding_window", None))
    if kinds is None:
        one = "full_attention" if window is None else "sliding_attention"
        kinds = [one] * config.num_hidden_layers
    found = {"layer_types": kinds, "window": window}
    if hasattr(config, "no_rope_layers"):
        found["no_rope_layers"] = config.no_rope_layers
    return found


def make(root: Path):
    torch.manual_seed(0)
    versions = {"transformers": transformers.__version__, "torch": torch.__version__}
    out = {"versions": versions, "rotations": {}, "turned": {}, "patterns": {}}
    for name, (model_type, values) in ROTATIONS.items():
        values = {"model_type": model_type} | TINY | values
        config = config_of(model_type, values)
        case = {"config": values, "rotations": rotations(config)}
        if "llama_4_scaling_beta" in config.rope_parameters:
            case["query_factor"] = query_factors(config)
        out["rotations"][name] = case
    for name, (model_type, values) in PATTERNS.items():
        values = {"model_type": model_type} | TINY | DEPTHS | values
        if model_type == "gpt_neo":
            values["num_layers"] = values.pop("num_hidden_layers")
            values["num_heads"] = values.pop("num_attention_heads")
        config = config_of(model_type, values)
        out["patterns"][name] = {"config": values} | pattern(config)
    root.mkdir(parents=True, exist_ok=True)
    for model_type, values in TURNED.items():
        out["turned"][model_type] = turned(model_type, values)
    for part in ("rotations", "turned", "patterns"):
        text = json.dumps({"versions": versions, part: out[part]}, separators=(",", ":"))
        (root / f"{part}.json").write_text(text + "\n")


if __name__ == "__main__":
    make(Path(__file__).resolve().parents[3] / "tests" / "goldens" / "rope")

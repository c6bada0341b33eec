"""Makes the goldens under tests/goldens/gguf with gguf's own writer and Transformers.

Run by hand; rewrites all of them, the same every time:

    python scripts/goldens/models/make_gguf_goldens.py

Last run with Python 3.12, gguf 0.19.0, torch 2.13.0 (CPU), transformers 5.23.0; `expected.json`
names the versions that made them.

- `blocks.gguf` has a matrix of each type, most of them random bytes with finite scales;
  `blocks.npz` what gguf's dequantiser makes of them, float32.
- `<case>.gguf` is a tiny model of an architecture: what llama.cpp's convert_hf_to_gguf.py does to
  names and values is done to a model of Transformers, whose weights are then quantised.
- `expected.json` has of each case the `config.json` of that model, and `logits.npz` the logits that
  Transformers computes with its own reading of the file, in float32.
"""

import json
import platform
import tempfile
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers
from gguf import GGML_QUANT_SIZES as SIZES
from gguf import GGMLQuantizationType as Type
from gguf import quants

ROOT = Path(__file__).resolve().parents[3] / "tests" / "goldens" / "gguf"
VOCABULARY = 48
_LLAMA = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 3,
    "rms_norm_eps": 3e-3,
}
_PLAIN = {k: v for k, v in _LLAMA.items() if k != "rms_norm_eps"}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
_IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3}
_T5 = {"model_type": "t5", "vocab_size": VOCABULARY, "d_model": 32, "d_kv": 8, "d_ff": 64} | {
    "num_layers": 2, "num_heads": 4, "layer_norm_epsilon": 3e-3, "n_positions": 64,
    "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False,
    "relative_attention_num_buckets": 8,
    "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2,
}  # fmt: skip
CASES = {  # case: (architecture, config, the types of matrices in turn)
    "llama": ("llama", _LLAMA | {"model_type": "llama", "head_dim": 16}, "Q4_0 Q8_0 Q5_1"),
    "llama-rope": (
        "llama",
        _LLAMA | {"model_type": "llama", "rope_parameters": _LLAMA3, "tie_word_embeddings": True},
        "F16",
    ),
    "qwen2": ("qwen2", _LLAMA | {"model_type": "qwen2"}, "Q8_0 Q4_1"),
    "qwen3": ("qwen3", _LLAMA | {"model_type": "qwen3", "head_dim": 16}, "Q5_0 Q8_0"),
    "gemma2": (
        "gemma2",
        _LLAMA | {"model_type": "gemma2", "head_dim": 16, "query_pre_attn_scalar": 16}
        | {"sliding_window": 4, "attn_logit_softcapping": 20.0, "final_logit_softcapping": 10.0},
        "Q8_0",
    ),
    "gemma3": (
        "gemma3",
        _LLAMA | {"model_type": "gemma3_text", "head_dim": 16, "query_pre_attn_scalar": 16}
        | {"sliding_window": 4, "num_hidden_layers": 6, "intermediate_size": 32},
        "Q4_0 Q8_0",
    ),
    "phi3": ("phi3", _LLAMA | {"model_type": "phi3", "sliding_window": 32}, "Q4_0"),
    "starcoder2": (
        "starcoder2", _PLAIN | {"model_type": "starcoder2", "norm_epsilon": 3e-3}, "Q8_0",
    ),
    "stablelm": ("stablelm", _PLAIN | {"model_type": "stablelm", "layer_norm_eps": 3e-3}, "BF16"),
    "gpt2": (
        "gpt2",
        {"model_type": "gpt2", "vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4}
        | {"n_positions": 64, "n_inner": 64, "layer_norm_epsilon": 3e-3} | _IDS,
        "Q8_0 Q4_0",
    ),
    "bloom": (
        "bloom",
        {"model_type": "bloom", "vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2}
        | {"n_head": 4, "layer_norm_epsilon": 3e-3} | _IDS,
        "Q8_0",
    ),
    "falcon": (
        "falcon",
        {"model_type": "falcon", "vocab_size": VOCABULARY, "hidden_size": 32, "multi_query": True}
        | {"num_hidden_layers": 2, "num_attention_heads": 4, "layer_norm_epsilon": 3e-3}
        | {"max_position_embeddings": 64} | _IDS,
        "Q8_0",
    ),
    "t5": ("t5", _T5, "Q8_0"),
    "t5-umt5": ("t5", _T5 | {"model_type": "umt5"}, "Q8_0"),
    "t5encoder": ("t5encoder", _T5, "Q8_0"),
}  # fmt: skip
SCALES = {  # bytes at which a block has a float16
    **{"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "MXFP4": []},
    **{"Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]},
}


def blocks() -> None:
    """Writes a matrix of each type, and its numbers."""
    rng = np.random.default_rng(17)
    writer = gguf.GGUFWriter(ROOT / "blocks.gguf", "llama")
    writer.add_array("tokens", ["a", "\u00df", ""])
    writer.add_array("numbers", [1, -2])
    writer.add_float32("half", 0.5)
    writer.add_int32("minus", -3)
    writer.add_bool("yes", True)
    expected = {}
    for kind in (Type.F32, Type.F16, Type.BF16):
        data = quants.quantize(rng.standard_normal((3, 6), np.float32), kind)
        writer.add_tensor(kind.name, data, raw_dtype=kind)
        expected[kind.name] = quants.dequantize(data, kind)
    for name, places in SCALES.items():
        kind = Type[name]
        size, nbytes = SIZES[kind]
        data = rng.integers(0, 256, (2, max(1, 64 // size), nbytes), np.uint8)
        for place in places:
            scales = rng.standard_normal(data.shape[:2]).astype(np.float16)
            data[..., place : place + 2] = scales[..., None].view(np.uint8)
        if name == "MXFP4":
            data[..., 0] = rng.integers(0, 254, data.shape[:2])  # 255 is NaN elsewhere
        data = data.reshape(2, -1)
        writer.add_tensor(name, data, raw_dtype=kind)
        expected[name] = quants.dequantize(data, kind)
    _write(writer)
    np.savez_compressed(ROOT / "blocks.npz", **expected)


def class_of(architecture: str):
    """Returns the class of Transformers that reads an architecture."""
    if architecture == "t5encoder":
        return transformers.T5EncoderModel
    if architecture == "t5":
        return transformers.AutoModelForSeq2SeqLM
    return transformers.AutoModelForCausalLM


def model_of(architecture: str, config, rng: np.random.Generator):
    """Returns a model with weights that move every output."""
    cls = class_of(architecture)
    make = getattr(cls, "from_config", cls)
    model = make(config).float().eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            drawn = rng.standard_normal(weight.shape, np.float32)
            plus = 1 if "norm" in name or "ln_" in name else 0
            bias = name.endswith("bias") or "gemma" in config.model_type
            weight.copy_(torch.from_numpy(0.2 * drawn + (0 if bias else plus)))
    return model


def converted(name: str, data: np.ndarray, architecture: str, config) -> np.ndarray:
    """Does to a tensor of Transformers what llama.cpp's converter does."""
    if architecture == "llama" and ("q_proj" in name or "k_proj" in name):
        key = "num_attention_heads" if "q_proj" in name else "num_key_value_heads"
        heads = getattr(config, key)
        rows = data.reshape(heads, 2, data.shape[0] // heads // 2, *data.shape[1:])
        return rows.swapaxes(1, 2).reshape(data.shape)
    if "gemma" in architecture and name.endswith("norm.weight"):
        return data + 1
    if architecture == "gpt2" and name.endswith(
        (".c_attn.weight", ".c_fc.weight", ".c_proj.weight")
    ):
        return data.T
    if "query_key_value" in name:
        heads = config.num_attention_heads if architecture == "falcon" else config.n_head
        groups = 1 if architecture == "falcon" else heads
        dim = config.hidden_size // heads
        rows = data.reshape(groups, heads // groups + 2, dim, *data.shape[1:])
        parts = (rows[:, :-2], rows[:, -2:-1], rows[:, -1:])
        return np.concatenate([part.reshape(-1, *data.shape[1:]) for part in parts])
    return data


def metadata(writer: gguf.GGUFWriter, architecture: str, config) -> None:
    """Writes what llama.cpp's converter writes of a configuration."""
    writer.add_tokenizer_model("gpt2")
    if "t5" in architecture:
        writer.add_name(config.model_type)
        writer.add_decoder_start_token_id(config.decoder_start_token_id)
        writer.add_relative_attn_buckets_count(config.relative_attention_num_buckets)
        writer.add_key_length(config.d_kv)
        writer.add_layer_norm_rms_eps(config.layer_norm_epsilon)
    writer.add_token_list([f"t{i}" for i in range(VOCABULARY)])
    writer.add_bos_token_id(config.bos_token_id)
    writer.add_eos_token_id(config.eos_token_id)
    writer.add_pad_token_id(config.pad_token_id)
    writer.add_context_length(getattr(config, "max_position_embeddings", 64))
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    wide = 4 * config.hidden_size
    there = (getattr(config, key, None) for key in ("intermediate_size", "n_inner", "d_ff"))
    inner = next((size for size in there if size), wide)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(config.num_attention_heads)
    groups = getattr(config, "num_key_value_heads", None)
    if architecture == "falcon":
        groups = 1
    if groups is not None:
        writer.add_head_count_kv(groups)
    for key in ("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"):
        if hasattr(config, key):
            writer.add_layer_norm_eps(getattr(config, key))
    if hasattr(config, "rms_norm_eps"):
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rope = getattr(config, "rope_parameters", None)
    if rope:
        rope = rope.get("full_attention", rope)
        writer.add_rope_dimension_count(int(head * rope.get("partial_rotary_factor", 1)))
        writer.add_rope_freq_base(rope["rope_theta"])
    if "gemma" in architecture or architecture == "qwen3":
        writer.add_key_length(head)
        writer.add_value_length(head)
    if "gemma" in architecture or architecture == "phi3":
        writer.add_sliding_window(config.sliding_window)
    if architecture == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)


def rope_factors(config) -> np.ndarray | None:
    """Returns what frequencies are divided by, of a Llama 3.1."""
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") != "llama3":
        return None
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    stretched, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    dims = 2 * len(stretched)
    plain = 1.0 / rope["rope_theta"] ** (torch.arange(0, dims, 2, dtype=torch.float32) / dims)
    return (plain / stretched).numpy().astype(np.float32)


def write(path: Path, architecture: str, model, types: str) -> None:
    """Writes a model as llama.cpp's converter does, its matrices in these types in turn."""
    config = model.config
    writer = gguf.GGUFWriter(path, architecture)
    metadata(writer, architecture, config)
    if (factors := rope_factors(config)) is not None:
        writer.add_tensor("rope_freqs.weight", factors)
    arch = next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == architecture)
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    kinds, count = types.split(), 0
    # Transformers 5 says that any T5 is tied; a file of one that was not has the head.
    tied = getattr(config, "tie_word_embeddings", True) and config.model_type != "t5"
    for key, weight in model.state_dict().items():
        if key == "lm_head.weight" and tied or key.endswith("rotary_emb.inv_freq"):
            continue
        called = key.removeprefix("transformer.") if architecture == "bloom" else key
        if "t5" in architecture and key.endswith("embed_tokens.weight"):
            continue  # the table again
        there = names.get_name(called, try_suffixes=(".weight", ".bias"))
        assert there, key
        data = converted(key, weight.numpy(), architecture, config)
        kind = Type.F32
        if data.ndim == 2 and "position" not in there and "rel_b" not in there:
            kind, count = Type[kinds[count % len(kinds)]], count + 1
        data = quants.quantize(np.ascontiguousarray(data), kind)
        writer.add_tensor(there, data, raw_dtype=kind)
    _write(writer)


def run(model, architecture: str) -> np.ndarray:
    """Returns the logits of a model, or the states of an encoder."""
    ids = torch.from_numpy(np.random.default_rng(1).integers(0, VOCABULARY, (2, 9)))
    with torch.no_grad():
        if architecture == "t5encoder":
            return model(ids).last_hidden_state.numpy()
        more = {"decoder_input_ids": ids[:, ::2]} if architecture == "t5" else {}
        return model(ids, **more).logits.numpy()


def read(path: Path, architecture: str, config):
    """Returns the model of a file, as Transformers reads it."""
    cls, folder, name = class_of(architecture), path.parent, path.name
    return cls.from_pretrained(folder, gguf_file=name, config=config, dtype=torch.float32).eval()


def case(name: str, architecture: str, values: dict, types: str) -> tuple[dict, np.ndarray]:
    """Writes a model -> its configuration, and the logits."""
    values = dict(values)
    config = transformers.AutoConfig.for_model(values.pop("model_type"), **values)
    model = model_of(architecture, config, np.random.default_rng(len(name)))
    exact = run(model, architecture)
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        said = json.loads((Path(folder) / "config.json").read_text())
        path = Path(folder) / f"{name}.gguf"
        write(path, architecture, model, "F32")
        logits = run(read(path, architecture, config), architecture)
        np.testing.assert_allclose(logits, exact, atol=1e-4)
    path = ROOT / f"{name}.gguf"
    write(path, architecture, model, types)
    logits = run(read(path, architecture, config), architecture)
    print(f"{name}: {np.abs(logits - exact).mean() / np.abs(exact).mean():.3f} apart by {types}")
    return said, logits


def _write(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    ROOT.mkdir(parents=True, exist_ok=True)
    blocks()
    configs, logits = {}, {}
    for name, row in CASES.items():
        configs[name], logits[name] = case(name, *row)
    versions = {"python": platform.python_version(), "gguf": "0.19.0"}
    versions |= {x.__name__: x.__version__ for x in (np, torch, transformers)}
    text = json.dumps({"versions": versions, "configs": configs}, indent=1, sort_keys=True)
    (ROOT / "expected.json").write_text(text + "\n")
    np.savez_compressed(ROOT / "logits.npz", **logits)


if __name__ == "__main__":
    main()

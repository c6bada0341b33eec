"""The names of modules in GGUF files, and in PyTorch's checkpoints: {that in the file: the other},
with "*" for the number of a layer. They are those of `gguf.tensor_mapping`, of llama.cpp."""

from collections.abc import Mapping


def _in(layers: str, names: Mapping[str, str], there: str = "blk") -> dict[str, str]:
    """Returns the names of modules of layers with those of the lists that they are in."""
    return {f"{there}.*.{name}": f"{layers}.*.{new}" for name, new in names.items()}


def _llama(*parts: Mapping[str, str]) -> dict[str, str]:
    """Returns the names of an architecture whose layers have these."""
    top = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    return top | {k: v for part in parts for k, v in _in("model.layers", part).items()}


def _transformer(top: Mapping[str, str], layer: Mapping[str, str]) -> dict[str, str]:
    """Returns the names of an architecture whose backbone is `transformer`, with its list `h`."""
    ends = {"output_norm": "transformer.ln_f", "output": "lm_head"}
    return {**top, **ends, **_in("transformer.h", layer)}


def _t5_attention(layer: int, module: str, start: str = "") -> dict[str, str]:
    """Returns the names of an attention of T5, which is a layer with its norm."""
    parts = {"attn_q": "q", "attn_k": "k", "attn_v": "v", "attn_o": "o"}
    parts |= {"attn_rel_b": "relative_attention_bias"}
    names = {start + name: f"layer.{layer}.{module}.{new}" for name, new in parts.items()}
    return names | {f"{start}attn_norm": f"layer.{layer}.layer_norm"}


def _t5_mlp(layer: int) -> dict[str, str]:
    """Returns the names of a gated MLP of T5, which is a layer with its norm."""
    parts = {"ffn_gate": "wi_0", "ffn_up": "wi_1", "ffn_down": "wo"}
    names = {name: f"layer.{layer}.DenseReluDense.{new}" for name, new in parts.items()}
    return names | {"ffn_norm": f"layer.{layer}.layer_norm"}


_ATTENTION = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
}
_QK_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
_MLP = {"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
_JOINED = {"attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"}
_FOUR_NORMS = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}

LLAMA = _llama(_ATTENTION, _MLP)
QWEN3 = _llama(_ATTENTION, _QK_NORMS, _MLP)
GEMMA2 = _llama(_ATTENTION, _MLP, _FOUR_NORMS)
GEMMA3 = _llama(_ATTENTION, _QK_NORMS, _MLP, _FOUR_NORMS)
NORMS = ("output_norm", "attn_norm", *_FOUR_NORMS, *_QK_NORMS)
PHI3 = _llama(_ATTENTION, _MLP, _JOINED)
STARCODER2 = _llama(_ATTENTION, {"ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"})
GPT2 = _transformer(
    {
        "token_embd": "transformer.wte",
        "position_embd": "transformer.wpe",
    },
    {
        "attn_norm": "ln_1",
        "attn_qkv": "attn.c_attn",
        "attn_output": "attn.c_proj",
        "ffn_norm": "ln_2",
        "ffn_up": "mlp.c_fc",
        "ffn_down": "mlp.c_proj",
    },
)
BLOOM = _transformer(
    {
        "token_embd": "transformer.word_embeddings",
        "token_embd_norm": "transformer.word_embeddings_layernorm",
    },
    {
        "attn_norm": "input_layernorm",
        "attn_qkv": "self_attention.query_key_value",
        "attn_output": "self_attention.dense",
        "ffn_norm": "post_attention_layernorm",
        "ffn_up": "mlp.dense_h_to_4h",
        "ffn_down": "mlp.dense_4h_to_h",
    },
)
T5 = {
    "token_embd": "shared",
    "enc.output_norm": "encoder.final_layer_norm",
    "dec.output_norm": "decoder.final_layer_norm",
    "output": "lm_head",
    **_in("encoder.block", _t5_attention(0, "SelfAttention") | _t5_mlp(1), "enc.blk"),
    **_in("decoder.block", _t5_attention(0, "SelfAttention") | _t5_mlp(2), "dec.blk"),
    **_in("decoder.block", _t5_attention(1, "EncDecAttention", "cross_"), "dec.blk"),
}

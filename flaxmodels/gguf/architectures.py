"""The architectures of GGUF files that are read, as a table: what their metadata is called in
`config.json`, what their tensors are called in PyTorch's checkpoints, and what llama.cpp's
converter did to these, which is undone.

Reference: `modeling_gguf_pytorch_utils` and `integrations/ggml` of Transformers 5.23, and
`convert_hf_to_gguf` of llama.cpp. A line here needs a golden in `tests/goldens/gguf/`.
"""

import dataclasses
from collections.abc import Callable, Mapping

from ..documents.json_values import Json
from ..params.formats import Tensor
from . import undo
from .keys import Keys
from .rope import partial_rope_of, rope_of

Change = Callable[[Tensor, Keys], Tensor]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture:
    """How the files of an architecture are read.

    Attributes:
        model_type: of `config.json`.
        model_class: the class that `architectures` of `config.json` names.
        integers, numbers: {key of the metadata: key of `config.json`}, all of which must be there.
        layers: the list of layers in PyTorch's names.
        names: {module of the file: module of PyTorch}.
        layer_names: the same within a layer: `blk.<number>.` in the file.
        changes: {module of the file: what is undone}.
        more: what else of `config.json` follows from the metadata.
    """

    model_type: str
    model_class: str
    integers: Mapping[str, str]
    numbers: Mapping[str, str]
    layers: str
    names: Mapping[str, str]
    layer_names: Mapping[str, str]
    changes: Mapping[str, Change] = dataclasses.field(default_factory=dict)
    more: tuple[Callable[[Keys], Mapping[str, Json]], ...] = ()


_SIZES = {
    "context_length": "max_position_embeddings",
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
}
_RMS = {"attention.layer_norm_rms_epsilon": "rms_norm_eps"}
_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
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
_FOUR_NORMS = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_NORMS = ("output_norm", "attn_norm", *_FOUR_NORMS, *_QK_NORMS)
_BLOOM_NAMES = {
    "token_embd": "transformer.word_embeddings",
    "token_embd_norm": "transformer.word_embeddings_layernorm",
    "output_norm": "transformer.ln_f",
    "output": "lm_head",
}
_BLOOM_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_qkv": "self_attention.query_key_value",
    "attn_output": "self_attention.dense",
    "ffn_norm": "post_attention_layernorm",
    "ffn_up": "mlp.dense_h_to_4h",
    "ffn_down": "mlp.dense_4h_to_h",
}


def _heads(keys: Keys) -> dict[str, Json]:
    return {
        "num_attention_heads": keys.heads,
        "num_key_value_heads": keys.kv_heads,
        "head_dim": keys.head_dim,
    }


def _window(keys: Keys) -> dict[str, Json]:
    """Returns the sliding window, which is 0 or left out where there is none."""
    return {"sliding_window": keys.whole("attention.sliding_window", 0) or None}


def _llama_rope(keys: Keys) -> dict[str, Json]:
    """Returns the rotation, and the width of heads: older files say it in the number of dimensions
    that turn alone."""
    dims = keys.whole("rope.dimension_count", keys.head_dim)
    dims = keys.whole("attention.key_length", dims)
    return {"head_dim": dims} | rope_of(keys, dims)


def _gemma_attention(keys: Keys, largest: int) -> dict[str, Json]:
    """Returns what scores are divided by, which the file does not say: llama.cpp knows the largest
    model of a generation by its number of layers."""
    width = keys.whole("embedding_length") // keys.heads
    is_largest = keys.whole("block_count") == largest
    return {"query_pre_attn_scalar": width if is_largest else keys.head_dim, **_window(keys)}


def _gemma2(keys: Keys) -> dict[str, Json]:
    caps = ("attn_logit_softcapping", "final_logit_softcapping")
    return _gemma_attention(keys, 46) | {key: keys.number(key) for key in caps if key in keys}


def _gemma3(keys: Keys) -> dict[str, Json]:
    theta = keys.number("rope.freq_base_swa", 10_000.0)
    return _gemma_attention(keys, 62) | {
        "rope_local_base_freq": theta,
        "sliding_window_pattern": keys.whole("attention.sliding_window_pattern", 6),
    }


def _bloom(keys: Keys) -> dict[str, Json]:
    if keys.kv_heads != keys.heads:
        keys.refuse("attention.head_count_kv", f"{keys.heads}, as many as there are heads")
    return {"n_head": keys.heads}


def _falcon(keys: Keys) -> dict[str, Json]:
    """Returns which of Falcon's shapes a file has: two norms in a layer are those of 40B and
    later."""
    new = "blk.0.attn_norm_2.weight" in keys.gguf.tensors
    return {
        "num_attention_heads": keys.heads,
        "num_kv_heads": keys.kv_heads,
        "new_decoder_architecture": new,
        "multi_query": not new and keys.kv_heads == 1,
    }


def _stablelm(keys: Keys) -> dict[str, Json]:
    return {
        "use_qkv_bias": "blk.0.attn_q.bias" in keys.gguf.tensors,
        "use_parallel_residual": "blk.0.ffn_norm.weight" not in keys.gguf.tensors,
    }


LLAMA = Architecture(
    model_type="llama",
    model_class="LlamaForCausalLM",
    integers=_SIZES,
    numbers=_RMS,
    layers="model.layers",
    names=_NAMES,
    layer_names=_ATTENTION | _MLP,
    changes={"attn_q": undo.query_rows, "attn_k": undo.key_rows},
    more=(_heads, _llama_rope),
)
_QWEN = dataclasses.replace(LLAMA, changes={}, more=(_heads, rope_of))
_GEMMA = dataclasses.replace(
    LLAMA,
    layer_names=_ATTENTION | _MLP | _FOUR_NORMS,
    changes=dict.fromkeys(_NORMS, undo.plus_one),
)
_BLOOM = Architecture(
    model_type="bloom",
    model_class="BloomForCausalLM",
    integers={"block_count": "n_layer", "embedding_length": "hidden_size"},
    numbers={"attention.layer_norm_epsilon": "layer_norm_epsilon"},
    layers="transformer.h",
    names=_BLOOM_NAMES,
    layer_names=_BLOOM_LAYER,
    changes={"attn_qkv": undo.grouped_qkv},
    more=(_bloom,),
)

ARCHITECTURES = {
    "llama": LLAMA,
    "qwen2": dataclasses.replace(_QWEN, model_type="qwen2", model_class="Qwen2ForCausalLM"),
    "qwen3": dataclasses.replace(
        _QWEN,
        model_type="qwen3",
        model_class="Qwen3ForCausalLM",
        layer_names=_ATTENTION | _QK_NORMS | _MLP,
    ),
    "gemma2": dataclasses.replace(
        _GEMMA,
        model_type="gemma2",
        model_class="Gemma2ForCausalLM",
        more=(_heads, rope_of, _gemma2),
    ),
    "gemma3": dataclasses.replace(
        _GEMMA,
        model_type="gemma3_text",
        model_class="Gemma3ForCausalLM",
        layer_names=_ATTENTION | _QK_NORMS | _MLP | _FOUR_NORMS,
        more=(_heads, rope_of, _gemma3),
    ),
    "phi3": dataclasses.replace(
        LLAMA,
        model_type="phi3",
        model_class="Phi3ForCausalLM",
        layer_names=_ATTENTION
        | {
            "attn_qkv": "self_attn.qkv_proj",
            "ffn_up": "mlp.gate_up_proj",
            "ffn_down": "mlp.down_proj",
        },
        changes={},
        more=(_heads, partial_rope_of, _window),
    ),
    "starcoder2": dataclasses.replace(
        _QWEN,
        model_type="starcoder2",
        model_class="Starcoder2ForCausalLM",
        numbers={"attention.layer_norm_epsilon": "norm_epsilon"},
        layer_names=_ATTENTION | {"ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"},
    ),
    "stablelm": dataclasses.replace(
        _QWEN,
        model_type="stablelm",
        model_class="StableLmForCausalLM",
        numbers={"attention.layer_norm_epsilon": "layer_norm_eps"},
        more=(_heads, partial_rope_of, _stablelm),
    ),
    "gpt2": Architecture(
        model_type="gpt2",
        model_class="GPT2LMHeadModel",
        integers={
            "context_length": "n_positions",
            "block_count": "n_layer",
            "embedding_length": "n_embd",
            "feed_forward_length": "n_inner",
        },
        numbers={"attention.layer_norm_epsilon": "layer_norm_epsilon"},
        layers="transformer.h",
        names={
            "token_embd": "transformer.wte",
            "position_embd": "transformer.wpe",
            "output_norm": "transformer.ln_f",
            "output": "lm_head",
        },
        layer_names={
            "attn_norm": "ln_1",
            "attn_qkv": "attn.c_attn",
            "attn_output": "attn.c_proj",
            "ffn_norm": "ln_2",
            "ffn_up": "mlp.c_fc",
            "ffn_down": "mlp.c_proj",
        },
        changes=dict.fromkeys(
            ("attn_qkv", "attn_output", "ffn_up", "ffn_down"), undo.transposition
        ),
        more=(lambda keys: {"n_head": keys.heads},),
    ),
    "bloom": _BLOOM,
    "falcon": dataclasses.replace(
        _BLOOM,
        model_type="falcon",
        model_class="FalconForCausalLM",
        integers={
            "context_length": "max_position_embeddings",
            "block_count": "num_hidden_layers",
            "embedding_length": "hidden_size",
            "feed_forward_length": "ffn_hidden_size",
        },
        layer_names=_BLOOM_LAYER | {"ffn_norm": "post_attention_layernorm"},
        more=(_falcon, rope_of),
    ),
}
"""{general.architecture of the metadata: how it is read}."""

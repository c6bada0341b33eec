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
from ..registry import FAMILIES
from . import names, undo
from .keys import Keys
from .rope import partial_rope_of, rope_of

Change = Callable[[Tensor, Keys], Tensor]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture:
    """How the files of an architecture are read.

    Attributes:
        model_type: of `config.json`.
        serves: the auto class whose class of the family `architectures` of `config.json` names.
        integers, numbers: {key of the metadata: key of `config.json`}, all of which must be there.
        names: {module of the file: module of PyTorch}, "*" for the number of a layer.
        changes: {end of the name of a module of the file: what is undone}.
        backbone: what the names of PyTorch's backbone begin with.
        more: what else of `config.json` follows from the metadata.
    """

    model_type: str
    serves: str = "AutoModelForCausalLM"
    integers: Mapping[str, str]
    numbers: Mapping[str, str]
    names: Mapping[str, str]
    changes: Mapping[str, Change] = dataclasses.field(default_factory=dict)
    more: tuple[Callable[[Keys], Mapping[str, Json]], ...] = ()
    backbone: str = "model."

    @property
    def model_class(self) -> str | None:
        """The class that `architectures` of `config.json` names."""
        return FAMILIES[self.model_type].serving(self.serves)


_SIZES = {
    "context_length": "max_position_embeddings",
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
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


def _llama_biases(keys: Keys) -> dict[str, Json]:
    """Returns which layers have biases, as in files of a few models that are like Llama."""
    tensors = keys.gguf.tensors
    return {
        "attention_bias": "blk.0.attn_q.bias" in tensors,
        "mlp_bias": "blk.0.ffn_up.bias" in tensors,
    }


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
    values = _gemma_attention(keys, 62)
    values["rope_local_base_freq"] = keys.number("rope.freq_base_swa", 10_000.0)
    if slides := keys.flags("attention.sliding_window_pattern"):
        kinds = {True: "sliding_attention", False: "full_attention"}
        return values | {"layer_types": [kinds[layer] for layer in slides]}
    every = keys.whole("attention.sliding_window_pattern", 6)
    return values | {"sliding_window_pattern": every}


def _bloom(keys: Keys) -> dict[str, Json]:
    if keys.kv_heads != keys.heads:
        keys.refuse("attention.head_count_kv", f"{keys.heads}, as many as there are heads")
    return {"n_head": keys.heads}


def _falcon(keys: Keys) -> dict[str, Json]:
    """Returns how heads share keys. Layers with two norms, those of 40B and later, are refused: no
    reading of them is there to compare with."""
    if "blk.0.attn_norm_2.weight" in keys.gguf.tensors:
        keys.refuse("attention.head_count_kv", "a Falcon with one norm in a layer, as 7B")
    return {
        "num_attention_heads": keys.heads,
        "num_kv_heads": keys.kv_heads,
        "multi_query": keys.kv_heads == 1,
    }


def _stablelm(keys: Keys) -> dict[str, Json]:
    return {
        "use_qkv_bias": "blk.0.attn_q.bias" in keys.gguf.tensors,
        "use_parallel_residual": "blk.0.ffn_norm.weight" not in keys.gguf.tensors,
    }


def _t5(keys: Keys) -> dict[str, Json]:
    """Returns the shape of a T5 1.1, or of a UMT5, all of whose layers have a table of bias. The
    MLP of T5 1.0, without a gate, is refused: Transformers reads such files as gated ones."""
    tensors = keys.gguf.tensors
    if "enc.blk.0.ffn_gate.weight" not in tensors:
        keys.refuse("feed_forward_length", "that of an MLP with a gate, as of T5 1.1 and Flan")
    head = "ForConditionalGeneration" if "dec.output_norm.weight" in tensors else "EncoderModel"
    values: dict[str, Json] = {
        "architectures": [f"T5{head}"],
        "num_heads": keys.heads,
        "feed_forward_proj": "gated-gelu",
        "num_decoder_layers": keys.whole("decoder_block_count", keys.whole("block_count")),
    }
    if "decoder_start_token_id" in keys:
        values["decoder_start_token_id"] = keys.whole("decoder_start_token_id")
    if "enc.blk.1.attn_rel_b.weight" in tensors:
        values |= {"model_type": "umt5", "architectures": [f"UMT5{head}"]}
    return values


LLAMA = Architecture(
    model_type="llama",
    integers=_SIZES,
    numbers={"attention.layer_norm_rms_epsilon": "rms_norm_eps"},
    names=names.LLAMA,
    changes={"attn_q": undo.query_rows, "attn_k": undo.key_rows},
    more=(_heads, _llama_rope, _llama_biases),
)
_QWEN = dataclasses.replace(LLAMA, changes={}, more=(_heads, rope_of))
_GEMMA = dataclasses.replace(
    LLAMA, names=names.GEMMA2, changes=dict.fromkeys(names.NORMS, undo.plus_one)
)
_BLOOM = Architecture(
    model_type="bloom",
    integers={"block_count": "n_layer", "embedding_length": "hidden_size"},
    numbers={"attention.layer_norm_epsilon": "layer_norm_epsilon"},
    names=names.BLOOM,
    backbone="transformer.",
    changes={"attn_qkv": undo.grouped_qkv},
    more=(_bloom,),
)

_T5 = Architecture(
    model_type="t5",
    serves="AutoModelForSeq2SeqLM",
    integers={
        "context_length": "n_positions",
        "block_count": "num_layers",
        "embedding_length": "d_model",
        "feed_forward_length": "d_ff",
        "attention.key_length": "d_kv",
        "attention.relative_buckets_count": "relative_attention_num_buckets",
    },
    numbers={"attention.layer_norm_rms_epsilon": "layer_norm_epsilon"},
    names=names.T5,
    more=(_t5,),
    backbone="",
)

ARCHITECTURES = {
    "llama": LLAMA,
    "qwen2": dataclasses.replace(_QWEN, model_type="qwen2"),
    "qwen3": dataclasses.replace(_QWEN, model_type="qwen3", names=names.QWEN3),
    "gemma2": dataclasses.replace(_GEMMA, model_type="gemma2", more=(_heads, rope_of, _gemma2)),
    "gemma3": dataclasses.replace(
        _GEMMA,
        model_type="gemma3_text",
        names=names.GEMMA3,
        more=(_heads, rope_of, _gemma3),
    ),
    "phi3": dataclasses.replace(
        LLAMA,
        model_type="phi3",
        names=names.PHI3,
        changes={},
        more=(_heads, partial_rope_of, _window),
    ),
    "starcoder2": dataclasses.replace(
        _QWEN,
        model_type="starcoder2",
        numbers={"attention.layer_norm_epsilon": "norm_epsilon"},
        names=names.STARCODER2,
    ),
    "stablelm": dataclasses.replace(
        _QWEN,
        model_type="stablelm",
        numbers={"attention.layer_norm_epsilon": "layer_norm_eps"},
        more=(_heads, partial_rope_of, _stablelm),
    ),
    "gpt2": Architecture(
        model_type="gpt2",
        integers={
            "context_length": "n_positions",
            "block_count": "n_layer",
            "embedding_length": "n_embd",
            "feed_forward_length": "n_inner",
        },
        numbers={"attention.layer_norm_epsilon": "layer_norm_epsilon"},
        names=names.GPT2,
        backbone="transformer.",
        changes=dict.fromkeys(
            ("attn_qkv", "attn_output", "ffn_up", "ffn_down"), undo.transposition
        ),
        more=(lambda keys: {"n_head": keys.heads},),
    ),
    "bloom": _BLOOM,
    "falcon": dataclasses.replace(
        _BLOOM,
        model_type="falcon",
        integers=_SIZES | {"feed_forward_length": "ffn_hidden_size"},
        more=(_falcon, rope_of),
    ),
    "t5": _T5,
    "t5encoder": _T5,
}
"""{general.architecture of the metadata: how it is read}."""

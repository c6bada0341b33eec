"""RoPE in the metadata of GGUF files, and in the tensors of factors that some have beside it.

What is not there has llama.cpp's defaults. Where Transformers leaves keys out (it reads no scaling
but gpt-oss's), they are read here as llama.cpp reads them.
"""

import math

import numpy as np

from .. import params as fp
from ..documents.json_values import Json
from ..params.errors import quoted, some
from .keys import Keys

_SCALING = "rope.scaling."
_READ = {
    _SCALING + key
    for key in "type factor original_context_length attn_factor finetuned yarn_beta_fast "
    "yarn_beta_slow".split()
}
FACTORS = ("rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight")
"""The tensors of factors by which frequencies are divided, float32 [R / 2]."""


def rope_of(keys: Keys, head_dim: int | None = None) -> dict[str, Json]:
    """Returns the keys of `config.json` for a rotation of all of each head."""
    head_dim = keys.head_dim if head_dim is None else head_dim
    if keys.whole("rope.dimension_count", head_dim) != head_dim:
        keys.refuse("rope.dimension_count", f"{head_dim}, the width of a head")
    return _theta(keys) | _scaling(keys, head_dim)


def partial_rope_of(keys: Keys) -> dict[str, Json]:
    """Returns the keys of `config.json` for a rotation that may be of a part of each head."""
    dims = keys.whole("rope.dimension_count", keys.head_dim)
    part = dims / max(keys.head_dim, 1)
    if int(part * keys.head_dim) < dims:  # which is how many dimensions a model turns
        part = math.nextafter(part, 2)
    return _theta(keys) | {"partial_rotary_factor": part} | _scaling(keys, dims)


def _theta(keys: Keys) -> dict[str, Json]:
    return {"rope_theta": keys.number("rope.freq_base", 10_000.0)}


def _scaling(keys: Keys, dims: int) -> dict[str, Json]:
    if odd := sorted(key for key in keys if key.startswith(_SCALING) and key not in _READ):
        keys.refuse(odd[0], f"no such key, but {', '.join(sorted(_READ))}")
    context = keys.whole("context_length")
    original = keys.whole(f"{_SCALING}original_context_length", context)
    kind = keys.text(f"{_SCALING}type", "linear")
    factor = keys.number(f"{_SCALING}factor", 1.0) or 1.0  # 0 is llama.cpp's "as trained"
    if factors := _factors(keys, dims):
        if factor != 1.0 and kind != "longrope":
            keys.refuse(f"{_SCALING}factor", "1, beside tensors of factors")
        return {"rope_scaling": _by_factors(keys, factors, original)}
    if kind == "none" or (kind == "linear" and factor == 1.0):
        return {}
    if kind == "linear":
        return {"rope_scaling": {"rope_type": "linear", "factor": factor}}
    if kind != "yarn":
        keys.refuse(f"{_SCALING}type", "none, linear, yarn, or longrope with tensors of factors")
    rope: dict[str, Json] = {"rope_type": "yarn", "factor": factor}
    rope["original_max_position_embeddings"] = original
    for key in ("beta_fast", "beta_slow"):
        if (there := f"{_SCALING}yarn_{key}") in keys:
            rope[key] = keys.number(there)
    if (by := keys.number(f"{_SCALING}attn_factor", 1.0)) != 1.0:
        rope["attention_factor"] = by * (1 + 0.1 * math.log(max(factor, 1.0)))
    return {"rope_scaling": rope}


def _by_factors(keys: Keys, factors: list[list[float]], original: int) -> dict[str, Json]:
    """Returns the scaling of a file with a tensor of factors for all lengths, as Llama 3.1's, or
    with two of them, for short contexts and for long ones, as Phi 3's."""
    rope: dict[str, Json] = {
        "rope_type": "longrope",
        "short_factor": factors[0],
        "long_factor": factors[-1],
        "original_max_position_embeddings": original,
    }
    if len(factors) == 1:
        rope["attention_factor"] = 1.0
    elif (there := f"{_SCALING}attn_factor") in keys:
        rope["attention_factor"] = keys.number(there)
    return rope


def _factors(keys: Keys, dims: int) -> list[list[float]]:
    """Reads the tensors of factors; none if there are none."""
    found = [keys.gguf.tensors[name] for name in FACTORS if name in keys.gguf.tensors]
    if [tensor.name for tensor in found] not in ([], [FACTORS[0]], [*FACTORS[1:]]):
        names = some(quoted(tensor.name) for tensor in found)
        raise fp.CheckpointError(
            f"{keys.gguf.path}: {names}; expected {quoted(FACTORS[0])} alone, or the other two"
        )
    for tensor in found:
        if tensor.shape != (dims // 2,) or tensor.dtype != np.float32:
            raise fp.CheckpointError(
                f"{keys.gguf.path}: tensor {quoted(tensor.name)} is {tensor.dtype} of shape "
                f"{tensor.shape}, expected float32 of shape {(dims // 2,)}"
            )
    return [tensor.read().tolist() for tensor in found]

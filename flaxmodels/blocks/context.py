"""What layers are told beside their config: once for a model, and once for a forward pass."""

from typing import Any, NamedTuple, Self

import jax

from .. import sharding as fs

DTYPES = ("float32", "bfloat16", "float16", "float64")


def check_dtype(dtype: Any) -> None:
    """Raises `ValueError` unless layers can compute in `dtype`."""
    if dtype.name not in DTYPES:
        raise ValueError(f"dtype {dtype.name}: no layer computes in it; use {', '.join(DTYPES)}")
    if jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise ValueError("dtype float64: JAX makes float32 of it unless jax_enable_x64 is set")


class Run(NamedTuple):
    """The choices of ours that inner modules need; hashable. See `PretrainedModel`."""

    attn_implementation: str = "sdpa"
    scan_layers: bool = False
    remat: Any = None
    rules: fs.Rules = fs.DEFAULT_RULES


class Call(NamedTuple):
    """What one forward pass tells every layer.

    Attributes:
        mask: bool [B or 1, 1, T or 1, S], True where a query may attend; None for everywhere.
        causal: query t may attend to keys 0..t only; T = S.
        head_scales: [N] of each layer, what the output of a head is multiplied with; or None.
        rotary: cosines and sines float32 [B or 1, T, H / 2].
        deterministic: no dropout.
        output_hidden_states: keep what enters every layer.
        output_attentions: keep the attention weights of every layer.
    """

    mask: jax.Array | None = None
    causal: bool = False
    head_scales: Any = None
    rotary: tuple[jax.Array, jax.Array] | None = None
    deterministic: bool = True
    output_hidden_states: bool = False
    output_attentions: bool = False

    @classmethod
    def of(
        cls,
        config: Any,
        deterministic: bool,
        output_hidden_states: bool | None,
        output_attentions: bool | None,
    ) -> Self:
        """What the caller asks for; the config decides what is None."""
        states, weights = output_hidden_states, output_attentions
        return cls(
            deterministic=deterministic,
            output_hidden_states=config.output_hidden_states if states is None else states,
            output_attentions=config.output_attentions if weights is None else weights,
        )

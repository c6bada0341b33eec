"""Model FLOPs utilisation: the operations that a model needs for a token, over what devices can do.

Chowdhery et al. 2022 (PaLM), arXiv:2204.02311, appendix B.
"""

import jax

from ... import params as fp
from ...core.model import Model
from ...editing.token_leaves import token_leaves
from ...params.scalars import whole
from ..argument_checks import check_model

_PEAKS = (
    ("TPU v2", 22.5e12),  # JAX shows each core of a chip of v2 and v3 as a device
    ("TPU v3", 61.5e12),
    ("TPU v4 lite", 138e12),
    ("TPU v4", 275e12),
    ("TPU v5 lite", 197e12),
    ("TPU v5e", 197e12),
    ("TPU v5", 459e12),
    ("TPU v6 lite", 918e12),
    ("TPU v6e", 918e12),
    ("NVIDIA GB200", 2500e12),
    ("NVIDIA B200", 2250e12),
    ("NVIDIA H200", 989e12),
    ("NVIDIA H100 PCIe", 756e12),
    ("NVIDIA H100 NVL", 835e12),
    ("NVIDIA H100", 989e12),
    ("NVIDIA GH200", 989e12),
    ("NVIDIA A100", 312e12),
    ("NVIDIA L40S", 362e12),
    ("NVIDIA L4", 121e12),
)
"""How `device_kind` begins -> FLOP/s in bfloat16, dense, of the makers' data sheets; the first that
fits counts."""


def peak_flops(device: jax.Device | None = None) -> float | None:
    """Returns the peak of a device in bfloat16, dense, in FLOP/s; None for a kind that is not in
    the table, such as a CPU.

    Args:
        device: the first of `jax.devices()` if None.
    """
    kind = (jax.devices()[0] if device is None else device).device_kind
    return next((peak for begins, peak in _PEAKS if kind.startswith(begins)), None)


def flops_per_token(model: Model, length: int) -> float:
    """Returns the floating-point operations that a training step needs for a token, all weights
    trained: 6 N + 12 L H Q T, and 6 N + 6 L H Q T if the model is causal.

    N numbers of the weights, without tables that are only looked up (a tied one is the head, and
    counts), L layers, H heads of width Q, T tokens in a row. A causal token attends to half of its
    row on average, so that its second term is halved: figures of others that count the whole square
    are higher. Windows are not considered, and what `remat` computes again does not count.

    Args:
        length: T, tokens of a row.

    Raises:
        ValueError: an encoder-decoder, or a model without heads, of which the formula says nothing.
    """
    check_model(model, "flops_per_token")
    config, length = model.config.text, whole("length", length)
    heads = getattr(config, "num_attention_heads", None)
    if heads is None or getattr(model, "is_encoder_decoder", False):
        raise ValueError(
            f"{type(model).__name__}: 6 N + 12 L H Q T is of one stack of layers with attention; "
            "give flops_per_token as a number of your own"
        )
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    pairs = length / 2 if getattr(model, "is_causal", False) else length
    return 6.0 * _multiplied(model) + 12.0 * config.num_hidden_layers * heads * width * pairs


def _multiplied(model: Model) -> int:
    """Counts the numbers of weights that a token is multiplied with."""
    own = token_leaves(model)
    serves_as_head = model.output_embeddings_path is not None and own.kernel is None

    def is_multiplied(path: str, _: object) -> bool:
        return path.rpartition("/")[2] != "embedding" or (serves_as_head and path == own.table)

    return fp.num_parameters(model.abstract_params(), is_multiplied)

"""Attention masks and head masks as methods of a model, and the warning about a mask that is
missing."""

import jax
import numpy as np
from jax.core import Tracer

from ..blocks import extended_attention_mask, get_head_mask, invert_attention_mask
from ..blocks.inputs import as_array
from ..core.model import Mixin
from ..params.errors import warn_once


class MaskHelpers(Mixin):
    """Adds what `ModuleUtilsMixin` of Transformers makes of masks."""

    def get_extended_attention_mask(
        self,
        attention_mask: jax.Array,
        input_shape: tuple[int, int],
        device: jax.Device | jax.sharding.Sharding | str | None = None,
        dtype: jax.typing.DTypeLike | None = None,
        *,
        causal: bool | None = None,
    ) -> jax.Array:
        """Makes an additive mask in the model's dtype: `blocks.extended_attention_mask`.

        Args:
            device: where to put it: a device, a sharding, or the name of a platform, "cpu".
            causal: whether tokens ignore later ones; None for what the config's `is_decoder` says.
        """
        if causal is None:
            causal = bool(self.config.to_dict().get("is_decoder"))
        mask = extended_attention_mask(
            attention_mask, input_shape, causal=causal, dtype=dtype or self.dtype
        )
        if isinstance(device, str):
            device = jax.devices(device)[0]
        return mask if device is None else jax.device_put(mask, device)

    def get_head_mask(
        self,
        head_mask: jax.Array | None,
        num_hidden_layers: int,
        is_attention_chunked: bool = False,
    ) -> jax.Array | None:
        """Shapes a head mask [N] or [L, N] to [L, 1, N, 1, 1]: `fm.get_head_mask`."""
        return get_head_mask(head_mask, num_hidden_layers, is_attention_chunked)

    def invert_attention_mask(
        self, encoder_attention_mask: jax.Array, dtype: jax.typing.DTypeLike | None = None
    ) -> jax.Array:
        """Makes an additive mask in the model's dtype: `blocks.invert_attention_mask`."""
        return invert_attention_mask(encoder_attention_mask, dtype or self.dtype)

    def warn_if_padding_and_no_attention_mask(
        self, input_ids: object, attention_mask: object = None
    ) -> None:
        """Warns, once in a process, if a row seems to begin or end with padding and there is no
        mask. Does not look at traced tokens."""
        pad = self.config.pad_token_id
        if attention_mask is not None or pad is None or isinstance(input_ids, Tracer):
            return
        ids = np.asarray(as_array("input_ids", input_ids))
        if not ids.ndim:
            raise ValueError(f"input_ids is {ids}; expected [B, T]")
        if not ids.size or not np.isin(ids[..., [0, -1]], pad).any():
            return
        others = {n: getattr(self.config, f"{n}_token_id", None) for n in ("bos", "eos")}
        same = [n for n, x in others.items() if pad in (x if isinstance(x, tuple) else (x,))]
        also = f", or that is the {' and the '.join(same)} token, which has its id" if same else ""
        warn_once(
            f"input_ids begin or end with the padding token ({pad}){also}, and there is no "
            "attention_mask; give one, or padding takes part in the result"
        )

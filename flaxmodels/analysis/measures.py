"""Measures of a model and its params: how many, how large, how much work."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .. import params as fp
from ..blocks import extended_attention_mask, get_head_mask, invert_attention_mask
from ..calls.arguments import abstract, split
from ..params.errors import warn

_said: set[str] = set()


class Measures:
    """What `PreTrainedModel` and `ModuleUtilsMixin` count and prepare."""

    def num_parameters(
        self,
        params: Any,
        *,
        only_trainable: bool = False,
        trainable: fp.Mask = True,
        exclude_embeddings: bool = False,
    ) -> int:
        """How many numbers the params hold, a tied table once; abstract params too.

        Args:
            only_trainable: those alone that the mask `trainable` selects.
            exclude_embeddings: not those of embedding tables, of tokens, positions or types.
        """
        trainable = fp.flatten(fp.as_mask(trainable, params))

        def counted(path: str, _: Any) -> bool:
            table = path.rpartition("/")[2] == "embedding"
            return not (exclude_embeddings and table) and (not only_trainable or trainable[path])

        return fp.num_parameters(params, counted)

    def get_memory_footprint(
        self, params: Any, return_buffers: bool = True, *, per_device: bool = False
    ) -> Any:
        """Bytes of the params, or {device: bytes} with `per_device`: `fp.memory_footprint`.

        Args:
            params: the tree; or all variables, {"params": tree, collection: tree, ...}.
            return_buffers: count the other collections too; our models have none.
        """
        if not return_buffers and _are_variables(params):
            params = params["params"]
        return fp.memory_footprint(params, per_device=per_device)

    def get_parameter_or_buffer(self, params: Any, target: str) -> Any:
        """The leaf at `target`, "model.layers.0.mlp.up_proj.kernel" or with slashes.

        Raises:
            KeyError: nothing is there; with the nearest names.
            ValueError: it is not a leaf.
        """
        return fp.get_leaf(params, target)

    def estimate_tokens(self: Any, inputs: Mapping[str, Any]) -> int:
        """How many tokens the main input holds; 0, said once, if it is not there. Lists, abstract
        values and tracers too."""
        if self.main_input_name in inputs:
            return math.prod(np.shape(inputs[self.main_input_name]))
        _once(
            f"{type(self).__name__}: without {self.main_input_name!r} the number of tokens is not "
            "known, and the estimate of floating-point operations is 0"
        )
        return 0

    def floating_point_ops(
        self: Any,
        inputs: Mapping[str, Any],
        *,
        exclude_embeddings: bool = True,
        exact: bool = False,
    ) -> int:
        """Floating-point operations of a forward and a backward pass over `inputs`.

        By default 6 x tokens x parameters (Kaplan et al. 2020, arXiv:2001.08361, section 2.1):
        right while 12 x hidden size is much more than the sequence length, for attention's
        quadratic part is left out.

        Args:
            inputs: arguments of the model, arrays or abstract.
            exclude_embeddings: leave embedding tables out of the number of parameters.
            exact: what XLA counts in the compiled program of the gradient with respect to the
                params; takes as long as compiling it, runs nothing. Layers are not scanned for it,
                since XLA counts a loop's body once.
        """
        if exact:
            arrays = {key: _as_array(value) for key, value in inputs.items()}
            return _counted(self.clone(scan_layers=False), arrays)
        count = self.num_parameters(self.abstract_params(), exclude_embeddings=exclude_embeddings)
        return 6 * self.estimate_tokens(inputs) * count

    def get_extended_attention_mask(
        self: Any,
        attention_mask: jax.Array,
        input_shape: tuple[int, int],
        device: Any = None,
        dtype: Any = None,
        *,
        causal: bool | None = None,
    ) -> jax.Array:
        """`masks.extended_attention_mask`, in the model's dtype.

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
        self, head_mask: Any, num_hidden_layers: int, is_attention_chunked: bool = False
    ) -> Any:
        """`fm.get_head_mask`: [N] or [L, N] -> [L, 1, N, 1, 1]; None stays None."""
        return get_head_mask(head_mask, num_hidden_layers, is_attention_chunked)

    def invert_attention_mask(
        self: Any, encoder_attention_mask: jax.Array, dtype: Any = None
    ) -> jax.Array:
        """`masks.invert_attention_mask`, in the model's dtype."""
        return invert_attention_mask(encoder_attention_mask, dtype or self.dtype)

    def warn_if_padding_and_no_attention_mask(
        self: Any, input_ids: Any, attention_mask: Any = None
    ) -> None:
        """Warns, once in a process, if a row seems to begin or end with padding and there is no
        mask. Traced tokens are not looked at."""
        pad = self.config.pad_token_id
        if attention_mask is not None or pad is None or isinstance(input_ids, Tracer):
            return
        ids = np.asarray(input_ids)
        if not ids.size or not np.isin(ids[..., [0, -1]], pad).any():
            return
        same = [name for name in ("bos", "eos") if _is(self.config, f"{name}_token_id", pad)]
        also = f", or that is the {' and the '.join(same)} token, which has its id" if same else ""
        _once(
            f"input_ids begin or end with the padding token ({pad}){also}, and there is no "
            "attention_mask; give one, or padding takes part in the result"
        )


def _are_variables(tree: Any) -> bool:
    """Whether a tree holds collections, as linen's `init` makes them, one of them params."""
    return isinstance(tree, Mapping) and isinstance(tree.get("params"), Mapping)


def _as_array(value: Any) -> Any:
    return np.asarray(value) if isinstance(value, list | tuple) else value


def _counted(model: Any, inputs: Mapping[str, Any]) -> int:
    arrays, rebuild = split(dict(inputs))

    def total(params: Any, arrays: list[jax.Array]) -> jax.Array:
        out = jax.tree.leaves(model.apply({"params": params}, **rebuild(arrays)))
        floats = [leaf for leaf in out if jnp.issubdtype(leaf.dtype, jnp.floating)]
        return jnp.stack([leaf.astype(jnp.float32).sum() for leaf in floats]).sum()

    given = [abstract(array) for array in arrays]
    lowered = jax.jit(jax.grad(total)).lower(model.abstract_params(), given)
    costs: Any = lowered.compile().cost_analysis()
    return int(costs["flops"])


def _is(config: Any, name: str, token: int) -> bool:
    value = getattr(config, name, None)
    return token in value if isinstance(value, tuple) else token == value


def _once(message: str) -> None:
    if message not in _said:
        _said.add(message)
        warn(message)

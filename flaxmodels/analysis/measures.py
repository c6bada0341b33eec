"""Measures of a model and its params, as methods: parameters, bytes, floating-point operations."""

from collections.abc import Mapping

import jax

from .. import params as fp
from ..core.model import Mixin
from ..params.types import Leaf
from .flops import estimate_tokens, floating_point_ops, is_no_embedding


class Measures(Mixin):
    """Adds what `PreTrainedModel` and `ModuleUtilsMixin` of Transformers count."""

    estimate_tokens = estimate_tokens
    floating_point_ops = floating_point_ops

    def num_parameters(
        self,
        params: fp.Params,
        *,
        only_trainable: bool = False,
        trainable: fp.Mask = True,
        exclude_embeddings: bool = False,
    ) -> int:
        """Counts the numbers in the params, a tied table once; abstract params too.

        Args:
            only_trainable: count those alone that the mask `trainable` selects.
            exclude_embeddings: leave out embedding tables, of tokens, positions or types.
        """
        chosen = fp.flatten(fp.as_mask(trainable if only_trainable else True, params))

        def counted(path: str, leaf: object) -> bool:
            return chosen[path] and (not exclude_embeddings or is_no_embedding(path, leaf))

        return fp.num_parameters(params, counted)

    def get_memory_footprint(
        self, params: fp.Params, return_buffers: bool = True, *, per_device: bool = False
    ) -> int | dict[jax.Device | str, int]:
        """Returns the bytes of the params, or {device: bytes} with `per_device`; see
        `fp.memory_footprint`.

        Args:
            params: the tree; or all variables, {"params": tree, collection: tree, ...}.
            return_buffers: count the other collections too; our models have none.
        """
        if not return_buffers and isinstance(params.get("params"), Mapping):
            params = params["params"]
        return fp.memory_footprint(params, per_device=per_device)

    def get_parameter_or_buffer(self, params: fp.Params, target: str) -> Leaf:
        """Returns the leaf at `target`, "model.layers.0.mlp.up_proj.kernel" or with slashes.

        Raises:
            KeyError: nothing is there; with the nearest names.
            ValueError: it is not a leaf.
        """
        return fp.get_leaf(params, target)

"""Switches: the same model run another way. Each is a `clone`; params do not change."""

import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from .blocks import check_remat
from .compiled import CompiledCall


class Switches:
    """What `PreTrainedModel` switches on and off."""

    def gradient_checkpointing_enable(self: Any, policy: str = "full") -> Any:
        """The model with each layer computed again in the backward pass, except what `policy`
        saves: "full" (nothing), or a name in `jax.checkpoint_policies`."""
        check_remat(policy)
        return self.clone(remat=policy)

    def gradient_checkpointing_disable(self: Any) -> Any:
        """The model that keeps what the backward pass needs."""
        return self.clone(remat=None)

    def enable_input_require_grads(self: Any) -> Any:
        """The model with a tap at its input embeddings: `embedding_taps` makes zeros that are
        added there, and the gradient with respect to them is that of the embeddings.

        Adapters, with frozen params or remat, do not need it: `jax.grad` asks for what it is
        given.
        """
        return self.clone(embed_tap=True)

    def disable_input_require_grads(self: Any) -> Any:
        """The model without the tap."""
        return self.clone(embed_tap=False)

    def embedding_taps(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Zeros for a call with these arguments:
        `model.apply({"params": params, "perturbations": taps}, *args, **kwargs)`.

        Raises:
            ValueError: the model has no tap.
        """
        if not self.embed_tap:
            raise ValueError("the model has no tap; call enable_input_require_grads() first")
        made = jax.eval_shape(lambda: self.init(jax.random.key(0), *args, **kwargs))
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), made["perturbations"])

    def to_bettertransformer(self: Any) -> Any:
        """The model with fused attention: cuDNN's on a GPU in a 16-bit dtype, else JAX's."""
        flash = jax.default_backend() == "gpu" and self.dtype.itemsize == 2
        return self.clone(attn_implementation="flash" if flash else "sdpa")

    def reverse_bettertransformer(self: Any) -> Any:
        """The model with attention by the formula. What is saved is the same either way."""
        return self.clone(attn_implementation="eager")

    def get_compiled_call(
        self: Any,
        *,
        donate_cache: bool = False,
        compiler_options: Mapping[str, Any] | None = None,
        folder: str | os.PathLike | None = None,
    ) -> CompiledCall:
        """The forward pass, compiled ahead of time; see `compiled.CompiledCall`."""
        return CompiledCall(
            self, donate_cache=donate_cache, compiler_options=compiler_options, folder=folder
        )

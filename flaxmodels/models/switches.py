"""Switches: the same model run another way. Each is a `clone`; params do not change."""

import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ..analysis.compiled import CompiledCall


class Switches:
    """What `PreTrainedModel` switches on and off."""

    def gradient_checkpointing_enable(
        self: Any,
        policy: Any = "full",
        *,
        gradient_checkpointing_kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """The model with each layer computed again in the backward pass, except what `policy`
        saves.

        Args:
            policy: "full" (nothing), a name in `jax.checkpoint_policies`, a policy that these make,
                or a mapping of `policy` and `prevent_cse`.
            gradient_checkpointing_kwargs: the mapping, under Transformers' name.

        Raises:
            ValueError: no such policy.
            TypeError: an option that would change nothing, or a model without layers of ours.
        """
        if not self.naming.stack:
            raise TypeError(
                f"{type(self).__name__} has no stack of layers of ours that remat could act on; "
                "wrap your own layers with nn.remat"
            )
        options = dict(gradient_checkpointing_kwargs or {})
        if not isinstance(policy, Mapping):
            policy = {"policy": policy}
        return self.clone(remat={**policy, **options})

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
        if not self.naming.stack:
            raise TypeError(f"{type(self).__name__} has no attention of ours that could be fused")
        flash = jax.default_backend() == "gpu" and self.dtype.itemsize == 2
        return self.clone(
            attn_implementation="flash" if flash else "sdpa",
            attn_original=self.attn_original or self.attn_implementation,
        )

    def reverse_bettertransformer(self: Any) -> Any:
        """The model with the attention that it had before `to_bettertransformer`. What is saved is
        the same either way."""
        original = self.attn_original or self.attn_implementation
        return self.clone(attn_implementation=original, attn_original=None)

    def get_compiled_call(
        self: Any,
        compile_config: Mapping[str, Any] | None = None,
        *,
        donate_cache: bool = False,
        compiler_options: Mapping[str, Any] | None = None,
        folder: str | os.PathLike | None = None,
    ) -> CompiledCall:
        """The forward pass, compiled ahead of time; see `compiled.CompiledCall`.

        Args:
            compile_config: the other arguments as a mapping; they go before it.

        Raises:
            TypeError: an option of PyTorch's compiler.
        """
        options = {
            "donate_cache": donate_cache,
            "compiler_options": compiler_options,
            "folder": folder,
        }
        if not isinstance(compile_config, Mapping | None):
            raise TypeError(
                f"compile_config is a {type(compile_config).__name__}; give a mapping of "
                f"{', '.join(options)}"
            )
        given = dict(compile_config or {})
        if odd := given.keys() - options.keys():
            raise TypeError(
                f"compile_config has {', '.join(sorted(map(str, odd)))}; there are "
                f"{', '.join(options)}"
            )
        options = given | {name: value for name, value in options.items() if value}
        return CompiledCall(self, **options)

    def dequantize(self: Any, params: Any, dtype: Any = None) -> Any:
        """Raises: no leaf is ever quantised yet.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"{type(self).__name__}: none of the {len(jax.tree.leaves(params))} params is quantised"
            ", and quantisation is not there yet; fp.cast(params, dtype) changes what they are "
            "stored in"
        )

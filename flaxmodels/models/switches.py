"""Switches: the same model run another way. Each returns a `clone`; params do not change."""

import os
from collections.abc import Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp

from .. import params as fp
from ..analysis.compiled import CompiledCall
from ..checkpoints.quantization.leaves import without_quantization
from ..core.model import Mixin
from ..params.quantized.qtensor import QTensor


class Switches(Mixin):
    """Adds what `PreTrainedModel` of Transformers switches on and off."""

    def gradient_checkpointing_enable(
        self,
        policy: object = "full",
        *,
        gradient_checkpointing_kwargs: Mapping[str, object] | None = None,
    ) -> Self:
        """Returns the model that computes each layer again in the backward pass, except what
        `policy` saves.

        Args:
            policy: "full" (nothing), a name in `jax.checkpoint_policies`, a policy that these make,
                or a mapping of `policy` and `prevent_cse`.
            gradient_checkpointing_kwargs: the mapping, under Transformers' name.

        Raises:
            ValueError: no such policy.
            TypeError: an option that would change nothing, or a model without layers of ours.
        """
        if not self.naming.stacks:
            raise TypeError(
                f"{type(self).__name__} has no stack of layers of ours that remat could act on; "
                "wrap your own layers with nn.remat"
            )
        options = {} if gradient_checkpointing_kwargs is None else gradient_checkpointing_kwargs
        if not isinstance(options, Mapping):
            raise TypeError(
                f"gradient_checkpointing_kwargs is {options!r:.80}; expected a mapping of policy "
                "and prevent_cse"
            )
        if not isinstance(policy, Mapping):
            policy = {} if "policy" in options and policy == "full" else {"policy": policy}
        if twice := policy.keys() & options.keys():
            raise TypeError(f"{', '.join(sorted(twice))}: given twice; leave out one of them")
        return self.clone(remat={**policy, **options})

    def gradient_checkpointing_disable(self) -> Self:
        """Returns the model that keeps what the backward pass needs."""
        return self.clone(remat=None)

    def enable_input_require_grads(self) -> Self:
        """Returns the model that adds a perturbation to its input embeddings. `embedding_taps`
        makes one of zeros; the gradient with respect to it is that of the embeddings.

        Adapters, with frozen params or remat, do not need it: `jax.grad` differentiates with
        respect to any of its arguments.
        """
        return self.clone(embed_tap=True)

    def disable_input_require_grads(self) -> Self:
        """Returns the model without that perturbation."""
        return self.clone(embed_tap=False)

    def embedding_taps(self, *args: Any, **kwargs: Any) -> fp.PyTree:
        """Makes the perturbation of a call with these arguments, zeros:
        `model.apply({"params": params, "perturbations": taps}, *args, **kwargs)`.

        Raises:
            ValueError: the model adds none; see `enable_input_require_grads`.
        """
        if not self.embed_tap:
            raise ValueError("the model has no tap; call enable_input_require_grads() first")
        shapes: fp.PyTree = jax.eval_shape(lambda: self.init(jax.random.key(0), *args, **kwargs))
        zeros = lambda leaf: jnp.zeros(leaf.shape, leaf.dtype)  # noqa: E731
        return jax.tree.map(zeros, shapes["perturbations"])

    def to_bettertransformer(self) -> Self:
        """Returns the model with fused attention: cuDNN's on a GPU in a 16-bit dtype, else
        JAX's."""
        if not self.naming.stacks:
            raise TypeError(f"{type(self).__name__} has no attention of ours that could be fused")
        flash = jax.default_backend() == "gpu" and self.dtype.itemsize == 2
        return self.clone(
            attn_implementation="flash" if flash else "sdpa",
            attn_original=self.attn_original or self.attn_implementation,
        )

    def reverse_bettertransformer(self) -> Self:
        """Returns the model with the attention that it had before `to_bettertransformer`; both
        save the same files."""
        original = self.attn_original or self.attn_implementation
        return self.clone(attn_implementation=original, attn_original=None)

    def get_compiled_call(
        self,
        compile_config: Mapping[str, object] | None = None,
        *,
        donate_cache: bool = False,
        compiler_options: Mapping[str, str | bool] | None = None,
        folder: str | os.PathLike | None = None,
    ) -> CompiledCall:
        """Returns the forward pass, compiled ahead of time; see `CompiledCall`.

        Args:
            compile_config: the other arguments as a mapping; they override it.

        Raises:
            TypeError: an option of PyTorch's compiler.
        """
        options: dict[str, Any] = {
            "donate_cache": donate_cache,
            "compiler_options": compiler_options,
            "folder": folder,
        }
        if not isinstance(compile_config, Mapping | None):
            raise TypeError(
                f"compile_config is a {type(compile_config).__name__}; give a mapping of "
                f"{', '.join(options)}"
            )
        given: dict[str, Any] = dict(compile_config or {})
        if odd := given.keys() - options.keys():
            raise TypeError(
                f"compile_config has {', '.join(sorted(map(str, odd)))}; there are "
                f"{', '.join(options)}"
            )
        options = given | {name: value for name, value in options.items() if value}
        return CompiledCall(self, **options)

    def dequantize(
        self, params: fp.Params, dtype: jax.typing.DTypeLike | None = None
    ) -> tuple[Self, fp.Params]:
        """Returns (model, params) whose quantised weights, those below adapters too, are the arrays
        that they stand for; the configuration loses its `quantization_config`.

        Args:
            dtype: of these arrays; the logical dtype of each weight if None.

        Raises:
            ValueError: nothing in `params` is quantised.
        """
        leaves = jax.tree.leaves(params, is_leaf=lambda leaf: isinstance(leaf, QTensor))
        if not any(isinstance(leaf, QTensor) for leaf in leaves):
            raise ValueError(
                f"{type(self).__name__}: none of the {len(leaves)} params is quantised; "
                "fp.cast(params, dtype) changes what they are stored in"
            )
        dense = fp.dequantize(params, None if dtype is None else fp.parse_dtype(dtype))
        return self.clone(config=without_quantization(self.config)), dense

"""`Embedder`: a model and what follows it, as one value; tokens to embeddings, purely."""

import dataclasses

import jax
import jax.numpy as jnp

from .. import params as fp
from ..models.base import PretrainedModel
from .layers import Layer, Leaves, normalized
from .pooling import Pooling

MODEL = "model"
"""The name of the model's params in the tree; layers are called as their folders."""


@dataclasses.dataclass(frozen=True)
class Embedder:
    """Describes how tokens become embeddings: hashable, comparable, without arrays.

    Attributes:
        model: tokens -> hidden states.
        pooling: hidden states -> a vector.
        layers: (name, what is applied to the vector), in order.
    """

    model: PretrainedModel
    pooling: Pooling
    layers: tuple[tuple[str, Layer], ...] = ()

    @property
    def width(self) -> int:
        """E, of the embeddings."""
        width = self.model.config.hidden_size * len(self.pooling.modes)
        widths = (getattr(layer, "out_features", None) for _, layer in self.layers)
        return ([width] + [each for each in widths if each is not None])[-1]

    @property
    def is_causal(self) -> bool:
        """Whether no token attends to those after it: padding at the end is seen by none."""
        return bool(getattr(self.model, "is_causal", False))

    def apply(
        self,
        params: fp.Params,
        input_ids: jax.Array,
        attention_mask: jax.Array | None = None,
        *,
        token_type_ids: jax.Array | None = None,
        prompt_length: jax.Array | int | None = None,
        normalize: bool = False,
        padded_at_end: bool = False,
        truncate_dim: int | None = None,
    ) -> jax.Array:
        """Computes embeddings float32 [B, E] of tokens [B, T]; a pure function of its arguments,
        for `jit`, `grad` and training.

        Args:
            params: {"model": the model's, name of a layer: its leaves}.
            attention_mask: [B, T], nonzero for tokens; None for all.
            prompt_length: tokens of the prompt that the texts begin with, for a pooling without it.
            normalize: divide the embeddings by their lengths.
            padded_at_end: a promise that padding stands after the tokens of each row: a causal
                model then needs no mask.
            truncate_dim: cut the embeddings to their first features.
        """
        mask = jnp.ones(jnp.shape(input_ids), bool) if attention_mask is None else attention_mask
        is_needed = attention_mask is not None and not (padded_at_end and self.is_causal)
        inputs: dict[str, jax.Array] = {"attention_mask": mask} if is_needed else {}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        out = self.model.apply({"params": params[MODEL]}, input_ids, **inputs)
        x = self.pooling(out.last_hidden_state, mask, prompt_length)
        for name, layer in self.layers:
            x = layer(_leaves(params, name, layer), x)
        x = x[:, :truncate_dim]
        return normalized(x) if normalize else x


def _leaves(params: fp.Params, name: str, layer: Layer) -> Leaves:
    """Returns the params of a layer; raises `ValueError` where one is not there."""
    leaves = params.get(name, {})
    if lost := sorted(getattr(layer, "shapes", {}).keys() - leaves.keys()):
        raise ValueError(
            f"params have no {name}/{lost[0]}; they are those of the model and of its layers: "
            f"{MODEL}, {name}, ..."
        )
    return leaves

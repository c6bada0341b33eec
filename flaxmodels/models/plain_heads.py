"""Configurations without fields for heads: their width and number of keys follow."""

import dataclasses
from typing import ClassVar

from ..config.config import Config
from . import config_checks
from .decoder_style import Style
from .layer_types import LayerKinds


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvenHeads(LayerKinds):
    """Heads that are together as wide as the model, each with keys and values of its own."""

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def num_key_value_heads(self) -> int:
        """Heads with keys and values of their own."""
        return self.num_attention_heads

    def validate(self) -> None:
        config_checks.multiple(self, "hidden_size", of="num_attention_heads")
        super().validate()
        config_checks.pruned_heads(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlainHeads(EvenHeads):
    """Such heads of a decoder."""

    unsupported: ClassVar = {**config_checks.NOT_IMPLEMENTED, "is_decoder": (False, True, None)}


def gpt_style(config: Config, embedding_dropout: float, added_dropout: float) -> Style:
    """Returns the style of GPT-2's layers; the rates are of the embeddings, and of what attention
    and MLP add. Token types are tokens of the vocabulary."""
    return Style(
        layer_norm=True,
        norm_eps=config.layer_norm_epsilon,
        attention="attn",
        attention_in="ln_1",
        mlp_in="ln_2",
        final_norm="ln_f",
        mlp=("c_fc", "c_proj"),
        mlp_bias=True,
        act=config.activation_function,
        positions="wpe",
        types_are_tokens=True,
        embedding_dropout=embedding_dropout,
        added_dropouts=(added_dropout, added_dropout),
        padding_row=False,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class GPTFields(PlainHeads):
    """The keys of GPT-2's `config.json`, and of families that took them over."""

    aliases: ClassVar = {
        "hidden_size": "n_embd",
        "max_position_embeddings": "n_positions",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    }

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    activation_function: str = "gelu_new"
    resid_pdrop: float = 0.0
    embd_pdrop: float = 0.0
    attn_pdrop: float = 0.0
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    bos_token_id: int | None = 50256
    eos_token_id: int | tuple[int, ...] | None = 50256

    @property
    def style(self) -> Style:
        return gpt_style(self, self.embd_pdrop, self.resid_pdrop)

    @property
    def intermediate_size(self) -> int:
        """Width of the MLP."""
        return 4 * self.n_embd if self.n_inner is None else self.n_inner

    @property
    def position_limit(self) -> int:
        return self.n_positions

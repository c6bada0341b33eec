"""Configurations without fields for heads: their width and number of keys follow."""

import dataclasses
from typing import ClassVar

from . import config_checks
from .decoder_style import Style
from .layer_types import LayerKinds


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlainHeads(LayerKinds):
    """Heads that are together as wide as the model, each with keys and values of its own."""

    unsupported: ClassVar = {**config_checks.NOT_IMPLEMENTED, "is_decoder": (False, True, None)}

    @property
    def style(self) -> Style:
        """The values by which the family differs from Llama."""
        raise TypeError(f"{type(self).__name__} defines no style")

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

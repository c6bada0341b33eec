"""One configuration of two stacks, an encoder and a decoder, and of either of them."""

import dataclasses
import functools
from typing import Any, Self

from ..layer_types import LayerKinds


@dataclasses.dataclass(frozen=True, kw_only=True)
class TwoStacks(LayerKinds):
    """A configuration that, where it `is_decoder`, is that of the decoder, and else of the encoder,
    or of the whole."""

    is_decoder: bool = False

    @property
    def add_cross_attention(self) -> bool:
        """Whether the layers attend to an encoder."""
        return self.is_decoder

    def half(self, *, is_decoder: bool) -> Self:
        """Returns the configuration of the encoder, or of the decoder."""
        return _half(self, is_decoder)

    def changes_of_half(self, *, is_decoder: bool) -> dict[str, object]:
        """Returns the fields that the configuration of a half has otherwise."""
        return {"is_decoder": is_decoder}


@functools.lru_cache(maxsize=256)
def _half(config: Any, is_decoder: bool) -> Any:
    changes = config.changes_of_half(is_decoder=is_decoder)
    return config if config.is_decoder == is_decoder else config.replace(**changes)

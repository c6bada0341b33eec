"""The configuration of encoder-decoders of fairseq's kind, and of either half of one."""

import dataclasses
from typing import ClassVar, Self

from .. import config_checks
from ..bart_layers import BartFields, BartStyle
from .two_stacks import TwoStacks


@dataclasses.dataclass(frozen=True, kw_only=True)
class FairseqConfig(BartFields, TwoStacks):
    """The fields of two stacks of BART's layers. One that `is_decoder` is that of the decoder: its
    `num_hidden_layers`, `num_attention_heads` and `ffn_dim` are the decoder's."""

    unsupported: ClassVar = {
        "cross_attention_hidden_size": (None,),
        "tie_encoder_decoder": (False,),
    }
    aliases: ClassVar = {
        "hidden_size": "d_model",
        "num_attention_heads": "encoder_attention_heads",
        "num_hidden_layers": "encoder_layers",
    }

    vocab_size: int = 50265
    max_position_embeddings: int = 1024
    encoder_layers: int = 12
    encoder_ffn_dim: int = 4096
    encoder_attention_heads: int = 16
    decoder_layers: int = 12
    decoder_ffn_dim: int = 4096
    decoder_attention_heads: int = 16
    encoder_layerdrop: float = 0.0
    decoder_layerdrop: float = 0.0
    d_model: int = 1024
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    scale_embedding: bool = False
    is_encoder_decoder: bool = True
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | tuple[int, ...] | None = 2
    decoder_start_token_id: int | None = 2
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | tuple[int, ...] | None = 2

    kind: ClassVar[BartStyle] = BartStyle()
    """What of the style is the same in all models of the family."""
    scaled_in_decoder: ClassVar[str] = "tokens"
    """The `scaled` of the decoder's style; the encoder's is "tokens"."""

    @property
    def style(self) -> BartStyle:
        drop = self.decoder_layerdrop if self.is_decoder else self.encoder_layerdrop
        return dataclasses.replace(
            self.kind,
            inner_dropout=self.activation_dropout,
            layer_drop=drop,
            over_encoder=self.is_decoder,
            scaled=self.scaled_in_decoder if self.is_decoder else "tokens",
        )

    @property
    def num_hidden_layers(self) -> int:
        """Layers of the stack."""
        return self.decoder_layers if self.is_decoder else self.encoder_layers

    @property
    def num_attention_heads(self) -> int:
        """Heads of a layer of the stack."""
        return self.decoder_attention_heads if self.is_decoder else self.encoder_attention_heads

    @property
    def ffn_dim(self) -> int:
        """Width between the two products of the stack's MLPs."""
        return self.decoder_ffn_dim if self.is_decoder else self.encoder_ffn_dim

    @property
    def shares_tables(self) -> bool:
        """Whether encoder and decoder have one table of tokens."""
        return self.tie_word_embeddings

    @property
    def position_limit(self) -> int | None:
        return None if self.kind.positions == "counted" else self.max_position_embeddings

    @property
    def text(self) -> Self:
        return self.half(is_decoder=True)

    @property
    def has_shared(self) -> bool:
        """Whether PyTorch's model has a table beside those of encoder and decoder."""
        return True

    def validate(self) -> None:
        super().validate()
        for half in ("encoder", "decoder"):
            config_checks.multiple(self, "d_model", of=f"{half}_attention_heads")
        config_checks.no_pruned_heads(self, "encoder and decoder number their layers alike")

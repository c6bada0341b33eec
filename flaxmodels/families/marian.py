"""Marian: norms after attention and MLP, sinusoids for positions; encoder and decoder may have
vocabularies of their own.

Junczys-Dowmunt et al. 2018, arXiv:1804.00344; reference: `models/marian` of Transformers 5.23.
"""

import dataclasses

from ..config.config import FROM_OTHERS
from ..models.bart_layers import BartStyle
from ..models.encoder_decoders.fairseq import FAIRSEQ_CLASSES, FairseqTranslation
from ..models.encoder_decoders.fairseq_config import FairseqConfig
from . import classes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class MarianConfig(FairseqConfig):
    """`config.json` of a Marian. The vocabulary of the decoder is `decoder_vocab_size` tokens,
    `vocab_size` if None, unless it is the encoder's."""

    model_type = "marian"
    kind = BartStyle(norm_first=False, positions="sinusoids")
    scaled_in_decoder = "all"
    derived = {"decoder_vocab_size": lambda config: config.vocab_size}

    vocab_size: int = 58101
    decoder_vocab_size: int = FROM_OTHERS
    share_encoder_decoder_embeddings: bool = True
    pad_token_id: int | None = 58100
    bos_token_id: int | None = None
    eos_token_id: int | tuple[int, ...] | None = 0
    decoder_start_token_id: int | None = 58100
    forced_eos_token_id: int | tuple[int, ...] | None = 0

    @property
    def shares_tables(self) -> bool:
        return self.share_encoder_decoder_embeddings and self.tie_word_embeddings

    @property
    def has_shared(self) -> bool:
        return self.share_encoder_decoder_embeddings

    def following(self) -> list[str]:
        # tokens of the decoder's own do not grow with the encoder's
        own = set() if self.share_encoder_decoder_embeddings else {"decoder_vocab_size"}
        return [field for field in super().following() if field not in own]

    def changes_of_half(self, *, is_decoder: bool) -> dict[str, object]:
        changes = super().changes_of_half(is_decoder=is_decoder)
        if is_decoder and not self.share_encoder_decoder_embeddings:
            changes["vocab_size"] = self.decoder_vocab_size
        return changes


__getattr__ = classes_of(MarianConfig, parts={**FAIRSEQ_CLASSES, "MTModel": FairseqTranslation})

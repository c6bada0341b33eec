"""An encoder of any family beside a decoder of any, which attends to it.

Rothe et al. 2019, arXiv:1907.12461; reference: `models/encoder_decoder` of Transformers 5.23.
"""

import dataclasses
from typing import Any, ClassVar, Self, Unpack

import jax
from flax import linen as nn

from .. import blocks
from .. import params as fp
from ..config.config import Config
from ..core import outputs
from ..documents.json_values import ConfigError, Json
from ..models.decoder import Decoder
from ..models.encoder_decoders import inputs
from ..models.encoder_decoders.heads import LanguageModel
from ..registry import FAMILIES, family_class


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderDecoderConfig(Config):
    """`config.json` of two models in one. Whether the head is the table of tokens is said by that
    of the decoder."""

    model_type: ClassVar[str] = "encoder-decoder"
    sub_configs: ClassVar = {"encoder": Config, "decoder": Config}
    unsupported: ClassVar = {"tie_encoder_decoder": (False, None)}
    harmless: ClassVar = ("is_encoder_decoder", "vocab_size")

    encoder: Config
    decoder: Config
    decoder_start_token_id: int | None = None

    def derive(self) -> None:
        super().derive()
        object.__setattr__(self, "tie_word_embeddings", self.decoder.tie_word_embeddings)

    def validate(self) -> None:
        name = type(self).__name__
        for half, auto_class in _AUTO_CLASSES.items():
            part = getattr(self, half)
            if FAMILIES[part.model_type].serving(auto_class) is None:
                raise ConfigError(
                    f"{name}: {half} is a {part.model_type}, which is no {auto_class}"
                )
        if getattr(self.encoder, "add_cross_attention", False):
            raise ConfigError(
                f"{name}: encoder has add_cross_attention, and there is no other encoder that it "
                "could attend to; leave it out"
            )
        if "add_cross_attention" not in self.decoder.names():
            raise ConfigError(
                f"{name}: decoder is a {self.decoder.model_type}, whose layers cannot attend to an "
                "encoder"
            )
        for flag in ("is_decoder", "add_cross_attention"):
            if not getattr(self.decoder, flag, True):
                raise ConfigError(
                    f"{name}: decoder.{flag} is False; EncoderDecoderConfig."
                    "from_encoder_decoder_configs(encoder, decoder) sets it"
                )

    @classmethod
    def from_encoder_decoder_configs(cls, encoder: Config, decoder: Config, **others: Any) -> Self:
        """Returns the configuration of both, in which the decoder attends to the encoder."""
        flags = {"is_decoder": True, "add_cross_attention": True}
        known = {name: value for name, value in flags.items() if name in decoder.names()}
        return cls(encoder=encoder, decoder=decoder.replace(**known), **others)

    @classmethod
    def from_spellings(cls, values: dict[str, Json], current: Any) -> dict[str, Json]:
        """Hands the tie to the decoder."""
        values = super().from_spellings(values, current)
        if current is not None and "tie_word_embeddings" in values and "decoder" not in values:
            tie: Any = values["tie_word_embeddings"]
            decoder: Any = current.decoder.replace(tie_word_embeddings=tie)
            values = {**values, "decoder": decoder}
        return values


_AUTO_CLASSES = {"encoder": "AutoModel", "decoder": "AutoModelForCausalLM"}


def _naming_of(model: "EncoderDecoderModel") -> fp.Naming:
    halves = [model.half(name, parent=None).naming for name in _AUTO_CLASSES]
    fields = [field.name for field in dataclasses.fields(fp.Naming)]
    joined = {name: (*getattr(halves[0], name), *getattr(halves[1], name)) for name in fields}
    return fp.Naming(**{name: tuple(dict.fromkeys(each)) for name, each in joined.items()})


def _ties_of(model: "EncoderDecoderModel") -> tuple[tuple[str, str], ...]:
    pairs = model.decoder_alone.tied
    return tuple((f"decoder/{absent}", f"decoder/{serving}") for absent, serving in pairs)


class EncoderDecoderModel(LanguageModel):
    """tokens [B, S] and decoder tokens [B, T] -> logits [B, T, V] of the token after each."""

    config_class = EncoderDecoderConfig
    is_parallelizable = True
    naming: ClassVar[Any] = property(_naming_of)
    tied: ClassVar[Any] = property(_ties_of)

    def setup(self) -> None:
        self.encoder, self.decoder = self.half("encoder"), self.half("decoder")
        width = self.config.decoder.hidden_size
        self.enc_to_dec_proj = None
        if self.config.encoder.hidden_size != width:
            std = self.config.encoder.initializer_range
            self.enc_to_dec_proj = blocks.Linear(width, ("embed", "hidden"), std)

    @nn.nowrap
    def half(self, name: str, **fields: Any) -> Any:
        """Makes the encoder or the decoder; with `parent=None` as a model of its own."""
        config = getattr(self.config, name)
        served = FAMILIES[config.model_type].serving(_AUTO_CLASSES[name])
        assert served is not None  # the configuration has seen it
        return family_class(served)(**{**self.shared_fields, "config": config, **fields})

    @property
    def decoder_alone(self) -> Decoder:
        return self.half("decoder", parent=None)

    def decode(  # pyright: ignore[reportIncompatibleMethodOverride] (a head makes logits)
        self,
        decoder_input_ids: jax.Array | None = None,
        encoder_outputs: inputs.Encoded = None,
        encoder_attention_mask: jax.Array | None = None,
        decoder_attention_mask: jax.Array | None = None,
        *,
        logits_to_keep: int = 0,
        **given: Unpack[inputs.DecoderInputs],
    ) -> outputs.LogitsOutput:
        """Runs the decoder: logits [B, T, V], or of the last `logits_to_keep` tokens if that is not
        0. The arguments are those of `EncoderDecoder.decode`."""
        call = f"{type(self).__name__}.decode"
        inputs.check_names(call, {**given}, inputs.DecoderInputs, self.not_taken)
        source = inputs.encoded(call, encoder_outputs)
        if source is not None and self.enc_to_dec_proj is not None:
            states = self.enc_to_dec_proj(source.last_hidden_state.astype(self.dtype))
            source = outputs.BaseOutput(last_hidden_state=states)
        masks = encoder_attention_mask, decoder_attention_mask
        told = {**given, "logits_to_keep": logits_to_keep}
        return self.run_decoder(decoder_input_ids, source, *masks, told)

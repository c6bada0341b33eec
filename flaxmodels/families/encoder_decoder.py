"""An encoder of any family beside a decoder of any, which attends to it.

Rothe et al. 2019, arXiv:1907.12461; reference: `models/encoder_decoder` of Transformers 5.23.
"""

import dataclasses
from typing import Any, Self, Unpack

import jax
from flax import linen as nn

from .. import blocks
from ..checkpoints.request import UNSAID, NameOrPath
from ..config.config import Config
from ..core import outputs
from ..core.model import by_config
from ..documents.json_values import ConfigError, Json
from ..models.decoder import Decoder
from ..models.encoder_decoders import inputs, joined
from ..models.encoder_decoders.heads import LanguageModel
from ..models.encoder_decoders.vocabularies import TwoVocabularies
from ..registry import FAMILIES, family_class


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderDecoderConfig(Config):
    """`config.json` of two models in one. Whether the head is the table of tokens is said by that
    of the decoder."""

    model_type = "encoder-decoder"
    sub_configs = {"encoder": Config, "decoder": Config}
    unsupported = {"tie_encoder_decoder": (False, None)}
    harmless = ("is_encoder_decoder", "vocab_size")

    encoder: Config
    decoder: Config
    decoder_start_token_id: int | None = None

    def derive(self) -> None:
        super().derive()
        object.__setattr__(self, "tie_word_embeddings", self.decoder.tie_word_embeddings)

    def validate(self) -> None:
        for half, auto_class in joined.HALVES.items():
            part = getattr(self, half)
            if FAMILIES[part.model_type].serving(auto_class) is None:
                raise ConfigError(f"{half} is a {part.model_type}, which is no {auto_class}")
        if hasattr(self.encoder, "half"):
            raise ConfigError(
                f"encoder is a {self.encoder.model_type}, which has a decoder of its own"
            )
        if getattr(self.encoder, "add_cross_attention", False):
            raise ConfigError(
                "encoder has add_cross_attention, and there is no other encoder that it could "
                "attend to; leave it out"
            )
        if not hasattr(self.decoder, "add_cross_attention"):
            raise ConfigError(
                f"decoder is a {self.decoder.model_type}, whose layers cannot attend to an encoder"
            )
        for flag in ("is_decoder", "add_cross_attention"):
            if not getattr(self.decoder, flag, True):
                raise ConfigError(
                    f"decoder.{flag} is False; "
                    "EncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder) sets it"
                )

    @classmethod
    def from_encoder_decoder_configs(cls, encoder: Config, decoder: Config, **others: Any) -> Self:
        """Returns the configuration of both, in which the decoder attends to the encoder."""
        return cls(encoder=encoder, decoder=_flagged(decoder, True), **others)

    @classmethod
    def from_spellings(cls, values: dict[str, Json], current: Any) -> dict[str, Json]:
        """Hands the tie to the decoder."""
        values = super().from_spellings(values, current)
        if current is not None and "tie_word_embeddings" in values and "decoder" not in values:
            tie = values["tie_word_embeddings"]
            values = {**values, "decoder": current.decoder.replace(tie_word_embeddings=tie)}
        return values


def _flagged(config: Config, decodes: bool) -> Config:
    """Returns the configuration of a half as far as its family says which it is."""
    if not isinstance(config, Config):
        raise TypeError(f"decoder is {config!r:.80}; expected a configuration")
    names = config.names() & {"is_decoder", "add_cross_attention"}
    return config.replace(**dict.fromkeys(names, decodes))


def _ties_of(model: "EncoderDecoderModel") -> tuple[tuple[str, str], ...]:
    pairs = model.decoder_alone.tied
    return tuple((f"decoder/{absent}", f"decoder/{serving}") for absent, serving in pairs)


class EncoderDecoderModel(TwoVocabularies, LanguageModel):
    """tokens [B, S] and decoder tokens [B, T] -> logits [B, T, V] of the token after each."""

    config_class = EncoderDecoderConfig
    is_parallelizable = True
    naming = by_config(joined.naming_of)
    tied = by_config(_ties_of)

    @classmethod
    def from_encoder_decoder_pretrained(
        cls,
        encoder: NameOrPath = UNSAID,
        decoder: NameOrPath = UNSAID,
        *,
        output_loading_info: bool = False,
        **options: Any,
    ) -> Any:
        """Joins two checkpoints: `(model, params)`, the decoder attending to the encoder. What
        neither has is drawn, with a warning: the decoder's attention to the encoder, if it was
        trained alone, and the projection between widths that differ.

        Args:
            encoder: a folder or repository, as `from_pretrained` takes it, of any family with a
                bare model. Of a decoder it leaves out the causal mask, if its family can.
            decoder: of any family that predicts the next token and can attend to an encoder.
            output_loading_info: return `(model, params, {"encoder": LoadingInfo, "decoder":
                LoadingInfo})`.
            **options: fields of the model (`dtype`, `scan_layers`, ...), of its configuration
                (`decoder_start_token_id`, `pad_token_id`), and keywords of `from_pretrained` for
                both; with `encoder_` or `decoder_` before it (`decoder_revision`,
                `encoder_hidden_dropout_prob`) for one of them, fields of its configuration too.

        Raises:
            fp.CheckpointError: a checkpoint that cannot be read, or is not that half.
            ConfigError: halves that do not fit.
            TypeError: a keyword that nothing here takes.
        """
        call = f"{cls.__name__}.from_encoder_decoder_pretrained"
        told = joined.told_apart(call, cls, options)
        make = EncoderDecoderConfig.from_encoder_decoder_configs
        first, encoder_params, seen = joined.load_half(
            call, "encoder", encoder, told, lambda config: _flagged(config, False)
        )
        second, decoder_params, also_seen = joined.load_half(
            call, "decoder", decoder, told, lambda config: make(first.config, config).decoder
        )
        model = cls(make(first.config, second.config, **told.config), **told.fields)
        params = {"encoder": encoder_params, "decoder": decoder_params}
        params = joined.completed(call, model, params, told, (seen, also_seen))
        if not output_loading_info:
            return model, params
        return model, params, {"encoder": seen, "decoder": also_seen}

    def setup(self) -> None:
        self.encoder, self.decoder = self.half("encoder"), self.half("decoder")
        width = self.config.decoder.hidden_size
        self.enc_to_dec_proj = None
        if self.config.encoder.hidden_size != width:
            std = self.config.encoder.initializer_range
            self.enc_to_dec_proj = blocks.Linear(width, ("embed", "hidden"), std)

    @nn.nowrap
    def half(self, name: str, **fields: object) -> Any:
        config = getattr(self.config, name)
        served = FAMILIES[config.model_type].serving(joined.HALVES[name])
        assert served is not None  # the configuration has seen it
        return family_class(served)(**{**self.shared_fields, "config": config, **fields})

    @property
    def decoder_alone(self) -> Decoder:
        return self.half("decoder", parent=None)

    def encode(
        self,
        input_ids: jax.Array | None = None,
        attention_mask: jax.Array | None = None,
        **given: Unpack[inputs.EncoderInputs],
    ) -> outputs.BaseOutput:
        return super().encode(input_ids, attention_mask, **{**given, **self._asked(given)})

    @nn.nowrap
    def _asked(self, given: inputs.Asked) -> inputs.Asked:
        """Returns what the configuration of both asks of each half, where a call does not say; what
        neither asks for is up to the half's own."""
        asked: inputs.Asked = {}
        if self.config.output_hidden_states and given.get("output_hidden_states") is None:
            asked["output_hidden_states"] = True
        if self.config.output_attentions and given.get("output_attentions") is None:
            asked["output_attentions"] = True
        return asked

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
        told = {**given, **self._asked(given), "logits_to_keep": logits_to_keep}
        return self.run_decoder(decoder_input_ids, source, *masks, told)

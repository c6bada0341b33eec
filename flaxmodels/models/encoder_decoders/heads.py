"""Heads of encoder-decoders: what follows the decoder's hidden states to make logits."""

from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from ... import blocks
from ...calls.known_values import known
from ...core import outputs
from ..decoder import Decoder
from ..task_heads import TaskHead
from ..vocabulary_heads import VocabularyHead, last
from . import inputs
from .scaffold import EncoderDecoder


class EncoderDecoderHead(TaskHead, EncoderDecoder):
    """A model made of a family's bare model, and what follows its decoder. The bare model is under
    the name `base_model_prefix`, or where there is none, its parts are the model's own."""

    def setup(self) -> None:
        setattr(self, self.base_model_prefix or "bare", self.backbone(**self.shared_fields))
        if not self.base_model_prefix:
            nn.share_scope(self, self.bare)

    def base(self) -> nn.Module:
        return getattr(self, self.base_model_prefix or "bare")

    def in_backbone(self, path: str) -> str:
        return super().in_backbone(path) if self.base_model_prefix else path

    @property
    def decoder_alone(self) -> Decoder:
        return self.backbone(**self.shared_fields).decoder_alone

    def encode(self, *args: object, **given: object) -> outputs.BaseOutput:
        return self.base().encode(*args, **given)

    def decode(self, *args: Any, **given: Any) -> Any:
        return self.base().decode(*args, **given)


class LanguageModel(EncoderDecoder):
    """tokens [B, S] and decoder tokens [B, T] -> logits [B, T, V] of the token after each, which
    `decode` makes."""

    loss_kind = "seq2seq_lm"

    @classmethod
    def can_generate(cls) -> bool:
        return True

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride] (it keeps some logits)
        self,
        input_ids: jax.Array | None = None,
        attention_mask: jax.Array | None = None,
        decoder_input_ids: jax.Array | None = None,
        decoder_attention_mask: jax.Array | None = None,
        *,
        logits_to_keep: int = 0,
        **given: Unpack[inputs.Inputs],
    ) -> outputs.Seq2SeqLogitsOutput:
        """Computes the logits of all decoder tokens, or of the last `logits_to_keep`."""
        inputs.check_names(type(self).__name__, {**given}, inputs.Inputs, self.not_taken)
        tokens = input_ids, attention_mask, decoder_input_ids, decoder_attention_mask
        told = {**given, "logits_to_keep": logits_to_keep}
        encoded, out = self.run_both(*tokens, told)
        return outputs.Seq2SeqLogitsOutput.of(encoded, out, logits=out.logits)


class ConditionalGeneration(LanguageModel, VocabularyHead, EncoderDecoderHead):
    """tokens [B, S] and decoder tokens [B, T] -> logits [B, T, V] of the token after each."""

    @property
    def logit_count(self) -> int:
        return self.decoder_alone.config.vocab_size

    @nn.compact
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
        """Runs the decoder and its head: logits [B, T, V], or of the last `logits_to_keep` tokens
        if that is not 0. The arguments are those of `EncoderDecoder.decode`."""
        states = encoder_outputs, encoder_attention_mask
        out = super().decode(decoder_input_ids, *states, decoder_attention_mask, **given)
        logits = self.vocabulary(self.base(), last(out.last_hidden_state, logits_to_keep))
        return outputs.LogitsOutput.of(out, logits=logits)


class SequenceClassification(EncoderDecoderHead):
    """tokens [B, S] -> logits [B, labels], read off the decoder's state of the last end-of-sequence
    token of `input_ids`, which shifted are the decoder's too."""

    loss_kind = "sequence_classification"
    decoder_is_as_long = True

    @nn.compact
    def __call__(
        self,
        input_ids: jax.Array | None = None,
        attention_mask: jax.Array | None = None,
        decoder_input_ids: jax.Array | None = None,
        decoder_attention_mask: jax.Array | None = None,
        **given: Unpack[inputs.Inputs],
    ) -> outputs.Seq2SeqLogitsOutput:
        """Computes the logits of labels.

        Raises:
            ValueError: no `input_ids`, or rows without the token, or with different numbers of it;
                of traced ids a row without it gives NaN.
        """
        inputs.check_names(type(self).__name__, {**given}, inputs.Inputs, self.not_taken)
        if input_ids is None:
            raise ValueError(f"{type(self).__name__}: give input_ids; their last eos is looked for")
        if decoder_input_ids is None and given.get("decoder_inputs_embeds") is None:
            decoder_input_ids = self.shifted_right(input_ids)
        ids = input_ids if given.get("encoder_outputs") is None else None
        tokens = ids, attention_mask, decoder_input_ids, decoder_attention_mask
        encoded, out = self.run_both(*tokens, {**given})
        x = out.last_hidden_state
        if x.shape[:2] != np.shape(input_ids):
            raise ValueError(
                f"{type(self).__name__}: {x.shape[1]} decoder tokens, and input_ids has shape "
                f"{np.shape(input_ids)}: expected as many, since it says which is the last eos"
            )
        x = self._last_eos(x, input_ids)
        logits = self.classified(x, given.get("deterministic", True))
        return outputs.Seq2SeqLogitsOutput.of(encoded, out, logits=logits)

    def _last_eos(self, x: jax.Array, ids: jax.Array) -> jax.Array:
        """Returns the state [B, D] of the last end-of-sequence token of ids [B, S], of x [B, S, D];
        NaN where there is none."""
        eos = np.atleast_1d([] if (eos := self.config.eos_token_id) is None else eos)
        if (values := known(ids)) is not None:
            counts = np.isin(values, eos).sum(axis=1)
            if counts.min() == 0 or counts.min() < counts.max():
                raise ValueError(
                    f"{type(self).__name__}: the rows of input_ids have {counts.tolist()} "
                    f"end-of-sequence tokens ({eos.tolist()}); expected as many in each, at least 1"
                )
        places = jnp.arange(x.shape[1], dtype=jnp.int32)[None]
        place = jnp.max(jnp.where(jnp.isin(jnp.asarray(ids), eos), places, -1), axis=1)[:, None]
        state = jnp.take_along_axis(x, jnp.maximum(place, 0)[..., None], axis=1)[:, 0]
        return jnp.where(place >= 0, state, jnp.nan)

    def classified(self, x: jax.Array, deterministic: bool) -> jax.Array:
        """Projects x [B, D] to logits [B, labels] by two products with dropout before each."""
        cfg = self.config
        head = ClassificationHead(
            cfg.num_labels,
            cfg.classifier_dropout,
            cfg.initializer_range,
            name="classification_head",
        )
        return head(x, deterministic=deterministic)


class ClassificationHead(nn.Module):
    """x [B, D] -> [B, labels]: two products, tanh between."""

    labels: int
    dropout: float
    std: float

    @nn.compact
    def __call__(self, x: jax.Array, *, deterministic: bool) -> jax.Array:
        drop = nn.Dropout(self.dropout, deterministic=deterministic)
        x = blocks.Linear(x.shape[-1], ("embed", "hidden"), self.std, name="dense")(drop(x))
        x = drop(jnp.tanh(x))
        return blocks.Linear(self.labels, ("embed", "labels"), self.std, name="out_proj")(x)


class QuestionAnswering(EncoderDecoderHead):
    """tokens [B, S] and decoder tokens [B, T] -> logits [B, T] of the first and of the last token
    of the answer."""

    loss_kind = "question_answering"

    @nn.compact
    def finish(self, encoded, out) -> outputs.Seq2SeqQuestionAnsweringOutput:
        logits = self.classify(out.last_hidden_state, 2, "qa_outputs")
        places = {"start_logits": logits[..., 0], "end_logits": logits[..., 1]}
        return outputs.Seq2SeqQuestionAnsweringOutput.of(encoded, out, **places)

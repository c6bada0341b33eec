"""The scaffold of encoder-decoders: two backbones, and the calls that run one of them, or both."""

from typing import Any, ClassVar, Unpack

import jax
import jax.numpy as jnp
from flax import linen as nn

from ... import blocks
from ...core import outputs
from ...generation.passes import Rows, is_valid
from ...generation.prompts import Prompt, align_right
from ...params.types import Params
from ..base import PretrainedModel
from ..decoder import Decoder
from . import inputs


class EncoderDecoder(PretrainedModel):
    """A model whose `decode` reads what its `encode` made. Both are run alone by
    `model.apply({"params": params}, ..., method="encode")`.

    The bare model of a family makes the submodules `encoder` and `decoder`, two backbones, of which
    `decoder` is `decoder_alone`; heads run the bare model.
    """

    is_encoder_decoder = True
    not_taken: ClassVar[frozenset[str]] = frozenset()
    """Which of `inputs.Inputs` the family has no use for."""
    shifts_input_ids: ClassVar[bool] = False
    """Whether `input_ids`, shifted, are the decoder's where it is given nothing."""

    @property
    def decoder_alone(self) -> Decoder:
        """The decoder as a model of its own."""
        raise TypeError(f"{type(self).__name__} defines no decoder_alone")

    def __call__(
        self,
        input_ids: jax.Array | None = None,
        attention_mask: jax.Array | None = None,
        decoder_input_ids: jax.Array | None = None,
        decoder_attention_mask: jax.Array | None = None,
        **given: Unpack[inputs.Inputs],
    ) -> Any:
        """Runs both halves, and makes the model's output of theirs."""
        inputs.check_names(type(self).__name__, {**given}, inputs.Inputs, self.not_taken)
        tokens = input_ids, attention_mask, decoder_input_ids, decoder_attention_mask
        return self.finish(*self.run_both(*tokens, {**given}))

    def finish(self, encoded: outputs.BaseOutput | None, out: Any) -> Any:
        """Makes the model's output of what `run_both` returns."""
        raise TypeError(f"{type(self).__name__} defines no finish")

    def encode(
        self,
        input_ids: jax.Array | None = None,
        attention_mask: jax.Array | None = None,
        **given: Unpack[inputs.EncoderInputs],
    ) -> outputs.BaseOutput:
        """Runs the encoder: its last hidden state is [B, S, D]."""
        call = f"{type(self).__name__}.encode"
        inputs.check_names(call, {**given}, inputs.EncoderInputs, self.not_taken)
        return self.encoder(input_ids, attention_mask, **given)

    def decode(
        self,
        decoder_input_ids: jax.Array | None = None,
        encoder_outputs: inputs.Encoded = None,
        encoder_attention_mask: jax.Array | None = None,
        decoder_attention_mask: jax.Array | None = None,
        **given: Unpack[inputs.DecoderInputs],
    ) -> outputs.BaseOutput:
        """Runs the decoder: its last hidden state is [B, T, D].

        Args:
            encoder_outputs: see `inputs.Inputs`; None with a cache that has seen them.
            encoder_attention_mask: [B or 1, S], the encoder's `attention_mask`; for the states that
                this call gives alone.

        Raises:
            ValueError: neither `encoder_outputs` nor a cache that has seen them; see `Backbone`.
        """
        call = f"{type(self).__name__}.decode"
        inputs.check_names(call, {**given}, inputs.DecoderInputs, self.not_taken)
        source = inputs.encoded(call, encoder_outputs)
        masks = encoder_attention_mask, decoder_attention_mask
        return self.run_decoder(decoder_input_ids, source, *masks, {**given})

    def run_decoder(
        self,
        decoder_input_ids: jax.Array | None,
        source: outputs.BaseOutput | None,
        encoder_attention_mask: jax.Array | None,
        decoder_attention_mask: jax.Array | None,
        told: dict[str, Any],
    ) -> Any:
        """Runs the decoder over what `encode` returned, or over what the cache has of it.

        Args:
            told: `inputs.DecoderInputs`; other keywords are for the decoder.
        """
        if source is None and getattr(told.get("cache"), "cross", None) is None:
            call = f"{type(self).__name__}.decode"
            raise ValueError(f"{call}: give encoder_outputs, or a cache that has seen them")
        told |= {
            "inputs_embeds": told.pop("decoder_inputs_embeds", None),
            "position_ids": told.pop("decoder_position_ids", None),
        }
        if source is not None:
            told["encoder_hidden_states"] = source.last_hidden_state
            told["encoder_attention_mask"] = encoder_attention_mask
        with inputs.of_the_decoder():
            return self.decoder(decoder_input_ids, decoder_attention_mask, **told)

    def run_both(
        self,
        input_ids: jax.Array | None,
        attention_mask: jax.Array | None,
        decoder_input_ids: jax.Array | None,
        decoder_attention_mask: jax.Array | None,
        given: dict[str, Any],
    ) -> tuple[outputs.BaseOutput | None, Any]:
        """Runs `encode`, unless its outputs or a cache that has seen them are given, and `decode`.

        Args:
            given: `inputs.Inputs`; other keywords are for `decode`.

        Returns:
            what `encode` returned, None where it is in the cache, and what `decode` did.
        """
        name = type(self).__name__
        halves = {key: given.pop(key) for key in inputs.Asked.__annotations__ if key in given}
        ours = {"input_ids": input_ids}
        ours |= {k: given.pop(k) for k in ("position_ids", "inputs_embeds") if k in given}
        source = inputs.encoded(name, given.pop("encoder_outputs", None))
        used = set()
        if decoder_input_ids is None and given.get("decoder_inputs_embeds") is None:
            decoder_input_ids = self._made_of(ours["input_ids"])
            used = {"input_ids"}
        if source is None and getattr(given.get("cache"), "cross", None) is None:
            source = self.encode(attention_mask=attention_mask, **ours, **halves)
        elif idle := [k for k, value in ours.items() if value is not None and k not in used]:
            raise ValueError(
                f"{name}: {idle[0]} is to be encoded, and the encoder's outputs are given, by "
                "encoder_outputs or a cache: leave out one of them"
            )
        out = self.decode(
            decoder_input_ids, source, attention_mask, decoder_attention_mask, **given, **halves
        )
        return source, out

    def _made_of(self, input_ids: jax.Array | None) -> jax.Array:
        """Returns the decoder's input where none is given."""
        if self.shifts_input_ids and input_ids is not None:
            return self.shifted_right(input_ids)
        raise ValueError(
            f"{type(self).__name__}: give decoder_input_ids, or decoder_inputs_embeds: in training "
            "model.prepare_decoder_input_ids_from_labels(labels)"
        )

    @nn.nowrap
    def shifted_right(self, ids: jax.Array) -> jax.Array:
        """Returns ids int [B, T] shifted by one to the right, so that a decoder which reads them
        predicts `ids`.

        Raises:
            ValueError: the config names no `decoder_start_token_id`, or no `pad_token_id`.
        """
        cfg = self.config
        if cfg.decoder_start_token_id is None:
            raise ValueError(
                f"{type(self).__name__}: config.decoder_start_token_id is None, so that decoder "
                "inputs cannot be made of labels or input_ids"
            )
        return inputs.shifted(ids, cfg.decoder_start_token_id, cfg.pad_token_id)

    @nn.nowrap
    def prepare_decoder_input_ids_from_labels(self, labels: jax.Array) -> jax.Array:
        """Makes decoder inputs of labels int [B, T], in which -100 stands where there is no loss;
        see `shifted_right`."""
        return self.shifted_right(labels)

    @nn.nowrap
    def init_cache(
        self, batch_size: int, max_length: int, dtype: jax.typing.DTypeLike | None = None
    ) -> blocks.Cache:
        """Makes an empty cache for `max_length` tokens of the decoder; see `Decoder.init_cache`."""
        return self.decoder_alone.init_cache(batch_size, max_length, dtype)

    @property
    def prompt_vocab_size(self) -> int | None:
        return self.config.vocab_size

    @nn.nowrap
    def first_pass(
        self, params: Params, prompt: Prompt, slots: int
    ) -> tuple[jax.Array, blocks.Cache, Rows]:
        variables, mask = {"params": params}, prompt.mask
        source = self.apply(variables, prompt.ids, mask, method="encode")
        ids, begun, _ = align_right(prompt.continued)
        batch, length = ids.shape
        told = {"cache": self.init_cache(batch, slots), "logits_to_keep": 1, "method": "decode"}
        out = self.apply(variables, ids, source, mask, begun, **told)
        valid = is_valid(prompt, self.prompt_vocab_size)
        valid &= is_valid(prompt.continued, getattr(self.config.text, "vocab_size", None))
        for each in (mask, begun):
            valid &= True if each is None else each.any(axis=1)
        rows = Rows(ids, begun, valid, jnp.full(batch, length, jnp.int32), None)
        return out.logits[:, -1], out.cache, rows

    @nn.nowrap
    def next_pass(
        self, params: Params, token: jax.Array, cache: blocks.Cache, before: jax.Array
    ) -> tuple[jax.Array, blocks.Cache]:
        told = {"cache": cache, "logits_to_keep": 1, "method": "decode"}
        out = self.apply({"params": params}, token, **told)
        return out.logits[:, -1], out.cache

    def dummy_inputs(self) -> dict[str, jax.Array]:
        one = jnp.zeros((1, 1), jnp.int32)
        return {self.main_input_name: one, "decoder_input_ids": one}


class EncoderDecoderBackbone(EncoderDecoder):
    """tokens [B, S] and decoder tokens [B, T] -> hidden states of the decoder [B, T, D]."""

    def finish(self, encoded, out) -> outputs.Seq2SeqModelOutput:
        states = {"last_hidden_state": out.last_hidden_state}
        return outputs.Seq2SeqModelOutput.of(encoded, out, **states)

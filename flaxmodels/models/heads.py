"""The heads that families share; a family's class names its backbone and its exceptions."""

import operator
from typing import Any, ClassVar, TypedDict, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from .. import blocks
from .. import sharding as fs
from ..core import outputs
from .base import PretrainedModel


class Inputs(TypedDict, total=False):
    """What a model takes beside `input_ids` int [B, T] and `attention_mask`, which says where
    tokens are (1) and where padding (0): [B or 1, T], or [B or 1, T, T] over pairs (query, key).

    Ids, positions and masks are checked where their values are known, outside of `jit`; what is
    traced must hold to it: a mask of other numbers is read as 1 where it is not 0, and an id that
    has no row gives NaN.

    Attributes:
        token_type_ids: int [B or 1, T], of families that have token types.
        position_ids: int [B or 1, T]; if None one after another from 0, or from the cache's index,
            whatever the mask says: tokens after padding on the left stand at 0, 1, ... only if the
            caller says so (`generate` does).
        inputs_embeds: [B, T, D], in the place of `input_ids`.
        cache: of a decoder, from `init_cache`; `attention_mask` [B, T] then covers the new tokens
            alone, and the output has the cache with them in it.
        head_mask: [N], or [L, N] over layers and heads, of BERT and GPT-2: what the output of each
            head is multiplied with; 1 keeps it, 0 drops it.
        deterministic: no dropout; False needs `rngs={"dropout": key}`.
        output_hidden_states: see `Output`; None for what the config says.
        output_attentions: likewise; the weights are computed by the "eager" formula.
    """

    token_type_ids: jax.Array | None
    position_ids: jax.Array | None
    inputs_embeds: jax.Array | None
    cache: blocks.Cache | None
    head_mask: jax.Array | None
    deterministic: bool
    output_hidden_states: bool | None
    output_attentions: bool | None


class Decoder(PretrainedModel):
    """A model, or the backbone of one, that generates from left to right."""

    @property
    def is_causal(self) -> bool:
        """Whether a token sees those before it alone."""
        return True

    def attending(
        self, call: blocks.Call, cache: blocks.Cache | None, tokens: blocks.Tokens
    ) -> tuple[blocks.Call, blocks.Cache | None, jax.Array]:
        """`blocks.causal`, or its like where each token sees all."""
        if self.is_causal:
            return blocks.causal(call, cache, tokens)
        if cache is not None:
            raise ValueError(self._no_decoder())
        return blocks.bidirectional(call, tokens)

    def _no_decoder(self) -> str:
        return f"{type(self).__name__}: a cache is for a decoder; set config.is_decoder"

    def init_cache(self, batch_size: int, max_length: int, dtype: Any = None) -> blocks.Cache:
        """An empty cache for `max_length` tokens, in `dtype` (`self.dtype` if None).

        Raises:
            ValueError: more tokens than the model has positions, or a model that is no decoder.
        """
        cfg = self.config
        if not self.is_causal:
            raise ValueError(self._no_decoder())
        blocks.check_positions(cfg, max_length, "slots")
        return blocks.init_cache(
            batch_size=batch_size,
            max_length=max_length,
            num_heads=[blocks.num_heads(cfg, i)[1] for i in range(cfg.num_hidden_layers)],
            head_dim=cfg.head_dim,
            dtype=self.dtype if dtype is None else dtype,
            stacked=self.scan_layers,
        )


class Head(PretrainedModel):
    """A model made of a backbone, under the name `base_model_prefix`, and what follows it."""

    backbone: ClassVar[type[PretrainedModel]]

    def base(self) -> nn.Module:
        """The backbone, as a submodule."""
        return self.backbone(**self.fields, name=self.base_model_prefix)

    def in_backbone(self, path: str) -> str:
        return f"{self.base_model_prefix}/{path}"

    def classify(
        self, x: jax.Array, labels: int, name: str = "classifier", *, use_bias: bool = True
    ) -> jax.Array:
        """x [..., D] -> [..., labels]."""
        std = self.config.initializer_range
        axes = ("embed", "labels")
        return blocks.Linear(labels, axes, std, use_bias=use_bias, name=name)(x)

    def drop(self, x: jax.Array, deterministic: bool) -> jax.Array:
        """Dropout before a classifier: `classifier_dropout`, or 0.1 where the config has none."""
        rate = self.config.classifier_dropout
        return nn.Dropout(0.1 if rate is None else rate)(x, deterministic=deterministic)


class SimpleHead(Head):
    """A head that takes what its backbone takes."""

    @nn.compact
    def __call__(
        self,
        input_ids: jax.Array | None = None,
        attention_mask: jax.Array | None = None,
        **inputs: Unpack[Inputs],
    ) -> Any:
        base = self.base()
        out = base(input_ids, attention_mask, **inputs)
        return self.head(base, out, input_ids, inputs.get("deterministic", True))

    def head(
        self, base: nn.Module, out: Any, input_ids: jax.Array | None, deterministic: bool
    ) -> outputs.Output:
        """What this class makes of the backbone's `BaseOutput`; its submodules are made here."""
        raise TypeError(f"{type(self).__name__} defines no head")


class VocabularyHead(Head):
    """A head with a logit for every token of the vocabulary."""

    output_embeddings_path = "lm_head"
    lm_head_path = "lm_head"

    def vocabulary(self, base: Any, x: jax.Array) -> jax.Array:
        """x [B, T, D] -> logits [B, T, V]: by the embedding table if tied, else by `lm_head`."""
        if self.config.tie_word_embeddings:
            logits = base.attend(x)
        else:
            size, std = self.config.vocab_size, self.config.initializer_range
            axes = ("embed", "vocab")
            logits = blocks.Linear(size, axes, std, use_bias=False, name="lm_head")(x)
        return fs.constrain(logits, ("batch", "length", "vocab"), self.rules)


class CausalLM(VocabularyHead):
    """tokens [B, T] -> logits [B, T, V] of the token after each."""

    @classmethod
    def can_generate(cls) -> bool:
        return True

    @nn.compact
    def __call__(
        self,
        input_ids: jax.Array | None = None,
        attention_mask: jax.Array | None = None,
        *,
        logits_to_keep: int = 0,
        **inputs: Unpack[Inputs],
    ) -> outputs.LogitsOutput:
        """Args:
        logits_to_keep: of how many of the last tokens logits are computed; 0 for all.
        """
        if (keep := operator.index(logits_to_keep)) < 0:
            raise ValueError(f"logits_to_keep is {keep}; expected 0 for all, or how many")
        base = self.base()
        out = base(input_ids, attention_mask, **inputs)
        logits = self.vocabulary(base, out.last_hidden_state[:, -keep:])
        return outputs.LogitsOutput.of(out, logits=logits)


class LastTokenClassification(SimpleHead):
    """tokens [B, T] -> logits [B, labels], read off the last token that is not padding."""

    def head(self, base, out, input_ids, deterministic) -> outputs.LogitsOutput:
        x = self._last_token(out.last_hidden_state, input_ids)
        logits = self.classify(x, self.config.num_labels, "score", use_bias=False)
        return outputs.LogitsOutput.of(out, logits=logits)

    def _last_token(self, x: jax.Array, input_ids: jax.Array | None) -> jax.Array:
        pad = self.config.pad_token_id
        if pad is None and x.shape[0] != 1:
            raise ValueError(
                f"{type(self).__name__}: config.pad_token_id is None, so where each sequence of a "
                "batch ends is not known; set it, or give one sequence at a time"
            )
        if pad is None or input_ids is None:
            return x[:, -1]
        places = jnp.arange(x.shape[1])[None]
        last = jnp.argmax(jnp.where(jnp.asarray(input_ids) != pad, places, 0), axis=-1)
        return jnp.take_along_axis(x, last[:, None, None], axis=1)[:, 0]


class PooledClassification(SimpleHead):
    """tokens [B, T] -> logits [B, labels], read off the pooled output of the backbone."""

    def head(self, base, out, input_ids, deterministic) -> outputs.LogitsOutput:
        x = self.drop(out.pooler_output, deterministic)
        return outputs.LogitsOutput.of(out, logits=self.classify(x, self.config.num_labels))


class OverChoices(PretrainedModel):
    """A model whose inputs have an axis for choices, [B, C, T]."""

    def dummy_inputs(self) -> dict[str, jax.Array]:
        return {self.main_input_name: jnp.zeros((1, 1, 1), jnp.int32)}


class MultipleChoice(Head, OverChoices):
    """Tokens of several choices [B, C, T] -> logits [B, C], read off the pooled outputs; hidden
    states and attentions have the choices folded into the batch."""

    @nn.compact
    def __call__(
        self,
        input_ids: jax.Array | None = None,
        attention_mask: jax.Array | None = None,
        **inputs: Unpack[Inputs],
    ) -> outputs.LogitsOutput:
        tokens = {"input_ids": input_ids, "attention_mask": attention_mask}
        lead, folded = fold_choices(tokens | inputs)
        out = self.base()(**folded)
        x = self.drop(out.pooler_output, inputs.get("deterministic", True))
        return outputs.LogitsOutput.of(out, logits=self.classify(x, 1).reshape(lead))


class TokenClassification(SimpleHead):
    """tokens [B, T] -> logits [B, T, labels]."""

    classifier_name: ClassVar[str] = "classifier"

    def head(self, base, out, input_ids, deterministic) -> outputs.LogitsOutput:
        x = self.drop(out.last_hidden_state, deterministic)
        logits = self.classify(x, self.config.num_labels, self.classifier_name)
        return outputs.LogitsOutput.of(out, logits=logits)


class QuestionAnswering(SimpleHead):
    """tokens [B, T] -> logits [B, T] of the first and of the last token of the answer."""

    def head(self, base, out, input_ids, deterministic) -> outputs.QuestionAnsweringOutput:
        logits = self.classify(out.last_hidden_state, 2, "qa_outputs")
        start, end = logits[..., 0], logits[..., 1]
        return outputs.QuestionAnsweringOutput.of(out, start_logits=start, end_logits=end)


_FOLDED = {"input_ids": 1, "attention_mask": 1, "token_type_ids": 1, "position_ids": 1}
_FOLDED |= {"inputs_embeds": 2}


def fold_choices(inputs: dict[str, Any]) -> tuple[tuple[int, ...], dict[str, Any]]:
    """Arguments over choices [B, C, T] -> (B, C), and the arguments with these folded into one.

    Raises:
        ValueError: an argument without these axes, or with others than the rest.
    """
    lead, folded = None, dict(inputs)
    for name, kept in _FOLDED.items():
        if (x := inputs.get(name)) is None:
            continue
        shape = jnp.shape(x)
        if len(shape) != 2 + kept or 0 in shape or lead not in (None, shape[:2]):
            form = ["B", "C"] if lead is None else list(lead)
            form = ", ".join(map(str, [*form, "T", "D"][: 2 + kept]))
            raise ValueError(
                f"{name} has shape {shape}: expected [{form}], the tokens of C choices, nothing "
                "of it empty"
            )
        lead = shape[:2]
        x = x if hasattr(x, "reshape") else np.asarray(x)
        folded[name] = x.reshape(-1, *shape[2:])
    return lead or (), folded

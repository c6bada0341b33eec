"""Heads with a logit for every token of the vocabulary."""

from typing import Any, NamedTuple, Unpack

import jax
from flax import linen as nn

from .. import blocks
from ..core import outputs
from ..core.deferred import DeferredLogits, placed, shaped
from ..core.inputs import Inputs
from ..params.scalars import whole
from ..params.tree.weights import Weight
from .decoder_style import LogitStyle
from .task_heads import SimpleHead, TaskHead


class Projection(NamedTuple):
    """What multiplies hidden states with a vocabulary.

    Attributes:
        by: a module with a kernel [D, V], or a table [V, D].
        bias: [V], is added to the product, of a module without one of its own.
    """

    by: blocks.Linear | jax.Array | Weight
    bias: jax.Array | None = None

    def products(self, x: jax.Array) -> jax.Array:
        """Multiplies x [..., D] -> [..., V]."""
        by = self.by
        y = by(x) if isinstance(by, blocks.Linear) else blocks.contract(x, by, 1)
        return y if self.bias is None else blocks.with_bias(y, self.bias)

    def deferred(self, x: jax.Array, **others: Any) -> DeferredLogits:
        """Returns what makes the logits of x [..., D] later; `others` are fields of it."""
        if not isinstance(self.by, blocks.Linear):
            return DeferredLogits(x, self.by, self.bias, axis=1, bias_apart=True, **others)
        kernel, own = self.by.params(x.shape[-1])
        apart = self.bias is not None
        assert not apart or own is None  # no family adds two
        return DeferredLogits(x, kernel, self.bias if apart else own, bias_apart=apart, **others)


class VocabularyHead(TaskHead):
    """A head with a logit for every token of the vocabulary."""

    output_embeddings_path = "lm_head"
    lm_head_path = "lm_head"

    @property
    def logit_style(self) -> LogitStyle:
        """The bias, factor and cap that make logits of the product with the vocabulary."""
        return LogitStyle()

    @property
    def logit_count(self) -> int:
        """V: the tokens that there are logits of."""
        return self.config.vocab_size

    def vocabulary(self, base: nn.Module, x: jax.Array) -> jax.Array:
        """Projects x [B, T, D] to logits [B, T, V], by the embedding table if it is tied;
        `DeferredLogits` of them if the model says so."""
        return self.logits_by(self.projection(base), x)

    def projection(self, base: Any) -> Projection:
        """Makes what multiplies hidden states with the vocabulary."""
        use_bias, size, name = self.logit_style.use_bias, self.logit_count, self.lm_head_path
        if not self.config.tie_word_embeddings:
            std, axes = self.config.initializer_range, ("embed", "vocab")
            return Projection(blocks.Linear(size, axes, std, use_bias, name=name))
        bias = blocks.Bias(size, ("vocab",), name=name)() if use_bias else None
        return Projection(base.token_table(), bias)

    def logits_by(self, projection: Projection, x: jax.Array) -> jax.Array:
        """Makes the logits of hidden states x [B, T, D], or defers them: every head over a
        vocabulary ends here."""
        style, defer = self.logit_style, self.defer_logits
        if not defer:
            logits = shaped(projection.products(x), style.scale, style.softcap)
            return placed(logits, self.rules)
        fields = {"scale": style.scale, "softcap": style.softcap, "rules": self.rules}
        later: Any = projection.deferred(x, **fields, chunk=None if defer is True else defer)
        return later


class CausalLM(VocabularyHead):
    """tokens [B, T] -> logits [B, T, V] of the token after each."""

    loss_kind = "causal_lm"

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
        """Computes the logits of all tokens, or of the last `logits_to_keep` if that is not 0."""
        base = self.base()
        out = base(input_ids, attention_mask, **inputs)
        logits = self.vocabulary(base, last(out.last_hidden_state, logits_to_keep))
        return outputs.LogitsOutput.of(out, logits=logits)


def last(x: jax.Array, logits_to_keep: int) -> jax.Array:
    """Returns the last `logits_to_keep` places of x [B, T, D]; all if that is 0."""
    return x[:, -whole("logits_to_keep (0 for all)", logits_to_keep, 0) :]


class MaskedLM(VocabularyHead, SimpleHead):
    """tokens [B, T] -> logits [B, T, V] of the token in each place."""

    loss_kind = "masked_lm"

    def logits(self, base, out, given) -> jax.Array:
        return self.vocabulary(base, out.last_hidden_state)

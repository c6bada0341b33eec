"""The scaffold of decoders: the context of a forward pass, the cache, and the backbone, whose parts
a family says."""

import operator
from typing import Any, ClassVar, Unpack

import jax
import jax.numpy as jnp

from .. import blocks
from .. import sharding as fs
from ..core import outputs
from ..core.inputs import Inputs, not_taken_error
from ..params.tree.weights import Weight
from .base import PretrainedModel


class Decoder(PretrainedModel):
    """A model, or the backbone of one, that generates from left to right."""

    not_taken: ClassVar[frozenset[str]] = frozenset(
        "token_type_ids head_mask encoder_hidden_states encoder_attention_mask".split()
    )
    """Which of `Inputs` the family has no use for."""

    @property
    def is_causal(self) -> bool:
        """Whether a token attends to itself and those before it alone."""
        return True

    def dummy_inputs(self) -> dict[str, jax.Array]:
        """Makes the smallest inputs that reach every parameter: of a model whose layers attend to
        an encoder, its states too, [1, 1, D], as wide as the model's own."""
        cfg, inputs = self.config, super().dummy_inputs()
        if getattr(cfg, "add_cross_attention", False):
            inputs["encoder_hidden_states"] = jnp.zeros((1, 1, cfg.hidden_size), jnp.float32)
        return inputs

    def begin_pass(
        self,
        tokens: blocks.Tokens,
        *,
        token_types: int | None = None,
        cache: blocks.Cache | None = None,
        head_mask: jax.Array | None = None,
        encoder_hidden_states: jax.Array | None = None,
        encoder_attention_mask: jax.Array | None = None,
        deterministic: bool = True,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> tuple[blocks.Tokens, blocks.PassContext]:
        """Checks what a forward pass is given, and builds from it the context that layers read.

        Args:
            token_types: how many there are; None for a family without them.
            **others: as in `Inputs`.

        Raises:
            TypeError: see `Tokens.checked`.
            ValueError: see `Tokens.checked`; or a cache for a model that is no decoder, or an
                encoder for one without cross-attention.
        """
        cfg = self.config
        if cache is not None:
            self._check_decoder()
        tokens = tokens.checked(
            cfg,
            cache=cache,
            specs=None if cache is None else self.cache_specs(),
            stacked=self.scan_layers,
            token_types=token_types,
        )
        kinds = dict.fromkeys(cfg.layer_kinds)
        attentions = dict.fromkeys(kind.attention for kind in kinds)
        context = blocks.pass_context(tokens, attentions, self.mask_rule, cache)
        biases = {
            each: self.score_bias(mask, tokens.shape[1]) for each, mask in context.masks.items()
        }
        encoder = encoder_hidden_states, encoder_attention_mask
        context = self._attending(context, *encoder, batch=tokens.shape[0])
        rotaries = dict.fromkeys(kind.rotary for kind in kinds if kind.rotary is not None)
        states = cfg.output_hidden_states if output_hidden_states is None else output_hidden_states
        weights = cfg.output_attentions if output_attentions is None else output_attentions
        return tokens, context._replace(
            head_scales=blocks.head_scales(cfg, head_mask, stacked=self.scan_layers),
            biases={each: bias for each, bias in biases.items() if bias is not None},
            rotations={each: self.rotation(each, context.positions) for each in rotaries},
            deterministic=blocks.as_flag("deterministic", deterministic),
            output_hidden_states=blocks.as_flag("output_hidden_states", states),
            output_attentions=blocks.as_flag("output_attentions", weights),
        )

    def _attending(
        self,
        context: blocks.PassContext,
        states: jax.Array | None,
        mask: jax.Array | None,
        *,
        batch: int,
    ) -> blocks.PassContext:
        """Returns the context with an encoder's states in it, checked."""
        cfg, name = self.config, type(self).__name__
        if states is None and mask is not None:
            raise ValueError(f"{name}: encoder_attention_mask without encoder_hidden_states")
        if states is not None:
            if not getattr(cfg, "add_cross_attention", False):
                raise ValueError(
                    f"{name} was given encoder_hidden_states, and config.add_cross_attention is "
                    "False: it has no layers that attend to them"
                )
            states, mask = blocks.checked_encoder(states, mask, batch, cfg.hidden_size)
            states = states.astype(self.dtype)
        heads = (cfg.num_attention_heads, cfg.head_dim)
        return blocks.with_encoder(context, states, mask, heads)

    def mask_rule(self, attention: str) -> blocks.Rule | None:
        """Returns which places a place attends to in layers of a kind; None for all."""
        window = self.config.window(attention)
        if not self.is_causal:
            return None if window is None else blocks.TwoWayWindow(window)
        rule = blocks.Causal()
        return rule if window is None else rule & blocks.Window(window)

    def score_bias(self, mask: blocks.AttentionMask, length: int) -> jax.Array | None:
        """Returns what is added to the scores of all layers with this mask, for T = `length` new
        tokens: [B or 1, N, T or 1, S]; None for nothing."""
        return None

    def rotation(self, name: str, positions: jax.Array) -> blocks.Rotation:
        """Returns the rotation `name` of positions int [B or 1, T]; of a family whose layers have
        one."""
        cfg = self.config
        if not hasattr(cfg, "rope_for"):
            raise TypeError(f"{type(self).__name__} defines no rotation")
        rope, limit = cfg.rope_for(name), cfg.max_position_embeddings
        return blocks.rotary(rope, positions, head_dim=cfg.head_dim, max_positions=limit)

    def cache_specs(self) -> dict[str, blocks.CacheSpec]:
        """Returns {attention kind: what its layers keep of each token}."""
        cfg = self.config
        heads: dict[str, list[int]] = {}
        for index, kind in enumerate(cfg.layer_kinds):
            heads.setdefault(kind.attention, []).append(blocks.num_heads(cfg, index)[1])
        width = cfg.head_dim
        return {
            attention: blocks.CacheSpec(tuple(counts), width, width, cfg.window(attention))
            for attention, counts in heads.items()
        }

    def init_cache(
        self, batch_size: int, max_length: int, dtype: jax.typing.DTypeLike | None = None
    ) -> blocks.Cache:
        """Makes an empty cache for `max_length` tokens, in `dtype` (`self.dtype` if None). Layers
        that see a window of tokens keep no more than these.

        Raises:
            ValueError: more tokens than the model has positions, or a model that is no decoder.
        """
        self._check_decoder()
        blocks.check_positions(self.config, max_length, "slots")
        return blocks.init_cache(
            self.cache_specs(),
            batch_size=batch_size,
            max_length=max_length,
            dtype=self.dtype if dtype is None else dtype,
            stacked=self.scan_layers,
        )

    def token_table(self) -> jax.Array | Weight:
        """Returns the table of input embeddings [V, D], which a tied head multiplies with."""
        table = operator.attrgetter(self.input_embeddings_path.replace("/", "."))(self)
        return table.embedding

    def _check_decoder(self) -> None:
        if not self.is_causal:
            may_be = "is_decoder" in self.config.names()
            what = (
                "set config.is_decoder" if may_be else "the tokens of this one see those after them"
            )
            raise ValueError(f"{type(self).__name__}: a cache is for a decoder; {what}")


class Backbone(Decoder):
    """tokens [B, T] -> hidden states [B, T, D], after the last norm. A family says how tokens are
    embedded, which layers there are, and what follows them."""

    output_class: ClassVar[type[outputs.BaseOutput]] = outputs.BaseOutput

    def __call__(
        self,
        input_ids: jax.Array | None = None,
        attention_mask: jax.Array | None = None,
        **inputs: Unpack[Inputs],
    ) -> outputs.BaseOutput:
        """Computes hidden states."""
        taken = {*Inputs.__annotations__} - self.not_taken
        if odd := sorted(inputs.keys() - taken):
            call = f"{type(self).__name__}.__call__"
            raise not_taken_error(call, odd[0], {"attention_mask", "input_ids", *taken})
        given: dict[str, Any] = {**inputs}
        tokens = blocks.Tokens(
            input_ids,
            given.pop("inputs_embeds", None),
            attention_mask,
            given.pop("token_type_ids", None),
            given.pop("position_ids", None),
        )
        tokens, context = self.begin_pass(tokens, token_types=self.token_types, **given)
        x = self.embed(tokens, context)
        # First whole in length: split tokens would gather the table instead of their rows.
        x = fs.constrain(x, ("batch", "length", "hidden"), self.rules)
        out = blocks.run_over_length(
            lambda x, context: self.run_layers(self.options.residual(x), context),
            x,
            context,
            self.rules,
            is_causal=self.is_causal,
        )
        x = self.finish(out.x)
        return outputs.of_backbone(self.output_class, context, x, out, **self.more_outputs(x))

    @property
    def token_types(self) -> int | None:
        """How many token types there are; None for a family without them."""
        return None

    def embed(self, tokens: blocks.Tokens, context: blocks.PassContext) -> jax.Array:
        """Returns what enters the first layer: [B, T, D]."""
        raise TypeError(f"{type(self).__name__} defines no embed")

    def run_layers(self, x: jax.Array, context: blocks.PassContext) -> blocks.LayersOutput:
        """Applies the layers, a module under the name of `naming.stacks`."""
        raise TypeError(f"{type(self).__name__} defines no run_layers")

    def finish(self, x: jax.Array) -> jax.Array:
        """Returns the hidden states of what leaves the last layer; x itself if nothing follows."""
        return x

    def more_outputs(self, x: jax.Array) -> dict[str, jax.Array | None]:
        """Returns what else the backbone makes of its hidden states, such as `pooler_output`."""
        return {}

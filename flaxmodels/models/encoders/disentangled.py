"""What DeBERTa's generations share: disentangled attention, embeddings that are zero where there is
no token, and heads.

He et al. 2020, arXiv:2006.03654.
"""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from ... import blocks
from ... import params as fp
from ...core import outputs
from ...core.model import by_config
from ...documents.json_values import ConfigError, Json
from .. import task_heads
from ..base import PretrainedModel
from ..layer_types import FULL
from ..task_heads import HeadInputs
from . import paths
from .branch import Branch, Part, at, grown
from .fields import SizeFields
from .heads import ENCODER_CLASSES, EncoderHead, MaskedLM
from .layers import EncoderLayer
from .model import ENCODER_INPUTS, EncoderModel, EncoderPretrained, encoder_naming
from .style import EncoderStyle

_PROJECTIONS = [f"attention/self/{name}_proj" for name in ("query", "key", "value")]
SCORES = ("c2p", "p2c")
"""Which scores there are of distances: of queries with them, and of keys."""

_LEGACY = paths.Predictions()
_CURRENT = paths.Predictions(
    "lm_predictions/lm_head/dense",
    "lm_predictions/lm_head/LayerNorm",
    "lm_predictions/lm_head/decoder",
    "lm_predictions/lm_head/bias",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DisentangledFields(SizeFields):
    """The fields of both generations. `pos_att_type` says which of `SCORES` there are, as a list or
    as a text, "c2p|p2c"; a `type_vocab_size` of 0 is for no token types."""

    may_be_zero: ClassVar[tuple[str, ...]] = ("type_vocab_size",)
    harmless: ClassVar = ("attention_head_size", "embedding_size", "pooler_hidden_size")

    max_position_embeddings: int = 512
    type_vocab_size: int = 0
    layer_norm_eps: float = 1e-7
    relative_attention: bool = False
    max_relative_positions: int = -1
    position_biased_input: bool = True
    pos_att_type: tuple[str, ...] | None = None
    pooler_dropout: float = 0.0
    pooler_hidden_act: str = "gelu"
    cls_dropout: float | None = None
    legacy: bool = True

    @property
    def style(self) -> EncoderStyle:
        scores = 1 + len(self.pos_att_type or ())
        dropped = self.hidden_dropout_prob if self.cls_dropout is None else self.cls_dropout
        return super().style.replace(
            attention=paths.Attention(*_PROJECTIONS),
            embeddings=paths.Embeddings(
                types="embeddings/token_type_embeddings" if self.type_vocab_size else None,
                positions="embeddings/position_embeddings" if self.position_biased_input else None,
            ),
            score_scale=(scores * self.head_dim) ** -0.5,
            classifier_dropout=dropped,
        )

    @property
    def distances(self) -> paths.Distances:
        """Returns the names of what projects distances."""
        raise TypeError(f"{type(self).__name__} defines no distances")

    @property
    def longest_distance(self) -> int:
        """The greatest distance that there is a row for."""
        longest = self.max_relative_positions
        return self.max_position_embeddings if longest < 1 else longest

    @property
    def buckets(self) -> int:
        """Rows of the table of distances on either side, the outer half of them for logarithmic
        distances; 0 for a row for every distance."""
        return 0

    @property
    def span(self) -> int:
        """Rows of the table of distances on either side."""
        return self.buckets or self.longest_distance

    def scores(self, name: str) -> bool:
        """Tells whether there are scores of a kind, one of `SCORES`."""
        return self.relative_attention and name in (self.pos_att_type or ())

    def validate(self) -> None:
        super().validate()
        if odd := [kind for kind in self.pos_att_type or () if kind not in SCORES]:
            raise ConfigError(f"pos_att_type has {odd[0]!r}; expected {', '.join(SCORES)}")
        widths = {"embedding_size": self.hidden_size, "pooler_hidden_size": self.hidden_size}
        for key, width in (widths | {"attention_head_size": self.head_dim}).items():
            if self.extra.get(key, width) != width:
                raise ConfigError(f"{key} is {self.extra[key]}; implemented is {width}")

    @classmethod
    def from_json_keys(cls, values: dict[str, Json]) -> dict[str, Json]:
        """Reads a `pos_att_type` that is a text."""
        values = super().from_json_keys(values)
        if isinstance(kinds := values.get("pos_att_type"), str):
            values["pos_att_type"] = [kind.strip() for kind in kinds.lower().split("|")]
        return values


class DisentangledLayer(EncoderLayer):
    """(x [B, T, D], context, at) -> (x, cache, attention weights or None); `context.shared` is the
    table of distances [R, D], or None."""

    def _attention_parts(self, names: paths.Attention, heads: int) -> dict[str, Part]:
        cfg, parts = self.config, super()._attention_parts(names, heads)
        paths, width = cfg.distances, heads * cfg.head_dim
        project = functools.partial(self._linear, width, ("embed", "heads"))
        if cfg.scores("c2p"):
            parts.setdefault(paths.key, project(paths.key_bias))
        if cfg.scores("p2c"):
            parts.setdefault(paths.query, project(True))
        return parts

    def score_bias(
        self, modules: Branch, q: jax.Array, k: jax.Array, context: blocks.PassContext
    ) -> jax.Array | None:
        cfg, table = self.config, context.shared
        if table is None or not cfg.pos_att_type:
            return None
        dropout = nn.Dropout(cfg.hidden_dropout_prob)
        table = dropout(table, deterministic=context.deterministic)
        rows = blocks.distance_rows(
            q.shape[1], k.shape[1], cfg.span, buckets=cfg.buckets, longest=cfg.longest_distance
        )
        key, query = cfg.distances.key, cfg.distances.query
        scores = blocks.disentangled_scores(
            q,
            k,
            rows,
            key_table=self.rows(modules, key, table) if cfg.scores("c2p") else None,
            query_table=self.rows(modules, query, table) if cfg.scores("p2c") else None,
        )
        return scores * cfg.style.score_scale

    def rows(self, modules: Branch, path: str, table: jax.Array) -> jax.Array:
        """Projects the table of distances [R, D] to heads [R, N, H]."""
        return self.projected(modules, path, table[None])[0]


def are_tokens(context: blocks.PassContext) -> jax.Array | None:
    """Returns which places hold tokens, bool [B or 1, T], as the mask of attention says; None for
    all."""
    tokens = context.masks[FULL].tokens
    return None if tokens is None else tokens.any(2)[:, 0]


class DisentangledModel(EncoderModel):
    """tokens [B, T] -> hidden states [B, T, D]."""

    layer: ClassVar[type[nn.Module]] = DisentangledLayer

    not_taken = ENCODER_INPUTS

    def parts(self) -> dict[str, Part]:
        cfg, parts = self.config, super().parts()
        if cfg.relative_attention:
            rows, std, axes = 2 * cfg.span, cfg.initializer_range, ("position", "embed")
            table = functools.partial(blocks.Embed, rows, cfg.hidden_size, std, axes)
            parts["encoder/rel_embeddings"] = table
        return parts

    def embed(self, tokens: blocks.Tokens, context: blocks.PassContext) -> jax.Array:
        x, there = super().embed(tokens, context), are_tokens(context)
        return x if there is None else jnp.where(there[..., None], x, 0)

    def run_layers(self, x: jax.Array, context: blocks.PassContext) -> blocks.LayersOutput:
        if self.config.relative_attention:
            table = at(self, "encoder/rel_embeddings")
            rows = jnp.arange(2 * self.config.span)
            context = context._replace(shared=self.normed_distances(table(rows, x.dtype)))
        return super().run_layers(x, context)

    def normed_distances(self, table: jax.Array) -> jax.Array:
        """Returns the table of distances [R, D] as layers read it."""
        return table


class DisentangledPretrained(EncoderPretrained):
    """The base of every model of both."""

    base_model_prefix = "deberta"
    predictions = by_config(lambda self: _LEGACY if self.config.legacy else _CURRENT)
    naming = by_config(lambda self: self.named())

    def named(self, **more: object) -> fp.Naming:
        """Makes the naming. Checkpoints may have a table of positions that is not used."""
        ignored = [r"embeddings\.position_ids$"]
        if not self.config.position_biased_input:
            ignored.append(r"embeddings\.position_embeddings\.weight$")
        return encoder_naming(self.predictions, ignored=tuple(ignored), **more)


class LegacyMaskedLM(MaskedLM):
    """tokens [B, T] -> logits [B, T, V] of the token in each place. Only a head that is `legacy`
    may have a table of its own."""

    @property
    def is_tied(self) -> bool:
        return super().is_tied or not self.config.legacy


class ContextHead(EncoderHead):
    """A classifier of the first token, which goes through a layer of the head's."""

    def label(self, out: outputs.BaseOutput, given: HeadInputs, labels: int) -> jax.Array:
        cfg = self.config
        pooler = grown(self, {"pooler/dense": self.linear(cfg.hidden_size)})
        drop = nn.Dropout(cfg.pooler_dropout, deterministic=given.deterministic)
        x = pooler.at("pooler/dense")(drop(out.last_hidden_state[:, 0]))
        x = blocks.ACTIVATIONS[cfg.pooler_hidden_act](x)
        return self.classify(self.drop(x, given.deterministic), labels)


class SequenceClassification(ContextHead, task_heads.SequenceClassification):
    """tokens [B, T] -> logits [B, labels]."""

    loss_kind = "distribution_classification"


class MultipleChoice(ContextHead, task_heads.MultipleChoice):
    """Tokens of several choices [B, C, T] -> logits [B, C]."""


class TokenClassification(EncoderHead, task_heads.TokenClassification):
    """tokens [B, T] -> logits [B, T, labels], of hidden states dropped as within the layers."""

    dropout = "hidden_dropout_prob"


DISENTANGLED_CLASSES: dict[str, type[PretrainedModel]] = ENCODER_CLASSES | {
    "Pretrained": DisentangledPretrained,
    "Model": DisentangledModel,
    "ForMaskedLM": LegacyMaskedLM,
    "ForSequenceClassification": SequenceClassification,
    "ForTokenClassification": TokenClassification,
    "ForMultipleChoice": MultipleChoice,
}
"""How a class's name ends -> what the class is, for `families.classes_of`."""

"""ALBERT: BERT whose layers share their params in groups; embeddings of their own width.

Lan et al. 2019, arXiv:1909.11942; reference: `models/albert` of Transformers 5.23.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from .. import blocks
from .. import sharding as fs
from ..blocks.remat import remat
from ..blocks.stack import Period
from ..core import outputs
from ..documents.json_values import ConfigError
from ..models import config_checks, task_heads
from ..models.encoders import heads, paths
from ..models.encoders.branch import Part, grown
from ..models.encoders.fields import SizeFields
from ..models.encoders.model import ENCODER_INPUTS, PooledEncoderModel
from ..models.encoders.style import EncoderStyle
from ..params.types import PyTree
from . import classes_of

_ATTENTION = [f"attention/{name}" for name in ("query", "key", "value", "dense", "LayerNorm")]
_ORDER = "sop_classifier/classifier"


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlbertConfig(SizeFields):
    """`config.json` of an ALBERT: `num_hidden_layers` times `inner_group_num` layers are applied,
    and there are `num_hidden_groups` times `inner_group_num`."""

    model_type = "albert"

    vocab_size: int = 30000
    embedding_size: int = 128  # pyright: ignore[reportIncompatibleMethodOverride] (a property elsewhere)
    hidden_size: int = 4096
    num_hidden_groups: int = 1
    num_attention_heads: int = 64
    intermediate_size: int = 16384
    inner_group_num: int = 1
    hidden_act: str = "gelu_new"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    type_vocab_size: int = 2
    classifier_dropout_prob: float = 0.1
    bos_token_id: int | None = 2
    eos_token_id: int | tuple[int, ...] | None = 3

    @property
    def style(self) -> EncoderStyle:
        return super().style.replace(
            attention=paths.Attention(*_ATTENTION),
            mlp=paths.MLP("ffn", "ffn_output", "full_layer_layer_norm"),
            embeddings=paths.Embeddings(project="encoder/embedding_hidden_mapping_in"),
            layers="encoder/albert_layer_groups",
            pooler="pooler",
            mlp_dropout=0.0,
            classifier_dropout=self.classifier_dropout_prob,
        )

    def validate(self) -> None:
        super().validate()
        if not 1 <= self.num_hidden_groups <= self.num_hidden_layers or self.inner_group_num < 1:
            raise ConfigError(
                f"{self.num_hidden_groups} groups of {self.inner_group_num} layers, applied "
                f"{self.num_hidden_layers} times; there is at least a layer in a group, and each "
                "is applied"
            )
        config_checks.no_pruned_heads(self, "layers are shared")


_Trace = tuple[jax.Array | None, PyTree]
"""What entered a layer, and its attention weights, if they are asked for."""


class SharedLayers(nn.Module):
    """Applies the layers of each group one after another, so often that all `config.layer_kinds`
    are served: params at `<name>/<group>/<inner_name>/<i>/...`, scanned or not.

    Attributes:
        layer: as of `blocks.Layers`; all are of one kind, and none has a cache.
        groups: how many there are; the layer number i of L is of the group
            int(i / (L / groups)), rounded as the reference does.
        inner: layers of a group.
    """

    layer: Callable[..., nn.Module]
    config: AlbertConfig
    options: blocks.ModelOptions
    groups: int
    inner: int
    inner_name: str

    @nn.compact
    def __call__(self, x: jax.Array, context: blocks.PassContext) -> blocks.LayersOutput:
        """Applies the layers."""
        share, traces = len(self.config.layer_kinds) / self.groups, []
        paths = [
            [f"{group}/{self.inner_name}/{i}" for i in range(self.inner)]
            for group in range(self.groups)
        ]
        make = functools.partial(self.layer, self.config, self.options)
        parts: dict[str, Part] = {path: make for group in paths for path in group}
        modules = grown(self, parts)
        if self.options.scan_layers:
            x = fs.varying(x, over=(x, context, self.variables))
        for group, names in enumerate(paths):
            numbers = [i for i, _ in enumerate(self.config.layer_kinds) if int(i / share) == group]
            layers = Period(tuple(modules.at(name) for name in names))
            if self.options.scan_layers:
                x, stacked = self._scan(layers, x, context, numbers)
                traces += [
                    jax.tree.map(lambda leaf, i=i: leaf[i], trace)
                    for i in range(len(numbers))
                    for trace in stacked
                ]
            else:
                for number in numbers:
                    x, more = self._apply(layers, x, context, number)
                    traces += more
        entered = tuple(state for state, _ in traces if state is not None)
        weights = tuple(weight for _, weight in traces if weight is not None)
        return blocks.LayersOutput(x, None, entered, weights)

    def _apply(
        self, layers: nn.Module, x: jax.Array, context: blocks.PassContext, number: int | jax.Array
    ) -> tuple[jax.Array, tuple[_Trace, ...]]:
        at = blocks.At(self.config.layer_kinds[:1], 0, number, number)
        keep_states, keep_weights = context.output_hidden_states, context.output_attentions

        def step(layer: nn.Module, x: jax.Array) -> tuple[jax.Array, _Trace]:
            x = blocks.named(x, "residual")
            out = blocks.LayerOutput(*layer(x, context, at))
            return out.x, (x if keep_states else None, out.weights if keep_weights else None)

        traces = []
        for layer in layers.layers:
            in_scan = self.options.scan_layers
            body = remat(step, self.options.remat, prevent_cse=not in_scan)
            x, trace = body(layer, x)
            traces.append(trace)
        return x, tuple(traces)

    def _scan(
        self, layers: nn.Module, x: jax.Array, context: blocks.PassContext, numbers: list[int]
    ) -> tuple[jax.Array, tuple[_Trace, ...]]:
        scanned = nn.scan(
            lambda layers, x, number: self._apply(layers, x, context, number),
            variable_broadcast="params",
            split_rngs={"params": False, "dropout": True},
            length=len(numbers),
        )
        return scanned(layers, x, jnp.array(numbers, jnp.int32))


class AlbertBackbone(PooledEncoderModel):
    """tokens [B, T] -> hidden states [B, T, D] and, if `add_pooling_layer`, the first of them
    through one more layer [B, D]."""

    def parts(self) -> dict[str, Part]:
        cfg, parts = self.config, super().parts()
        groups, inner = cfg.num_hidden_groups, cfg.inner_group_num
        layers = functools.partial(
            SharedLayers, self.layer, cfg, self.options, groups, inner, "albert_layers"
        )
        return parts | {cfg.style.layers: layers}


class SentenceOrderPreTraining(heads.PredictionHead, task_heads.SimpleHead):
    """tokens [B, T] -> the logits of `AlbertForMaskedLM`, and of the sentences' order [B, 2]."""

    loss_kind = "sentence_order_pretraining"
    pooling = True

    def head(self, base, out, given) -> outputs.SentenceOrderOutput:
        order = self.linear(self.config.num_labels, ("embed", "labels"))
        modules = grown(self, self.prediction_parts() | {_ORDER: order})
        return outputs.SentenceOrderOutput.of(
            out,
            prediction_logits=self.predict(modules, base, out.last_hidden_state),
            sop_logits=modules.at(_ORDER)(self.drop(out.pooler_output, given.deterministic)),
        )


__getattr__ = classes_of(
    AlbertConfig,
    parts=heads.ENCODER_CLASSES
    | {"Model": AlbertBackbone, "ForPreTraining": SentenceOrderPreTraining},
    base_model_prefix="albert",
    predictions=paths.Predictions(
        "predictions/dense", "predictions/LayerNorm", "predictions/decoder", "predictions/bias"
    ),
    more_naming={"stacks": ()},
    not_taken=ENCODER_INPUTS,
)

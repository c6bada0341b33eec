"""DeBERTa v2 and v3: disentangled attention with logarithmic distances, whose projections are those
of the tokens, and in v2 a convolution beside the first layer.

He et al. 2020, arXiv:2006.03654, and 2021, arXiv:2111.09543; reference: `models/deberta_v2` of
Transformers 5.23.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn

from .. import blocks
from ..blocks import Kind
from ..core.model import by_config
from ..documents.json_values import ConfigError
from ..models import config_checks
from ..models.encoders import disentangled, paths
from ..models.encoders.branch import Part, at, grown
from . import classes_of

_CONVOLVED = "convolved"
"""The form of the first layer, where there is a convolution."""
_NORM = "encoder/LayerNorm"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DebertaV2Config(disentangled.DisentangledFields):
    """`config.json` of a DeBERTa v2 or v3."""

    model_type = "deberta-v2"
    may_be_zero = ("type_vocab_size", "conv_kernel_size")

    vocab_size: int = 128100
    hidden_size: int = 1536
    num_hidden_layers: int = 24
    num_attention_heads: int = 24
    intermediate_size: int = 6144
    position_buckets: int = -1
    share_att_key: bool = False
    norm_rel_ebd: str = "none"
    conv_kernel_size: int = 0
    conv_groups: int = 1
    conv_act: str = "tanh"

    @property
    def distances(self) -> paths.Distances:
        own = paths.Distances("attention/self/pos_key_proj", "attention/self/pos_query_proj")
        return paths.Distances() if self.share_att_key else own

    @property
    def buckets(self) -> int:
        return max(self.position_buckets, 0)

    @property
    def layer_kinds(self) -> tuple[Kind, ...]:
        first, *others = super().layer_kinds
        return (first._replace(form=_CONVOLVED) if self.conv_kernel_size else first, *others)

    def validate(self) -> None:
        super().validate()
        config_checks.multiple(self, "hidden_size", of="conv_groups")
        config_checks.one_of(self, "norm_rel_ebd", ("none", "layer_norm"))
        if self.conv_kernel_size < 0 or (self.conv_kernel_size and not self.conv_kernel_size % 2):
            raise ConfigError(
                f"conv_kernel_size is {self.conv_kernel_size}; expected an odd number, or 0 for no "
                "convolution"
            )


class Conv(nn.Module):
    """Convolves x [B, T, in] with windows of `width` tokens, an odd number, around each ->
    [B, T, features]; beyond the ends there are zeros.

    Attributes:
        std: of the normal from which the kernel [width, in / groups, features] is drawn.
        groups: of input and output channels, each of which sees its own.
    """

    features: int
    width: int
    std: float
    groups: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.width, x.shape[-1] // self.groups, self.features)
        draw = nn.initializers.normal(self.std, jnp.float32)
        kernel = blocks.parameter(self, "kernel", draw, shape, ("window", "embed", "hidden"))
        bias = blocks.parameter(self, "bias", nn.initializers.zeros, shape[2:], ("hidden",))
        y = jax.lax.conv_general_dilated(
            x,
            kernel.astype(x.dtype),
            window_strides=(1,),
            padding=[(self.width // 2, self.width // 2)],
            dimension_numbers=("NWC", "WIO", "NWC"),
            feature_group_count=self.groups,
        )
        return y + jnp.broadcast_to(bias.astype(y.dtype), y.shape)


class DebertaV2Layer(disentangled.DisentangledLayer):
    """As `DisentangledLayer`; the first adds a convolution of what it reads, if there is one."""

    @nn.compact
    def __call__(self, x: jax.Array, context: blocks.PassContext, at: blocks.At):
        y, cache, weights = super().__call__(x, context, at)
        if at.form != _CONVOLVED:
            return y, cache, weights
        cfg, there = self.config, disentangled.are_tokens(context)
        std, width = cfg.initializer_range, cfg.conv_kernel_size

        def conv() -> nn.Module:
            return Conv(cfg.hidden_size, width, std, cfg.conv_groups)

        modules = grown(self, {"conv/conv": conv, "conv/LayerNorm": cfg.style.norm})
        x = modules.at("conv/conv")(x)
        x = x if there is None else jnp.where(there[..., None], x, 0)
        x = nn.Dropout(cfg.hidden_dropout_prob)(x, deterministic=context.deterministic)
        y = modules.at("conv/LayerNorm")(y + blocks.ACTIVATIONS[cfg.conv_act](x))
        return y if there is None else jnp.where(there[..., None], y, 0), cache, weights


class DebertaV2Backbone(disentangled.DisentangledModel):
    """tokens [B, T] -> hidden states [B, T, D]."""

    layer = DebertaV2Layer

    def parts(self) -> dict[str, Part]:
        cfg, parts = self.config, super().parts()
        return parts | {_NORM: cfg.style.norm} if cfg.norm_rel_ebd == "layer_norm" else parts

    def normed_distances(self, table: jax.Array) -> jax.Array:
        return at(self, _NORM)(table) if self.config.norm_rel_ebd == "layer_norm" else table


# The convolution is the first layer's, and checkpoints have it beside the layers.
_NAMES = ((r"encoder/layer/0/conv/", "encoder/conv/"),)

__getattr__ = classes_of(
    DebertaV2Config,
    parts=disentangled.DISENTANGLED_CLASSES | {"Model": DebertaV2Backbone},
    naming=by_config(lambda self: self.named(names=_NAMES)),
)

"""DeBERTa: disentangled attention, with a row for every distance.

He et al. 2020, arXiv:2006.03654; reference: `models/deberta` of Transformers 5.23.
"""

import dataclasses

import jax
import jax.numpy as jnp

from .. import blocks
from .. import params as fp
from ..core.model import by_config
from ..models import config_checks
from ..models.encoders import disentangled, paths
from ..models.encoders.branch import Branch, Part, Vector
from ..models.encoders.style import EncoderStyle
from . import classes_of

_BIASES = {f"attention/self/{x}_proj": f"attention/self/{x[0]}_bias" for x in ("query", "value")}
"""Path of a projection -> that of its bias, which checkpoints have apart."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DebertaConfig(disentangled.DisentangledFields):
    """`config.json` of a DeBERTa."""

    model_type = "deberta"
    unsupported = {**disentangled.DisentangledFields.unsupported, "talking_head": (False, None)}

    vocab_size: int = 50265

    @property
    def style(self) -> EncoderStyle:
        return super().style.replace(qkv_bias=False)

    @property
    def distances(self) -> paths.Distances:
        own = "attention/self/pos_"
        return paths.Distances(f"{own}proj", f"{own}q_proj", key_bias=False)

    def validate(self) -> None:
        super().validate()
        config_checks.joined_heads(self)


class DebertaLayer(disentangled.DisentangledLayer):
    """As `DisentangledLayer`, with biases of queries and values alone."""

    def _attention_parts(self, names: paths.Attention, heads: int) -> dict[str, Part]:
        width = heads * self.config.head_dim
        biases = dict.fromkeys(_BIASES.values(), Vector(width, "heads"))
        return super()._attention_parts(names, heads) | biases

    def projected(self, modules: Branch, path: str, x: jax.Array) -> jax.Array:
        y = modules.at(path)(x)
        if path in _BIASES:
            y = y + jnp.broadcast_to(modules.at(_BIASES[path]).astype(y.dtype), y.shape)
        return blocks.split_heads(y, self.config.head_dim)


def _naming_of(model: disentangled.DisentangledPretrained) -> fp.Naming:
    """Makes the naming: checkpoints have q, k and v of each head joined."""
    parts, heads = ("query_proj", "key_proj", "value_proj"), model.config.num_attention_heads
    return model.named(joined=(fp.Joined("attention/self/in_proj", parts, heads),))


__getattr__ = classes_of(
    DebertaConfig,
    parts=disentangled.DISENTANGLED_CLASSES,
    layer=DebertaLayer,
    naming=by_config(_naming_of),
)

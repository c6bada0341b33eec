"""RoFormer: BERT with rotary positions, of neighbouring numbers; embeddings of their own width.

Su et al. 2021, arXiv:2104.09864; reference: `models/roformer` of Transformers 5.23.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from .. import blocks
from .. import params as fp
from ..config.config import FROM_OTHERS
from ..core.model import by_config
from ..models import config_checks, task_heads
from ..models.encoders import heads, paths
from ..models.encoders.fields import DecodingFields
from ..models.encoders.model import EncoderModel, EncoderPretrained, encoder_naming
from ..models.encoders.positions import sinusoid_table
from ..models.encoders.style import EncoderStyle
from . import classes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class RoFormerConfig(DecodingFields):
    """`config.json` of a RoFormer. Tokens have vectors of `embedding_size` numbers, `hidden_size`
    if None."""

    model_type = "roformer"
    derived = {"embedding_size": lambda config: config.hidden_size}

    vocab_size: int = 50000
    embedding_size: int = FROM_OTHERS  # pyright: ignore[reportIncompatibleMethodOverride]
    max_position_embeddings: int = 1536
    rotary_value: bool = False

    @property
    def style(self) -> EncoderStyle:
        project = None if self.embedding_size == self.hidden_size else "embeddings_project"
        names = paths.Embeddings(positions=None, project=project)
        return super().style.replace(embeddings=names, rotate_values=self.rotary_value)

    @property
    def position_limit(self) -> int:
        return self.max_position_embeddings

    def rotation_name(self, layer: int) -> str:
        return "default"

    def validate(self) -> None:
        super().validate()
        config_checks.rotating_heads(self)


def _naming_of(model: EncoderPretrained) -> fp.Naming:
    cfg = model.config
    table = functools.partial(sinusoid_table, cfg.max_position_embeddings, cfg.head_dim)
    words = r"(.*)embeddings/word_embeddings/embedding$"
    written = fp.Constant(words, r"\1encoder.embed_positions.weight", table)
    return encoder_naming(model.predictions, constants=(written,))


class RoFormerBackbone(EncoderModel):
    """tokens [B, T] -> hidden states [B, T, D]. Causal if the config says `is_decoder`."""

    def rotation(self, name: str, positions: jax.Array) -> blocks.Rotation:
        cfg = self.config
        table = jnp.asarray(sinusoid_table(cfg.max_position_embeddings, cfg.head_dim))
        sin, cos = jnp.split(jnp.take(table, positions, axis=0), 2, axis=-1)
        return blocks.Rotation(cos, sin, pairs=True)


class FirstTokenClassification(heads.FirstTokenClassification):
    classifier = paths.Classifier(act=None)


class LastMultipleChoice(heads.EncoderHead, task_heads.MultipleChoice):
    """Tokens of several choices [B, C, T] -> logits [B, C], read off what stands last, be it
    padding."""

    def label(self, out, given, labels: int) -> jax.Array:
        return self.classify(out.last_hidden_state[:, -1], labels)


__getattr__ = classes_of(
    RoFormerConfig,
    parts=heads.ENCODER_CLASSES
    | {
        "Model": RoFormerBackbone,
        "ForSequenceClassification": FirstTokenClassification,
        "ForMultipleChoice": LastMultipleChoice,
    },
    base_model_prefix="roformer",
    naming=by_config(_naming_of),
)

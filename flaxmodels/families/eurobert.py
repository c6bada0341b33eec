"""EuroBERT: Llama that attends both ways.

Boizard et al. 2025, arXiv:2503.05500; reference: `models/eurobert` of Transformers 5.23.
"""

import dataclasses

import jax

from .. import blocks
from ..models import config_checks, task_heads, vocabulary_heads
from ..models.decoder_model import BiasedDecoderConfig, DecoderModel, DecoderPretrained
from ..models.decoder_style import LogitStyle, Style
from . import classes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class EuroBertConfig(BiasedDecoderConfig):
    """`config.json` of a EuroBERT. `classifier_pooling` is that of a sequence's classifier: its
    first token ("bos"), the mean of its tokens, or that of their logits ("late")."""

    model_type = "eurobert"
    aliases = {"clf_pooling": "classifier_pooling"}
    harmless = ("mask_token_id", "mask_token", "bos_token", "eos_token", "pad_token")

    vocab_size: int = 128256
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    max_position_embeddings: int = 8192
    rms_norm_eps: float = 1e-5
    classifier_pooling: str = "late"
    pad_token_id: int | None = 128001
    bos_token_id: int | None = 128000
    eos_token_id: int | tuple[int, ...] | None = 128001

    @property
    def style(self) -> Style:
        return super().style.replace(logits=LogitStyle(use_bias=self.mlp_bias))

    def validate(self) -> None:
        super().validate()
        config_checks.one_of(self, "classifier_pooling", ("bos", "mean", "late"))


class SequenceClassification(task_heads.SimpleHead):
    """tokens [B, T] -> logits [B, labels], by two layers on a sequence or on each token of it."""

    loss_kind = "sequence_classification"

    def logits(self, base, out, given) -> jax.Array:
        cfg, x, pooling = self.config, out.last_hidden_state, self.config.classifier_pooling
        if pooling != "late":
            x = x[:, 0] if pooling == "bos" else task_heads.mean_of_tokens(x, given.attention_mask)
        axes = ("embed", "hidden")
        x = blocks.Linear(cfg.hidden_size, axes, cfg.initializer_range, name="dense")(x)
        logits = self.classify(blocks.ACTIVATIONS["gelu"](x), cfg.num_labels)
        late = pooling == "late"
        return task_heads.mean_of_tokens(logits, given.attention_mask) if late else logits


class TokenClassification(task_heads.TokenClassification):
    """tokens [B, T] -> logits [B, T, labels]; there is no dropout."""

    def drop(self, x: jax.Array, deterministic: bool) -> jax.Array:
        return x


__getattr__ = classes_of(
    EuroBertConfig,
    parts={
        "Pretrained": DecoderPretrained,
        "Model": DecoderModel,
        "ForMaskedLM": vocabulary_heads.MaskedLM,
        "ForSequenceClassification": SequenceClassification,
        "ForTokenClassification": TokenClassification,
    },
    classifier_name="classifier",
    is_causal=False,
)

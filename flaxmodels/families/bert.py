"""BERT: LayerNorm after each sublayer, learned positions, and types; an encoder, or a decoder,
which may attend to an encoder.

Devlin et al. 2018, arXiv:1810.04805; reference: `models/bert` of Transformers 5.23.
"""

import dataclasses

import jax

from ..models import task_heads
from ..models.encoders import heads
from ..models.encoders.branch import grown
from ..models.encoders.fields import BertFields
from ..models.encoders.heads import NEXT_SENTENCE
from . import classes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class BertConfig(BertFields):
    """`config.json` of a BERT; one that `is_decoder` attends to what comes before alone."""

    model_type = "bert"


class NextSentencePrediction(heads.EncoderHead, task_heads.SimpleHead):
    """tokens [B, T] -> logits [B, 2]: the second sentence follows the first, or is another."""

    loss_kind = "next_sentence"
    pooling = True

    def logits(self, base, out, given) -> jax.Array:
        modules = grown(self, {NEXT_SENTENCE: self.linear(2, ("embed", "labels"))})
        return modules.at(NEXT_SENTENCE)(out.pooler_output)


__getattr__ = classes_of(
    BertConfig,
    parts=heads.ENCODER_CLASSES | {"ForNextSentencePrediction": NextSentencePrediction},
    base_model_prefix="bert",
    more_naming={
        "aliases": (
            (r"LayerNorm\.gamma$", "LayerNorm.weight"),
            (r"LayerNorm\.beta$", "LayerNorm.bias"),
            # Google's checkpoints
            (r"\.layer_(\d+)\.", r".layer.\1."),
            (r"(word|position|token_type)_embeddings$", r"\1_embeddings.weight"),
            (r"^cls\.squad\.output_", "qa_outputs.output_"),
            (r"^output_(weights|bias)$", r"classifier.output_\1"),
            (r"\.output_weights$", ".weight"),
            (r"\.output_bias$", ".bias"),
        ),
        "tf_kernels_out_in": (r"(^|\.)output_weights$",),
    },
)

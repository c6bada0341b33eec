"""BERT: LayerNorm after each sublayer, learned positions, and types; an encoder, or a decoder,
which may attend to an encoder.

Devlin et al. 2018, arXiv:1810.04805; reference: `models/bert` of Transformers 5.23.
"""

from typing import Any, ClassVar

import jax
from flax import linen as nn

from .. import blocks
from .. import params as fp
from ..core import outputs
from ..documents.json_values import ConfigError
from ..models import decoder, task_heads
from .bert_encoder import BertConfig, BertDense, BertEmbeddings, BertEncoder
from .bert_predictions import BertPreTrainingHeads


class BertPretrained(decoder.Decoder):
    """The base of every model of the family."""

    config_class = BertConfig
    is_parallelizable = True
    base_model_prefix = "bert"
    input_embeddings_path = "embeddings/word_embeddings"
    naming = fp.Naming(
        stacks=("layer",),
        aliases=(
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
        tf_kernels_out_in=(r"(^|\.)output_weights$",),
        ignored=(r"embeddings\.position_ids$",),
        optional=("pooler/",),
        copies=(("cls/predictions/decoder/bias", "cls/predictions/bias"),),
    )
    tied = (
        ("cls/predictions/decoder/kernel", "bert/embeddings/word_embeddings/embedding"),
        ("cls/predictions/decoder/bias", "cls/predictions/bias"),
        ("cls/predictions/bias", "cls/predictions/decoder/bias"),
    )

    @property
    def is_causal(self) -> bool:
        return self.config.is_decoder

    def dummy_inputs(self) -> dict[str, jax.Array]:
        return decoder.with_encoder_inputs(super().dummy_inputs(), self.config)


class BertModel(decoder.Backbone, BertPretrained):
    """tokens [B, T] -> hidden states [B, T, D] and, if `add_pooling_layer`, the first of them
    through one more layer [B, D]. Causal if the config says `is_decoder`."""

    add_pooling_layer: bool = True

    not_taken = frozenset()
    output_class = outputs.PooledOutput

    def setup(self) -> None:
        cfg = self.config
        self.embeddings = BertEmbeddings(cfg)
        self.encoder = BertEncoder(cfg, self.options)
        if self.add_pooling_layer:
            self.pooler = BertDense(cfg, cfg.hidden_size, ("embed", "hidden"), "tanh")

    @property
    def token_types(self) -> int:
        return self.config.type_vocab_size

    def embed(self, tokens: blocks.Tokens, context: blocks.PassContext) -> jax.Array:
        return self.embeddings(tokens, context, dtype=self.dtype, perturb=self.perturb_embeddings)

    def run_layers(self, x: jax.Array, context: blocks.PassContext) -> blocks.LayersOutput:
        return self.encoder(x, context)

    def more_outputs(self, x: jax.Array) -> dict[str, jax.Array | None]:
        return {"pooler_output": self.pooler(x[:, 0]) if self.add_pooling_layer else None}


class BertHead(BertPretrained, task_heads.TaskHead):
    """A BERT with a head on its hidden states or, if `pooling`, on its pooled output."""

    backbone = BertModel
    pooling: ClassVar[bool] = False

    def base(self) -> nn.Module:
        fields = {**self.shared_fields, "add_pooling_layer": self.pooling}
        return BertModel(**fields, name=self.base_model_prefix)

    def drop(self, x: jax.Array, deterministic: bool) -> jax.Array:
        rate = self.config.classifier_dropout
        rate = self.config.hidden_dropout_prob if rate is None else rate
        return nn.Dropout(rate)(x, deterministic=deterministic)


class BertForMaskedLM(BertHead, task_heads.SimpleHead):
    """tokens [B, T] -> logits [B, T, V] of the token in each place."""

    output_embeddings_path = "cls/predictions/decoder"
    lm_head_path = "cls/predictions"

    def head(self, base, out, input_ids, deterministic) -> outputs.LogitsOutput:
        cls = BertPreTrainingHeads(self.config, self.rules, name="cls")
        logits = cls.predictions(out.last_hidden_state, base.attend)
        return outputs.LogitsOutput.of(out, logits=logits)


class BertLMHeadModel(BertHead, task_heads.CausalLM):
    """tokens [B, T] -> logits [B, T, V] of the token after each, by a BERT that `is_decoder`."""

    output_embeddings_path = BertForMaskedLM.output_embeddings_path
    lm_head_path = BertForMaskedLM.lm_head_path

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.is_causal:
            raise ConfigError(
                "BertLMHeadModel generates from left to right, and its config does not say "
                "is_decoder: give is_decoder=True, or use BertForMaskedLM"
            )

    def vocabulary(self, base: Any, x: jax.Array) -> jax.Array:
        cls = BertPreTrainingHeads(self.config, self.rules, name="cls")
        return cls.predictions(x, base.attend)


class BertForNextSentencePrediction(BertHead, task_heads.SimpleHead):
    """tokens [B, T] -> logits [B, 2]: the second sentence follows the first, or is another."""

    pooling = True

    def head(self, base, out, input_ids, deterministic) -> outputs.LogitsOutput:
        cls = BertPreTrainingHeads(self.config, self.rules, name="cls")
        return outputs.LogitsOutput.of(out, logits=cls.seq_relationship(out.pooler_output))


class BertForPreTraining(BertHead, task_heads.SimpleHead):
    """tokens [B, T] -> the logits of `BertForMaskedLM` and of `BertForNextSentencePrediction`."""

    pooling = True
    output_embeddings_path = BertForMaskedLM.output_embeddings_path
    lm_head_path = BertForMaskedLM.lm_head_path

    def head(self, base, out, input_ids, deterministic) -> outputs.PreTrainingOutput:
        cls = BertPreTrainingHeads(self.config, self.rules, name="cls")
        return outputs.PreTrainingOutput.of(
            out,
            prediction_logits=cls.predictions(out.last_hidden_state, base.attend),
            seq_relationship_logits=cls.seq_relationship(out.pooler_output),
        )


class BertForSequenceClassification(BertHead, task_heads.PooledClassification):
    pooling = True


class BertForMultipleChoice(BertHead, task_heads.MultipleChoice):
    pooling = True


class BertForTokenClassification(BertHead, task_heads.TokenClassification):
    pass


class BertForQuestionAnswering(BertHead, task_heads.QuestionAnswering):
    pass

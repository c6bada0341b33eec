"""XLM-RoBERTa XL and XXL: norms before attention and MLP, none of the embeddings.

Goyal et al. 2021, arXiv:2105.00572; reference: `models/xlm_roberta_xl` of Transformers 5.23.
"""

import dataclasses

from ..models.encoders import heads, paths, roberta
from ..models.encoders.style import EncoderStyle
from . import classes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class XLMRobertaXLConfig(roberta.RobertaFields):
    """`config.json` of an XLM-RoBERTa XL."""

    model_type = "xlm-roberta-xl"

    vocab_size: int = 250880
    hidden_size: int = 2560
    num_hidden_layers: int = 36
    num_attention_heads: int = 32
    intermediate_size: int = 10240
    max_position_embeddings: int = 514
    type_vocab_size: int = 1
    layer_norm_eps: float = 1e-5

    @property
    def style(self) -> EncoderStyle:
        return super().style.replace(
            norm_first=True,
            attention=paths.Attention(norm="attention/self_attn_layer_norm"),
            mlp=paths.MLP(norm="LayerNorm"),
            embeddings=paths.Embeddings(norm=None),
            final_norm="encoder/LayerNorm",
            mlp_dropout=0.0,
        )


class TokenClassification(heads.TokenClassification):
    """tokens [B, T] -> logits [B, T, labels]; labels of padding are ignored."""

    loss_kind = "unpadded_token_classification"


__getattr__ = classes_of(
    XLMRobertaXLConfig,
    parts=roberta.ROBERTA_CLASSES | {"ForTokenClassification": TokenClassification},
)

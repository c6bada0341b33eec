"""Styles: the values that tell decoders apart which are built of the same layer."""

import dataclasses
from typing import Self

from flax import linen as nn

from .. import blocks


@dataclasses.dataclass(frozen=True)
class QKNorm:
    """The norm of queries and keys before they are rotated.

    Attributes:
        over: "head": each head by one scale [H]; "heads": each head by a scale of its own, [N, H];
            "all": all heads together, [N*H].
        names: of the modules.
        use_bias: of a LayerNorm.
    """

    over: str = "head"
    names: tuple[str, str] = ("q_norm", "k_norm")
    use_bias: bool = False


@dataclasses.dataclass(frozen=True)
class LogitStyle:
    """What becomes of the product with the vocabulary: + bias, * scale, tanh-capped."""

    use_bias: bool = False
    scale: float | None = None
    softcap: float | None = None


@dataclasses.dataclass(frozen=True)
class Alibi:
    """The bias of attention scores by distance (`blocks.alibi`).

    Attributes:
        rounded: the dtype to which it is rounded.
        scale: what it is multiplied with then.
    """

    rounded: str = "float32"
    scale: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Style:
    """Holds what `DecoderLayer` and `DecoderModel` read beside the usual fields of a config; the
    defaults are Llama's. A norm's name is that of its module; None: there is none.

    Attributes:
        layer_norm: LayerNorm instead of RMSNorm.
        norm_eps: of every norm.
        norm_offset: added to an RMSNorm's scale (Gemma's are stored minus 1).
        norm_bias: of LayerNorms.
        attention: name of the module of attention.
        attention_in, attention_out: norms before attention and of what it adds.
        mlp_in, mlp_out: the same of the MLP.
        parallel: the MLP reads what attention reads, not its sum; without `mlp_in` the same normed.
        residual_normed: attention and MLP are added to what they read, not to what was normed.
        final_norm: after the last layer.
        qk_norm: of queries and keys.
        qkv_bias, out_bias, mlp_bias: of the projections.
        out: name of attention's last projection.
        out_std: of the normals from which the last projections of attention and of an MLP without a
            gate are drawn; `initializer_range` of the config if None.
        mlp: names of the MLP's projections: gate, up, down; or up, down, without a gate.
        act: its activation.
        score_scale: of attention scores; H**-0.5 if None.
        score_softcap: tanh cap of attention scores.
        score_dropout: rate of attention weights; `attention_dropout` of the config if None.
        alibi: bias of attention scores.
        rotate_pairs: rotary embedding turns neighbours (even, odd), not halves.
        token_scale: of token embeddings, rounded to the dtype; not of `inputs_embeds`.
        embedding_scale: of both.
        positions: name of the table of learned positions; None: there is none.
        types_are_tokens: token types are rows of the table of tokens, added to these.
        embedding_norm: after the embeddings; None: there is none.
        residual_scale: of what attention and MLP add.
        embedding_dropout: rate of what enters the first layer.
        added_dropouts: rates of what attention adds and of what the MLP adds.
        sum_dropout: rate of what they add together, side by side.
        padding_row: the embedding of the padding token starts as zero.
        logits: of the language model's head.
    """

    norm_eps: float
    layer_norm: bool = False
    norm_offset: float = 0.0
    norm_bias: bool = True
    attention: str = "self_attn"
    attention_in: str | None = "input_layernorm"
    attention_out: str | None = None
    mlp_in: str | None = "post_attention_layernorm"
    mlp_out: str | None = None
    parallel: bool = False
    residual_normed: bool = False
    final_norm: str = "norm"
    qk_norm: QKNorm | None = None
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    out: str = "o_proj"
    out_std: float | None = None
    mlp: tuple[str, ...] = ("gate_proj", "up_proj", "down_proj")
    act: str = "silu"
    score_scale: float | None = None
    score_softcap: float | None = None
    score_dropout: float | None = None
    alibi: Alibi | None = None
    rotate_pairs: bool = False
    token_scale: float | None = None
    embedding_scale: float | None = None
    positions: str | None = None
    types_are_tokens: bool = False
    embedding_norm: str | None = None
    residual_scale: float | None = None
    embedding_dropout: float = 0.0
    added_dropouts: tuple[float, float] = (0.0, 0.0)
    sum_dropout: float = 0.0
    padding_row: bool = True
    logits: LogitStyle = LogitStyle()

    def replace(self, **changes: object) -> Self:
        """Returns a copy with some values changed."""
        return dataclasses.replace(self, **changes)

    def norm(
        self, name: str | None, *, use_bias: bool | None = None, axes: tuple[str, ...] = ("norm",)
    ) -> nn.Module:
        """Makes a norm over the last axis; `axes` are those of its scale, the last ones of x."""
        if self.layer_norm:
            bias = self.norm_bias if use_bias is None else use_bias
            return blocks.LayerNorm(self.norm_eps, use_bias=bias, axes=axes, name=name)
        return blocks.RMSNorm(self.norm_eps, offset=self.norm_offset, axes=axes, name=name)

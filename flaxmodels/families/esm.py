"""ESM-1b and ESM-2: an encoder of proteins, norms first, by learned or rotary positions; what is
masked counts as dropped.

Rives et al. 2021, PNAS 118(15); Lin et al. 2023, Science 379; reference: `models/esm` of
Transformers 5.23.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from .. import blocks
from .. import params as fp
from ..core.model import by_config
from ..documents.json_values import ConfigError, Json
from ..models import config_checks
from ..models.encoders import heads, paths, roberta
from ..models.encoders.branch import Part, Vector, at
from ..models.encoders.fields import SizeFields
from ..models.encoders.model import (
    ENCODER_INPUTS,
    EncoderPretrained,
    PooledEncoderModel,
    encoder_naming,
)
from ..models.encoders.style import EncoderStyle
from . import classes_of

_ABSOLUTE, _ROTARY = "absolute", "rotary"
_END = 2  # which ends a sequence, whatever eos_token_id is
_CONTACTS = "contact_head/regression"


@dataclasses.dataclass(frozen=True, kw_only=True)
class EsmConfig(SizeFields):
    """`config.json` of an ESM. With `token_dropout`, tokens `mask_token_id` are zeros, and what is
    left is scaled as dropout would. `rope_theta` is of frequencies that no checkpoint gives."""

    model_type = "esm"
    unsupported = {
        **config_checks.NOT_IMPLEMENTED,
        "is_decoder": (False, None),
        "is_folding_model": (False, None),
    }
    harmless = ("classifier_dropout", "esmfold_config", "hidden_act", "vocab_list")

    vocab_size: int = 33
    max_position_embeddings: int = 1026
    rope_theta: float = 10000.0
    position_embedding_type: str = _ABSOLUTE
    emb_layer_norm_before: bool | None = None
    token_dropout: bool | None = False
    mask_token_id: int | None = None
    pad_token_id: int | None = None
    eos_token_id: int | tuple[int, ...] | None = 2

    @property
    def style(self) -> EncoderStyle:
        absolute, before = self.position_embedding_type == _ABSOLUTE, self.emb_layer_norm_before
        names = paths.Embeddings(
            types=None,
            positions=paths.Embeddings.positions if absolute else None,
            norm="embeddings/layer_norm" if before else None,
        )
        return super().style.replace(
            norm_first=True,
            attention=paths.Attention(norm="attention/LayerNorm"),
            mlp=paths.MLP(norm="LayerNorm"),
            embeddings=names,
            final_norm="encoder/emb_layer_norm_after",
            padding_position=self.pad_token_id if absolute else None,
            embedding_dropout=0.0,
        )

    def rotation_name(self, layer: int) -> str | None:
        return "default" if self.position_embedding_type == _ROTARY else None

    @classmethod
    def from_json_keys(cls, values: dict[str, Json]) -> dict[str, Json]:
        """Refuses the keys of a model that folds."""
        if values.get("is_folding_model"):
            raise ConfigError(
                "is_folding_model: this is an ESMFold (EsmForProteinFolding), which is not "
                "implemented; its language model alone is an EsmModel, without this key"
            )
        return super().from_json_keys(values)

    def validate(self) -> None:
        super().validate()
        config_checks.one_of(self, "position_embedding_type", (_ABSOLUTE, _ROTARY))
        if self.position_embedding_type == _ABSOLUTE:
            config_checks.padding_token(self)
        else:
            config_checks.rotating_heads(self)
        if self.token_dropout and self.mask_token_id is None:
            raise ConfigError("token_dropout needs mask_token_id, the token it drops")


_MASKED_IN_TRAINING = 0.15 * 0.8
"""Which share of the tokens ESM's own training masked."""
_FREQUENCIES = "rotary_embeddings/inv_freq"
"""Path of what each pair of a head turns by from one place to the next, [H / 2]."""


def _frequencies(theta: float, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Makes the frequencies of a base, float32 [H / 2]; an initializer, whose key it needs not."""
    return theta ** -(jnp.arange(shape[0], dtype=jnp.float32) / shape[0])


def _naming_of(model: EncoderPretrained) -> fp.Naming:
    """Makes the names of files, which have the frequencies in each layer, or Transformers 5.23 in
    one called "*"; those of the first layer are read. A table of positions that the model has not
    may be there."""
    in_layer = f"attention/self/{_FREQUENCIES}"
    copies = tuple(
        (f"{prefix}{_FREQUENCIES}", f"{prefix}encoder/layer/{number}/{in_layer}")
        for prefix in ("", "esm/")
        for number in range(1, model.config.num_hidden_layers)
    )
    first = f"encoder/layer/0/{in_layer}"
    ignored = [
        r"embeddings\.position_ids$",
        r"layer\.[1-9][0-9]*\.attention\.self\.rotary_embeddings\.inv_freq$",
    ]
    if model.config.style.embeddings.positions is None:
        ignored.append(r"embeddings\.position_embeddings\.weight$")
    return encoder_naming(
        model.predictions,
        names=((rf"(?<!self/){_FREQUENCIES}$", first),),
        aliases=(
            (r"LayerNorm\.gamma$", "LayerNorm.weight"),
            (r"LayerNorm\.beta$", "LayerNorm.bias"),
            (r"layer\.\*\.attention\.", "layer.0.attention."),
            (r"(?<!self\.)rotary_embeddings\.inv_freq$", first.replace("/", ".")),
        ),
        ignored=tuple(ignored),
        copies=copies,
    )


def _without_masked(x: jax.Array, masked: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Makes x [B, T, D] zeros where bool [B, T] is True, and scales the rest by the share that was
    left in training over that which is left here.

    Args:
        mask: [B or 1, T], 1 for tokens; None for all.
    """
    there = jnp.ones_like(masked) if mask is None else mask.astype(bool)
    count, length = (places.sum(1).astype(jnp.float32) for places in (masked, there))
    scale = ((1 - _MASKED_IN_TRAINING) / (1 - count / length)).astype(x.dtype)
    return jnp.where(masked[..., None], 0, x) * scale[:, None, None]


def _coupled(maps: jax.Array) -> jax.Array:
    """Makes attention weights [B, C, T, T] symmetric, and takes off each what its row and its
    column would give if they were independent.

    Dunn et al. 2008, doi:10.1093/bioinformatics/btm604.
    """
    maps = maps + jnp.swapaxes(maps, 2, 3)
    rows, columns = maps.sum(3, keepdims=True), maps.sum(2, keepdims=True)
    return maps - rows * columns / rows.sum(2, keepdims=True)


class EsmBackbone(PooledEncoderModel):
    """tokens [B, T] -> hidden states [B, T, D] and, if `add_pooling_layer`, the first of them
    through one more layer [B, D]. `inputs_embeds` enter the first layer as they are.

    The frequencies of the rotation are a leaf, `rotary_embeddings/inv_freq`, since published ones
    are those of training, in fewer bits; their gradient is 0."""

    def parts(self) -> dict[str, Part]:
        cfg, parts = self.config, super().parts()
        if cfg.position_embedding_type == _ROTARY:
            init = functools.partial(_frequencies, cfg.rope_theta)
            parts[_FREQUENCIES] = Vector(cfg.head_dim // 2, None, init)
        axes, std = ("heads", "labels"), cfg.initializer_range
        return parts | {_CONTACTS: functools.partial(blocks.Linear, 1, axes, std)}

    def rotation(self, name: str, positions: jax.Array) -> blocks.Rotation:
        frequencies = jax.lax.stop_gradient(at(self, _FREQUENCIES)).astype(jnp.float32)
        angles = positions[..., None].astype(jnp.float32) * frequencies[None, None]
        return blocks.Rotation(jnp.cos(angles), jnp.sin(angles))

    def embed(self, tokens: blocks.Tokens, context: blocks.PassContext) -> jax.Array:
        if self.is_initializing():
            cfg = self.config  # `predict_contacts` alone reads these leaves
            maps = cfg.num_hidden_layers * cfg.num_attention_heads
            at(self, _CONTACTS)(jnp.zeros((1, maps), jnp.float32))
        names = self.config.style.embeddings
        x = blocks.embed_inputs(at(self, names.words), tokens, self.dtype)
        x = self.perturb_embeddings(x)
        if tokens.input_ids is None:
            return x
        mask = None if tokens.attention_mask is None else jnp.asarray(tokens.attention_mask)
        if mask is not None and mask.ndim != 2:
            raise ValueError(
                f"attention_mask has shape {mask.shape}: ESM needs one over tokens, [B, T]"
            )
        if self.config.token_dropout:
            masked = jnp.asarray(tokens.input_ids) == self.config.mask_token_id
            x = _without_masked(x, masked, mask)
        if names.positions is not None:
            rows = self.positions(tokens, context)
            x = x + jnp.broadcast_to(at(self, names.positions)(rows, self.dtype), x.shape)
        x = x if names.norm is None else at(self, names.norm)(x)
        return x if mask is None else x * mask.astype(bool).astype(x.dtype)[..., None]

    def predict_contacts(
        self, input_ids: jax.Array, attention_mask: jax.Array | None = None
    ) -> jax.Array:
        """Computes how likely each two residues touch: [B, T - 2, T - 2], without the first and the
        last place, which ids of ESM's tokenizer have for tokens that begin and end a sequence.

        `model.apply({"params": params}, ids, mask, method="predict_contacts")`.
        """
        out = self(input_ids, attention_mask, output_attentions=True)
        ids = jnp.asarray(input_ids)
        there = jnp.ones_like(ids, bool) if attention_mask is None else attention_mask
        there = jnp.asarray(there).astype(bool) & (ids != _END)
        pairs = (there[:, :, None] & there[:, None])[:, None]
        weights = jnp.concatenate(out.attentions or (), axis=1)
        maps = _coupled(jnp.where(pairs, weights, 0)[..., 1:-1, 1:-1])
        return jax.nn.sigmoid(at(self, _CONTACTS)(jnp.moveaxis(maps, 1, -1)))[..., 0]


__getattr__ = classes_of(
    EsmConfig,
    parts=heads.ENCODER_CLASSES
    | {
        "Pretrained": roberta.RobertaLike,
        "Model": EsmBackbone,
        "ForSequenceClassification": heads.FirstTokenClassification,
    },
    base_model_prefix="esm",
    predictions=dataclasses.replace(roberta.RobertaLike.predictions, bias_apart=True),
    naming=by_config(_naming_of),
    not_taken=ENCODER_INPUTS | {"token_type_ids"},
)

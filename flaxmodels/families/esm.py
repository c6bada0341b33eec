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
from ..models.encoders import heads, proteins, roberta
from ..models.encoders.branch import Part, Vector, at
from ..models.encoders.fields import SizeFields
from ..models.encoders.model import ENCODER_INPUTS, PooledEncoderModel
from ..models.encoders.style import AttentionNames, EmbeddingNames, EncoderStyle, MLPNames
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
        names = EmbeddingNames(
            types=None,
            positions=EmbeddingNames.positions if absolute else None,
            norm="embeddings/layer_norm" if before else None,
        )
        return dataclasses.replace(
            super().style,
            norm_first=True,
            attention=AttentionNames(norm="attention/LayerNorm"),
            mlp=MLPNames(norm="LayerNorm"),
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
                "EsmConfig: is_folding_model: this is an ESMFold (EsmForProteinFolding), which is "
                "not implemented; its language model alone is an EsmModel, without this key"
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
            raise ConfigError("EsmConfig: token_dropout needs mask_token_id, the token it drops")


class EsmPretrained(roberta.RobertaLike):
    """The base of every model of the family."""

    config_class = EsmConfig
    base_model_prefix = "esm"
    predictions = dataclasses.replace(roberta.RobertaLike.predictions, bias_apart=True)

    def _naming(self) -> fp.Naming:
        return proteins.naming(
            self.predictions,
            self.config.num_hidden_layers,
            without_positions=self.config.style.embeddings.positions is None,
        )

    naming = by_config(_naming)


class EsmModel(PooledEncoderModel, EsmPretrained):
    """tokens [B, T] -> hidden states [B, T, D] and, if `add_pooling_layer`, the first of them
    through one more layer [B, D]. `inputs_embeds` enter the first layer as they are.

    The frequencies of the rotation are a leaf, `rotary_embeddings/inv_freq`, since published ones
    are those of training, in fewer bits; their gradient is 0."""

    not_taken = ENCODER_INPUTS | {"token_type_ids"}

    def parts(self) -> dict[str, Part]:
        cfg, parts = self.config, super().parts()
        if cfg.position_embedding_type == _ROTARY:
            init = functools.partial(proteins.frequencies, cfg.rope_theta)
            parts[proteins.FREQUENCIES] = Vector(cfg.head_dim // 2, None, init)
        axes, std = ("heads", "labels"), cfg.initializer_range
        return parts | {_CONTACTS: functools.partial(blocks.Linear, 1, axes, std)}

    def rotation(self, name: str, positions: jax.Array) -> blocks.Rotation:
        frequencies = jax.lax.stop_gradient(at(self, proteins.FREQUENCIES)).astype(jnp.float32)
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
            x = proteins.without_masked(x, masked, mask)
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
        maps = proteins.coupled(jnp.where(pairs, weights, 0)[..., 1:-1, 1:-1])
        return jax.nn.sigmoid(at(self, _CONTACTS)(jnp.moveaxis(maps, 1, -1)))[..., 0]


__getattr__ = classes_of(
    EsmConfig,
    parts=heads.ENCODER_CLASSES | {"ForSequenceClassification": heads.FirstTokenClassification},
)

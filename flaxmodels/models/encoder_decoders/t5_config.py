"""The fields that configurations of T5's kind share."""

import dataclasses
from typing import ClassVar

from ...config.config import FROM_OTHERS
from ...documents.json_values import ConfigError, Json, shown
from .. import config_checks
from .two_stacks import TwoStacks

_FARTHEST = 1 << 20  # of distances, for each of which there is a row of a table


@dataclasses.dataclass(frozen=True, kw_only=True)
class T5Fields(TwoStacks):
    """The fields of two stacks of T5's layers. One that `is_decoder` is that of the decoder: its
    `num_hidden_layers` are the decoder's."""

    unsupported: ClassVar = {
        "cross_attention_hidden_size": (None,),
        "tie_encoder_decoder": (False, None),
    }
    aliases: ClassVar = {
        "hidden_size": "d_model",
        "num_attention_heads": "num_heads",
        "num_hidden_layers": "num_layers",
        "head_dim": "d_kv",
    }
    harmless: ClassVar = ("is_encoder_decoder", "n_positions", "output_past", "max_length")
    derived: ClassVar = {"num_decoder_layers": lambda config: config.num_layers}

    vocab_size: int = 32128
    d_model: int = 512
    d_kv: int = 64
    d_ff: int = 2048
    num_layers: int = 6
    num_decoder_layers: int = FROM_OTHERS
    num_heads: int = 8
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    dropout_rate: float = 0.1
    layer_norm_epsilon: float = 1e-6
    initializer_factor: float = 1.0
    feed_forward_proj: str = "relu"
    pad_token_id: int | None = 0
    eos_token_id: int | tuple[int, ...] | None = 1
    decoder_start_token_id: int | None = None

    bias_in_every_layer: ClassVar[bool] = False
    """Whether each layer has a table of relative bias; else the first has it for all."""
    scales_states: ClassVar[bool] = False
    """Whether the decoder's states are multiplied with d_model**-0.5 before the head."""

    @property
    def num_hidden_layers(self) -> int:
        """Layers of the stack."""
        return self.num_decoder_layers if self.is_decoder else self.num_layers

    @property
    def num_key_value_heads(self) -> int:
        """Every head has keys and values of its own."""
        return self.num_heads

    @property
    def is_gated(self) -> bool:
        """Whether the MLP has a gate."""
        return bool(_parts(self.feed_forward_proj)["is_gated_act"])

    @property
    def act(self) -> str:
        """The activation of the MLP."""
        return str(_parts(self.feed_forward_proj)["dense_act_fn"])

    @property
    def initializer_range(self) -> float:
        """Deviation of the normals from which kernels that read a state are drawn."""
        return self.initializer_factor * self.d_model**-0.5

    def validate(self) -> None:
        super().validate()
        buckets = self.relative_attention_num_buckets
        if buckets < 4:
            raise ConfigError(
                f"relative_attention_num_buckets is {buckets}; there are at least 4, for near and "
                "far on either side"
            )
        if not buckets // 2 < self.relative_attention_max_distance <= _FARTHEST:
            raise ConfigError(
                f"relative_attention_max_distance is {self.relative_attention_max_distance}; "
                f"expected more than half of the {buckets} buckets, and at most {_FARTHEST}"
            )
        if self.act not in config_checks.ACTIVATIONS:
            raise ConfigError(
                f"feed_forward_proj is {shown(self.feed_forward_proj)}; expected the name of an "
                "activation, with 'gated-' before it or not: "
                f"{', '.join(config_checks.ACTIVATIONS)}"
            )
        why = (
            "encoder and decoder number their layers alike, and have a table of bias for all heads"
        )
        config_checks.no_pruned_heads(self, why)

    @classmethod
    def from_json_keys(cls, values: dict[str, Json]) -> dict[str, Json]:
        """Reads what newer files say twice: the parts of `feed_forward_proj`."""
        values = super().from_json_keys(values)
        given = {key: values.pop(key) for key in ("dense_act_fn", "is_gated_act") if key in values}
        said = values.get("feed_forward_proj", cls.feed_forward_proj)
        for key, value in given.items():
            if isinstance(said, str) and value != _parts(said)[key]:
                raise ConfigError(
                    f"{key} is {shown(value)}, and feed_forward_proj is {shown(said)}, which is "
                    "another MLP"
                )
        return values

    def to_json_keys(self, values: dict[str, Json]) -> dict[str, Json]:
        """Writes the parts of `feed_forward_proj` too, which other readers look for."""
        return super().to_json_keys(values) | _parts(self.feed_forward_proj)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScaledHead(T5Fields):
    """Says whether states are scaled before the head: T5 1.0 scales them and has the table of
    tokens for its head, T5 1.1 does neither, and files say both by `tie_word_embeddings`. Those of
    Transformers 5 have `scale_decoder_outputs` beside it."""

    derived: ClassVar = {"scale_decoder_outputs": lambda config: config.tie_word_embeddings}

    scale_decoder_outputs: bool = FROM_OTHERS

    def following(self) -> list[str]:
        # a head that is tied or untied later has the states that it had
        return [field for field in super().following() if field != "scale_decoder_outputs"]

    @property
    def scales_states(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.scale_decoder_outputs


def _parts(feed_forward_proj: str) -> dict[str, Json]:
    """Returns what Transformers makes of `feed_forward_proj`."""
    gated, act = feed_forward_proj.startswith("gated-"), feed_forward_proj.removeprefix("gated-")
    act = "gelu_new" if feed_forward_proj == "gated-gelu" else act
    return {"dense_act_fn": act, "is_gated_act": gated}

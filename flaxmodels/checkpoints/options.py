"""The keywords of `from_pretrained` as types, for editors and type checkers.

What each means is said by `loading.load`, by the model class and by its configuration;
`tests/checkpoints/test_keywords.py` holds the names here to theirs.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import jax

if TYPE_CHECKING:
    from jax.sharding import AbstractMesh, Mesh

    from ..config.config import Config
    from ..config.generation_config import GenerationConfig

PathLike = str | os.PathLike[str]
Rules = Sequence[tuple[str, str | tuple[str, ...] | None]]


class LoadOptions(TypedDict, total=False):
    """The keywords of a load, but for `output_loading_info`, which changes what it returns."""

    config: "Config | PathLike | None"
    dtype: Any
    param_dtype: Any
    mesh: "Mesh | AbstractMesh | None"
    rules: Rules | None
    shardings: Any
    max_host_memory: int | str
    strict: bool
    ignore_mismatched_sizes: bool
    key: jax.Array | None
    state_dict: Mapping[str, Any] | None
    use_safetensors: bool | None
    from_pt: bool
    from_tf: bool
    from_flax: bool
    variant: str | None
    weights_only: bool
    key_mapping: Mapping[str, str] | None
    verify: bool
    subfolder: str
    revision: str
    token: str | bool | None
    cache_dir: PathLike | None
    local_files_only: bool
    force_download: bool
    proxies: Mapping[str, str] | None
    progress: bool


class ModelFields(TypedDict, total=False):
    """Fields of the models of all families, but for those of a load."""

    scan_layers: bool
    remat: "str | bool | Mapping[str, Any] | Callable[..., Any] | None"
    attn_implementation: str | None
    generation_config: "GenerationConfig | None"
    embed_tap: bool
    model_tags: tuple[str, ...]
    origin: str | None
    attn_original: str | None
    add_pooling_layer: bool


class ConfigFields(TypedDict, total=False):
    """Fields of the configurations of all families, under all their names."""

    pad_token_id: int | None
    bos_token_id: int | None
    eos_token_id: int | Sequence[int] | None
    tie_word_embeddings: bool
    num_labels: int
    id2label: Mapping[Any, str] | None
    label2id: Mapping[str, int] | None
    output_hidden_states: bool
    output_attentions: bool
    pruned_heads: Mapping[Any, Sequence[int]]
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int
    hidden_act: str
    activation_function: str
    initializer_range: float
    layer_norm_eps: float
    layer_norm_epsilon: float
    rms_norm_eps: float
    hidden_dropout_prob: float
    attention_probs_dropout_prob: float
    attention_dropout: float
    classifier_dropout: float | None
    resid_pdrop: float
    embd_pdrop: float
    attn_pdrop: float
    attention_bias: bool
    mlp_bias: bool
    rope_parameters: Mapping[str, Any]
    original_max_position_embeddings: int
    partial_rotary_factor: float
    rope_theta: float
    rope_scaling: Mapping[str, Any] | None
    n_positions: int
    n_embd: int
    n_layer: int
    n_head: int
    n_inner: int | None
    summary_use_proj: bool
    summary_activation: str | None
    summary_proj_to_labels: bool
    summary_first_dropout: float
    scale_attn_weights: bool
    scale_attn_by_inverse_layer_idx: bool


class Options(LoadOptions, ModelFields, ConfigFields, total=False):
    """What `from_pretrained` takes by keyword, fields of the configuration unless it is given."""


LOAD = frozenset({*LoadOptions.__annotations__, "output_loading_info"})
"""The names of the keywords of a load."""

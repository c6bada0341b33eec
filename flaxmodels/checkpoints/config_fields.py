"""The fields of configurations as keywords, for editors and type checkers.

Written by `scripts/generate` from the configurations of all families.
"""

from collections.abc import Mapping, Sequence
from typing import TypedDict

from ..config.config import Config
from ..documents.json_values import Json


class ConfigFields(TypedDict, total=False):
    """Fields of the configurations of all families, under all their names."""

    _remove_final_layer_norm: bool
    activation: str
    activation_dropout: float
    activation_function: str
    add_cross_attention: bool
    alibi: bool
    apply_residual_connection_post_layernorm: bool
    attention_bias: bool
    attention_dropout: float
    attention_heads: int
    attention_multiplier: float
    attention_probs_dropout_prob: float
    attention_type: str
    attention_types: Sequence[Json] | None
    attn_logit_softcapping: float | None
    attn_pdrop: float
    bias: bool
    block_size: int
    bos_token_id: int | None
    classifier_activation: str
    classifier_bias: bool
    classifier_dropout: float | None
    classifier_dropout_prob: float
    classifier_pooling: str
    clf_pooling: str
    cls_dropout: float | None
    conv_act: str
    conv_groups: int
    conv_kernel_size: int
    d_ff: int
    d_kv: int
    d_model: int
    decoder: Config | Mapping[str, Json]
    decoder_attention_heads: int
    decoder_bias: bool
    decoder_ffn_dim: int
    decoder_layerdrop: float
    decoder_layers: int
    decoder_start_token_id: int | None
    decoder_vocab_size: int | None
    dim: int
    do_layer_norm_before: bool
    dropout: float
    dropout_rate: float
    emb_layer_norm_before: bool | None
    embd_pdrop: float
    embed_dropout: float
    embedding_dropout: float
    embedding_multiplier: float
    embedding_size: int | None
    enable_bias: bool
    encoder: Config | Mapping[str, Json]
    encoder_attention_heads: int
    encoder_attention_type: str
    encoder_ffn_dim: int
    encoder_layerdrop: float
    encoder_layers: int
    eos_token_id: Sequence[int] | int | None
    feed_forward_proj: str
    ffn_dim: int
    ffn_hidden_size: int | None
    final_logit_softcapping: float | None
    forced_bos_token_id: int | None
    forced_eos_token_id: Sequence[int] | int | None
    global_attn_every_n_layers: int | None
    global_block_size: int
    global_rope_theta: Json
    head_dim: int | None
    hidden_act: str
    hidden_activation: str
    hidden_dim: int
    hidden_dropout: float
    hidden_dropout_prob: float
    hidden_size: int
    id2label: Mapping[Json, str] | None
    init_std: float
    initializer_factor: float
    initializer_range: float
    inner_group_num: int
    intermediate_size: int | None
    is_decoder: bool
    is_encoder_decoder: bool
    label2id: Mapping[Json, int] | None
    layer_norm_elementwise_affine: bool
    layer_norm_eps: float
    layer_norm_epsilon: float
    layer_types: Sequence[str] | None
    legacy: bool
    local_attention: int
    local_radius: int
    local_rope_theta: Json
    logit_scale: float
    logits_scaling: float
    mask_token_id: int | None
    max_position_embeddings: int
    max_relative_positions: int
    max_window_layers: int
    mlp_bias: bool
    mlp_dropout: float
    multi_query: bool
    n_embd: int
    n_embed: int
    n_head: int
    n_head_kv: int | None
    n_heads: int
    n_inner: int | None
    n_layer: int
    n_layers: int
    n_positions: int
    new_decoder_architecture: bool
    no_rope_layer_interval: int
    no_rope_layers: Sequence[int] | None
    norm_bias: bool
    norm_eps: float
    norm_epsilon: float
    norm_rel_ebd: str
    num_attention_heads: int
    num_decoder_layers: int | None
    num_heads: int
    num_hidden_groups: int
    num_hidden_layers: int
    num_key_value_heads: int | None
    num_kv_heads: int | None
    num_labels: int
    num_layers: int
    num_ln_in_parallel_attn: int | None
    num_random_blocks: int
    original_max_position_embeddings: Json
    output_attentions: bool
    output_hidden_states: bool
    pad_token_id: int | None
    parallel_attn: bool
    partial_rotary_factor: Json
    pooler_dropout: float
    pooler_hidden_act: str
    pos_att_type: Sequence[str] | None
    position_biased_input: bool
    position_buckets: int
    position_embedding_type: str
    pruned_heads: Mapping[Json, Sequence[int]]
    qa_dropout: float
    qk_layernorm: bool
    query_pre_attn_scalar: int
    relative_attention: bool
    relative_attention_max_distance: int
    relative_attention_num_buckets: int
    rescale_embeddings: bool
    resid_dropout: float
    resid_pdrop: float
    residual_dropout: float
    residual_multiplier: float
    rms_norm_eps: float
    rope_local_base_freq: Json
    rope_parameters: Mapping[Json, Json] | None
    rope_scaling: Mapping[Json, Json] | None
    rope_theta: float
    rotary_dim: int
    rotary_emb_base: Json
    rotary_pct: Json
    rotary_value: bool
    scale_attn_by_inverse_layer_idx: bool
    scale_attn_weights: bool
    scale_decoder_outputs: bool | None
    scale_embedding: bool
    sep_token_id: int | None
    seq_classif_dropout: float
    share_att_key: bool
    share_encoder_decoder_embeddings: bool
    sinusoidal_pos_embds: bool
    sliding_window: int | None
    sliding_window_pattern: int | None
    summary_activation: str | None
    summary_first_dropout: float
    summary_last_dropout: float
    summary_proj_to_labels: bool
    summary_type: str
    summary_use_proj: bool
    tie_word_embeddings: bool
    token_dropout: bool | None
    type_vocab_size: int
    use_bias: bool
    use_bidirectional_attention: bool
    use_parallel_residual: bool
    use_qk_norm: bool
    use_qkv_bias: bool
    use_sliding_window: bool
    vocab_size: int
    window_size: int
    word_embed_proj_dim: int | None

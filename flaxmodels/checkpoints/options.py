"""The keywords of the public calls as types, for editors and type checkers.

`PretrainedModel` says what each means; `tests/checkpoints/test_keywords.py` holds the names here to
those that the calls take.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypedDict

import jax

from .. import params as fp
from .. import sharding as fs
from ..hub import HubKeywords, Words
from ..hub.options import PushKeywords as BranchKeywords
from ..params.save.file_writer import SaveFunction
from .config_fields import ConfigFields

if TYPE_CHECKING:
    from jax.sharding import AbstractMesh, Mesh
    from jax.typing import DTypeLike

    from ..config.config import Config
    from ..config.generation_config import GenerationConfig

PathLike = str | os.PathLike[str]
Rules = Sequence[tuple[str, str | tuple[str, ...] | None] | fs.PathRule] | str


class WeightKeywords(TypedDict, total=False):
    """Which of the weights in a folder are read."""

    use_safetensors: bool | None
    from_pt: bool
    from_tf: bool
    from_flax: bool
    variant: str | None
    weights_only: bool
    gguf_file: str | None


class PlanKeywords(TypedDict, total=False):
    """How weights are matched with the model's leaves, cast and placed."""

    param_dtype: "DTypeLike | Mapping[str, DTypeLike] | None"
    mesh: "Mesh | AbstractMesh | None"
    shardings: fp.PyTree
    tp_plan: Mapping[str, str] | str | None
    tp_size: int | None
    device_mesh: "Mesh | AbstractMesh | None"
    distributed_config: object
    max_host_memory: int | str
    strict: bool
    ignore_mismatched_sizes: bool
    dequantize: bool
    quantization_config: object
    load_in_8bit: bool
    load_in_4bit: bool
    device_map: "jax.Device | int | str | Mapping[str, jax.Device | int | str] | None"
    max_memory: "Mapping[jax.Device | int | str, int | str] | None"
    offload_folder: "PathLike | None"
    offload_buffers: bool


class OwnLoadKeywords(HubKeywords, WeightKeywords, PlanKeywords, total=False):
    """The keywords of a load that are no fields of a model or of a configuration."""

    config: "Config | PathLike | None"
    key: jax.Array | None
    state_dict: Mapping[str, object] | None
    key_mapping: Mapping[str, str] | None
    verify: bool
    adapter_name: str | None
    adapter_kwargs: Mapping[str, object] | None


class ModelFields(TypedDict, total=False):
    """Fields of the models of all families."""

    dtype: "DTypeLike | None"
    rules: Rules | None

    scan_layers: bool
    remat: "str | bool | Mapping[str, object] | Callable[..., object] | None"
    attn_implementation: str | None
    generation_config: "GenerationConfig | None"
    embed_tap: bool
    model_tags: tuple[str, ...]
    origin: str | None
    attn_original: str | None
    uneven: str | Mapping[str, str]
    defer_logits: bool | int
    add_pooling_layer: bool


class LoadKeywords(OwnLoadKeywords, ModelFields, ConfigFields, total=False):
    """What `from_pretrained` takes, but for `output_loading_info`, which changes what it returns;
    fields of the configuration unless it is given."""


class PlannedLoadKeywords(LoadKeywords, total=False):
    """What `load_plan` takes: all that a load does."""

    output_loading_info: bool


class ConfigKeywords(HubKeywords, ConfigFields, total=False):
    """What `AutoConfig.from_pretrained` takes."""

    gguf_file: str | None


class WrittenKeywords(TypedDict, total=False):
    """What `save_pretrained` and `push_to_hub` take of what is written."""

    safe_serialization: bool
    format: str | None
    max_shard_size: int | str
    variant: str | None
    checksums: bool
    quant_method: str
    tokenizer_from: PathLike | None
    progress: bool
    save_peft_format: bool


class SaveKeywords(WrittenKeywords, total=False):
    """What `save_pretrained` takes."""

    select: fp.Mask | None
    is_main_process: bool | None
    save_function: SaveFunction | None
    token: str | bool | None


class CardKeywords(TypedDict, total=False):
    """What a model card is told."""

    language: Words
    license: str | None
    tags: Words
    finetuned_from: str | None
    tasks: Words
    dataset_tags: Words
    dataset: Words
    dataset_args: Words
    history: Sequence[Mapping[str, float]] | None


class CardFileKeywords(CardKeywords, total=False):
    """What `create_model_card` takes."""

    params: fp.PyTree
    files: Iterable[str] | None
    token: str | bool | None


class PushFolderKeywords(CardKeywords, BranchKeywords, total=False):
    """Where a folder is pushed, and what the commit and the card say."""

    commit_message: str | None
    commit_description: str | None
    use_auth_token: str | bool | None


class PushKeywords(WrittenKeywords, PushFolderKeywords, total=False):
    """What `push_to_hub` takes."""

    use_temp_dir: bool | None


class SaveAndPushKeywords(SaveKeywords, PushFolderKeywords, total=False):
    """What `save_pretrained(push_to_hub=True)` takes."""

    repo_id: str | None


LOAD = frozenset({*OwnLoadKeywords.__annotations__, "dtype", "rules", "output_loading_info"})
"""The names of the keywords of a load of any class."""

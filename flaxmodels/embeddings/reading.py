"""Reading: from a name to the fields of an encoder."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from .. import params as fp
from ..auto import AutoModel
from ..documents.json_values import Json
from ..hub import HubOptions, Location
from ..hub.resolve import resolve
from ..params.errors import quoted, some, warn
from ..text import Tokenizer, load_tokenizer
from .embedder import MODEL, Embedder
from .folder import BERT_CONFIG, SETTINGS, Files, Module, number_of, read_layer, read_pooling
from .inference import longest_of
from .similarity import SIMILARITIES

Name: TypeAlias = str | os.PathLike | Location

_BERT_CONFIGS = (BERT_CONFIG,) + tuple(
    f"sentence_{name}_config.json"
    for name in ("roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
_UNREAD = ("model_args", "model_kwargs", "config_args", "config_kwargs", "processing_kwargs")
_HUB = {field.name for field in dataclasses.fields(HubOptions)}
_OLD_SIMILARITIES = {"dot_product": "dot"}


def read_encoder(name_or_path: Name, options: Mapping[str, Any]) -> dict[str, Any]:
    """Reads the fields of a `SentenceEncoder`; arguments as its `from_pretrained`."""
    location = resolve(name_or_path, hub_options(options))
    files = Files.of(location)
    first, pooling, *rest = checked_order(files.modules(), files.folder)
    text = read_text_settings(files, first)
    found = name_or_path, location, first
    model, params, tokenizer, longest = read_model(AutoModel, found, text, options)
    pool = read_pooling(files, pooling, model.config.hidden_size)
    tree: fp.Params = {MODEL: params}
    layers, width = [], model.config.hidden_size * len(pool.modes)
    for i, module in enumerate(rest, 2):
        layer, leaves = read_layer(files, module, width)
        if layer is None:
            continue
        name = module.path or f"{i}_{module.kind}"
        layers.append((name, layer))
        width = getattr(layer, "out_features", width)
        if leaves:
            tree[name] = leaves
    said = files.json(SETTINGS)
    return {
        "embedder": Embedder(model, pool, tuple(layers)),
        "params": tree,
        "tokenizer": tokenizer,
        "max_length": longest,
        **read_calls(said, files.path(SETTINGS)),
    }


def checked_order(modules: Sequence[Module], folder: str) -> Sequence[Module]:
    """Returns the modules: a model, a pooling, and what is applied to an embedding; raises
    `CheckpointError` for another order."""
    kinds = [module.kind for module in modules]
    if kinds[:2] != ["Transformer", "Pooling"] or {"Transformer", "Pooling"} & {*kinds[2:]}:
        raise fp.CheckpointError(
            f"{folder}: the modules are {some(kinds)}; expected Transformer, Pooling, and what "
            "follows a pooling"
        )
    return modules


@dataclasses.dataclass(frozen=True)
class TextSettings:
    """What `sentence_bert_config.json` says: tokens of a text at most, and lower case."""

    max_length: int | None
    lower_case: bool


def read_text_settings(files: Files, module: Module, task: str = "feature-extraction"):
    """Reads how texts become the tokens of a model.

    Raises:
        CheckpointError: a length that is none, or a model that is for something else.
    """
    values, name = {}, BERT_CONFIG
    for name in _BERT_CONFIGS:
        if values := files.json(name) or files.json(module.path, name):
            break
    path = files.path(name)
    if (found := values.get("transformer_task", task)) != task:
        raise fp.CheckpointError(f"{path}: transformer_task is {quoted(found)}; expected {task}")
    ways = values.get("modality_config")
    if isinstance(ways, Mapping) and set(ways) - {"text"}:
        raise fp.CheckpointError(
            f"{path}: modality_config has {some(map(quoted, ways))}; plain texts alone are read"
        )
    if kept := [key for key in _UNREAD if values.get(key)]:
        warn(f"{path}: {some(kept)}: not read; give what they say to from_pretrained")
    length = number_of(values, "max_seq_length", path)
    return TextSettings(length, bool(values.get("do_lower_case", False)))


def read_calls(values: Mapping[str, Json], path: str) -> dict[str, Json]:
    """Reads prompts, similarity and width out of `config_sentence_transformers.json`.

    Raises:
        CheckpointError: a value of another kind, or a default prompt that is not there.
    """
    prompts = read_prompts(values, path)
    name = values.get("similarity_fn_name") or "cosine"
    name = _OLD_SIMILARITIES.get(name, name)
    if name not in SIMILARITIES:
        raise fp.CheckpointError(
            f"{path}: similarity_fn_name is {quoted(name)}; expected {', '.join(SIMILARITIES)}"
        )
    width = number_of(values, "truncate_dim", path)
    return {**prompts, "similarity_fn_name": name, "truncate_dim": width}


def read_prompts(values: Mapping[str, object], path: str) -> dict[str, Json]:
    """Reads `prompts` and `default_prompt_name`; raises as `read_calls`."""
    prompts, default = values.get("prompts") or {}, values.get("default_prompt_name")
    if not isinstance(prompts, Mapping) or not all(
        isinstance(text, str | None) for text in prompts.values()
    ):
        raise fp.CheckpointError(f"{path}: prompts is {quoted(prompts)}; expected texts by names")
    prompts = {name: text or "" for name, text in prompts.items()}
    if default is not None and default not in prompts:
        raise fp.CheckpointError(
            f"{path}: default_prompt_name is {quoted(default)}; there are {some(prompts)}"
        )
    return {"prompts": prompts, "default_prompt_name": default}


def hub_keywords(options: Mapping[str, object]) -> dict[str, Any]:
    """Returns the keywords of a load that say where files are."""
    return {name: value for name, value in options.items() if name in _HUB}


def hub_options(options: Mapping[str, object]) -> HubOptions:
    """Returns the same as one value."""
    return HubOptions.take_from(hub_keywords(options))


def read_model(
    auto: Any,
    found: tuple[Name, Location, Module],
    text: TextSettings,
    options: Mapping[str, Any],
) -> tuple[Any, fp.Params, Tokenizer, int | None]:
    """Loads the model of a folder, and its tokenizer; returns (model, params, tokenizer, how many
    tokens a text is cut to).

    Args:
        auto: the class that loads the model.
        found: the name that a caller gave, where it is, and the model's line in `modules.json`,
            which may have it in a folder of its own.
    """
    name, location, module = found
    place: Name = location
    inner: dict[str, Any] = {}
    if module.path and isinstance(name, Location):
        place = os.path.join(name.folder, module.path)
    elif module.path:
        subfolder = hub_options(options).subfolder
        place, inner = name, {"subfolder": os.path.join(subfolder, module.path)}
    model, params = auto.from_pretrained(place, **{**options, **inner})
    tokenizer = load_tokenizer(place, **{**hub_keywords(options), **inner})
    longest = longest_of(model, tokenizer, text.max_length)
    return model, params, tokenizer.lowercasing() if text.lower_case else tokenizer, longest

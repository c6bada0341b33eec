"""Model cards: the README.md of a repository."""

import dataclasses
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Unpack

import numpy as np

from ... import params as fp
from ...calls.signature import value_of
from ...core.model import Model
from ...documents.front_matter import CARD_NAME, Words, front_matter, listed
from ...documents.json_values import Json
from ...hub.client import api, attempt, endpoint
from ...hub.errors import HubError
from ...registry import HEADS, ending_of
from ..options import CardKeywords

_TAGS = ("flax", "jax")
_WEIGHTS = {  # end of a file's name -> what it is to a reader
    ".safetensors": "safetensors, under the names that PyTorch's Transformers knows",
    ".msgpack": "flax msgpack, under the names of old Flax checkpoints",
    ".orbax": "orbax, the tree as it is",
}
_ROWS = 20  # shown of a history
_NO_METRIC = ("step", "epoch")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CardInfo:
    """What a card says beyond what is read off the model.

    Attributes:
        language: codes of ISO 639.
        license: if None, that of `finetuned_from`, where the Hub knows it.
        tags: added to those of ours and of the model (`add_model_tags`).
        finetuned_from: the repository of the original; if None, the one that the model was loaded
            from.
        tasks: if None, the task that the class is for; the Hub runs the first one.
        dataset_tags: names of datasets on the Hub.
        dataset: their names for readers.
        dataset_args: the arguments that they were loaded with.
        history: rows of a training, {"step": 100, "loss": 1.5, ...}. Where there is one dataset,
            the Hub shows the last values as its metrics.
    """

    language: Words = None
    license: str | None = None
    tags: Words = None
    finetuned_from: str | None = None
    tasks: Words = None
    dataset_tags: Words = None
    dataset: Words = None
    dataset_args: Words = None
    history: Sequence[Mapping[str, float]] | None = None


def create_model_card(
    model: Model,
    output_dir: str | os.PathLike,
    model_name: str,
    *,
    params: fp.PyTree = None,
    files: Iterable[str] | None = None,
    token: str | bool | None = None,
    **info: Unpack[CardKeywords],
) -> Path:
    """Writes `README.md`: metadata for the Hub's search, facts, and a snippet that loads the model.

    Args:
        output_dir: made if absent.
        model_name: of the repository; the snippet loads it.
        params: their dtypes are listed; abstract leaves will do.
        files: names of the repository's files; those in `output_dir` if None.
        token: to ask the Hub for the license of `finetuned_from`.
        **info: the fields of `CardInfo`: language, license, tags, finetuned_from, tasks,
            dataset_tags, dataset, dataset_args, history.

    Raises:
        FileExistsError: there is one; it is not touched.
    """
    path = Path(output_dir, CARD_NAME)
    if os.path.lexists(path):
        raise FileExistsError(f"{path}: there is one already, and it stays; remove it first")
    card_info = value_of(CardInfo, info, "create_model_card")
    path.parent.mkdir(parents=True, exist_ok=True)
    files = os.listdir(output_dir) if files is None else files
    text = model_card(model, model_name, card_info, files=files, params=params, token=token)
    with open(path, "x", encoding="utf-8") as file:  # not through a link made in the meantime
        file.write(text)
    return path


def model_card(
    model: Model,
    model_name: str,
    info: CardInfo,
    *,
    files: Iterable[str] = (),
    params: fp.PyTree = None,
    token: str | bool | None = None,
) -> str:
    """Returns the text of a new card; arguments as `create_model_card`."""
    origin = info.finetuned_from or (model.origin if model.origin != model_name else None)
    license = info.license or (_license_of(origin, token) if origin else None)
    info = dataclasses.replace(info, finetuned_from=origin, license=license)
    data = metadata(model, info)
    data |= _model_index(model_name, data.get("pipeline_tag"), info)
    rows = _facts(model, params, files)
    if origin:
        rows["fine-tuned from"] = f"[{origin}]({endpoint()}/{origin})"
    parts = [
        f"# {model_name.rpartition('/')[2]}",
        _table(["", ""], [[name, value] for name, value in rows.items()]),
        "## Use",
        f"```python\n{_snippet(model, model_name)}\n```",
    ]
    if info.history:
        parts += ["## Training", _history_table(info.history)]
    return front_matter(data) + "\n" + "\n\n".join(parts) + "\n"


def metadata(model: Model, info: CardInfo) -> dict[str, Json]:
    """Returns the metadata of a card, under the Hub's names."""
    from huggingface_hub import ModelCardData

    ending = ending_of(type(model).__name__)
    tasks = listed(info.tasks) or [HEADS[ending].task if ending else ""]
    data = ModelCardData(
        language=info.language if isinstance(info.language, str | None) else list(info.language),
        license=info.license,
        library_name="flaxmodels",
        tags=[*_TAGS, *model.model_tags, *tasks[1:], *listed(info.tags)],
        base_model=info.finetuned_from,
        pipeline_tag=tasks[0] or None,
        datasets=listed(info.dataset_tags) or None,
    )
    return data.to_dict()


def _license_of(repo_id: str, token: str | bool | None) -> str | None:
    """Asks the Hub for a repository's license; returns None where it cannot be asked."""
    try:
        info = attempt(repo_id, lambda: api(token).model_info(repo_id, timeout=30), tries=1)
    except HubError:
        return None
    return info.card_data.get("license") if info.card_data else None


def _model_index(model_name: str, task: str | None, info: CardInfo) -> dict[str, Json]:
    """Returns the metrics of a training, unless it is not known which dataset they are of."""
    from huggingface_hub import EvalResult
    from huggingface_hub.repocard_data import eval_results_to_model_index

    last = {key: float(value) for row in info.history or () for key, value in row.items()}
    metrics = {k: v for k, v in last.items() if k not in _NO_METRIC and math.isfinite(v)}
    ids, names, configs = map(listed, (info.dataset_tags, info.dataset, info.dataset_args))
    ids, names = ids or names, names or ids
    if len(ids) != 1 or task is None or not metrics:
        return {}
    results = [
        EvalResult(
            task_type=task,
            dataset_type=ids[0],
            dataset_name=names[0],
            dataset_config=configs[0] if configs else None,
            metric_type=key,
            metric_value=value,
        )
        for key, value in metrics.items()
    ]
    return {"model-index": eval_results_to_model_index(model_name.rpartition("/")[2], results)}


def _facts(model: Model, params: fp.PyTree, files: Iterable[str]) -> dict[str, str]:
    params = model.abstract_params() if params is None else params
    dtypes = sorted({str(np.dtype(leaf.dtype)) for leaf in fp.flatten(params).values()})
    tops = {name.partition("/")[0] for name in files}
    kinds = [kind for end, kind in _WEIGHTS.items() if any(top.endswith(end) for top in tops)]
    return {
        "architecture": f"`{type(model).__name__}` ({model.config.model_type})",
        "parameters": f"{fp.num_parameters(params):,}",
        "dtype": ", ".join(dtypes),
    } | ({"weights": "; ".join(kinds)} if kinds else {})


def _snippet(model: Model, name: str) -> str:
    """Returns code that loads the model and runs it once."""
    cls, inputs = type(model), model.dummy_inputs()
    ours = cls.__module__.startswith("flaxmodels.")
    called = f"fm.{cls.__name__}" if ours else cls.__name__
    lines = [
        "import jax.numpy as jnp",
        "import flaxmodels as fm" if ours else f"from {cls.__module__} import {cls.__name__}",
        "",
        f"model, params = {called}.from_pretrained({json.dumps(name)})",
    ]
    given = inputs[model.main_input_name]
    if given.shape == (1, 1):
        lines += [f"{model.main_input_name} = jnp.asarray([[1, 2, 3]])  # token ids"]
    else:
        lines += [f"{model.main_input_name} = jnp.zeros({given.shape}, jnp.{given.dtype})"]
    if cls.can_generate():
        call = f"model.generate(params, {model.main_input_name}, max_new_tokens=4).sequences"
        return "\n".join([*lines, f"tokens = {call}"])
    call = f'model.apply({{"params": params}}, {model.main_input_name})'
    return "\n".join([*lines, f"outputs = {call}"])


def _history_table(history: Sequence[Mapping[str, float]]) -> str:
    """Returns a table of at most `_ROWS` rows, evenly spaced; the last is one of them."""
    step = math.ceil(len(history) / _ROWS)
    columns = list(dict.fromkeys(key for row in history for key in row))
    rows = [
        [f"{float(row[key]):.6g}" if key in row else "" for key in columns]
        for row in list(history)[::-step][::-1]
    ]
    return _table(columns, rows)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

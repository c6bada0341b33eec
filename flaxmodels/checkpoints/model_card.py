"""Model cards: the README.md in which a repository says what it holds."""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import params as fp
from ..hub.client import HubError, api, attempt, endpoint
from ..hub.front_matter import CARD_NAME, Words, front_matter, listed

_TAGS = ("flax", "jax")
_TASKS = {  # how the name of a class ends -> its task on the Hub
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
    "DoubleHeadsModel": "text-generation",
    "ForMaskedLM": "fill-mask",
    "ForPreTraining": "fill-mask",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMultipleChoice": "multiple-choice",
    "ForSeq2SeqLM": "text2text-generation",
    "ForImageClassification": "image-classification",
    "ForSpeechSeq2Seq": "automatic-speech-recognition",
    "ForCTC": "automatic-speech-recognition",
    "ForVision2Seq": "image-to-text",
    "Model": "feature-extraction",
}
_WEIGHTS = {  # how the name of a file ends -> what it is to a reader
    ".safetensors": "safetensors, under the names that PyTorch's Transformers knows",
    ".msgpack": "flax msgpack, under the names of old Flax checkpoints",
    ".orbax": "orbax, the tree as it is",
}
METADATA = ("language", "license", "finetuned_from", "tasks", "dataset_tags")
_ROWS = 20  # of a history that are shown
_NO_METRIC = ("step", "epoch")


def create_model_card(
    model: Any,
    output_dir: str | os.PathLike,
    model_name: str,
    *,
    params: Any = None,
    token: str | bool | None = None,
    **said: Any,
) -> Path:
    """Writes `README.md`: what the Hub's search goes by, facts, and a snippet that loads the model.

    Args:
        output_dir: made if absent.
        model_name: of the repository; in the snippet as well.
        params: whose dtypes are told; a tree of abstract leaves will do.
        token: for the licence of `finetuned_from`.
        **said: as `model_card`.

    Raises:
        FileExistsError: there is one; it is not touched.
    """
    path = Path(output_dir, CARD_NAME)
    if os.path.lexists(path):
        raise FileExistsError(f"{path}: there is one already, and it stays; remove it first")
    path.parent.mkdir(parents=True, exist_ok=True)
    said = {"params": params, "token": token, "files": os.listdir(output_dir)} | said
    with open(path, "x", encoding="utf-8") as file:  # not through a link that is there meanwhile
        file.write(model_card(model, model_name, **said))
    return path


def model_card(
    model: Any,
    model_name: str,
    *,
    language: Words = None,
    license: str | None = None,
    tags: Words = None,
    finetuned_from: str | None = None,
    tasks: Words = None,
    dataset_tags: Words = None,
    dataset: Words = None,
    dataset_args: Words = None,
    history: Sequence[Mapping[str, float]] | None = None,
    files: Iterable[str] = (),
    params: Any = None,
    token: str | bool | None = None,
) -> str:
    """The text of a new card.

    Args:
        language: codes of ISO 639.
        license: that of `finetuned_from`, if the Hub says it, if None.
        tags: added to those of ours and of the model (`add_model_tags`).
        finetuned_from: the repository of the original; the one that the model was loaded from, if
            it was from one, if None.
        tasks: the task that the class is for if None; the first is the one that the Hub runs.
        dataset_tags: names of datasets on the Hub.
        dataset: their names for readers.
        dataset_args: with which arguments they were loaded.
        history: rows of a training, {"step": 100, "loss": 1.5, ...}. The last values are also the
            metrics that the Hub shows, where there is one dataset.
        files: names, of weights among others.
    """
    origin = getattr(model, "origin", None)
    finetuned_from = finetuned_from or (origin if origin != model_name else None)
    license = license or (_license_of(finetuned_from, token) if finetuned_from else None)
    data = metadata(
        model,
        language=language,
        license=license,
        tags=tags,
        finetuned_from=finetuned_from,
        tasks=tasks,
        dataset_tags=dataset_tags,
    )
    data |= _index(
        model_name, data.get("pipeline_tag"), dataset_tags, dataset, dataset_args, history
    )
    rows = _facts(model, params, files)
    if finetuned_from:
        rows["fine-tuned from"] = f"[{finetuned_from}]({endpoint()}/{finetuned_from})"
    parts = [
        f"# {model_name.rpartition('/')[2]}",
        _table(["", ""], [[name, value] for name, value in rows.items()]),
        "## Use",
        f"```python\n{_snippet(model, model_name)}\n```",
    ]
    if history:
        parts += ["## Training", _history(history)]
    return front_matter(data) + "\n" + "\n\n".join(parts) + "\n"


def metadata(
    model: Any,
    *,
    language: Words = None,
    license: str | None = None,
    tags: Words = None,
    finetuned_from: str | None = None,
    tasks: Words = None,
    dataset_tags: Words = None,
) -> dict[str, Any]:
    """What is known of a model, in the words of the Hub."""
    from huggingface_hub import ModelCardData

    tasks = listed(tasks) or [
        next((task for end, task in _TASKS.items() if type(model).__name__.endswith(end)), "")
    ]
    every_tag = [*_TAGS, *model.model_tags, *tasks[1:], *listed(tags)]
    data = ModelCardData(
        language=language if isinstance(language, str | None) else list(language),
        license=license,
        library_name="flaxmodels",
        tags=every_tag,
        base_model=finetuned_from,
        pipeline_tag=tasks[0] or None,
        datasets=listed(dataset_tags) or None,
    )
    return data.to_dict()


def _license_of(repo_id: str, token: str | bool | None) -> str | None:
    """What the Hub says; None where it cannot be asked."""
    try:
        info = attempt(repo_id, lambda: api(token).model_info(repo_id, timeout=30), tries=1)
    except HubError:
        return None
    return info.card_data.get("license") if info.card_data else None


def _index(
    name: str, task: str | None, tags: Words, dataset: Words, args: Words, history: Any
) -> dict[str, Any]:
    """The metrics, where they can only be of one dataset."""
    from huggingface_hub import EvalResult
    from huggingface_hub.repocard_data import eval_results_to_model_index

    last = {key: float(value) for row in history or () for key, value in row.items()}
    metrics = {k: v for k, v in last.items() if k not in _NO_METRIC and math.isfinite(v)}
    ids, names, configs = listed(tags), listed(dataset), listed(args)
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
    return {"model-index": eval_results_to_model_index(name.rpartition("/")[2], results)}


def _facts(model: Any, params: Any, files: Iterable[str]) -> dict[str, str]:
    params = model.abstract_params() if params is None else params
    dtypes = sorted({str(np.dtype(leaf.dtype)) for leaf in fp.flatten(params).values()})
    tops = {name.partition("/")[0] for name in files}
    kept = [said for end, said in _WEIGHTS.items() if any(top.endswith(end) for top in tops)]
    return {
        "architecture": f"`{type(model).__name__}` ({model.config.model_type})",
        "parameters": f"{fp.num_parameters(params):,}",
        "dtype": ", ".join(dtypes),
    } | ({"weights": "; ".join(kept)} if kept else {})


def _snippet(model: Any, name: str) -> str:
    """Code that loads the model and runs it once."""
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


def _history(history: Sequence[Mapping[str, float]]) -> str:
    """A table of at most so many rows, the last of them among these."""
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

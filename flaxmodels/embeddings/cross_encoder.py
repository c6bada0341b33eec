"""`CrossEncoder`: pairs of texts to scores, and documents in the order of a query's."""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any, Self, TypedDict, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from .. import params as fp
from ..auto import AutoModelForSequenceClassification
from ..blocks import ACTIVATIONS
from ..checkpoints.options import LoadKeywords, SaveKeywords
from ..documents.json_files import CONFIG_NAME, read_json
from ..documents.json_values import Json
from ..hub import Location
from ..hub.resolve import resolve
from ..models.base import PretrainedModel
from ..params.errors import quoted, some
from ..params.scalars import flag, whole
from ..text import Tokenizer
from .folder import BERT_CONFIG, MODULES, SETTINGS, Files, Module
from .inference import Inference, listed, placed
from .layers import activation_class, activation_name
from .reading import hub_options, read_model, read_text_settings
from .saving import save_with, text_values

Pair = Sequence[str] | np.ndarray
_TASK = "sequence-classification"


class PredictKeywords(TypedDict, total=False):
    """The keywords of `CrossEncoder.predict`, which says what they mean."""

    activation: Callable[[jax.Array], jax.Array] | None
    apply_softmax: bool
    batch_size: int | None
    mesh: Mesh | None
    progress: bool


@functools.partial(jax.jit, static_argnums=0)
def _score(
    model: PretrainedModel,
    params: fp.Params,
    inputs: Mapping[str, jax.Array],
    lengths: jax.Array,
) -> jax.Array:
    """Scores rows that are padded at their ends: float32 [B, labels]."""
    mask = jnp.arange(inputs["input_ids"].shape[1])[None] < lengths[:, None]
    logits = model.apply({"params": params}, attention_mask=mask, **inputs).logits
    return logits.astype(jnp.float32)


@dataclasses.dataclass(frozen=True, eq=False)
class CrossEncoder:
    """Pairs of texts to scores, as rerankers give them: a model with a head that labels sequences,
    its params, a tokenizer. Nothing changes; `dataclasses.replace` makes another.

    Reference: `CrossEncoder` of sentence-transformers 5.7.

    Attributes:
        model: tokens of a pair -> logits [B, labels].
        params: of the model.
        tokenizer: of the model.
        max_length: tokens that a pair is cut to, where it is longest; None for no limit.
        activation: what scores are of logits, a name of `blocks.ACTIVATIONS`.
    """

    model: PretrainedModel
    params: fp.Params
    tokenizer: Tokenizer
    max_length: int | None = None
    activation: str = "sigmoid"

    def __post_init__(self) -> None:
        if self.max_length is not None:
            whole("max_length", self.max_length)
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation is {self.activation!r}; expected one of {', '.join(ACTIVATIONS)}"
            )

    def __repr__(self) -> str:
        return f"CrossEncoder({type(self.model).__name__}, {self.num_labels} labels)"

    @property
    def num_labels(self) -> int:
        """The number of scores of a pair."""
        return self.model.config.num_labels

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | os.PathLike | Location, **options: Unpack[LoadKeywords]
    ) -> Self:
        """Loads a folder or repository of a model that labels sequences.

        Args:
            name_or_path: as a model's `from_pretrained` takes it.
            **options: of the model's load: dtype, param_dtype, mesh, revision, num_labels, ...

        Raises:
            CheckpointError: modules beside the model; as a model's `from_pretrained`.
            ImportError: the library tokenizers is not installed.
        """
        given: dict[str, Any] = dict(options)
        location = resolve(name_or_path, hub_options(given))
        files = Files.of(location)
        module = _only_module(files)
        text = read_text_settings(files, module, _TASK)
        values = read_json(os.path.join(location.folder, module.path, CONFIG_NAME))
        if not _is_classifier(values) and "num_labels" not in given:
            given["num_labels"] = 1
        found = name_or_path, location, module
        read = read_model(AutoModelForSequenceClassification, found, text, given)
        return cls(*read, _activation(files, values, read[0].config.num_labels))

    def predict(
        self,
        pairs: Pair | Iterable[Pair],
        *,
        activation: Callable[[jax.Array], jax.Array] | None = None,
        apply_softmax: bool = False,
        batch_size: int | None = None,
        mesh: Mesh | None = None,
        progress: bool = True,
    ) -> np.ndarray:
        """Scores pairs: float32 [N], or [N, labels] where there are several; a pair that is in no
        list gives its score alone, [] or [labels].

        Args:
            pairs: [(text, other text), ...].
            activation: of the logits [N, labels]; the encoder's own if None.
            apply_softmax: after it, make the scores of several labels add up to 1.
            batch_size, mesh, progress: as `SentenceEncoder.encode`.

        Raises:
            TypeError: texts that are no str; a call inside of a trace.
            ValueError: what is no pair.
        """
        act = ACTIVATIONS[self.activation] if activation is None else activation
        if not callable(act):
            raise TypeError(f"activation is {act!r:.80}; expected a function of the logits")
        firsts, seconds, is_one = _split(pairs)
        where = placed(self.model, self.params, mesh)
        infer = Inference(self.model, self.tokenizer, self.max_length, batch_size, progress)
        compute = functools.partial(_score, self.model, where.params)
        found = infer(compute, firsts, seconds, where)
        logits = jnp.asarray(np.stack(found)) if found else jnp.zeros((0, self.num_labels))
        scores = act(logits)
        if jnp.shape(scores) != logits.shape:
            raise ValueError(
                f"activation made {jnp.shape(scores)} of logits {logits.shape}; expected a score "
                "for each"
            )
        if flag("apply_softmax", apply_softmax) and self.num_labels > 1:
            scores = jax.nn.softmax(scores)
        result = np.asarray(scores)
        result = result[:, 0] if self.num_labels == 1 else result
        return result[0] if is_one else result

    def rank(
        self,
        query: str,
        documents: Iterable[str],
        *,
        top_k: int | None = None,
        return_documents: bool = False,
        **options: Unpack[PredictKeywords],
    ) -> list[dict[str, Json]]:
        """Puts documents in the order of their scores with a query, the best first:
        [{"corpus_id": its number, "score": a float, "text": itself}, ...].

        Args:
            top_k: how many; None for all.
            return_documents: give "text" too.
            **options: as `predict`.

        Raises:
            ValueError: a model of several labels, whose scores have no order.
        """
        if self.num_labels != 1:
            raise ValueError(
                f"the model has {self.num_labels} labels, and documents are ranked by one score: "
                "use predict"
            )
        top_k = None if top_k is None else whole("top_k", top_k, 0)
        with_texts = flag("return_documents", return_documents)
        documents = listed("documents", documents)
        scores = self.predict([(query, document) for document in documents], **options)
        order = np.argsort(-scores, kind="stable")[:top_k]
        texts = ({"text": documents[i]} if with_texts else {} for i in order)
        return [
            {"corpus_id": int(i), "score": float(scores[i]), **text}
            for i, text in zip(order, texts, strict=True)
        ]

    def save_pretrained(self, folder: str | os.PathLike, **options: Unpack[SaveKeywords]) -> None:
        """Writes a folder that sentence-transformers and `from_pretrained` open.

        Args:
            folder: made if absent; it holds the old files or the new ones at any time.
            **options: as a model's `save_pretrained`.

        Raises:
            CheckpointError: params that are not the model's, or the disk's own error.
        """
        text = text_values(self.max_length, self.tokenizer)
        files = {
            MODULES: [{"idx": 0, "name": "0", "path": "", "type": f"{_MODULES}.Transformer"}],
            BERT_CONFIG: {"transformer_task": _TASK, **_WAYS, **text},
            SETTINGS: {
                "model_type": "CrossEncoder",
                "activation_fn": activation_class(self.activation),
                "prompts": {},
                "default_prompt_name": None,
            },
        }
        save_with(self.model, self.params, folder, files, {}, self.tokenizer, options)


_MODULES = "sentence_transformers.base.modules.transformer"


_WAYS = {
    "modality_config": {"text": {"method": "forward", "method_output_name": "logits"}},
    "module_output_name": "scores",
}
"""What sentence-transformers 5.7 writes of a model of texts that gives scores."""


def _split(pairs: Pair | Iterable[Pair]) -> tuple[list[str], list[str], bool]:
    """Returns the first texts, the second ones, and whether it is one pair that is in no list."""
    if not isinstance(pairs, Iterable) or isinstance(pairs, Mapping | Set):
        raise TypeError(f"pairs is a {type(pairs).__name__}; expected a list of pairs of str")
    given = list(pairs)
    if is_one := not isinstance(pairs, str) and isinstance(next(iter(given), None), str):
        given = [given]
    firsts, seconds = [], []
    for i, pair in enumerate(given):
        is_pair = isinstance(pair, Sequence | np.ndarray) and not isinstance(pair, str)
        if not is_pair or len(pair) != 2:
            raise ValueError(f"pair {i} is {quoted(pair)}; expected two texts")
        firsts.append(pair[0])
        seconds.append(pair[1])
    return firsts, seconds, is_one


def _only_module(files: Files) -> Module:
    if MODULES not in files.names:
        return Module("0", "Transformer", "")
    modules = files.modules()
    if [module.kind for module in modules] != ["Transformer"]:
        raise fp.CheckpointError(
            f"{files.folder}: the modules are {some(module.kind for module in modules)}; a "
            "cross-encoder of a model that labels sequences, and nothing after it, is read"
        )
    return modules[0]


def _is_classifier(values: Mapping[str, object]) -> bool:
    names = values.get("architectures")
    listed = names if isinstance(names, list) else []
    return any(str(name).endswith("ForSequenceClassification") for name in listed)


def _activation(files: Files, values: Mapping[str, object], num_labels: int) -> str:
    """Returns what scores are of logits, as the first of the three places says that do."""
    inner = values.get("sentence_transformers")
    places = (
        (SETTINGS, files.json(SETTINGS).get("activation_fn")),
        (CONFIG_NAME, inner.get("activation_fn") if isinstance(inner, Mapping) else None),
        (CONFIG_NAME, values.get("sbert_ce_default_activation_function")),
    )
    for name, said in places:
        if said is not None:
            return activation_name(said, files.path(name))
    return "sigmoid" if num_labels == 1 else "linear"

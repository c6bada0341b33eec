"""Texts through a program: tokenised, sorted, batched, computed over a mesh, and put in order."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tqdm import tqdm

from .. import params as fp
from .. import sharding as fs
from ..calls.known_values import is_traced
from ..core.model import Model
from ..params.scalars import flag, whole
from ..text import Tokenizer
from .batches import Batch, Row, Shapes, batches, run, windows

Texts = Sequence[str]
Array = jax.Array | np.ndarray


class Placed(NamedTuple):
    """Params where they are computed with, and how a batch [B, T] is cut; None for not."""

    params: fp.Params
    batch: NamedSharding | None

    @property
    def multiple(self) -> int:
        """Returns what the number of rows of a batch is a multiple of."""
        return 1 if self.batch is None else self.batch.mesh.size


def placed(model: Model, params: fp.Params, mesh: Mesh | None) -> Placed:
    """Places params on a mesh: those that are on it stay as they are, others are whole on each
    device. A batch is cut by the model's rules.

    Args:
        mesh: None for that of the params, if they are on one.

    Raises:
        TypeError: a call inside of a trace, which could not wait for its result.
        ValueError: a mesh over which no rule cuts a batch.
    """
    if is_traced(params):
        raise TypeError(
            "texts are run by programs of their own, and this call is traced (jit, grad, vmap): "
            "give the tokens of texts to embedder.apply, or model.apply, which are pure"
        )
    if mesh is None:
        mesh = _mesh_of(params)
    if mesh is None:
        return Placed(params, None)
    auto = fs.check_mesh(mesh)
    fs.check_rules(model.rules, {}, auto)
    spec = fs.partition_spec(("batch", "length"), (auto.size, 1), auto, model.rules, name="batch")
    whole = NamedSharding(auto, PartitionSpec())

    def place(leaf: Array) -> Array:
        sharding = getattr(leaf, "sharding", None)
        is_there = isinstance(sharding, NamedSharding) and sharding.mesh == auto
        return leaf if is_there else jax.device_put(leaf, whole)

    return Placed(jax.tree.map(place, params), NamedSharding(auto, spec))


def _mesh_of(params: fp.Params) -> Mesh | None:
    for leaf in jax.tree.leaves(params):
        sharding = getattr(leaf, "sharding", None)
        if isinstance(sharding, NamedSharding) and sharding.mesh.size > 1:
            return sharding.mesh if isinstance(sharding.mesh, Mesh) else None
    return None


@dataclasses.dataclass(frozen=True)
class Inference:
    """Runs a program over texts.

    Attributes:
        model: whose config says which ids and how many tokens there may be.
        tokenizer: of it.
        longest: tokens that a text is cut to; None for no limit.
        batch_size: see `Shapes`.
        progress: show a bar if it takes longer than a second.

    Raises:
        TypeError, ValueError: no `batch_size`, or no bool.
    """

    model: Model
    tokenizer: Tokenizer
    longest: int | None
    batch_size: int | None
    progress: bool

    def __post_init__(self) -> None:
        if self.batch_size is not None:
            whole("batch_size", self.batch_size)
        flag("progress", self.progress)

    def __call__(
        self,
        compute: Callable[[Mapping[str, Array], Array], jax.Array],
        texts: Texts,
        pairs: Texts | None,
        where: Placed,
        *,
        prompt: str = "",
    ) -> list[np.ndarray]:
        """Returns the result of each text, or of each pair.

        Args:
            prompt: what stands before each text.
            compute: ({"input_ids": [B, T], and maybe "token_type_ids"}, lengths [B]) -> [B, ...].

        Raises:
            TypeError: a text that is none.
            ValueError: a text without a token; a token that the model does not have.
        """
        both = zip(texts, strict=True) if pairs is None else zip(texts, pairs, strict=True)
        sizes = [sum(len(_text(text, i)) for text in row) for i, row in enumerate(both)]
        order = sorted(range(len(texts)), key=lambda i: -sizes[i])
        texts = [prompt + text for text in texts] if prompt else texts
        shapes = Shapes(self.batch_size, self.longest, where.multiple)
        rows = windows(order, functools.partial(self._rows, texts, pairs))
        found = batches(rows, shapes, self._pad)

        def start(batch: Batch) -> jax.Array:
            inputs = {"input_ids": batch.ids}
            if self._reads_types:
                inputs["token_type_ids"] = batch.type_ids
            if where.batch is None:
                return compute(inputs, batch.lengths)
            spec = PartitionSpec(where.batch.spec[0])
            lengths = jax.device_put(batch.lengths, NamedSharding(where.batch.mesh, spec))
            return compute(jax.device_put(inputs, where.batch), lengths)

        hidden = not self.progress
        with tqdm(total=len(texts), unit="text", delay=1, disable=hidden, desc="encode") as bar:
            results = run(found, start, bar.update)
        return [results[i] for i in range(len(texts))]

    @property
    def _pad(self) -> int:
        """The id of padding: the model's, which may tell padding by it, else the tokenizer's."""
        ours = self.model.config.pad_token_id
        return (self.tokenizer.pad_token_id or 0) if ours is None else ours

    @property
    def _reads_types(self) -> bool:
        base = getattr(self.model, "backbone", self.model)  # of a head, a class
        unread = getattr(base, "not_taken", ())
        return self.tokenizer.gives_token_types and "token_type_ids" not in unread

    def _rows(self, texts: Texts, pairs: Texts | None, indices: Sequence[int]) -> list[Row]:
        firsts = [texts[i] for i in indices]
        seconds = None if pairs is None else [pairs[i] for i in indices]
        found = self.tokenizer.encode_rows(firsts, seconds, max_length=self.longest)
        rows = [Row(i, *arrays) for i, arrays in zip(indices, found, strict=True)]
        size = self.model.config.vocab_size
        for row in rows:
            if row.ids.size == 0:
                raise ValueError(
                    f"text {row.text} has no tokens, and the tokenizer adds none: leave it out"
                )
            if row.ids.max() >= size:
                raise ValueError(
                    f"text {row.text} has token {row.ids.max()}, and the model has {size}: "
                    "model and tokenizer are not of one checkpoint"
                )
        return rows


def listed(name: str, texts: Iterable[str]) -> list[str]:
    """Returns several texts as a list.

    Raises:
        TypeError: one alone, or what has no order; `name` says which argument.
    """
    is_one = isinstance(texts, str | bytes) or getattr(texts, "ndim", 1) == 0
    if is_one or not isinstance(texts, Iterable) or isinstance(texts, Mapping | Set):
        raise TypeError(f"{name} is a {type(texts).__name__}; expected a list of str")
    return list(texts)


def _text(value: object, index: int) -> str:
    if not isinstance(value, str):
        raise TypeError(f"text {index} is {type(value).__name__}; expected str")
    return value


def longest_of(model: Model, tokenizer: Tokenizer, given: int | None) -> int | None:
    """Returns the number of tokens that a text is cut to: `given`, else what the tokenizer says;
    never more than the model has positions."""
    config = model.config
    said = given if given is not None else tokenizer.model_max_length
    table = config.position_limit
    if given is None and table is None:
        table = getattr(config, "max_position_embeddings", None)
    limits = [limit for limit in (said, table) if limit is not None]
    return min(limits, default=None)

"""`SentenceEncoder`: texts to embeddings, by the folders of sentence-transformers."""

import dataclasses
import functools
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Self, TypedDict, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from .. import params as fp
from ..checkpoints.options import LoadKeywords, SaveKeywords
from ..hub import Location
from ..params.scalars import flag, whole
from ..text import Tokenizer
from . import similarity
from .embedder import Embedder
from .folder import BERT_CONFIG, SETTINGS
from .inference import Inference, listed, placed
from .reading import read_encoder
from .saving import save_encoder, text_values

_DOCUMENTS = ("document", "passage", "corpus")


class EncodeKeywords(TypedDict, total=False):
    """The keywords of `SentenceEncoder.encode`, which says what they mean."""

    prompt_name: str | None
    prompt: str | None
    batch_size: int | None
    normalize: bool
    truncate_dim: int | None
    mesh: Mesh | None
    progress: bool


@functools.partial(jax.jit, static_argnums=0, static_argnames=("normalize", "truncate_dim"))
def _embed(
    embedder: Embedder,
    params: fp.Params,
    prompt_length: jax.Array | None,
    inputs: Mapping[str, jax.Array],
    lengths: jax.Array,
    *,
    normalize: bool,
    truncate_dim: int | None,
) -> jax.Array:
    """Embeds rows that are padded at their ends: float32 [B, E]."""
    mask = jnp.arange(inputs["input_ids"].shape[1])[None] < lengths[:, None]
    return embedder.apply(
        params,
        **inputs,
        attention_mask=mask,
        prompt_length=prompt_length,
        normalize=normalize,
        padded_at_end=True,
        truncate_dim=truncate_dim,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class SentenceEncoder:
    """Texts to embeddings: a model, its params, a tokenizer, and what follows the model.

    Everything is a field, nothing changes: `dataclasses.replace(encoder, params=trained)` is an
    encoder with other params. `encoder.embedder.apply(params, input_ids, attention_mask)` is the
    computation alone, a pure function.

    Reference: `SentenceTransformer` of sentence-transformers 5.7.

    Attributes:
        embedder: the model, pooling and layers as a value, without arrays.
        params: {"model": the model's, name of a layer: its leaves}.
        tokenizer: of the model.
        max_length: tokens that a text is cut to; None for no limit.
        prompts: {name: text that is put before each text}.
        default_prompt_name: of the prompt for a call that names none; None for none.
        similarity_fn_name: "cosine", "dot", "euclidean" or "manhattan".
        truncate_dim: embeddings are cut to their first features; None for all of them.
    """

    embedder: Embedder
    params: fp.Params
    tokenizer: Tokenizer
    max_length: int | None = None
    prompts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    default_prompt_name: str | None = None
    similarity_fn_name: str = "cosine"
    truncate_dim: int | None = None

    def __post_init__(self) -> None:
        if self.similarity_fn_name not in similarity.SIMILARITIES:
            raise ValueError(
                f"similarity_fn_name is {self.similarity_fn_name!r}; expected one of "
                f"{', '.join(similarity.SIMILARITIES)}"
            )
        for name in ("max_length", "truncate_dim"):
            if (value := getattr(self, name)) is not None:
                whole(name, value)
        if not isinstance(self.prompts, Mapping):
            raise TypeError(f"prompts is {self.prompts!r:.80}; expected texts by their names")
        if odd := [name for name, text in self.prompts.items() if not isinstance(text, str)]:
            raise TypeError(f"the prompt {odd[0]!r} is {self.prompts[odd[0]]!r:.80}; expected str")
        self._prompt(self.default_prompt_name)

    def __repr__(self) -> str:
        name, modes = type(self.embedder.model).__name__, " + ".join(self.embedder.pooling.modes)
        return f"SentenceEncoder({name}, {modes}, {self.embedding_dim} features)"

    @property
    def embedding_dim(self) -> int:
        """E, the number of features of an embedding."""
        return min(self.embedder.width, self.truncate_dim or self.embedder.width)

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | os.PathLike | Location, **options: Unpack[LoadKeywords]
    ) -> Self:
        """Loads a folder or repository of sentence-transformers, or of a model alone, of which the
        mean over tokens is taken.

        Args:
            name_or_path: as a model's `from_pretrained` takes it.
            **options: of the model's load: dtype, param_dtype, mesh, revision, scan_layers, ...

        Raises:
            CheckpointError: a module that is not known, by its class; a pooling, a projection or
                weights that do not fit; as a model's `from_pretrained`.
            ImportError: the library tokenizers is not installed.
        """
        return cls(**read_encoder(name_or_path, options))

    def encode(
        self,
        texts: str | Iterable[str],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        normalize: bool = False,
        truncate_dim: int | None = None,
        mesh: Mesh | None = None,
        progress: bool = True,
    ) -> np.ndarray:
        """Embeds texts: float32 [N, E], in their order; [E] for one text that is no list.

        Texts are sorted by length and batched into few shapes; a program is compiled for each and
        kept for later calls. The next texts are tokenised while the ones before are computed.

        Args:
            texts: a text without any is what the tokenizer makes of it, [CLS] [SEP] say.
            prompt_name: a name of `prompts`; `default_prompt_name` if None.
            prompt: the text itself, instead of a name.
            batch_size: rows of a batch; None for as many as make 4,096 tokens on a CPU, 65,536 on
                an accelerator.
            normalize: divide the embeddings by their lengths.
            truncate_dim: cut them to their first features; None as the encoder says.
            mesh: compute over its devices, a batch cut by the model's rules; None for where the
                params are. Params that are on no mesh are put on it whole, at each call.
            progress: show a bar if it takes longer than a second.

        Raises:
            TypeError: a text that is no str; a call inside of a trace.
            ValueError: a prompt that is not there, and those that are; a text without any token.
        """
        if prompt is None:
            name = self.default_prompt_name if prompt_name is None else prompt_name
            prompt = self._prompt(name) or ""
        elif prompt_name is not None:
            raise ValueError("give prompt_name or prompt, and not both")
        elif not isinstance(prompt, str):
            raise TypeError(f"prompt is {prompt!r:.80}; expected str")
        if truncate_dim is not None:
            truncate_dim = whole("truncate_dim", truncate_dim, 1, self.embedder.width)
        width = self.truncate_dim if truncate_dim is None else truncate_dim
        model = self.embedder.model
        where = placed(model, self.params, mesh)
        compute = functools.partial(
            _embed,
            self.embedder,
            where.params,
            self._prompt_length(prompt),
            normalize=flag("normalize", normalize),
            truncate_dim=width,
        )
        infer = Inference(model, self.tokenizer, self.max_length, batch_size, progress)
        if isinstance(texts, str):
            return infer(compute, [texts], None, where, prompt=prompt)[0]
        found = infer(compute, listed("texts", texts), None, where, prompt=prompt)
        shape = (0, min(self.embedder.width, width or self.embedder.width))
        return np.stack(found) if found else np.zeros(shape, np.float32)

    def encode_query(
        self, texts: str | Iterable[str], **options: Unpack[EncodeKeywords]
    ) -> np.ndarray:
        """Embeds questions: with the prompt "query" if there is one; options as `encode`."""
        return self.encode(texts, **self._with_prompt(("query",), options))

    def encode_document(
        self, texts: str | Iterable[str], **options: Unpack[EncodeKeywords]
    ) -> np.ndarray:
        """Embeds what is searched: with the prompt "document", "passage" or "corpus" if there is
        one; options as `encode`."""
        return self.encode(texts, **self._with_prompt(_DOCUMENTS, options))

    def _with_prompt(self, names: Sequence[str], options: EncodeKeywords) -> EncodeKeywords:
        if options.get("prompt") is None and options.get("prompt_name") is None:
            for name in names:
                if name in self.prompts:
                    return {**options, "prompt_name": name}
        return options

    def similarity(self, a: object, b: object) -> jax.Array:
        """Returns how near each of a [N, E] is to each of b [M, E], by `similarity_fn_name`:
        float32 [N, M], larger is nearer; distances are negative."""
        return similarity.all_pairs(self.similarity_fn_name, a, b)

    def similarity_pairwise(self, a: object, b: object) -> jax.Array:
        """Returns how near each of a [N, E] is to its pair of b [N, E]: float32 [N]."""
        return similarity.pairwise(self.similarity_fn_name, a, b)

    def save_pretrained(self, folder: str | os.PathLike, **options: Unpack[SaveKeywords]) -> None:
        """Writes a folder that sentence-transformers and `from_pretrained` open.

        Args:
            folder: made if absent; it holds the old files or the new ones at any time.
            **options: as a model's `save_pretrained`.

        Raises:
            CheckpointError: params that are not this encoder's, or the disk's own error.
        """
        settings = {
            "model_type": "SentenceTransformer",
            "prompts": dict(self.prompts),
            "default_prompt_name": self.default_prompt_name,
            "similarity_fn_name": self.similarity_fn_name,
            **({} if self.truncate_dim is None else {"truncate_dim": self.truncate_dim}),
        }
        text = text_values(self.max_length, self.tokenizer)
        files = {BERT_CONFIG: text, SETTINGS: settings}
        save_encoder(self.embedder, self.params, folder, files, self.tokenizer, options)

    def _prompt(self, name: str | None) -> str | None:
        if name is None:
            return None
        if not isinstance(name, str) or name not in self.prompts:
            there = ", ".join(map(repr, self.prompts)) or "none"
            raise ValueError(f"there is no prompt {name!r}; there are: {there}")
        return self.prompts[name]

    def _prompt_length(self, prompt: str) -> jax.Array | None:
        """Returns the number of tokens of a prompt, those that a text begins with among them, where
        the pooling is without them."""
        if not prompt or self.embedder.pooling.include_prompt:
            return None
        ids = self.tokenizer.encode_rows([prompt], max_length=self.max_length)[0][0]
        ends = ids.size > 0 and int(ids[-1]) in self.tokenizer.all_special_ids
        return jnp.int32(ids.size - ends)

"""Generation as two exported programs, and the loop that runs them without the model.

`prefill` reads a prompt and fills a cache of a fixed length; `step` reads one token more. The cache
is an argument and a result, as `{path: array}`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp
from flax import struct
from jax import export

from ..config.generation_config import GenerationConfig
from ..core.model import Model
from ..documents.json_values import Json
from ..generation.passes import Passes, Rows
from ..generation.prompts import Prompt
from ..params.host.threads import run_untraced
from ..params.scalars import whole
from ..params.tree.paths import flatten_arrays
from ..params.types import Params, PyTree
from .arrays import Arrays, Spec
from .lowering import FlatTree
from .signatures import Signature

PREFILL, STEP = "prefill", "step"
CACHE = "cache/"
"""How the names of a cache's arrays begin."""
CACHE_MASK = f"{CACHE}mask"
"""Which of its places hold a token: bool [B, slots]."""
_FIELDS = ("eos_token_id", "pad_token_id", "bos_token_id", "decoder_start_token_id")
_FIELDS += ("forced_bos_token_id", "forced_eos_token_id")
_FIELDS += ("max_new_tokens", "max_length", "do_sample", "temperature", "top_k", "top_p")


def keeps_cache(model: Model) -> bool:
    """Tells whether a model can generate: its class says so, and by its configuration it is a
    decoder, whose tokens see those before them alone."""
    passes: Any = model
    if not model.can_generate():
        return False
    try:
        run_untraced(lambda: jax.eval_shape(lambda: passes.init_cache(1, 1)))
    except ValueError:
        return False
    return True


class Generation:
    """The signatures `prefill` and `step` of a model that can generate.

    Args:
        slots: of the caches: tokens of the decoder, new ones counted in.
    """

    def __init__(self, model: Passes, slots: int):
        self._model, self._slots = model, slots
        self._cache: FlatTree | None = None  # what `prefill` fills, known when it has been traced

    @property
    def prefill(self) -> Signature:
        """Reads prompts, and fills a cache."""
        specs = {"input_ids": ("batch", "length"), "attention_mask": ("batch", "length")}
        if self._model.is_encoder_decoder:
            specs |= {f"decoder_{name}": ("batch", "decoder_length") for name in [*specs]}
        return Signature({name: Spec("int32", dims) for name, dims in specs.items()}, self._first)

    def step(self, told: Mapping[str, Spec]) -> Signature:
        """Reads one token more; `told` is what `prefill` gives, which has been lowered."""
        one = {"token": Spec("int32", ("batch", 1)), "lengths": Spec("int32", ("batch",))}
        cache = {name: spec for name, spec in told.items() if name.startswith(CACHE)}
        return Signature(one | cache, self._next)

    def _first(self, params: Params, given: Arrays) -> Arrays:
        prompt = _prompt(given, "")
        if self._model.is_encoder_decoder:
            prompt = prompt._replace(decoder=_prompt(given, "decoder_"))
        logits, cache, rows = self._model.first_pass(params, prompt, self._slots)
        self._cache = FlatTree.of(cache)
        told = {"logits": logits, "valid": rows.valid, "lengths": rows.lengths}
        return told | _named(cache)

    def _next(self, params: Params, given: Arrays) -> Arrays:
        assert self._cache is not None
        cache = self._cache.tree({path: given[CACHE + path] for path in self._cache.paths})
        logits, cache = self._model.next_pass(params, given["token"], cache, given["lengths"])
        return {"logits": logits} | _named(cache)


@dataclasses.dataclass(frozen=True)
class Facts:
    """What `generate` has to know of a model whose code is not there.

    Attributes:
        slots: tokens that caches have room for.
        settings: the model's defaults.
        vocab_size: tokens that a prompt may have; None if that is not known.
        decoder_vocab_size: those that are generated.
    """

    slots: int
    settings: GenerationConfig
    vocab_size: int | None
    decoder_vocab_size: int | None

    @classmethod
    def of(cls, model: Model, slots: int) -> Self:
        """Reads them off a model that can generate."""
        assert isinstance(model, Passes)
        config = model.generation_config or GenerationConfig.of(model.config)
        settings = GenerationConfig(**{name: getattr(config, name) for name in _FIELDS})
        size = getattr(model.config.text, "vocab_size", None)
        return cls(slots, settings, model.prompt_vocab_size, size)

    @classmethod
    def of_json(cls, slots: object, values: Mapping[str, Json]) -> Self:
        """Reads them; raises `TypeError`, `KeyError` or `ValueError` for what they cannot be."""
        sizes = (values[name] for name in ("vocab_size", "decoder_vocab_size"))
        sizes = (None if size is None else whole("a size of vocabulary", size) for size in sizes)
        return cls(whole("slots", slots), GenerationConfig(**values["settings"]), *sizes)

    def json(self) -> dict[str, Json]:
        """Returns all but the slots, as JSON."""
        values = {name: getattr(self.settings, name) for name in _FIELDS}
        return {
            "settings": {
                name: [*value] if isinstance(value, tuple) else value
                for name, value in values.items()
                if value is not None
            },
            "vocab_size": self.vocab_size,
            "decoder_vocab_size": self.decoder_vocab_size,
        }


def _prompt(given: Arrays, half: str) -> Prompt:
    mask = given[f"{half}attention_mask"].astype(bool)
    return Prompt(given[f"{half}input_ids"].astype(jnp.int32), mask)


def _named(cache: PyTree) -> Arrays:
    return {CACHE + path: x for path, x in flatten_arrays(cache).items()}


@struct.dataclass
class ServedCache:
    """A cache as its programs know it: {name: array}."""

    arrays: dict[str, jax.Array]

    @property
    def mask(self) -> jax.Array:
        """Which places hold a token: bool [B, slots]."""
        return self.arrays[CACHE_MASK]


class ServedPasses:
    """The passes of generation by exported programs, for `generation.decoding.decode`, which is
    compiled for an instance."""

    def __init__(self, prefill: export.Exported, step: export.Exported):
        self._prefill, self._step = prefill, step

    def first_pass(
        self, params: Mapping[str, jax.Array], prompt: Prompt, slots: int
    ) -> tuple[jax.Array, ServedCache, Rows]:
        """Reads the prompt; the cache has the slots that it was exported with."""
        given = _given(prompt, "")
        if prompt.decoder is not None:
            given |= _given(prompt.decoder, "decoder_")
        out: Any = self._prefill.call(dict(params), given)
        rows = Rows(prompt.ids, prompt.mask, out["valid"], out["lengths"], None)
        return out["logits"], _cache_of(out), rows

    def next_pass(
        self,
        params: Mapping[str, jax.Array],
        token: jax.Array,
        cache: ServedCache,
        before: jax.Array,
    ) -> tuple[jax.Array, ServedCache]:
        """Reads a new token int32 [B, 1]; `before` int32 [B] tokens of its row came before it."""
        out: Any = self._step.call(dict(params), {"token": token, "lengths": before} | cache.arrays)
        return out["logits"], _cache_of(out)


def _given(prompt: Prompt, half: str) -> dict[str, jax.Array]:
    mask = jnp.ones_like(prompt.ids) if prompt.mask is None else prompt.mask.astype(jnp.int32)
    return {f"{half}input_ids": prompt.ids, f"{half}attention_mask": mask}


def _cache_of(out: Mapping[str, jax.Array]) -> ServedCache:
    return ServedCache({name: x for name, x in out.items() if name.startswith(CACHE)})

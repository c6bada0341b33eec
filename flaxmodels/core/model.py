"""The small base of every model. Features (generating, editing, measuring, switching) are mixins
typed against it; `flaxmodels.models.base.PretrainedModel` puts them together."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, dataclass_transform

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.errors import InvalidRngError
from jax.sharding import AbstractMesh, Mesh

from .. import params as fp
from .. import sharding as fs
from ..blocks import ModelOptions
from ..config.config import Config
from ..config.generation_config import GenerationConfig
from ..params.adapters.training import drops
from ..params.errors import warn
from ..params.tree.cast import DtypeLike
from ..params.tree.keys import one_key
from . import fields, missing_attributes
from .template import drawn, plain, template_of

_OPTIONS = tuple(field.name for field in dataclasses.fields(ModelOptions))


def by_config(of_model: Callable[[Any], object]) -> Any:
    """Makes an attribute of a model class that follows from the configuration of a model, where
    other classes have a constant."""
    return property(of_model)


@dataclass_transform(eq_default=False)  # linen compares and hashes by value; a type checker is told
class Model(nn.Module):
    """Describes a model as a value: hashable, comparable, without arrays; `clone` changes a field.

    Params are a separate tree: `model.apply({"params": params}, input_ids, ...)` runs it.

    Attributes:
        config: what `config.json` says.
        dtype: what is computed in; enters where the input is embedded.
        scan_layers: one stacked layer under `lax.scan` instead of a loop over layers. Compile
            time no longer grows with depth; the params tree has a leading layer axis.
        remat: None, "full" (keep nothing), or a policy: its name in `jax.checkpoint_policies`, or
            itself; names of activations, "save:attention_out,mlp_hidden" or "offload:residual", to
            the host's memory (`blocks/remat.py` lists them); or a mapping of `policy` and
            `prevent_cse`.
        attn_implementation: "eager" (the formula), "sdpa" (the same, and long inputs in blocks), or
            "flash" (cuDNN, on a GPU in a 16-bit dtype).
        rules: logical axes, or paths -> mesh axes, of params and of activations; or the name of one
            of `fs.PRESETS`.
        generation_config: defaults of `generate`.
        embed_tap: whether gradients at the input embeddings can be taken (`embedding_taps`).
        defer_logits: whether heads over a vocabulary return `DeferredLogits` in the place of
            logits: losses make those of a chunk of tokens at a time, of so many tokens if it is a
            number. `generate` and `stream` make logits anyway.
        model_tags: for the card of a repository that the model is pushed to (`add_model_tags`).
        origin: the repository that the model was loaded from.
        attn_original: what `reverse_bettertransformer` goes back to.
        uneven: what becomes of dimensions that the mesh axes of their rule do not divide: "refuse",
            "replicate" or "pad", or {logical axis: that}; see `fs.shardings`. Padding is in params
            that are on a mesh alone: `apply` takes it off again.

    `model_tags`, `origin` and `attn_original` do not compare: models that differ in them alone are
    equal, and compile once.
    """

    config: Any
    dtype: Any = jnp.float32
    scan_layers: bool = False
    remat: object = None
    attn_implementation: str = "sdpa"
    rules: fs.Rules = fs.DEFAULT_RULES
    generation_config: GenerationConfig | None = None
    embed_tap: bool = False
    model_tags: tuple[str, ...] = dataclasses.field(default=(), compare=False)
    origin: str | None = dataclasses.field(default=None, compare=False)
    attn_original: str | None = dataclasses.field(default=None, compare=False)
    uneven: Any = "refuse"
    defer_logits: bool | int = False

    config_class: ClassVar[type[Config]] = Config
    base_model_prefix: ClassVar[str] = ""
    main_input_name: ClassVar[str] = "input_ids"
    naming: ClassVar[fp.Naming] = fp.Naming()
    tied: ClassVar[tuple[tuple[str, str], ...]] = ()
    """(path, the path of the leaf that serves where the model has none there): a checkpoint may
    hold the tensor under either name, or under both."""
    is_parallelizable: ClassVar[bool] = False
    """Whether params have logical axes, by which a mesh spreads them; those of plain linen layers
    are replicated."""
    input_embeddings_path: ClassVar[str] = ""
    """Path of the table of token embeddings, in the backbone."""
    output_embeddings_path: ClassVar[str | None] = None
    """Path of the product that makes logits of tokens, untied; None without an LM head."""
    lm_head_path: ClassVar[str | None] = None
    """Path of all that is between the backbone and these logits."""
    head_by_file: ClassVar[bool] = False
    """Whether the LM head of a checkpoint without one is the table of token embeddings, whatever
    its configuration says."""
    loss_kind: ClassVar[str | None] = None
    """What the head is trained by, a key of `core.head_kinds.KINDS`; None without a head that
    labels train."""

    supports_abstract_init: ClassVar[bool] = True
    """Whether `init` can be traced: then nothing is initialised that is loaded. False for a module
    of your own whose `init` needs values, which is then run."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        fields.wrap_constructor(cls)
        fields.wrap_call(cls)

    def __post_init__(self) -> None:
        fields.normalise(self)
        super().__post_init__()

    @nn.nowrap
    def __setattr__(self, name: str, value: object) -> None:
        fields.check_assignment(self, name)
        super().__setattr__(name, value)

    @nn.nowrap
    def __delattr__(self, name: str) -> None:
        fields.check_assignment(self, name)
        super().__delattr__(name)

    @nn.nowrap
    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("__"):
                raise
        raise missing_attributes.error(self, name)

    @property
    def shared_fields(self) -> dict[str, Any]:
        """The fields that a model has in common with its backbone."""
        names = ("config", "embed_tap", "defer_logits", "dtype", *_OPTIONS)
        return {name: getattr(self, name) for name in names}

    @property
    def options(self) -> ModelOptions:
        """The fields that layers read."""
        return ModelOptions(*(getattr(self, name) for name in _OPTIONS))

    def perturb_embeddings(self, x: jax.Array) -> jax.Array:
        """Adds the perturbation of `embedding_taps` to the input embeddings [B, T, D], by which
        their gradient is taken; returns x itself unless `embed_tap`."""
        return self.perturb("input_embeds", x) if self.embed_tap else x

    if TYPE_CHECKING:

        def __hash__(self) -> int: ...  # linen makes it

    @nn.nowrap
    def apply(self, variables: fp.PyTree, *args: Any, **kwargs: Any) -> Any:
        """Runs the model, or another `method` of it, as `flax.linen.Module.apply` says; padding
        (`uneven`) is taken off `variables["params"]` first, so that nothing computes with it.
        With `deterministic=False` adapters drop inputs, by the key "dropout" of `rngs`.

        Raises:
            ValueError: something is dropped, and `rngs` has no key for it.
        """
        given = variables.get("params", {}) if isinstance(variables, Mapping) else None
        if not isinstance(given, Mapping):
            kind = type(given if isinstance(variables, Mapping) else variables).__name__
            got = f"{{'params': {kind}}}" if isinstance(variables, Mapping) else f"a {kind}"
            raise TypeError(
                f"{type(self).__name__}.apply takes {{'params': params}}, a tree; got {got}"
            )
        if fs.may_pad(self.uneven) and "params" in variables:
            variables = {**variables, "params": self.cut(variables["params"])}
        if kwargs.get("deterministic") is False and "params" in variables:
            variables = {**variables, "params": _dropping(variables["params"], kwargs.get("rngs"))}
        with naming_the_key():
            return super().apply(variables, *args, **kwargs)

    @nn.nowrap
    def cut(self, params: fp.PyTree) -> fp.PyTree:
        """Takes the padding (`uneven`) off params, or off a part of them; others are returned as
        they are."""
        return fs.cut(params, template_of(self)) if fs.may_pad(self.uneven) else params

    @nn.nowrap
    def place(
        self, template: fp.Params, mesh: Mesh | AbstractMesh, rules: object = None
    ) -> fs.Report:
        """Decides where the leaves of a template are on a mesh, by the model's `uneven`, and by
        `rules` (`self.rules` if None)."""
        rules = self.rules if rules is None else rules
        return fs.place(template, mesh, rules, uneven=self.uneven, pieces=self.head_counts)

    @property
    def head_counts(self) -> dict[str, int]:
        """Returns {"heads": N, "kv_heads": K}, of which a mesh cuts none where `uneven` says
        "replicate"; those that all layers have a multiple of. Empty for a model without heads."""
        config = self.config.text
        heads = getattr(config, "num_attention_heads", None)
        if heads is None or config.pruned_heads:
            return {}
        return {"heads": heads, "kv_heads": getattr(config, "num_key_value_heads", None) or heads}

    @classmethod
    def can_generate(cls) -> bool:
        """Tells whether the class can produce sequences with `generate`: it has a head over the
        vocabulary, and a cache."""
        return False

    def in_backbone(self, path: str) -> str:
        """Returns the path in this model of what is at `path` in its backbone."""
        return path

    def dummy_inputs(self) -> dict[str, jax.Array]:
        """Makes the smallest inputs that reach every parameter: int32 [1, 1]."""
        return {self.main_input_name: jnp.zeros((1, 1), jnp.int32)}

    def abstract_params(
        self, param_dtype: DtypeLike | Mapping[str, DtypeLike] = jnp.float32
    ) -> fp.Params:
        """Returns a tree of `fs.AbstractParam` (shape, dtype, logical axes); allocates nothing."""
        return fp.cast(template_of(self), param_dtype)

    def init_params(
        self,
        key: jax.Array,
        mesh: Mesh | None = None,
        rules: fs.Rules | str | None = None,
        *,
        param_dtype: DtypeLike | Mapping[str, DtypeLike] = jnp.float32,
    ) -> fp.Params:
        """Draws params by one compiled call, each shard on the device that keeps it.

        Args:
            key: a `jax.random.key`.
            mesh: where to place them, as `fs.check_mesh` takes it; the default device if None.
            rules: logical axes, or paths -> mesh axes (`self.rules` if None).
            param_dtype: dtype of the floating-point leaves.

        Raises:
            TypeError: a key that is none, such as a seed; rules without a mesh.
        """
        if mesh is None and rules is not None:
            raise TypeError("rules place params on a mesh: give mesh too, or leave them out")
        key, template = one_key(key), self.abstract_params(param_dtype)
        init = functools.partial(drawn, self, template)
        if mesh is None and self.supports_abstract_init:
            by_path = isinstance(param_dtype, Mapping)
            dtypes = tuple(param_dtype.items()) if by_path else param_dtype
            return self.post_init(_drawn(plain(self), dtypes, key))
        if mesh is None:
            return self.post_init(init(key))
        placed = self.place(template, fs.check_mesh(mesh), rules)
        warn_of_replicated(placed)
        if self.supports_abstract_init:
            made = jax.jit(lambda key: placed.pad(init(key)), out_shardings=placed.shardings)
            return self.post_init(made(key))
        params = placed.pad(jax.device_put(init(key), placed.unpadded))
        return self.post_init(params)

    def post_init(self, params: fp.Params) -> fp.Params:
        """Returns the params that a user is given. A hook for classes of your own (to tie, mask,
        cast, check): called once, after all params were initialised or loaded."""
        return params


@functools.partial(jax.jit, static_argnums=(0, 1))
def _drawn(
    model: Model, dtypes: DtypeLike | tuple[tuple[str, DtypeLike], ...], key: jax.Array
) -> fp.Params:
    """Draws all params; compiled once for a model, however often they are drawn."""
    param_dtype = dict(dtypes) if isinstance(dtypes, tuple) else dtypes
    return drawn(model, model.abstract_params(param_dtype), key)


def warn_of_replicated(placed: fs.Report) -> None:
    """Warns of dimensions that were to be split and are whole on each device."""
    if found := fs.replicated(placed):
        warn(found)


@contextlib.contextmanager
def naming_the_key() -> Iterator[None]:
    """Says which argument of `apply` has the key that a dropout asks for in vain."""
    try:
        yield
    except InvalidRngError as error:
        if '"dropout"' not in str(error):
            raise
        raise ValueError(
            "deterministic=False drops at random: give rngs={'dropout': key} with a jax.random.key"
        ) from error


def _dropping(params: fp.PyTree, rngs: Mapping[str, jax.Array] | jax.Array | None) -> fp.PyTree:
    """Returns the params of a step of training, in which adapters may drop inputs.

    Raises:
        ValueError: they do, and there is no key for it.
    """
    if not drops(params):
        return params
    key = rngs.get("dropout") if isinstance(rngs, Mapping) else rngs
    if key is None:
        raise ValueError("an adapter has dropout: rngs={'dropout': key} with deterministic=False")
    return fp.adapter_dropout(params, key)


if TYPE_CHECKING:

    class Mixin(Model):
        """A feature of models."""

else:

    class Mixin:
        """The base of features: a type checker sees the model that they are mixed into. Linen does
        not, since it would wrap each of their methods as a part of the forward pass."""

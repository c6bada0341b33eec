"""The small base of every model, against which what is done with models is written."""

import dataclasses
import functools
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.sharding import Mesh

from .. import params as fp
from .. import sharding as fs
from ..blocks import Run
from ..config.config import Config
from ..config.generation_config import GenerationConfig
from ..params.tree.keys import one_key
from . import attributes, fields
from .template import drawn, template_of


class Model(nn.Module):
    """A model as a value: hashable, comparable, holds no array; `clone` changes a field.

    Params are a separate tree: `model.apply({"params": params}, input_ids, ...)` runs it.

    Attributes:
        config: what `config.json` says.
        dtype: what is computed in; enters where the input is embedded.
        scan_layers: one stacked layer under `lax.scan` instead of a loop over layers. Compile
            time no longer grows with depth; the params tree has a leading layer axis.
        remat: None, "full" (keep nothing), or a policy: its name in `jax.checkpoint_policies`, or
            itself, or a mapping of `policy` and `prevent_cse`.
        attn_implementation: "eager" (the formula), "sdpa" (`jax.nn.dot_product_attention`), or
            "flash" (cuDNN, on a GPU in a 16-bit dtype).
        rules: logical axes -> mesh axes, for the constraints on activations.
        generation_config: defaults of `generate`.
        embed_tap: whether gradients at the input embeddings can be had (`embedding_taps`).
        model_tags: for the card of a repository that the model is pushed to (`add_model_tags`); as
            `origin`, it makes no other model: such two are equal, and compile once.
        origin: the repository that the model was loaded from.
        attn_original: what `reverse_bettertransformer` goes back to.
    """

    config: Any
    dtype: Any = jnp.float32
    scan_layers: bool = False
    remat: Any = None
    attn_implementation: str = "sdpa"
    rules: fs.Rules = fs.DEFAULT_RULES
    generation_config: GenerationConfig | None = None
    embed_tap: bool = False
    model_tags: tuple[str, ...] = dataclasses.field(default=(), compare=False)
    origin: str | None = dataclasses.field(default=None, compare=False)
    attn_original: str | None = dataclasses.field(default=None, compare=False)

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
    """Of the table of token embeddings, in the backbone."""
    output_embeddings_path: ClassVar[str | None] = None
    """Of the product that makes logits of tokens, where it is not tied; None without an LM head."""
    lm_head_path: ClassVar[str | None] = None
    """Of all between the backbone and these logits."""

    supports_abstract_init: ClassVar[bool] = True
    """Whether `init` can be traced: then nothing is initialised that is loaded. False for a module
    of your own whose `init` needs values, which is then run."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        fields.by(cls)

    def __post_init__(self) -> None:
        fields.settle(self)
        super().__post_init__()

    @nn.nowrap
    def __setattr__(self, name: str, value: Any) -> None:
        fields.check_assignment(self, name)
        super().__setattr__(name, value)

    @nn.nowrap
    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("__"):
                raise
        raise attributes.missing(self, name)

    @property
    def fields(self) -> dict[str, Any]:
        """The fields that a model shares with the models it is made of."""
        return {name: getattr(self, name) for name in Model._shared}

    _shared: ClassVar[tuple[str, ...]] = (
        "config",
        "dtype",
        "scan_layers",
        "remat",
        "attn_implementation",
        "rules",
        "embed_tap",
    )

    @property
    def run(self) -> Run:
        """The choices of ours that inner modules need."""
        return Run(self.attn_implementation, self.scan_layers, self.remat, self.rules)

    def tap(self, x: jax.Array) -> jax.Array:
        """The input embeddings [B, T, D], where their gradient can be taken."""
        return self.perturb("input_embeds", x) if self.embed_tap else x

    if TYPE_CHECKING:  # linen's own type allows for `mutable=`, and then `.logits` is an error

        def apply(self, variables: Any, *args: Any, **kwargs: Any) -> Any: ...

    @classmethod
    def can_generate(cls) -> bool:
        """Returns whether `generate` exists for it: an LM head over tokens, and a cache."""
        return False

    def in_backbone(self, path: str) -> str:
        """The path in this model of what is at `path` in its backbone."""
        return path

    def dummy_inputs(self) -> dict[str, jax.Array]:
        """The smallest inputs that reach every parameter; int32 [1, 1]."""
        return {self.main_input_name: jnp.zeros((1, 1), jnp.int32)}

    def abstract_params(self, param_dtype: Any = jnp.float32) -> Any:
        """The tree of `fs.AbstractParam` (shape, dtype, logical axes); nothing is allocated."""
        model: Any = self  # hashable, which a dataclass's type does not tell
        return fp.cast(template_of(model), param_dtype)

    def init_params(
        self,
        key: jax.Array,
        mesh: Mesh | None = None,
        rules: fs.Rules | None = None,
        *,
        param_dtype: Any = jnp.float32,
    ) -> Any:
        """Random params, made by one compiled call, each shard on the device that keeps it.

        Args:
            key: a `jax.random.key`.
            mesh: where to place them; the default device if None.
            rules: logical axes -> mesh axes (`self.rules` if None).
            param_dtype: dtype of the floating-point leaves.

        Raises:
            TypeError: a key that is none, such as a seed.
        """
        key, template = one_key(key), self.abstract_params(param_dtype)
        shardings = None
        if mesh is not None:
            fs.check_mesh(mesh)
            shardings = fs.shardings(template, mesh, self.rules if rules is None else rules)
        init = functools.partial(drawn, self, template)
        if self.supports_abstract_init:
            return self.post_init(jax.jit(init, out_shardings=shardings)(key))
        params = init(key)
        return self.post_init(params if shardings is None else jax.device_put(params, shardings))

    def post_init(self, params: Any) -> Any:
        """A hook of your own classes: the params as they are to be, called once, after all of them
        were initialised or loaded: to tie, mask, cast, check. Here it changes nothing."""
        return params

"""The base of every model: a linen module with a frozen config, and no arrays."""

import os
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self, Unpack, overload

from .. import params as fp
from ..analysis.measures import Measures
from ..calls.arguments import documented
from ..checkpoints.load import LoadingInfo, load, load_tf, named, requested
from ..checkpoints.model_card import create_model_card
from ..checkpoints.options import Options
from ..checkpoints.push import push, save_and_push
from ..checkpoints.request import Request
from ..checkpoints.save import save
from ..config.config import Config
from ..core.model import Model
from ..editing.prune import prune_heads
from ..editing.vocabulary import HasVocabulary
from ..generation.generate import Generates
from ..hub import Location
from ..registry import register_for_auto_class
from .switches import Switches


class PretrainedModel(Generates, HasVocabulary, Measures, Switches, Model):
    """A model with all that is done with one: loading, saving, running, generating, editing.

    Its fields are those of `flaxmodels.core.model.Model`.
    """

    @overload
    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike | Location | None = None,
        *model_args: Any,
        output_loading_info: Literal[True],
        **options: Unpack[Options],
    ) -> tuple[Self, Any, LoadingInfo]: ...

    @overload
    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike | Location | None = None,
        *model_args: Any,
        output_loading_info: Literal[False] = False,
        **options: Unpack[Options],
    ) -> tuple[Self, Any]: ...

    @classmethod
    @documented(load, Request)
    def from_pretrained(cls, *args: Any, **options: Any) -> Any:
        call = f"{cls.__name__}.from_pretrained"
        name_or_path, args = named(call, args, options)
        return load(cls, name_or_path, requested(cls, call, args, options))

    @classmethod
    def load_tf_weights(cls, config: Config, path: str | os.PathLike, **placement: Any) -> Any:
        """The params of a TensorFlow checkpoint (H5, `model.ckpt`, or a folder with one), every
        leaf of this model out of it; nothing is initialised.

        Args:
            **placement: as `flaxmodels.checkpoints.plan.plan_load`: mesh, shardings, param_dtype,
                ...

        Raises:
            fp.CheckpointError: not TensorFlow's, or not all of this model.
        """
        return load_tf(cls(config), os.fspath(path), **placement)

    def prune_heads(
        self, params: Any, heads_to_prune: Mapping[int, Iterable[int]]
    ) -> tuple[Self, Any]:
        """`(model, params)` without some attention heads, given as {layer: heads}; see
        `flaxmodels.editing.prune.prune_heads`."""
        return prune_heads(self, params, heads_to_prune)

    def save_pretrained(
        self, params: Any, folder: str | os.PathLike, *, push_to_hub: bool = False, **kwargs: Any
    ) -> Any:
        """Writes config and weights into `folder`; see `flaxmodels.checkpoints.save.save`.

        Args:
            push_to_hub: then push what was saved, and return the commit; see
                `flaxmodels.checkpoints.push.save_and_push`.
        """
        if push_to_hub:
            return save_and_push(self, params, folder, **kwargs)
        return save(self, params, folder, **kwargs)

    def push_to_hub(self, params: Any, repo_id: str, **kwargs: Any) -> Any:
        """Makes config and weights one commit of a repository, and returns it; see
        `flaxmodels.checkpoints.push.push`."""
        return push(self, params, repo_id, **kwargs)

    def add_model_tags(self, tags: str | Iterable[str]) -> Self:
        """The model with more tags, for the card of a repository that it is pushed to. Tags are in
        that card and nowhere else: a load does not bring them back, and a push loses none.

        Raises:
            ValueError: a tag that is no text, or empty.
        """
        more = [tags] if isinstance(tags, str) else [*tags]
        if odd := [tag for tag in more if not isinstance(tag, str) or not tag.strip()]:
            raise ValueError(f"tags must be words, got {', '.join(map(repr, odd))}")
        return self.clone(model_tags=tuple(dict.fromkeys((*self.model_tags, *more))))

    def create_model_card(self, output_dir: str | os.PathLike, model_name: str, **said: Any) -> Any:
        """Writes `README.md`; see `flaxmodels.checkpoints.model_card.create_model_card`."""
        return create_model_card(self, output_dir, model_name, **said)

    to_bf16 = staticmethod(fp.to_bf16)
    to_fp16 = staticmethod(fp.to_fp16)
    to_fp32 = staticmethod(fp.to_fp32)

    @classmethod
    def register_for_auto_class(cls, auto_class: Any = "AutoModel") -> type[Self]:
        """Lets an auto class find this class; see `flaxmodels.registry.register_for_auto_class`."""
        return register_for_auto_class(auto_class)(cls)

    @classmethod
    def from_config(cls, config: Config, **fields: Any) -> Self:
        """The model of a configuration, with the given fields; params come from `init_params`."""
        return cls(config, **fields)

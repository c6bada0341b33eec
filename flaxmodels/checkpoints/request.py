"""What a load is asked for: its keywords as one value."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from .. import params as fp
from .. import sharding as fs
from ..config.config import Config
from ..hub import Location
from ..params.checkpoint.saveable import check_variant
from ..params.sizes import parse_size
from ..params.tree.keys import one_key
from .options import LOAD

PLACE = (
    "mesh shardings subfolder revision token cache_dir local_files_only force_download proxies "
    "progress"
).split()
"""The keywords that say where files are, and which processes look for them."""

PLACEMENT = "param_dtype mesh shardings max_host_memory strict ignore_mismatched_sizes".split()
"""The keywords that say how weights are placed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """The keywords of a load as one value; `load` says what they mean."""

    config: Config | str | os.PathLike | None = None
    dtype: Any = jnp.float32
    param_dtype: Any = "auto"
    mesh: Mesh | None = None
    rules: fs.Rules | None = None
    shardings: Any = None
    max_host_memory: int | str = 1 << 30
    strict: bool = True
    ignore_mismatched_sizes: bool = False
    key: jax.Array | None = None
    output_loading_info: bool = False
    state_dict: Mapping[str, Any] | None = None
    use_safetensors: bool | None = None
    from_pt: bool = False
    from_tf: bool = False
    from_flax: bool = False
    variant: str | None = None
    weights_only: bool = True
    key_mapping: Mapping[str, str] | None = None
    verify: bool = False
    subfolder: str = ""
    revision: str = "main"
    token: str | bool | None = None
    cache_dir: str | os.PathLike | None = None
    local_files_only: bool = False
    force_download: bool = False
    proxies: Mapping[str, str] | None = None
    progress: bool = True
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """The other keywords: fields of the model and of its configuration."""

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """Makes a request of the keywords of `from_pretrained`.

        Raises:
            TypeError: a value of the wrong kind, or two that contradict each other.
            ValueError: a budget that is no number of bytes, or a variant that is no part of a name.
        """
        own = {name: _valid(name, value) for name, value in options.items() if name in LOAD}
        others = {name: value for name, value in options.items() if name not in LOAD}
        request = cls(**own, fields=others)
        if request.verify and request.state_dict is not None:
            raise TypeError("verify compares files, and state_dict has none; give one of them")
        if request.mesh is not None and request.shardings is not None:
            raise TypeError("give mesh (and rules) or shardings, not both")
        check_variant(request.variant)
        _ = request.framework
        return request

    @property
    def place(self) -> dict[str, Any]:
        """Where files are, as `locate` takes it."""
        return {name: getattr(self, name) for name in PLACE}

    @property
    def placement(self) -> dict[str, Any]:
        """How weights are to be placed, as `planning.plan_load` takes it."""
        return {name: getattr(self, name) for name in PLACEMENT}

    @property
    def framework(self) -> str | None:
        """Whose weights alone are taken: "pt", "tf" or "flax"."""
        asked = [name for name in ("pt", "tf", "flax") if getattr(self, f"from_{name}")]
        if len(asked) > 1:
            raise TypeError(f"give one of {', '.join('from_' + name for name in asked)}, not all")
        return asked[0] if asked else None

    def open(self, found: Location) -> fp.Source:
        """Opens the source of the weights that are to be read."""
        return found.open(
            weights_only=self.weights_only,
            use_safetensors=self.use_safetensors,
            framework=self.framework,
            variant=self.variant,
        )


_FIELDS = {field.name: field for field in dataclasses.fields(Request)}


def _valid(name: str, value: Any) -> Any:
    """Returns the value of a keyword, checked: any text would count as True; None is the default
    of a flag."""
    if _FIELDS[name].type in (bool, bool | None):
        if value is None:
            return _FIELDS[name].default
        if not isinstance(value, bool | np.bool_):
            raise TypeError(f"{name} is {value!r:.80}; expected True or False")
        return bool(value)
    if name == "max_host_memory":
        return parse_size(value, name)
    if name == "key" and value is not None:
        return one_key(value)
    return value

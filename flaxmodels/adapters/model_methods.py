"""Adapters under the names that Transformers has for what is done with them."""

import dataclasses
from collections.abc import Iterable

import jax
import jax.numpy as jnp

from .. import params as fp
from ..core.model import Mixin
from ..params.adapters.peft.targets import ALL_LINEAR
from .module_names import linear_names, module_names, tied_tables


class HasAdapters(Mixin):
    """Adds adapters to params, and says which of them act. Params are what changes: the model, and
    the programs of it, know of none."""

    def add_adapter(
        self,
        params: fp.Params,
        adapter_config: object = None,
        adapter_name: str = "default",
        *,
        key: jax.Array | None = None,
        dtype: jax.typing.DTypeLike = jnp.float32,
    ) -> fp.Params:
        """Returns params with a new adapter, which computes what they did before; see
        `fp.lora_init`. What it trains, `fp.split_adapters` takes out.

        Args:
            params: arrays or quantised weights, stacked or not; or a template.
            adapter_config: a `fp.PeftConfig`, the content of an `adapter_config.json`, or a
                configuration of PEFT's own. Its rules are for the names that PyTorch has for
                modules; "all-linear" is all but the head. None: LoRA of rank 8 on all of these.
            key: for A; `jax.random.key(0)` if None.
            dtype: of the new arrays.

        Raises:
            TypeError: no configuration, or one with a key that PEFT does not know.
            ValueError: rules that match nothing, or a name that there is already.
            CheckpointError: a configuration that is not done here.
        """
        all_linear = fp.PeftConfig(target_modules=ALL_LINEAR)
        config = all_linear if adapter_config is None else fp.PeftConfig.of(adapter_config)
        if isinstance(config.target_modules, str) and config.target_modules.lower() == ALL_LINEAR:
            config = dataclasses.replace(config, target_modules=linear_names(self))
        key = jax.random.key(0) if key is None else key
        names, tied = module_names(self), tied_tables(self)
        return fp.lora_init(key, params, config, adapter_name, names=names, tied=tied, dtype=dtype)

    def set_adapter(self, params: fp.Params, adapter_name: str | Iterable[str]) -> fp.Params:
        """Returns params of which these adapters act and no others; as `fp.set_adapters`."""
        return fp.set_adapters(params, adapter_name)

    def active_adapters(self, params: fp.Params) -> list[str]:
        """Returns the names of the adapters that act, in order."""
        return list(fp.active_adapters(params))

    def enable_adapters(self, params: fp.Params) -> fp.Params:
        """Returns params whose active adapters act."""
        return fp.enable_adapters(params)

    def disable_adapters(self, params: fp.Params) -> fp.Params:
        """Returns params whose adapters are there and do nothing."""
        return fp.enable_adapters(params, False)

    def delete_adapter(self, params: fp.Params, adapter_names: str | Iterable[str]) -> fp.Params:
        """Returns params without these adapters; as `fp.delete_adapters`."""
        return fp.delete_adapters(params, adapter_names)

    def merge_adapter(
        self,
        params: fp.Params,
        adapter_names: str | Iterable[str] | None = None,
        *,
        keep: bool = False,
        quantized: str = "dequantize",
    ) -> fp.Params:
        """Returns params with adapters in their weights; as `fp.merge_adapters`."""
        return fp.merge_adapters(params, adapter_names, keep=keep, quantized=quantized)

    def unmerge_adapter(self, params: fp.Params) -> fp.Params:
        """Returns params with the adapters beside the weights again; as `fp.unmerge_adapters`."""
        return fp.unmerge_adapters(params)

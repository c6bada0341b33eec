"""Adapters in folders and repositories, under the names that Transformers has for it."""

from collections.abc import Mapping
from typing import Any, Unpack

import numpy as np

from .. import hub
from .. import params as fp
from ..calls.signature import value_of
from ..core.model import Mixin
from ..documents.json_values import Json
from ..hub import HubKeywords, HubOptions, Location
from ..params.adapters.attach import active_adapters, check_new_name, known_names
from .folders import DEFAULT, open_adapter, opened_state
from .to_peft import written_adapter


class LoadsAdapters(Mixin):
    """Reads PEFT's adapters onto params, and gives their tensors back."""

    def load_adapter(
        self,
        params: fp.Params,
        name_or_path: "Any | Location" = None,
        adapter_name: str = DEFAULT,
        *,
        peft_config: "fp.PeftConfig | Mapping[str, Json] | None" = None,
        adapter_state_dict: Mapping[str, object] | None = None,
        **options: Unpack[HubKeywords],
    ) -> fp.Params:
        """Returns params with one of PEFT's adapters, which alone acts then; `set_adapter` lets
        others act as well, or again.

        Its arrays lie on a mesh as the weights do that it changes, and keep the dtype of the file.

        Args:
            params: arrays or quantised weights, stacked or not; they stay what they are.
            name_or_path: a folder with `adapter_config.json`, or the name of a repository.
            adapter_name: what to call it: no "/" and no ".".
            peft_config, adapter_state_dict: instead of a folder, what it would hold.
            **options: subfolder, revision, token, cache_dir, local_files_only, force_download,
                proxies, progress, as of `from_pretrained`.

        Raises:
            CheckpointError: an adapter of another base, one whose files contradict each other, or
                one that is not done here.
            ValueError: there is an adapter of this name.
        """
        check_new_name(params, adapter_name)
        if adapter_state_dict is not None:
            if peft_config is None or name_or_path is not None:
                raise TypeError(
                    "adapter_state_dict goes with peft_config, and without a name or path"
                )
            opened = opened_state(peft_config, adapter_state_dict)
            return opened.onto(self, params, adapter_name)
        if peft_config is not None or name_or_path is None:
            raise TypeError(
                "give the folder or repository of an adapter, or peft_config and adapter_state_dict"
            )
        given = {name: x for name, x in options.items() if x is not None}
        location = hub.resolve(name_or_path, value_of(HubOptions, given, "load_adapter"))
        with location.noting():
            return open_adapter(location).onto(self, params, adapter_name)

    def get_adapter_state_dict(
        self, params: fp.Params, adapter_name: str | None = None
    ) -> dict[str, np.ndarray]:
        """Returns {PyTorch's name: array} of an adapter, on the host; of the first that acts if
        None.

        Raises:
            ValueError: there is no such adapter.
        """
        acting = active_adapters(params) or known_names(params, adapter_name or DEFAULT)
        return written_adapter(self, params, adapter_name or acting[0]).tensors

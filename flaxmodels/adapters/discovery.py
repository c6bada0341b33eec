"""Adapters that a load finds: beside the weights of their base, or in the place of them."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

from .. import params as fp
from ..calls.signature import names_of
from ..core.model import Model
from ..hub import HubError, HubOptions, Location
from ..params.adapters.attach import adapted_leaves
from ..params.adapters.peft.config import CONFIG_NAME as ADAPTER_NAME
from ..params.adapters.replaced_weight import Replacement
from ..params.errors import CheckpointError
from .folders import DEFAULT, is_adapter, named_base, open_adapter


class Asks(Protocol):
    """What a load is asked for, as far as it is about adapters."""

    @property
    def call(self) -> str: ...
    @property
    def name_or_path(self) -> Any: ...
    @property
    def config(self) -> object: ...
    @property
    def adapter_name(self) -> str | None: ...
    @property
    def adapter_kwargs(self) -> Mapping[str, Any] | None: ...
    @property
    def hub(self) -> HubOptions: ...
    def locate(self, name_or_path: Any, options: HubOptions | None = None) -> Location: ...


@dataclasses.dataclass(frozen=True)
class Adapted:
    """An adapter to be put onto the params of a load."""

    location: Location
    name: str

    def onto(self, model: Model, params: fp.Params) -> fp.Params:
        """Returns the params with the adapter; errors as `OpenAdapter.onto`."""
        with self.location.noting():
            return open_adapter(self.location).onto(model, params, self.name)


def find_adapter(request: Asks, location: Location) -> tuple[Location, Adapted | None]:
    """Finds the adapter of a checkpoint, as Transformers does: a folder with `adapter_config.json`
    and without `config.json` is an adapter alone, and its base is the one that it names.

    Args:
        location: of what the load was given.

    Returns:
        (where the base is, its adapter).

    Raises:
        CheckpointError: a base that is not named, or is an adapter again.
        TypeError: `adapter_name` or `adapter_kwargs`, and no adapter there.
    """
    there = location
    if request.adapter_kwargs:
        if odd := sorted(request.adapter_kwargs.keys() - names_of(HubOptions)):
            raise TypeError(
                f"{request.call}: adapter_kwargs has {', '.join(odd)}; there are "
                f"{', '.join(names_of(HubOptions))}"
            )
        options = dataclasses.replace(request.hub, **request.adapter_kwargs)
        there = request.locate(request.name_or_path, options)
    if not is_adapter(there):
        if request.adapter_kwargs or request.adapter_name not in (None, DEFAULT):
            raise TypeError(
                f"{request.call}: adapter_name and adapter_kwargs are for an adapter, and "
                f"{there.path} has no {ADAPTER_NAME}; params = model.load_adapter(params, "
                "name_or_path, adapter_name=...) takes one from elsewhere"
            )
        return location, None
    adapter = Adapted(there, request.adapter_name or DEFAULT)
    if location.has_config or (request.config is not None and location.has_weights):
        return location, adapter
    name, options = named_base(there, request.hub)
    try:
        base = request.locate(name, options)
    except HubError as error:
        message = f"{there.path}: {name}, the base that {ADAPTER_NAME} names: {error}"
        raise HubError(message, may_pass=error.may_pass) from None
    if not base.has_config and is_adapter(base):
        raise CheckpointError(
            f"{there.path}: {ADAPTER_NAME} names as its base {base.path}, which is an adapter "
            "itself; load the base, and put them on with model.load_adapter one after another"
        )
    return base, adapter


def replaced_by_adapters(params: fp.Params) -> frozenset[str]:
    """Returns the paths of weights that an adapter which acts has replaced as a whole."""
    return frozenset(
        path
        for path, leaf in adapted_leaves(params).items()
        if any(isinstance(each, Replacement) for each in leaf.acting())
    )

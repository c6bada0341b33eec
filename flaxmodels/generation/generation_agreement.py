"""What the processes of a run compare before they generate together, and how they end together."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from .. import params as fp
from ..core.records import record_of_model, text_of, text_of_leaves, text_of_places
from ..params import peers
from ..params.multihost import is_spread
from ..params.process_agreement import agree, digest
from .task import Task

_LOOK = 1e-3  # seconds


@contextlib.contextmanager
def together(call: str, params: fp.Params, task: Task) -> Iterator[None]:
    """Compares, where several processes hold the params, what they are about to do; what is done
    inside ends for all if one dies.

    Raises:
        fp.CheckpointError: they are about to do different things; or one does not come, or died.
    """
    if not check_agreement(call, params, task):
        yield
        return
    with peers.watched():
        try:
            yield
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" in str(error):
                raise
            lost = peers.explained(error)
            raise (lost if isinstance(lost, peers.PeerLost) else error) from error


def wait_for(array: Any) -> None:
    """Waits until a `jax.Array` is ready by looking again and again: inside of the runtime no
    exception reaches a thread, and `together` raises one where another process died."""
    if not array.is_fully_addressable:
        while not array.is_ready():
            time.sleep(_LOOK)


def check_agreement(call: str, params: fp.Params, task: Task) -> bool:
    """Compares what processes are about to generate; returns False where there is nobody to compare
    with. Raises as `together`."""
    if jax.process_count() == 1 or not any(map(is_spread, jax.tree.leaves(params))):
        return False
    agree(call, _record(params, task))
    return True


def _record(params: fp.Params, task: Task) -> dict[str, str]:
    leaves, settings = fp.flatten(params), task.settings
    prompt, begun = task.prompt, task.prompt.decoder
    told = {
        field.name: text_of(getattr(settings, field.name)) for field in dataclasses.fields(settings)
    }
    key = task.draw.key
    return {
        **record_of_model(task.model),
        "params": text_of_leaves(leaves),
        "shardings": text_of_places(leaves),
        "input_ids": _array(prompt.ids),
        "attention_mask": _array(prompt.mask),
        "decoder_input_ids": _array(begun and begun.ids),
        "decoder_attention_mask": _array(begun and begun.mask),
        "new tokens": str(task.steps),
        **told,
        "temperature": _array(task.draw.temperature),
        "top_p": _array(task.draw.top_p),
        "key": _array(None if key is None else jax.random.key_data(key)),
    }


def _array(x: Any) -> str:
    """Returns the shape of an array, and its numbers, or a digest of them where there are many; of
    one that processes hold parts of how it is spread."""
    if x is None:
        return "none"
    if is_spread(x) and not x.is_fully_replicated:
        return f"{x.shape} over {getattr(x.sharding, 'spec', x.sharding)}"
    values = np.asarray(x.addressable_data(0) if is_spread(x) else x)
    few = values.size <= 16
    return f"{values.shape} {values.tolist() if few else digest(values.tobytes())}"

"""The tensors of an adapter: names in `adapter_model.safetensors` <-> modules and fields."""

import dataclasses
import os
import re
from collections.abc import Iterable, Mapping

import jax.numpy as jnp
import numpy as np

from ...errors import CheckpointError, quoted, some
from ...formats.registry import SAFETENSORS, TORCH
from ...formats.source import Tensor
from ...formats.store import LOCAL, Store
from .config import CONFIG_NAME, PeftConfig
from .keys import METHODS

WEIGHTS = {"adapter_model.safetensors": SAFETENSORS, "adapter_model.bin": TORCH}
"""Files of an adapter's weights, in the order in which they are looked for."""
PREFIX = "base_model.model."
"""What PEFT's names of modules begin with: its own two modules around the base."""

OLD = "base_layer."
_LORA = ("lora_A.weight", "lora_B.weight", "lora_B.bias", "lora_embedding_A", "lora_embedding_B")
_LORA += ("lora_magnitude_vector",)
FIELDS: dict[str, tuple[str, ...]] = {
    "LORA": (*_LORA, "token_adapter.trainable_tokens_delta"),
    "LOHA": tuple(f"hada_{x}" for x in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")),
    "LOKR": tuple(f"lokr_{x}" for x in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")),
    "IA3": ("ia3_l",),
    "TRAINABLE_TOKENS": ("trainable_tokens_delta",),
}
"""Method -> what follows the module in the names of its tensors."""

# What torch.compile, FSDP and checkpointing put around modules; PEFT takes out the first of them.
_WRAPPERS = re.compile(
    r"^module\.(?=(?:_orig_mod\.)?base_model\.)"
    r"|(?<![^.])(?:_orig_mod|_(?:fsdp|checkpoint)_wrapped_module)\."
)
_FIELD = re.compile(
    r"\.(lora_[AB](?=\.)|lora_embedding_[AB]|lora_magnitude_vector|hada_(?:w[12]_[ab]|t[12])"
    r"|lokr_(?:w[12](?:_[ab])?|t2)|ia3_l|(?:token_adapter\.)?trainable_tokens_delta)"
    r"(?:\.default)?(\.weight|\.bias)?$"
)


@dataclasses.dataclass(frozen=True)
class AdapterTensors:
    """The tensors of one adapter.

    Attributes:
        where: of the file, for errors.
        fields: module -> {field of `FIELDS`: tensor}.
        replaced: name of a tensor of the base -> the tensor that takes its place: of
            `modules_to_save`, of biases, and of embeddings that were saved along.
    """

    where: str
    fields: Mapping[str, Mapping[str, Tensor]]
    replaced: Mapping[str, Tensor]

    @property
    def dtypes(self) -> set[np.dtype]:
        every = [*self.replaced.values(), *(t for f in self.fields.values() for t in f.values())]
        return {tensor.dtype for tensor in every}


def weights_path(folder: str, store: Store = LOCAL) -> str:
    """Returns the path of an adapter's weights in its folder.

    Raises:
        CheckpointError: there are none.
    """
    for name in WEIGHTS:
        if store.exists(path := os.path.join(folder, name)):
            return path
    raise CheckpointError(
        f"{folder}: {CONFIG_NAME} is there, and no weights beside it; looked for "
        f"{', '.join(WEIGHTS)}; the folder holds {some(store.names(folder)) or 'nothing'}"
    )


def read_tensors(folder: str, config: PeftConfig, store: Store = LOCAL) -> AdapterTensors:
    """Opens the weights of an adapter; reads names and shapes.

    Raises:
        CheckpointError: no weights there, a file that is not as its format says, or tensors of
            another method than the configuration's.
    """
    path = weights_path(folder, store)
    format = WEIGHTS[os.path.basename(path)]
    store.expect([path], format.reads)
    tensors, _ = format.read(path, True, store)
    return parse(tensors, config, path)


def parse(tensors: Mapping[str, Tensor], config: PeftConfig, where: str) -> AdapterTensors:
    """Takes the names of tensors apart.

    Raises:
        CheckpointError: a tensor of another method, two that stand for one field, or none at all.
    """
    fields: dict[str, dict[str, Tensor]] = {}
    replaced: dict[str, Tensor] = {}
    for short, name in _without_prefix(tensors, where):
        tensor = tensors[name]
        found = _FIELD.search(short)
        if found is None:
            target, key = replaced, short.replace(f".{OLD}", ".")
        else:
            target, key = fields.setdefault(short[: found.start()], {}), _field(found)
            _check_field(key, tensor, config, where)
        if key in target:
            raise CheckpointError(
                f"{where}: {quoted(target[key].name)} and {quoted(name)} both stand for "
                f"{quoted(key)}"
            )
        target[key] = tensor
    if not fields and not replaced:
        raise CheckpointError(f"{where}: no tensors in it; nothing was adapted")
    return AdapterTensors(where, fields, replaced)


def name_of(module: str, field: str) -> str:
    """Returns PEFT's name of a tensor.

    >>> name_of("model.layers.0.self_attn.q_proj", "lora_A.weight")
    'base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight'
    """
    return f"{PREFIX}{module}.{field}"


def _field(found: re.Match[str]) -> str:
    """Returns the field that a name says: older files of DoRA have ".weight" after it."""
    kind, end = found[1], found[2] or ""
    return kind + end if kind in ("lora_A", "lora_B") else kind


def _check_field(field: str, tensor: Tensor, config: PeftConfig, where: str) -> None:
    """Refuses a tensor of another method than the configuration's, and one of integers."""
    if field not in FIELDS[config.peft_type]:
        of = next((method for method, known in FIELDS.items() if field in known), "no method")
        raise CheckpointError(
            f"{where}: {quoted(tensor.name)} is of {of}, and {CONFIG_NAME} says "
            f"{config.peft_type}, whose tensors are {METHODS[config.peft_type]}"
        )
    if not jnp.issubdtype(tensor.dtype, jnp.floating):
        raise CheckpointError(
            f"{where}: {quoted(tensor.name)} is {tensor.dtype}; expected floating-point numbers"
        )


def _without_prefix(tensors: Iterable[str], where: str) -> list[tuple[str, str]]:
    """Returns (name without PEFT's own modules and those of wrappers, name) of each; Transformers
    writes some files without PEFT's."""
    names = {name: _WRAPPERS.sub("", name) for name in tensors}
    have = [name for name, bare in names.items() if bare.startswith(PREFIX)]
    if have and len(have) < len(names):
        odd = next(name for name, bare in names.items() if not bare.startswith(PREFIX))
        raise CheckpointError(
            f"{where}: {quoted(odd)} does not begin with {PREFIX!r}, as {quoted(have[0])} does"
        )
    return [(bare.removeprefix(PREFIX), name) for name, bare in names.items()]

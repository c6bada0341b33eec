"""Names: the path of a leaf <-> its name and layout in a checkpoint.

The rule, for checkpoints under PyTorch names: `/` <-> `.`; `kernel`, `scale`, `embedding` <->
`weight`; a kernel is transposed, (in, out) <-> (out, in), windows of a convolution moved to the
front; a leaf with a leading layer axis is the stack over the index missing from its path. Old Flax
checkpoints use paths as names and kernels as they are. TensorFlow's names are turned into PyTorch's
when a file is opened; its kernels are as ours. A family's `Naming` lists exceptions only.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable

import numpy as np

from ..errors import CheckpointError, quoted
from .layers import EXPERTS, HEADS, LAYERS, Lists
from .paths import compiled, matches

TORCH = "torch"
FLAX = "flax"
PATHS = "paths"  # the leaves' own paths and layouts
TF = "tf"


@dataclasses.dataclass(frozen=True)
class Joined:
    """Modules of our trees that a checkpoint has as one: the columns of its kernel and its bias are
    `groups` runs of equal length, each with an equal share of every part, in order.

    Attributes:
        file: end of the path of the module that the checkpoint has ("self_attn/qkv_proj"); a
            pattern up to the last segment.
        parts: the modules that our trees have in its place.
        groups: 1 puts parts one after another (Phi-3); the number of heads puts those of a head
            together (GPT-NeoX, BLOOM); that of key-value heads, each with its query heads
            (Falcon 40B); that of a part's columns alternates (gpt-oss).
    """

    file: str
    parts: tuple[str, ...]
    groups: int = 1


@dataclasses.dataclass(frozen=True)
class Constant:
    """A tensor of PyTorch's checkpoints that is computed, not learned: it is written and not read.

    Attributes:
        beside: pattern of the whole path of a leaf; there is one such tensor for each that matches.
        path: replacement of it: the tensor's path.
        value: makes the tensor, in PyTorch's layout.
    """

    beside: str
    path: str
    value: Callable[[], np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Naming:
    """The exceptions of a family to the rule of names; patterns are regular expressions, linear in
    the length of a name.

    Attributes:
        stacks: names of the lists of layers, such as "layers", whose numbers a leaf with a leading
            axis "layers" leaves out of its path (`params/tree/layers.py`).
        experts: names of the lists of experts, of leaves with an axis "experts"; none if the
            checkpoint has all experts in one tensor.
        heads: the same of heads, of leaves whose first axis in a layer is "heads" or "kv_heads".
        names: (pattern, replacement) from a path to what PyTorch's checkpoints call it, with "/" or
            "." between names, before the rule turns what is left.
        joined: modules that checkpoints have as one; the rule is for the path of that one.
        constants: tensors that are written, and not read.
        kernels_in_out: paths whose kernel PyTorch stores as (in, out), as GPT-2's Conv1D does.
        flax_kernels_out_in: paths whose kernel old Flax stores as (out, in).
        tf_kernels_out_in: names under which TensorFlow stores a kernel as (out, in).
        flax_names: (pattern, replacement) from a path to what old Flax calls it.
        aliases: (pattern, replacement) on checkpoint names, from old spellings to today's.
        ignored: checkpoint names that hold no parameter, such as buffers.
        ignored_from: (list of layers, number of the first one that is none of the model's), as of
            layers that predict further tokens.
        prefixes: other spellings in checkpoints of the prefix of the backbone, "text_model.model".
        head_paths: paths that are no part of the backbone, also where they are under its prefix, or
            there is none: a checkpoint may lack them, or have them in excess.
        optional: paths that a checkpoint of the same backbone may lack, such as the pooler.
        copies: (path of a leaf, path without one under which PyTorch expects the same again).
        flax_shared: (path without a leaf, the leaves that old Flax has there as one).
    """

    stacks: tuple[str, ...] = ()
    experts: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    names: tuple[tuple[str, str], ...] = ()
    joined: tuple[Joined, ...] = ()
    constants: tuple[Constant, ...] = ()
    kernels_in_out: tuple[str, ...] = ()
    flax_kernels_out_in: tuple[str, ...] = ()
    tf_kernels_out_in: tuple[str, ...] = ()
    flax_names: tuple[tuple[str, str], ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    ignored: tuple[str, ...] = ()
    ignored_from: tuple[tuple[str, int], ...] = ()
    prefixes: tuple[str, ...] = ()
    head_paths: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    copies: tuple[tuple[str, str], ...] = ()
    flax_shared: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def lists(self) -> Lists:
        """The names of lists by the axis that runs over them."""
        return {LAYERS: self.stacks, EXPERTS: self.experts, **dict.fromkeys(HEADS, self.heads)}


PLAIN = Naming()
"""No exceptions."""


def canonical(names: Iterable[str], naming: Naming) -> dict[str, str]:
    """Returns {today's name: the name in the checkpoint}, without what the naming ignores.

    Raises:
        CheckpointError: two names of the checkpoint mean the same tensor.
    """
    found: dict[str, str] = {}
    for name in names:
        today = name
        for pattern, replacement in naming.aliases:
            today = re.sub(pattern, replacement, today)
        if matches(naming.ignored, today) or _is_beyond(today, naming.ignored_from):
            continue
        if today in found:
            raise CheckpointError(
                f"tensors {quoted(found[today])} and {quoted(name)} both stand for {today}"
            )
        found[today] = name
    return found


def _is_beyond(name: str, limits: Iterable[tuple[str, int]]) -> bool:
    """Tells whether a name is of a layer that the model does not have."""
    for layers, first in limits:
        found = compiled(rf"(?:^|[./]){layers}[./]([0-9]{{1,9}})(?:[./]|$)").search(name)
        if found and int(found[1]) >= first:
            return True
    return False


def spelling(name: str, layout: str) -> str | None:
    """Returns the name in a `Source` of a tensor in a file; None for what is no parameter.

    Old Flax joins names by "." in safetensors, by "/" elsewhere; here it is "/" always.
    """
    if layout == FLAX:
        return name.replace(".", "/")
    return tf_name(name) if layout == TF else name


_TF_LEAVES = {"kernel": "weight", "gamma": "weight", "embeddings": "weight", "beta": "bias"}
_TF_STATE = re.compile(  # of optimizers, of training, and of saving
    r"(^|/)(optimizer/|\.OPTIMIZER_SLOT/|(Adam|LAMB|Momentum|RMSProp)\w*(/\w+)?(:0)?$"
    r"|((adam|lamb)_[mv]|global_step|save_counter|beta[12]_power)(:0|/\.ATTRIBUTES/\w+)?$)"
)


def tf_name(name: str) -> str | None:
    """Returns PyTorch's name of a TensorFlow variable; None for the state of an optimizer and its
    like.

    >>> tf_name("tf_bert_for_masked_lm/bert/encoder/layer_._0/output/LayerNorm/gamma:0")
    'bert.encoder.layer.0.output.LayerNorm.weight'
    >>> tf_name("tf_bert_for_masked_lm/mlm___cls/predictions/transform/dense/kernel:0")
    'cls.predictions.transform.dense.weight'
    """
    if _TF_STATE.search(name):
        return None
    name = re.sub(r":\d+$", "", name).removesuffix("/.ATTRIBUTES/VARIABLE_VALUE")
    parts = [part.rpartition("___")[2] for part in name.replace("_._", "/").split("/")]
    if len(parts) > 1 and parts[0].startswith("tf"):  # the model's own scope
        parts = parts[1:]
    return ".".join([*parts[:-1], _TF_LEAVES.get(parts[-1], parts[-1])])


def layout_of(names: Iterable[str], metadata: dict[str, str] | None = None) -> str:
    """Returns the layout of a checkpoint, by the `format` that it names or by the spelling of its
    names.

    >>> layout_of(["bert.pooler.dense.weight"]), layout_of(["bert/pooler/dense/kernel"])
    ('torch', 'flax')
    """
    known = {"pt": TORCH, "flax": FLAX, "tf": TF}.get((metadata or {}).get("format", ""))
    if known:
        return known
    parts = (re.split(r"[./]", name) for name in names)
    leaves = {each[-1] for each in parts if each[-2:-1] != ["weight"]}  # weight.scale is quantised
    return FLAX if leaves & {"kernel", "scale", "embedding"} else TORCH

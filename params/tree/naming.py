"""Names: the path of a leaf <-> its name and layout in a checkpoint.

The rule, for checkpoints under PyTorch names: `/` <-> `.`; `kernel`, `scale`, `embedding` <->
`weight`; a kernel is transposed, (in, out) <-> (out, in), windows of a convolution moved to the
front; a leaf with a leading layer axis is the stack over the index missing from its path. Old Flax
checkpoints use paths as names and kernels as they are. TensorFlow's names are turned into PyTorch's
when a file is opened; its kernels are as ours. A family's `Naming` lists exceptions only.
"""

import dataclasses
import re
from collections.abc import Iterable
from typing import Any

from ..errors import CheckpointError, quoted
from .paths import matches

TORCH = "torch"
FLAX = "flax"
PATHS = "paths"  # the leaves' own paths and layouts
TF = "tf"
_WEIGHTS = ("kernel", "scale", "embedding")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Naming:
    """The exceptions of a family to the rule of names; patterns are regular expressions, linear in
    the length of a name.

    Attributes:
        stack: name of the list of layers that stacked leaves leave the index out of ("layers").
        kernels_in_out: paths whose kernel PyTorch stores as (in, out), as GPT-2's Conv1D does.
        flax_kernels_out_in: paths whose kernel old Flax stores as (out, in).
        tf_kernels_out_in: names under which TensorFlow stores a kernel as (out, in).
        flax_names: (pattern, replacement) from a path to what old Flax calls it.
        aliases: (pattern, replacement) on checkpoint names, from old spellings to today's.
        ignored: checkpoint names that hold no parameter, such as buffers.
        optional: paths that a checkpoint of the same backbone may lack, such as the pooler.
        copies: (path of a leaf, path without one under which PyTorch expects the same again).
    """

    stack: str = ""
    kernels_in_out: tuple[str, ...] = ()
    flax_kernels_out_in: tuple[str, ...] = ()
    tf_kernels_out_in: tuple[str, ...] = ()
    flax_names: tuple[tuple[str, str], ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    ignored: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    copies: tuple[tuple[str, str], ...] = ()


PLAIN = Naming()
"""No exceptions."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where one piece of a leaf stands in a checkpoint.

    Attributes:
        name: the tensor's name.
        permutation: `leaf_piece = tensor.transpose(permutation)`.
        index: leading index of the piece in the leaf: () for a whole leaf, (i,) for layer i.
    """

    name: str
    permutation: tuple[int, ...]
    index: tuple[int, ...] = ()


def places(path: str, shape: tuple[int, ...], naming: Naming, layout: str, *, stacked: bool):
    """Returns the `Place` of every piece of a leaf, in the order of the stacking axis.

    Args:
        shape: of the leaf, its layer axis included.
        layout: `TORCH`, `FLAX`, `TF` or `PATHS`.
        stacked: whether the leaf's first axis is a layer axis.
    """
    if not stacked:
        return (_place(path, len(shape), naming, layout),)
    made = []
    for i in range(shape[0]):
        layer = layer_path(path, naming.stack, i)
        made.append(dataclasses.replace(_place(layer, len(shape) - 1, naming, layout), index=(i,)))
    return tuple(made)


def is_stacked(leaf: Any) -> bool:
    """Tells whether a template's leaf has a leading layer axis."""
    return getattr(leaf, "axes", ())[:1] == ("layers",)


def is_looped(names: Iterable[str], stack: str) -> bool:
    """Tells whether names have the index of a layer after the name of the stack."""
    pattern = re.compile(rf"(^|/){re.escape(stack)}/[0-9]+/")
    return any(pattern.search(name) for name in names)


def layer_path(path: str, stack: str, index: int) -> str:
    """Returns the path in layer `index` of a leaf that is stacked at `path`.

    >>> layer_path("model/layers/mlp/up_proj/kernel", "layers", 3)
    'model/layers/3/mlp/up_proj/kernel'
    """
    before, found, after = f"/{path}".partition(f"/{stack}/")
    if not found or not stack:
        raise CheckpointError(f"{path}: a stacked leaf that is not under {stack!r}")
    return f"{before}/{stack}/{index}/{after}".removeprefix("/")


def flax_name(path: str, naming: Naming) -> str:
    """Returns what old Flax calls a leaf."""
    for pattern, replacement in naming.flax_names:
        path = re.sub(pattern, replacement, path)
    return path


def _place(path: str, rank: int, naming: Naming, layout: str) -> Place:
    identity = tuple(range(rank))
    if layout == PATHS:
        return Place(path, identity)
    is_kernel = path.rpartition("/")[2] == "kernel" and rank >= 2
    if layout == FLAX:
        path = flax_name(path, naming)
        swap = is_kernel and matches(naming.flax_kernels_out_in, path)
        return Place(path, identity[::-1] if swap else identity)
    parents, _, leaf = path.rpartition("/")
    name = f"{parents}/weight" if leaf in _WEIGHTS else path
    swap = is_kernel and layout == TORCH and not matches(naming.kernels_in_out, path)
    # (out, in, *window) -> (*window, in, out)
    permutation = (*identity[2:], 1, 0) if swap else identity
    return Place(name.strip("/").replace("/", "."), permutation)


def canonical(names: Iterable[str], naming: Naming) -> dict[str, str]:
    """Returns {today's name: the name in the checkpoint}, without what `naming.ignored` matches.

    Raises:
        CheckpointError: two names of the checkpoint mean the same tensor.
    """
    found: dict[str, str] = {}
    for name in names:
        today = name
        for pattern, replacement in naming.aliases:
            today = re.sub(pattern, replacement, today)
        if matches(naming.ignored, today):
            continue
        if today in found:
            raise CheckpointError(
                f"tensors {quoted(found[today])} and {quoted(name)} both stand for {today}"
            )
        found[today] = name
    return found


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
    leaves = {re.split(r"[./]", name)[-1] for name in names}
    return FLAX if leaves & {"kernel", "scale", "embedding"} else TORCH

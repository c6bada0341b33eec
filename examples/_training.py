"""What the examples share: text that Python carries, options, and a loop that orbax keeps."""

import argparse
import collections
import contextlib
import dataclasses
import functools
import importlib
import inspect
import os
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from jax.sharding import NamedSharding, PartitionSpec

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels import sharding as fs

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
BOS, PAD, EOS, UNKNOWN, MASK = range(5)
MODULES = ("asyncio", "collections", "inspect", "logging", "os", "pathlib", "shutil", "socket")
MODULES += ("ssl", "subprocess", "tarfile", "threading", "unittest")
EVERY = 10
"""Steps between two saves, and between two lines."""

Batch = tuple[np.ndarray, ...]
Loss = Callable[..., jax.Array]
"""(model, params, key, *batch) -> a scalar."""


def options(doc: str | None, **defaults: Any) -> argparse.ArgumentParser:
    """Makes the parser of the options that every example takes."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=32, help="rows of a step")
    parser.add_argument("--width", type=int, default=128, help="of the hidden states")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--words", type=int, default=2000, help="of the vocabulary")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mesh", choices=["data", "fsdp"], default="data", help="fsdp cuts params")
    parser.add_argument("--devices", type=int, help="of the mesh; all if not given")
    parser.add_argument(
        "--dtype", choices=["float32", "bfloat16"], default="float32", help="of the computation"
    )
    parser.add_argument("--folder", help="where the state is kept, and taken up again")
    parser.set_defaults(**defaults)
    return parser


@functools.cache
def docstrings(modules: tuple[str, ...] = MODULES) -> list[tuple[str, int]]:
    """Lists the docstrings of modules, no text twice: (text, the place of its module)."""
    found: dict[str, int] = {}
    for place, name in enumerate(modules):
        module = importlib.import_module(name)
        classes = [x for x in vars(module).values() if inspect.isclass(x)]
        for owner in (module, *classes):
            for x in vars(owner).values():
                is_its_own = str(getattr(x, "__module__", "")).startswith(name)
                if is_its_own and (text := inspect.getdoc(x)):
                    found.setdefault(text, place)
    return list(found.items())


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The commonest words and marks of some texts; a word's id is its place."""

    words: tuple[str, ...]

    @classmethod
    def of(cls, texts: Iterable[str], size: int) -> "Vocabulary":
        common = collections.Counter(word for text in texts for word in split(text))
        return cls((*SPECIAL, *(word for word, _ in common.most_common(size - len(SPECIAL)))))

    def ids(self, texts: Iterable[str], length: int) -> np.ndarray:
        """Returns int32 [N, length]: <s>, the first words, </s>, and padding."""
        places = {word: i for i, word in enumerate(self.words)}
        rows = [[places.get(w, UNKNOWN) for w in split(text)[: length - 2]] for text in texts]
        ids = np.full((len(rows), length), PAD, np.int32)
        for row, found in zip(ids, rows, strict=True):
            row[: len(found) + 2] = [BOS, *found, EOS]
        return ids

    def text(self, ids: Iterable[int]) -> str:
        """Joins words with blanks; special ones are left out."""
        return " ".join(self.words[i] for i in ids if i >= len(SPECIAL))


def split(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text.lower())


def mesh_of(args: argparse.Namespace) -> jax.sharding.Mesh:
    """Makes the mesh: over "data" params are whole on each device, over "fsdp" they are cut."""
    return fs.make_mesh(devices=jax.devices()[: args.devices], **{args.mesh: -1})


def train(
    model: fm.PretrainedModel,
    params: fp.Params,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    draw: Callable[[np.random.Generator], Batch],
    args: argparse.Namespace,
) -> tuple[fp.Params, list[float]]:
    """Trains up to `args.steps` -> (params, the loss of each step). A run that was cut off
    continues from the last step in `args.folder`, as if it had not been.

    Args:
        params: on a mesh.
        loss: a function, and `optimizer` a value, of a module: what is compiled serves later runs.
        draw: makes a batch, arrays [B, ...], which is cut over the mesh by the model's rules.
    """
    mesh = jax.tree.leaves(params)[0].sharding.mesh
    spec = fs.partition_spec(("batch",), (args.batch,), mesh, model.rules)
    spread, everywhere = NamedSharding(mesh, spec), NamedSharding(mesh, PartitionSpec())
    state = optimizer.init(fp.to_fp32(params))  # moments in float32, placed like their params
    state = jax.tree.map(lambda x: x if x.ndim else jax.device_put(x, everywhere), state)
    key, done, losses = jax.random.key(args.seed), 0, []
    with contextlib.ExitStack() as stack:
        manager = stack.enter_context(_manager(args.folder)) if args.folder else None
        if manager and (done := manager.latest_step() or 0):
            saved = ocp.args.StandardRestore((params, state))
            params, state = manager.restore(done, args=saved)
        for i in range(done, args.steps):
            batch = jax.device_put(draw(np.random.default_rng((args.seed, i))), spread)
            params, state, value = _step(model, loss, optimizer, params, state, key, i, batch)
            losses.append(value)
            if manager:
                manager.save(i + 1, args=ocp.args.StandardSave((params, state)))
            if i == 0 or (i + 1) % EVERY == 0:
                print(f"step {i + 1}: loss {value:.2f}")
    return params, [float(value) for value in losses]


def ends(losses: Sequence[float]) -> dict[str, float]:
    """Returns the loss at first and at last, means of five steps."""
    return {"first": float(np.mean(losses[:5])), "last": float(np.mean(losses[-5:]))}


@functools.partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=(3, 4))
def _step(model, loss, optimizer, params, state, key, i, batch):
    key = jax.random.fold_in(key, i)
    value, grads = jax.value_and_grad(loss, argnums=1)(model, params, key, *batch)
    updates, state = optimizer.update(fp.to_fp32(grads), state, params)
    return optax.apply_updates(params, updates), state, value


def _manager(folder: str) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(save_interval_steps=EVERY, max_to_keep=2)
    return ocp.CheckpointManager(os.path.abspath(folder), options=options)


def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean over the targets int [...] that are not negative; logits [..., V]."""
    counts = targets >= 0
    losses = optax.softmax_cross_entropy_with_integer_labels(
        logits.astype(jnp.float32), jnp.maximum(targets, 0)
    )
    return jnp.sum(losses * counts) / jnp.maximum(counts.sum(), 1)

"""What the examples share: text that Python carries, words, options, and the loop."""

import argparse
import collections
import contextlib
import dataclasses
import functools
import importlib
import inspect
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import flaxmodels as fm
from flaxmodels import sharding as fs
from flaxmodels import training
from flaxmodels.data import Batches

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
BOS, PAD, EOS, UNKNOWN, MASK = range(5)
MODULES = ("asyncio", "collections", "inspect", "logging", "os", "pathlib", "shutil", "socket")
MODULES += ("ssl", "subprocess", "tarfile", "threading", "unittest")


def options(doc: str | None, *, sizes: bool = False, **defaults: Any) -> argparse.ArgumentParser:
    """Makes the parser of the options that every example takes; `sizes` are of a new model."""
    made = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--folder", help="where the run is kept, and taken up again")
    made.add_argument("--steps", type=int, default=300, help="default %(default)s")
    made.add_argument("--batch", type=int, default=32, help="rows of a step, default %(default)s")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--mesh", choices=["data", "fsdp"], default="data", help="fsdp cuts params")
    made.add_argument("--devices", type=int, help="of the mesh; all if not given")
    made.add_argument("--dtype", default="float32", help="of the computation, as bfloat16")
    made.add_argument("--every", type=int, default=20, help="steps between reports, and saves")
    made.add_argument("--tensorboard", action="store_true", help="write its events as well")
    made.add_argument("--profile", type=int, help="trace so many steps after the tenth")
    if sizes:
        made.add_argument("--width", type=int, default=128, help="of the hidden states")
        made.add_argument("--layers", type=int, default=2)
        made.add_argument("--words", type=int, default=2000, help="of the vocabulary")
    made.set_defaults(**defaults)
    return made


def mesh_of(args: argparse.Namespace) -> jax.sharding.Mesh:
    """Joins the run of `scripts/launch`, or of SLURM, if this is one, and makes the mesh: over
    "data" params are whole on each device, over "fsdp" they are cut."""
    if {"JAX_COORDINATOR_ADDRESS", "SLURM_NTASKS"} & os.environ.keys():
        fs.initialize()
    return fs.make_mesh(devices=jax.devices()[: args.devices], **{args.mesh: -1})


def train(
    steps: training.TrainSteps,
    start: Any,
    batches: "Batches | Mapped",
    args: argparse.Namespace,
    others: "Batches | Mapped | None" = None,
) -> training.TrainState:
    """Trains up to `args.steps` -> the state. A run that was cut off goes on from the last step in
    `args.folder`, as if it had not been.

    Args:
        start: a key, or params.
        others: batches that are held out, to be measured now and then.
    """
    folder, state, done = args.folder, steps.init(start), 0
    with contextlib.ExitStack() as stack:
        keeps = None
        if folder is not None:
            place = Path(folder, "checkpoints")
            keeps = stack.enter_context(training.Checkpoints(place, every=args.every, keep=2))
            if (found := keeps.restore(state)) is not None:
                state, position = found
                batches.restore(position)
                done = int(state.step)
        profile = None if args.profile is None else (10, args.profile)
        report = stack.enter_context(
            training.Report(folder, every=args.every, tensorboard=args.tensorboard, profile=profile)
        )
        epochs = itertools.chain.from_iterable(itertools.repeat(batches))
        for step, batch in enumerate(itertools.islice(epochs, args.steps - done), done + 1):
            state, metrics = steps.train_step(state, batch)
            report(step, metrics, tokens=batch["input_ids"].size)
            if others is not None and step % (2 * args.every) == 0:
                report.held_out(step, measure(steps, state, others))
            if keeps is not None:
                keeps.save(state, batches.state(), force=step == args.steps)
                if keeps.should_stop:
                    break
    return state


class Mapped:
    """Batches, each after a function of them."""

    def __init__(self, batches: Batches, function: Callable[[Any], dict[str, Any]]):
        self.batches, self.function = batches, function
        self.state, self.restore = batches.state, batches.restore

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(self.function, self.batches)


def measure(
    steps: training.TrainSteps, state: training.TrainState, batches: "Batches | Mapped"
) -> dict[str, float]:
    """Returns the means of `test_step`'s metrics over batches, each weighed by what it counts."""
    found = [jax.device_get(steps.test_step(state, batch)) for batch in batches]
    counts = np.array([metrics["count"] for metrics in found])
    return {
        name: float(np.average([metrics[name] for metrics in found], weights=counts))
        for name in found[0]
        if name != "count"
    }


def say(text: str) -> None:
    """Prints, in the main process of a run."""
    if jax.process_index() == 0:
        print(text)


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


def rows_of_bytes(length: int, modules: tuple[str, ...] = MODULES) -> np.ndarray:
    """Cuts docstrings into rows of bytes, the tokens of the bundled checkpoint: int32 [N, length],
    in an order that is always the same."""
    text = "\n".join(text for text, _ in docstrings(modules)).encode()
    rows = np.frombuffer(text[: len(text) // length * length], np.uint8).reshape(-1, length)
    return np.random.default_rng(0).permutation(rows.astype(np.int32))


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The commonest words and marks of some texts; a word's id is its place. It is a tokenizer to
    `prepare_dataset`: a function of texts that returns rows of ids."""

    words: tuple[str, ...]
    pad_token_id = PAD
    mask_token_id = MASK
    all_special_ids = (BOS, PAD, EOS, UNKNOWN, MASK)

    @classmethod
    def of(cls, texts: Iterable[str], size: int) -> "Vocabulary":
        common = collections.Counter(word for text in texts for word in split(text))
        return cls((*SPECIAL, *(word for word, _ in common.most_common(size - len(SPECIAL)))))

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns the ids of each text: <s>, its words, </s>."""
        places = {word: i for i, word in enumerate(self.words)}
        return [[BOS, *(places.get(w, UNKNOWN) for w in split(text)), EOS] for text in texts]

    def text(self, ids: Iterable[int]) -> str:
        """Joins words with blanks; special ones are left out."""
        return " ".join(self.words[i] for i in ids if i >= len(SPECIAL))


def split(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text.lower())


def bundled(
    cls: Any, args: argparse.Namespace, **options: Any
) -> tuple[Any, fm.params.Params, jax.sharding.Mesh]:
    """Loads the checkpoint that comes with the package onto the mesh -> (model, params, mesh)."""
    mesh = mesh_of(args)
    options = {"scan_layers": True, "dtype": args.dtype, "progress": False} | options
    return *cls.from_pretrained(fm.bundled_checkpoint(), mesh=mesh, **options), mesh

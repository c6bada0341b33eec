"""Seconds of a training step of GPT-2 124M, against PyTorch and old Flax on the same cores.

    python scripts/benchmarks/bench_train.py [--torch PYTHON] [--old-flax PYTHON] [--runs 5]
        [--dropout] [--pieces] [--rows 4] [--tokens 128] [--layers 12] [--json FILE]

Each PYTHON is an interpreter with that library and Transformers (`--old-flax`: 4.53, the last with
Flax classes); one that is not given is left out. All load the same random params, float32, and make
steps of AdamW on the same batches in turn, each in a process that stays alive; the first two steps
of each, with compilation, are not counted. Their losses must agree if nothing is dropped.
`--pieces` also measures forward pass, gradient and optimizer alone.

A ratio is of another library's seconds over ours, the median of the ratios of each turn: above 1 we
are faster. CPU seconds are those of all threads, which other work on the machine changes least.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

PIECES = ("forward", "gradient", "optimizer")
WARM_UP = 2
AGREE = 1e-3
"""How far, relatively, losses of the first steps may be apart without dropout."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--torch", help="a Python with torch and Transformers")
    parser.add_argument("--old-flax", help="a Python with Transformers 4.53 and Flax")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--words", type=int, default=50257, help="of the vocabulary")
    parser.add_argument("--dropout", action="store_true", help="drop a tenth, as GPT-2 does")
    parser.add_argument("--pieces", action="store_true")
    parser.add_argument("--json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(args, checkpoint(args, Path(folder)))
    import _bench

    _bench.report(rows, args.json)


def checkpoint(args: argparse.Namespace, folder: Path) -> Path:
    """Writes a GPT-2 of random params, as PyTorch reads it and as old Flax does -> a folder of both
    checkpoints."""
    import jax

    import flaxmodels as fm

    rate = 0.1 if args.dropout else 0.0
    config = fm.GPT2Config(
        vocab_size=args.words,
        n_positions=max(1024, args.tokens),
        n_embd=args.width,
        n_layer=args.layers,
        n_head=max(1, args.width // 64),
        attn_pdrop=rate,
        embd_pdrop=rate,
        resid_pdrop=rate,
    )
    model = fm.GPT2LMHeadModel(config)
    params = model.init_params(jax.random.key(0))
    for name in ("safetensors", "msgpack"):
        model.save_pretrained(
            params, folder / name, safe_serialization=name == "safetensors", progress=False
        )
    return folder


def measure(args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Asks each library for each piece in turn -> rows of the table."""
    others = {"pytorch": args.torch, "old-flax": args.old_flax}
    pythons = {"flaxmodels": sys.executable} | {k: v for k, v in others.items() if v}
    names = ["step", *(PIECES if args.pieces else ())]
    with ExitStack() as stack:
        workers = {
            library: stack.enter_context(worker(python, library, folder, args))
            for library, python in pythons.items()
        }
        rows = []
        for name in names:
            turns = [
                {library: ask(process, name) for library, process in workers.items()}
                for _ in range(WARM_UP + args.runs)
            ]
            if name == "step" and not args.dropout:
                check_losses(turns)
            rows += rows_of(name, turns)
    return rows


@contextmanager
def worker(
    python: str, library: str, folder: Path, args: argparse.Namespace
) -> Iterator[subprocess.Popen]:
    """Starts a process of `_train_worker.py`, which ends with the block."""
    script = Path(__file__).with_name("_train_worker.py")
    kind = folder / ("msgpack" if library == "old-flax" else "safetensors")
    command = [python, str(script), library, str(kind), str(args.rows), str(args.tokens)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "JAX_PLATFORMS": "cpu"}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def ask(process: subprocess.Popen, piece: str) -> dict[str, Any]:
    """Has a worker do a piece -> its figures."""
    assert process.stdin and process.stdout
    process.stdin.write(f"{piece}\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        sys.exit(f"bench_train: a process ended at {piece!r}; see above")
    return json.loads(line)


def check_losses(turns: list[dict[str, dict[str, Any]]]) -> None:
    """Compares the losses of the libraries, step by step: they must do the same work."""
    for number, turn in enumerate(turns):
        values = {library: figures["value"] for library, figures in turn.items()}
        ours = values["flaxmodels"]
        if any(abs(value - ours) > AGREE * abs(ours) for value in values.values()):
            sys.exit(f"bench_train: losses of step {number} differ: {values}")


def rows_of(name: str, turns: list[dict[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Makes the rows of a piece out of its turns."""
    from statistics import median

    counted = turns[WARM_UP:]

    def ratio(library: str, key: str) -> float:
        return median(turn[library][key] / turn["flaxmodels"][key] for turn in counted)

    return [
        {
            "piece": name,
            "library": library,
            "first s": turns[0][library]["s"],
            "s": median(turn[library]["s"] for turn in counted),
            "CPU s": median(turn[library]["cpu s"] for turn in counted),
            "CPU ratio": ratio(library, "cpu s"),
            "ratio": ratio(library, "s"),
        }
        for library in turns[0]
    ]


if __name__ == "__main__":
    main()

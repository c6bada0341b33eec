"""What checkpoints cost a training run: a state of GPT-2's size, saved and restored.

    python scripts/benchmarks/bench_resume.py [--folder DIR] [--params 124] [--runs 5]

A state of so many million params in float32 and AdamW's two moments of each, in 148 arrays a tree
as GPT-2 has. Medians: a call of `save` that is not due; one that is, until it returns and the next
step may have the state (a copy to host memory; on a CPU there is none); until all is on disk; and
`restore`. Beside each, the CPU time of the process.
"""

import argparse
import functools
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from flaxmodels.training import Checkpoints

LEAVES = 148


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", default=None, help="on the disk to measure")
    parser.add_argument("--params", type=float, default=124, help="millions")
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    rows: dict[str, list[tuple[float, float]]] = {}

    def timed(name: str, action: Callable[[], Any]) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        result = action()
        spent = (time.perf_counter() - wall, time.process_time() - cpu)
        rows.setdefault(name, []).append(spent)
        return result

    state = made(int(args.params * 1e6 / LEAVES))
    again = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        checkpoints = Checkpoints(folder, every=10**9, keep=1)
        for step in range(1, args.runs + 1):
            state = jax.block_until_ready(again(state))
            save = functools.partial(checkpoints.save, state, step=step)
            timed("`save`, not due", save)
            timed("`save`, until it returns", functools.partial(save, force=True))
            timed("and until it is on disk", checkpoints.wait)
            restore = functools.partial(checkpoints.restore, state)
            timed("`restore`", lambda restore=restore: jax.block_until_ready(restore()))
    size = sum(x.nbytes for x in jax.tree.leaves(state)) / 1e9
    print(f"| {size:.2f} GB | wall, s | CPU, s |\n|---|---|---|")
    for name, spent in rows.items():
        wall, cpu = (statistics.median(values) for values in zip(*spent, strict=True))
        print(f"| {name} | {wall:.3g} | {cpu:.3g} |")


def made(size: int) -> Any:
    """Draws params and two moments, so that no chunk is zeros."""
    drawn = jax.jit(lambda key: jax.random.normal(key, (size // 64, 64)))
    names = [f"{tree}/{i}" for tree in ("trained", "mu", "nu") for i in range(LEAVES)]
    return {name: drawn(jax.random.key(i)) for i, name in enumerate(names)} | {
        "step": jnp.zeros((), jnp.int32)
    }


if __name__ == "__main__":
    main()

"""Functions of trees over the bandwidth of memory, and peak memory above their result.

    python scripts/benchmarks/bench_tree.py [--layers N] [--runs 5] [--json FILE] [--only cast]

Each case runs on the tree of the 1.1B shape in two processes, as JAX arrays on the CPU and as
NumPy's. The first calls it once, in memory that the process never had: the peak, and the first
ratio, compiling included. The second calls it `--runs` times, each after a copy of the same tree,
with an allocator that keeps freed memory. A ratio is of bandwidths, bytes read and written over
seconds: the function's over the copy's, made by as many threads as help. Goal: 0.5.
"""

import argparse
import gc
import json
import os
from collections.abc import Callable
from typing import Any

import _bench


def main() -> None:
    parser = _bench.arguments(__doc__)
    parser.add_argument("--once", help=argparse.SUPPRESS)
    parser.add_argument("--numpy", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    args = parser.parse_args()
    if args.once:
        once(args)
        return
    cases = [name for name in CASES if args.only in name]
    _bench.report([run(args, name, kind) for name in cases for kind in ("jax", "numpy")], args.json)


# name -> (dtype of the trees, how many, what is called)
CASES: dict[str, tuple[str, int, str]] = {
    "cast to bfloat16": ("float32", 1, "to_bf16"),
    "cast to float32": ("bfloat16", 1, "to_fp32"),
    "stack layers": ("bfloat16", 1, "stack_layers"),
    "interpolate bfloat16": ("bfloat16", 2, "interpolate"),
    "interpolate float32": ("float32", 2, "interpolate"),
    "diff, nothing equal": ("bfloat16", 2, "diff"),
    "diff, all equal": ("bfloat16", 2, "diff"),
}


def run(args: argparse.Namespace, name: str, kind: str) -> dict[str, Any]:
    """The figures of one case."""
    command = [__file__, "--once", name, "--layers", str(args.layers), "--runs"]
    options = ["--numpy"] if kind == "numpy" else []
    first = _bench.once([*command, "1", *options], keep_memory=False)
    repeated = _bench.once([*command, str(args.runs), *options], keep_memory=True)
    kept = {"peak above result MiB": first["peak MiB"], "largest leaf MiB": first["leaf MiB"]}
    case = {"case": name, "leaves": kind, "GB": repeated["GB"], "copy GB/s": repeated["copy"]}
    return case | kept | {"first ratio": first["first"], "ratio": repeated["ratio"]}


def once(args: argparse.Namespace) -> None:
    """One case, in this process; prints its figures as JSON."""
    import jax

    from flaxmodels import params as fp

    dtype, count, name = CASES[args.once]
    trees = [tree(args.layers, dtype, 0 if "all equal" in args.once else i) for i in range(count)]
    if not args.numpy:
        trees = jax.block_until_ready(jax.tree.map(jax.device_put, trees))
        gc.collect()
    rest = (0.25,) if name == "interpolate" else ()

    def call() -> Any:
        return getattr(fp, name)(*trees, *rest)

    threads = range(1, 1 + (os.cpu_count() or 1))
    copy = max(_bench.copy_bandwidth(trees[0], n) for n in threads)
    size, peak, speed = measured(trees, call)
    pairs = []
    for _ in range(args.runs):
        floor = max(_bench.copy_bandwidth(trees[0], n) for n in threads)
        pairs.append((floor, measured(trees, call)[2]))
    figures = {
        "GB": size / 1e9,
        "copy": _bench.median([floor for floor, _ in pairs]) / 1e9,
        "first": speed / copy,
        "ratio": _bench.median([mine / floor for floor, mine in pairs]),
        "peak MiB": peak / (1 << 20),
        "leaf MiB": max(map(fp.memory_footprint, jax.tree.leaves(trees))) / (1 << 20),
    }
    print(json.dumps(figures))


def measured(trees: list[Any], call: Callable[[], Any]) -> tuple[int, int, float]:
    """(bytes read and written, peak above the result, bytes per second) of a call; leaves that
    go through as they are do not count."""
    import jax

    from flaxmodels import params as fp

    _bench.forget_peak()
    before = _bench.resident()
    seconds, result = _bench.timed(call)
    there = jax.tree.leaves(trees)
    new = [] if isinstance(result, fp.Diff) else jax.tree.leaves(result)
    kept = {id(leaf) for leaf in there} & {id(leaf) for leaf in new}
    made = fp.memory_footprint([leaf for leaf in new if id(leaf) not in kept])
    size = made + fp.memory_footprint([leaf for leaf in there if id(leaf) not in kept])
    return size, _bench.peak() - before - made, size / seconds


def tree(layers: int, dtype: str, seed: int) -> Any:
    """Numbers near 0.01 in NumPy, every leaf in memory of its own, aligned as a load's is."""
    import jax
    import numpy as np

    import flaxmodels as fm
    from flaxmodels import params as fp
    from flaxmodels.params.host.copies import empty

    rng = np.random.default_rng(seed)

    def draw(leaf: Any) -> np.ndarray:
        bits = rng.integers(0x3C00, 0x3C80, leaf.shape, dtype=np.uint16)
        leaf = empty(leaf.shape, fp.parse_dtype(dtype))
        leaf[...] = bits.view(fp.parse_dtype("bfloat16"))
        return leaf

    return jax.tree.map(draw, fm.LlamaForCausalLM(_bench.config(layers)).abstract_params())


if __name__ == "__main__":
    main()

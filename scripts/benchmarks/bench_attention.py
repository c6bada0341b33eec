"""Attention of long inputs: in blocks against JAX's function, time and memory.

    python scripts/benchmarks/bench_attention.py [--lengths 1024 4096] [--runs 5] [--json FILE]

One sequence, 8 heads of 64 over 4 key-value heads, float32, with the backward pass and without.
Memory is what the compiled program needs beside its arguments and results. Times are CPU time of
all cores, the least of `--runs`: another program on the same cores disturbs them less.
"""

import time
from collections.abc import Callable
from typing import Any

import _bench
import jax
import jax.numpy as jnp
import numpy as np

from flaxmodels.blocks import AttentionMask, Causal, Rule, Window
from flaxmodels.blocks.attention.blocked import blocked
from flaxmodels.blocks.attention.eager_attention import Scoring

HEADS, KV_HEADS, WIDTH = 8, 4, 64
RULES: dict[str, Rule] = {"causal": Causal(), "window 1024": Causal() & Window(1024)}


def main() -> None:
    parser = _bench.arguments(__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 4096])
    parser.add_argument("--memory-only", action="store_true", help="compiles, and runs nothing")
    args = parser.parse_args()
    rows = [
        row(length, rule, backward, 0 if args.memory_only else args.runs)
        for length in args.lengths
        for rule in RULES
        for backward in (False, True)
    ]
    _bench.report(rows, args.json)


def row(length: int, rule: str, backward: bool, runs: int) -> dict[str, Any]:
    """Measures both ways at one length."""
    figures: dict[str, Any] = {"tokens": length, "mask": rule, "backward": backward}
    rng = np.random.default_rng(0)
    shapes = [(1, length, heads, WIDTH) for heads in (HEADS, KV_HEADS, KV_HEADS)]
    arrays = [jnp.asarray(rng.standard_normal(shape, np.float32)) for shape in shapes]
    for name, attend in (("whole", _whole), ("blocks", blocked)):
        program = _program(attend, RULES[rule], backward).lower(*arrays).compile()
        memory = program.memory_analysis().temp_size_in_bytes
        figures[f"{name} MiB"] = round(memory / 2**20)
        if runs:
            figures[f"{name} s"] = _seconds(program, arrays, runs)
    return figures


def _whole(q, k, v, mask: AttentionMask, scoring: Scoring) -> jax.Array:
    seen = mask.array(q.shape[1], k.shape[1])
    return jax.nn.dot_product_attention(q, k, v, mask=seen, scale=scoring.scale)


def _program(attend: Callable, rule: Rule, backward: bool) -> Any:
    def forward(q, k, v):
        return attend(q, k, v, AttentionMask(rule), Scoring(WIDTH**-0.5))

    def loss(q, k, v):
        return (forward(q, k, v) ** 2).sum()

    return jax.jit(jax.grad(loss, argnums=(0, 1, 2)) if backward else forward)


def _seconds(program: Any, arrays: list[jax.Array], runs: int) -> float:
    def once() -> float:
        start = time.process_time()
        jax.block_until_ready(program(*arrays))
        return time.process_time() - start

    once()
    return min(once() for _ in range(runs))


if __name__ == "__main__":
    main()

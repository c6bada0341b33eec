"""Cross-entropy over a large vocabulary, of all logits and in chunks: memory and time.

    python scripts/benchmarks/bench_losses.py [--tokens 8192] [--width 2048] [--vocab 131072]
                                   [--chunks 256 1024 4096] [--times] [--runs 5] [--json FILE]

One product of hidden states with a kernel, the mean loss, and the gradients of both. Memory is what
the compiled program needs beside its arguments and results, by `memory_analysis`; nothing is run
unless `--times`, for which a CPU wants smaller numbers. Times are CPU time of all cores, the least
of `--runs`; in an accelerator's memory they are those of the clock.
"""

import time
from collections.abc import Callable
from typing import Any

import _bench
import jax
import jax.numpy as jnp

from flaxmodels.core.deferred import DeferredLogits
from flaxmodels.training.losses.cross_entropy import cross_entropy


def main() -> None:
    parser = _bench.arguments(__doc__)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--vocab", type=int, default=131072)
    parser.add_argument("--chunks", type=int, nargs="+", default=[256, 1024, 4096])
    parser.add_argument("--times", action="store_true", help="runs the programs too")
    args = parser.parse_args()
    rows = [
        row(args, dtype, chunk)
        for dtype in ("float32", "bfloat16")
        for chunk in (None, *args.chunks)
    ]
    _bench.report(rows, args.json)


def row(args: Any, dtype: str, chunk: int | None) -> dict[str, Any]:
    """Measures one way of computing the loss; of all logits if `chunk` is None."""
    arguments = (
        jax.ShapeDtypeStruct((1, args.tokens, args.width), dtype),
        jax.ShapeDtypeStruct((args.width, args.vocab), dtype),
        jax.ShapeDtypeStruct((1, args.tokens), jnp.int32),
    )
    program = jax.jit(jax.value_and_grad(_mean(chunk), (0, 1))).lower(*arguments).compile()
    memory: Any = program.memory_analysis()
    figures: dict[str, Any] = {
        "dtype": dtype,
        "logits": "all" if chunk is None else f"of {chunk} tokens",
        "arguments GiB": memory.argument_size_in_bytes / 2**30,
        "gradients GiB": memory.output_size_in_bytes / 2**30,
        "beside GiB": memory.temp_size_in_bytes / 2**30,
    }
    if args.times:
        figures["s"] = _seconds(program, arguments, args.runs)
    return figures


def _mean(chunk: int | None) -> Callable[..., jax.Array]:
    def mean(hidden: jax.Array, kernel: jax.Array, labels: jax.Array) -> jax.Array:
        deferred = DeferredLogits(hidden, kernel, chunk=chunk)
        logits = deferred.logits() if chunk is None else deferred
        losses, counted = cross_entropy(logits, labels)
        return jnp.sum(losses) / jnp.sum(counted)

    return mean


def _seconds(program: Any, arguments: Any, runs: int) -> float:
    drawn = [jax.random.normal(jax.random.key(0), x.shape, x.dtype) for x in arguments[:2]]
    labels = jax.random.randint(jax.random.key(1), arguments[2].shape, 0, arguments[1].shape[1])
    clock = time.process_time if jax.default_backend() == "cpu" else time.perf_counter
    seconds = []
    for _ in range(runs + 1):
        start = clock()
        jax.block_until_ready(program(*drawn, labels))
        seconds.append(clock() - start)
    return min(seconds[1:])


if __name__ == "__main__":
    main()

"""Decode speed over the bandwidth floor, and what a second call costs.

    python scripts/benchmarks/bench_generate.py [--layers N] [--tokens 32] [--runs 5] [--only WORD]
                                     [--json FILE]

The 1.1B shape with random params, batch 1, prompt of 32 tokens, greedy. Floor: every weight that a
token needs read once, quantised ones as they are packed, at the bandwidth of a matrix-vector
product measured in the same run. On a CPU that is the float32 product; on an accelerator, a copy of
device memory.
"""

import argparse
import time

import _bench
import jax
import jax.numpy as jnp
import numpy as np

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels.params.quantized.make import SCHEMES


def main() -> None:
    parser = _bench.arguments(__doc__)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--only", default="", help="rows whose stored dtype has this in it")
    args = parser.parse_args()
    cases = [("float32", "float32"), ("bfloat16", "float32"), ("bfloat16", "bfloat16")]
    cases += [("int8", "float32"), ("int4", "float32"), ("nf4", "float32")]
    cases = [case for case in cases if args.only in case[0]]
    rows = [measure(args, stored, computed) for stored, computed in cases]
    _bench.report(rows, args.json)


def measure(args: argparse.Namespace, stored: str, computed: str) -> dict:
    """One row: the model stored in a dtype, or quantised, and computing in another."""
    model = fm.LlamaForCausalLM(_bench.config(args.layers), dtype=computed)
    is_scheme = stored in SCHEMES
    params = model.init_params(jax.random.key(0), param_dtype="float32" if is_scheme else stored)
    if is_scheme:
        params = jax.jit(fp.quantize, static_argnums=1, donate_argnums=0)(params, stored)
    jax.block_until_ready(params)
    prompt = np.arange(32)[None] % 100 + 3
    key = jax.random.key(1)

    def generate(tokens: int) -> float:
        seconds, _ = _bench.timed(
            lambda: model.generate(params, prompt, max_new_tokens=tokens, eos_token_id=(), key=key)
        )
        return seconds

    first = generate(1)
    generate(1 + args.tokens)
    runs = []
    for _ in range(args.runs):
        gbs = bandwidth()
        short, long = generate(1), generate(1 + args.tokens)
        runs.append((gbs, short, args.tokens / (long - short)))
    embedding = params["model"]["embed_tokens"]["embedding"]
    needed = fp.memory_footprint(params) - fp.memory_footprint(embedding)
    return {
        "stored / computed": f"{stored} / {computed}",
        "GB a token": needed / 1e9,
        "bandwidth GB/s": _bench.median([run[0] for run in runs]),
        "floor tokens/s": _bench.median([run[0] * 1e9 / needed for run in runs]),
        "tokens/s": _bench.median([run[2] for run in runs]),
        "first call s": first,
        "next call s": _bench.median([run[1] for run in runs]),
        "share of floor": _bench.median([run[2] * needed / run[0] / 1e9 for run in runs]),
    }


def bandwidth() -> float:
    """GB/s at which memory is read by a float32 matrix-vector product (accelerator: a copy)."""
    if jax.default_backend() != "cpu":
        x = jnp.ones((1 << 29,), jnp.float32)
        copy = jax.jit(lambda x: x + 1)
        jax.block_until_ready(copy(x))
        start = time.perf_counter()
        for _ in range(5):
            x = copy(x)
        jax.block_until_ready(x)
        return 5 * 2 * x.nbytes / (time.perf_counter() - start) / 1e9
    weights = [jnp.ones((2048, 5632), jnp.float32) * i for i in range(24)]
    x = jnp.ones((1, 2048), jnp.float32)
    products = jax.jit(lambda x, weights: [x @ w for w in weights])
    jax.block_until_ready(products(x, weights))
    start = time.perf_counter()
    for _ in range(3):
        jax.block_until_ready(products(x, weights))
    return 3 * sum(w.nbytes for w in weights) / (time.perf_counter() - start) / 1e9


if __name__ == "__main__":
    main()

"""Times tracing and compiling of scanned models: the true depth and pattern of layers of a large
model, tiny widths, against an eighth of the depth, in seconds of CPU time: a machine that is busy
with something else does not change them. Also prints what a cache of windows takes.

    .venv/bin/python scripts/benchmarks/bench_compile.py
"""

import math
import time
from typing import Any

import jax
import jax.numpy as jnp

import flaxmodels as fm
from flaxmodels.blocks import segments
from flaxmodels.params.tree.measure import format_table

TINY = {"vocab_size": 256, "hidden_size": 64, "intermediate_size": 96, "head_dim": 16}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
MODELS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "Gemma 3 27B": (
        fm.Gemma3ForCausalLM,
        fm.Gemma3TextConfig,
        {"num_hidden_layers": 62, "sliding_window": 1024},
    ),
    "Qwen 3 32B": (fm.Qwen3ForCausalLM, fm.Qwen3Config, {"num_hidden_layers": 64}),
}
LENGTH = 128


def times(model: Any, *, backward: bool) -> tuple[float, float]:
    """Returns (seconds to trace and lower, seconds to compile) of a forward or backward pass."""
    ids = jax.ShapeDtypeStruct((1, LENGTH), jnp.int32)

    def loss(params: Any, ids: jax.Array) -> jax.Array:
        return model.apply({"params": params}, ids).logits.astype(jnp.float32).mean()

    function = jax.jit(jax.grad(loss) if backward else loss)
    params = model.abstract_params()
    start = time.process_time()
    lowered = function.lower(params, ids)
    traced = time.process_time()
    lowered.compile()
    return traced - start, time.process_time() - traced


def cache_bytes(model: Any, length: int) -> dict[str, int]:
    """Returns the bytes of each entry of an empty cache."""
    cache = jax.eval_shape(lambda: model.init_cache(1, length, jnp.bfloat16))
    return {
        name: sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(entry))
        for name, entry in cache.entries.items()
    }


def main() -> None:
    jax.config.update("jax_enable_compilation_cache", False)
    rows: list[tuple[str, ...]] = [
        ("model", "layers", "bodies", "forward: trace", "compile", "grad: trace", "compile")
    ]
    for name, (cls, config_class, fields) in MODELS.items():
        depth = fields["num_hidden_layers"]
        for layers in (depth // 8, depth):
            config = config_class(**TINY, **HEADS, **fields | {"num_hidden_layers": layers})
            model = cls(config, scan_layers=True)
            bodies = sum(
                part.period for part in segments(tuple(k.form for k in config.layer_kinds))
            )
            best = [
                min(times(model, backward=backward) for _ in range(3)) for backward in (False, True)
            ]
            seconds = [f"{second:.2f} s" for pair in best for second in pair]
            rows.append((name, str(layers), str(bodies), *seconds))
    print(format_table(rows, numeric=(1, 2)))
    cls, config_class, fields = MODELS["Gemma 3 27B"]
    model = cls(
        config_class(**fields, num_attention_heads=32, num_key_value_heads=16), scan_layers=True
    )
    for length in (1024, 32768, 131072):
        held = cache_bytes(model, length)
        whole = held["full_attention"] * fields["num_hidden_layers"] // 10
        print(f"{length} tokens: {held} bytes; all layers whole: {whole}")


if __name__ == "__main__":
    main()

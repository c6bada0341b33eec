"""Measures the work of one device: ceilings, loads, generation and training steps.

Every function is a part of `bench_device.py`, run in a process of its own, and returns a row of its
table: {figure: number}.
"""

import dataclasses
import glob
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _bench
import jax
import jax.numpy as jnp
import numpy as np

import flaxmodels as fm
from flaxmodels import params as fp

GPT2 = {"vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12}
SHAPE_8B = {
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
}
_TINY = {
    "vocab_size": 256,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
_TINY_GPT2 = {"vocab_size": 256, "n_positions": 64, "n_embd": 64, "n_layer": 2, "n_head": 4}


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much is done.

    Attributes:
        llamas: name -> the configuration of a Llama that is loaded and generates.
        gpt2: the configuration of the GPT-2 that is trained.
        trained: (rows, tokens) of a step of training, of GPT-2 and of the first Llama.
        prompt, new, prefill: tokens before those that are decoded, decoded, and in a long prompt.
        copied: float32 numbers copied. matrix: its side.
        runs: calls, of which the median is taken.
    """

    llamas: dict[str, dict[str, Any]]
    gpt2: dict[str, Any]
    trained: tuple[tuple[int, int], tuple[int, int]] = ((16, 1024), (8, 1024))
    prompt: int = 128
    new: int = 128
    prefill: int = 2048
    copied: int = 1 << 28
    matrix: int = 8192
    runs: int = 5


LARGE = Sizes({"1B": _bench.SHAPE_1B, "8B": SHAPE_8B}, GPT2)
SMALL = Sizes(
    {"1B": _TINY, "8B": _TINY | {"num_hidden_layers": 3}},
    _TINY_GPT2,
    ((2, 64), (2, 64)),
    prompt=8,
    new=4,
    prefill=64,
    copied=1 << 20,
    matrix=256,
    runs=2,
)
BATCHES = (1, 8, 64)


@dataclasses.dataclass(frozen=True)
class Ceilings:
    """What the device can do: bytes a second read and written by a copy of its memory, bytes a
    second from host to device, and bfloat16 operations a second of a product of matrices."""

    memory: float
    bus: float
    flops: float


Figures = dict[str, Any]


def ceilings(sizes: Sizes) -> Figures:
    """Measures what `Ceilings` holds, on the first device."""
    device = jax.local_devices()[0]
    x, host = jnp.ones(sizes.copied, jnp.float32), np.ones(sizes.copied, np.float32)
    a = jax.random.normal(jax.random.key(0), (sizes.matrix, sizes.matrix), jnp.bfloat16)
    copied, product = jax.jit(lambda x: x + 1), jax.jit(lambda a: a @ a)
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "jax": jax.__version__,
        "memory GB/s": 2 * x.nbytes / seconds(sizes, lambda: copied(x)) / 1e9,
        "bus GB/s": host.nbytes / seconds(sizes, lambda: jax.device_put(host, device)) / 1e9,
        "matmul TFLOP/s": 2 * sizes.matrix**3 / seconds(sizes, lambda: product(a)) / 1e12,
    }


def write(sizes: Sizes, shape: str, folder: Path) -> Figures:
    """Writes a bfloat16 checkpoint of a Llama, all of one random block repeated."""
    model = fm.LlamaForCausalLM(fm.LlamaConfig(**sizes.llamas[shape]))
    template = model.abstract_params(jnp.bfloat16)
    largest = max(math.prod(leaf.shape) for leaf in jax.tree.leaves(template))
    block = np.random.default_rng(0).standard_normal(largest, np.float32) * 0.02
    block = block.astype(fp.parse_dtype("bfloat16"))
    params = jax.tree.map(lambda x: block[: math.prod(x.shape)].reshape(x.shape), template)
    took, _ = _bench.timed(
        lambda: model.save_pretrained(params, folder, max_shard_size="2GB", progress=False)
    )
    return {"GB": fp.memory_footprint(params) / 1e9, "s": took}


def load(sizes: Sizes, ceilings: Ceilings, folder: Path, scan_layers: bool) -> Figures:
    """Loads a checkpoint to the device: seconds over the larger of reading the files and sending
    them; compilations; and peaks above the params of the host's memory and of the device's, beside
    what the plan says of them."""
    device, compiled = jax.local_devices()[0], _bench.compilations()
    jax.block_until_ready(jnp.zeros(8) + 1)
    sent = sum(map(os.path.getsize, glob.glob(f"{folder}/*.safetensors"))) / ceilings.bus
    _bench.read_floor(folder)
    floor = max(_bench.read_floor(folder), sent)

    def run() -> fp.Params:
        return _llama(folder, scan_layers=scan_layers)[1]

    plan = fm.load_plan(folder, scan_layers=scan_layers, param_dtype=jnp.bfloat16)
    before, known = _bench.resident(), len(compiled)
    first, params = _bench.timed(run)
    size = fp.memory_footprint(params)
    on_host = device.platform == "cpu"
    above = _bench.peak() - before - (size if on_host else 0)
    figures: Figures = {
        "GB": size / 1e9,
        "first s": first,
        "host peak MiB": above / (1 << 20),
        "planned host MiB": plan.buffer_bytes / (1 << 20),
        "compilations": len(compiled) - known,
    }
    if statistics := device.memory_stats():
        figures["device peak MiB"] = (statistics["peak_bytes_in_use"] - size) / (1 << 20)
        figures["planned device MiB"] = plan.transient_bytes / (1 << 20)
    times = []
    for _ in range(sizes.runs):
        del params  # two of the larger do not fit
        took, params = _bench.timed(run)
        times.append(took)
    return figures | {"s": _bench.median(times), "floor s": floor, "ratio": min(times) / floor}


def decode(sizes: Sizes, ceilings: Ceilings, folder: Path) -> Figures:
    """Generates greedily: milliseconds of a step, and the bytes of weights and cache that it needs
    over the bandwidth of memory."""
    model, params = _llama(folder)
    figures: Figures = {}
    for batch in BATCHES:
        ids = _ids(sizes, batch, sizes.prompt, model.config.vocab_size)

        def run(count: int, ids: jax.Array = ids) -> jax.Array:
            settings: Any = {"max_new_tokens": count, "eos_token_id": ()}
            return model.generate(params, ids, **settings).sequences

        whole, one = (seconds(sizes, lambda n=n: run(n)) for n in (sizes.new + 1, 1))
        step = (whole - one) / sizes.new
        cache = jax.eval_shape(lambda b=batch: model.init_cache(b, sizes.prompt + sizes.new + 1))
        needed = _weights(params) + fp.memory_footprint(cache)
        figures[f"batch {batch} ms"] = step * 1e3
        figures[f"batch {batch} share"] = needed / step / ceilings.memory
    return figures


def prefill(sizes: Sizes, ceilings: Ceilings, folder: Path, attention: str) -> Figures:
    """Runs four long rows once: seconds, and 2 operations a weight and token over the rate of
    products."""
    model, params = _llama(folder, attn_implementation=attention)
    ids = _ids(sizes, 4, sizes.prefill, model.config.vocab_size)
    forward = jax.jit(lambda params, ids: model.apply({"params": params}, ids).logits)
    took = seconds(sizes, lambda: forward(params, ids))
    count = _weights(params) / 2
    return {"s": took, "share": 2 * count * ids.size / took / ceilings.flops}


def train(sizes: Sizes, ceilings: Ceilings, what: str, attention: str) -> Figures:
    """Trains by AdamW, in bfloat16 with float32 params, by the steps of `fm.training.compile`:
    tokens a second, and 6 operations a param and token over the rate of products."""
    options: Any = {"attn_implementation": attention, "scan_layers": True, "dtype": jnp.bfloat16}
    if what == "gpt2":
        drop: Any = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
        rows, length = sizes.trained[0]
        model = fm.GPT2LMHeadModel(fm.GPT2Config(**sizes.gpt2, **drop), **options)
    else:
        rows, length = sizes.trained[1]
        config = fm.LlamaConfig(**sizes.llamas[what])
        model = fm.LlamaForCausalLM(config, remat="full", **options)
    steps = fm.training.compile(model, "adamw", learning_rate=1e-4, compute_dtype="bfloat16")
    state, metrics, times = steps.init(jax.random.key(0)), {}, []
    count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    ids = _ids(sizes, rows, length, model.config.vocab_size)
    batch = {"input_ids": ids, "labels": ids}
    for _ in range(sizes.runs + 2):
        took, (state, metrics) = _bench.timed(lambda: steps.train_step(state, batch))  # noqa: B023
        times.append(took)
    assert metrics["finite"]
    took = _bench.median(times[2:])
    figures = {"first s": times[0], "s": took, "tokens/s": rows * length / took}
    return figures | {"share": 6 * count * rows * length / took / ceilings.flops}


# --- what they share ---


def seconds(sizes: Sizes, call: Callable[[], Any]) -> float:
    """Calls once, and then takes the median of so many times."""
    _bench.timed(call)
    return _bench.median([_bench.timed(call)[0] for _ in range(sizes.runs)])


def _llama(folder: Path, **options: Any) -> tuple[fm.LlamaForCausalLM, fp.Params]:
    options |= {"dtype": jnp.bfloat16, "param_dtype": jnp.bfloat16, "progress": False}
    return fm.LlamaForCausalLM.from_pretrained(folder, **options)


def _ids(sizes: Sizes, rows: int, length: int, vocab_size: int) -> jax.Array:
    return jax.random.randint(jax.random.key(1), (rows, length), 5, min(vocab_size, 1000))


def _weights(params: fp.Params) -> int:
    """Bytes that every token needs: of its table of tokens it reads one row."""
    leaves = fp.flatten(params).items()
    return sum(leaf.nbytes for path, leaf in leaves if "embed_tokens" not in path)

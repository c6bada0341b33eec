"""Gives the benchmarks what they share: the 1.1B shape, its checkpoint, floors, and memory."""

import argparse
import json
import os
import resource
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels.params.tree.measure import format_table

SHAPE_1B = {
    "vocab_size": 32000,
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 22,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "max_position_embeddings": 2048,
}


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """Makes the parser of the options that every benchmark takes."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "fm-bench")
    parser.add_argument("--layers", type=int, default=22)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json")
    return parser


def config(layers: int | None = None) -> Any:
    """The Llama shape of 1.1B parameters, or the same with fewer layers."""
    fields: dict[str, Any] = dict(SHAPE_1B)
    if layers is not None:
        fields["num_hidden_layers"] = layers
    return fm.LlamaConfig(**fields)


def checkpoint(folder: Path, *, layers: int | None = None, msgpack: bool = False) -> Path:
    """A bf16 checkpoint of the shape, in 500 MB shards, made once and kept under `folder`."""
    return _made(fm.LlamaForCausalLM(config(layers)), folder, msgpack=msgpack)


def joined_checkpoint(folder: Path, *, layers: int | None = None) -> Path:
    """The same shape as a Phi 3: q, k and v are one tensor, gate and up another."""
    fields: dict[str, Any] = {**SHAPE_1B, "pad_token_id": 0}
    fields["num_hidden_layers"] = config(layers).num_hidden_layers
    return _made(fm.Phi3ForCausalLM(fm.Phi3Config(**fields)), folder)


def _made(model: Any, folder: Path, *, msgpack: bool = False) -> Path:
    kind = f"{model.config.model_type}-{model.config.num_hidden_layers}"
    path = folder / f"{kind}-{'msgpack' if msgpack else 'safetensors'}"
    if (path / "config.json").exists():
        return path
    rng = np.random.default_rng(0)

    def draw(leaf: Any) -> np.ndarray:
        # Bit patterns of bf16 numbers between 2**-7 and 2**-6: cheap to draw, and never NaN.
        bits = rng.integers(0x3C00, 0x3C80, leaf.shape, dtype=np.uint16)
        return bits.view(fp.parse_dtype("bfloat16"))

    params = jax.tree.map(draw, model.abstract_params())
    model.save_pretrained(
        params, path, max_shard_size="500MB", safe_serialization=not msgpack, progress=False
    )
    return path


def torch_checkpoint(folder: Path, *, layers: int | None = None) -> Path:
    """The same weights as sharded `pytorch_model.bin`, byte for byte as `torch.save` lays them out,
    without torch."""
    source = checkpoint(folder, layers=layers)
    path = source.with_name(source.name.replace("safetensors", "bin"))
    if (path / "pytorch_model.bin.index.json").exists():
        return path
    path.mkdir(exist_ok=True)
    (path / "config.json").write_bytes((source / "config.json").read_bytes())
    weight_map = {}
    for shard in sorted(source.glob("*.safetensors")):
        name = shard.name.replace("model", "pytorch_model").replace("safetensors", "bin")
        tensors = fp.open_checkpoint(shard).tensors
        weight_map |= dict.fromkeys(tensors, name)
        with zipfile.ZipFile(path / name, "w") as archive:
            state = b"".join(map(_torch_entry, range(len(tensors)), tensors.values()))
            archive.writestr("archive/data.pkl", b"\x80\x02}(" + state + b"u.")
            for i, tensor in enumerate(tensors.values()):
                archive.writestr(f"archive/data/{i}", tensor.read().view(np.uint8).data)
            archive.writestr("archive/version", b"3\n")
    index = json.dumps({"metadata": {}, "weight_map": weight_map})
    (path / "pytorch_model.bin.index.json").write_text(index)
    return path


def _torch_entry(key: int, tensor: fp.Tensor) -> bytes:
    """The pickle of a name and its tensor: storage `key`, contiguous, bf16."""

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    def numbers(values: list[int]) -> bytes:
        return b"(" + b"".join(b"J" + struct.pack("<i", value) for value in values) + b"t"

    count = int(np.prod(tensor.shape))
    strides = [int(np.prod(tensor.shape[i + 1 :])) for i in range(len(tensor.shape))]
    storage = b"(" + text("storage") + b"ctorch\nBFloat16Storage\n" + text(str(key)) + text("cpu")
    storage += b"J" + struct.pack("<i", count) + b"tQ"
    rest = b"K\x00" + numbers(list(tensor.shape)) + numbers(strides)
    rest += b"\x89ccollections\nOrderedDict\n)RtR"
    return text(tensor.name) + b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + rest


# For the allocator, so that the system does not take freed memory back between runs.
KEEP_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
}


def once(command: list[str], *, keep_memory: bool, prefix: Sequence[str] = ()) -> dict[str, Any]:
    """The figures that a script prints as JSON on its last line, in a process of its own.

    Args:
        prefix: of the command line, as `_limits.limited` gives it.
    """
    environment = dict(os.environ) | (KEEP_MEMORY if keep_memory else {})
    line = [*prefix, sys.executable, *command]
    result = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(result.stdout.splitlines()[-1])


def read_floor(path: Path) -> float:
    """Seconds to `readinto` every weights file, each into the same preallocated buffer."""
    files = sorted(p for p in path.iterdir() if p.suffix in (".safetensors", ".msgpack", ".bin"))
    buffer = memoryview(bytearray(max(p.stat().st_size for p in files)))
    buffer[::4096] = bytes(len(buffer[::4096]))  # touch every page
    start = time.perf_counter()
    for file in files:
        with open(file, "rb", buffering=0) as stream:
            done = 0
            while count := stream.readinto(buffer[done:]):
                done += count
    return time.perf_counter() - start


def copy_bandwidth(tree: Any, threads: int) -> float:
    """Bytes read and written in a second by a copy of a tree in host memory, leaf by leaf, each
    cut into a part per thread."""

    def copied(array: np.ndarray) -> np.ndarray:
        array = array.reshape(-1)
        result, step = np.empty_like(array), -(-array.size // threads)
        parts = [slice(i, i + step) for i in range(0, array.size, step)]
        list(pool.map(lambda part: np.copyto(result[part], array[part]), parts))
        return result

    with ThreadPoolExecutor(threads) as pool:
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
        seconds, _ = timed(lambda: [copied(leaf) for leaf in leaves])
    return 2 * fp.memory_footprint(tree) / seconds


def resident() -> int:
    """Bytes of this process's resident memory now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak() -> int:
    """Bytes of the most resident memory this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def forget_peak() -> None:
    """Lets `peak` start again from what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """(seconds, result) of a call, its arrays ready."""
    start = time.perf_counter()
    result = jax.block_until_ready(call())
    return time.perf_counter() - start, result


def compilations() -> list[float]:
    """Returns a list that gets the seconds of each compilation by XLA from now on."""
    seconds: list[float] = []

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            seconds.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    return seconds


def median(values: list[float]) -> float:
    return statistics.median(values)


def report(rows: list[dict[str, Any]], as_json: str | None = None) -> None:
    """Prints rows as a table, and writes them to a file if one is named."""
    names = list(rows[0])
    text = [tuple(names)] + [tuple(_cell(row[name]) for name in names) for row in rows]
    print(format_table(text, numeric=tuple(range(1, len(names)))))
    if as_json:
        Path(as_json).write_text(json.dumps(rows, indent=2) + "\n")


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)

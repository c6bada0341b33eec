"""A 1.1B model larger than its budget: logits, tokens, resident memory, and seconds a token.

    python scripts/benchmarks/bench_offload.py [--folder DIR] [--layers N] [--tokens 4]
        [--limit 1GiB] [--json FILE]

The bf16 checkpoint of `bench_load.py` is run whole on one device, with its layers in host memory
beside it, and with its layers on the disk, each in a process of its own; the last two with a
`max_memory` of 400 MiB for the device, and of nothing in host memory for the disk. On a CPU device,
host memory and the device's are one, so that only the case of the disk stays below the model's
size: its peak is of the whole process, Python and JAX included. Floor: the bytes that are brought
for a token, at the rate at which `readinto` read them (disk), or they were copied (host memory),
just before. The page cache is warm.

With `--limit` the process of the disk may have no more memory than that, and the process of host
memory as much beside its params, which are 2.2 GB there: the kernel kills what takes more. What
enforces it is said: a control group where one can be made (root, or a delegated one), which counts
pages of files too, else RLIMIT_DATA. The case `whole` is run without.
"""

import argparse
import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _bench
import _limits

from flaxmodels.params.sizes import parse_size

BUDGET = 400 << 20
CASES = {
    "whole": {},
    "host": {"device_map": "auto", "max_memory": {0: BUDGET}},
    "disk": {"device_map": "auto", "max_memory": {0: BUDGET, "cpu": 0}},
}


def main() -> None:
    parser = _bench.arguments(__doc__)
    parser.add_argument("--tokens", type=int, default=4)
    parser.add_argument("--once", help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--limit", help="of the memory of the process, such as 1GiB")
    args = parser.parse_args()
    if args.once:
        once(args)
        return
    path = _bench.checkpoint(args.folder, layers=args.layers)
    found: dict[str, dict[str, Any]] = {}
    for name in CASES:
        command = [__file__, "--once", name, "--path", str(path), "--tokens", str(args.tokens)]
        with _enforced(name, args.limit, path) as limit:
            found[name] = _bench.once(command, keep_memory=False, prefix=limit.prefix)
        if args.limit:
            found[name] |= {"limit MiB": limit.nbytes >> 20, "by": limit.how}
    tokens, logits = found["whole"]["tokens"], found["whole"]["logits"]
    rows = []
    for name, case in found.items():
        same = case.pop("tokens") == tokens
        off = max(abs(a - b) for a, b in zip(case.pop("logits"), logits, strict=True))
        rows.append({"params": name, **case, "same tokens": same, "logits off by": off})
    _bench.report(rows, args.json)


@contextlib.contextmanager
def _enforced(name: str, text: str | None, path: Path) -> Iterator[_limits.Limit]:
    """Gives the limit of a case: as stated for the disk, beside the params for host memory."""
    if text is None or name == "whole":
        yield _limits.NONE
        return
    size = parse_size(text, "--limit")
    if name == "host":
        size += sum(file.stat().st_size for file in path.glob("*.safetensors"))
    with _limits.limited(size) as limit:
        yield limit


def once(args: argparse.Namespace) -> None:
    """One case, in this process; prints its figures as JSON."""
    import jax
    import numpy as np

    import flaxmodels as fm
    from flaxmodels import params as fp

    ids = np.arange(8, dtype=np.int32)[None] * 37
    floor_rate = _rate(args.path, in_memory=args.once == "host")
    _bench.forget_peak()
    start = time.perf_counter()
    model, params = fm.LlamaForCausalLM.from_pretrained(
        args.path, progress=False, **CASES[args.once]
    )
    loaded = time.perf_counter() - start
    held = fp.memory_footprint(params, per_device=True)
    streamed = sum(size for place, size in held.items() if isinstance(place, str))
    logits = np.asarray(model.apply({"params": params}, ids).logits[0, -1])

    def tokens(count: int) -> jax.Array:
        return model.generate(params, ids, max_new_tokens=count).sequences

    counts = (1, args.tokens)
    for count in counts:
        tokens(count)  # compiles
    first, _ = _bench.timed(lambda: tokens(1))
    seconds, output = _bench.timed(lambda: tokens(args.tokens))
    print(
        json.dumps(
            {
                "load s": loaded,
                "on the device MiB": sum(s for p, s in held.items() if p == jax.devices()[0]) >> 20,
                "brought per token MiB": streamed >> 20,
                "peak of the process MiB": _bench.peak() >> 20,
                "s per token": (seconds - first) / (args.tokens - 1),
                "floor s": streamed / floor_rate,
                "tokens": output.tolist(),
                "logits": (logits / np.abs(logits).max()).tolist(),
            }
        )
    )


def _rate(path: Path, *, in_memory: bool) -> float:
    """Bytes a second that are read from the checkpoint, or copied in memory."""
    import numpy as np

    if in_memory:
        one = np.ones(256 << 20, np.uint8)
        two = np.ones_like(one)
        seconds, _ = _bench.timed(lambda: np.copyto(two, one))
        return len(one) / seconds
    size = sum(file.stat().st_size for file in path.glob("*.safetensors"))
    buffer = memoryview(bytearray(64 << 20))
    start = time.perf_counter()
    for file in path.glob("*.safetensors"):
        with open(file, "rb", buffering=0) as stream:
            while stream.readinto(buffer):
                pass
    return size / (time.perf_counter() - start)


if __name__ == "__main__":
    main()

"""Load time over the `readinto` floor, and peak host memory above the finished params.

    python scripts/bench_load.py [--folder DIR] [--layers N] [--runs 5] [--json FILE]

Makes a 1.1B checkpoint (bf16, 500 MB shards; safetensors and msgpack) in DIR by itself. Floor and
load are timed in turn, each load in a process of its own, with a warm page cache.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import _bench


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "fm-bench")
    parser.add_argument("--layers", type=int, default=22)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json")
    parser.add_argument("--once", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--dtype", default="auto", help=argparse.SUPPRESS)
    parser.add_argument("--scan", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--max-host-memory", type=int, default=1 << 30)
    args = parser.parse_args()
    if args.once:
        once(args)
        return
    cases = [
        ("safetensors", False, []),
        ("msgpack", True, []),
        ("safetensors, to float32", False, ["--dtype", "float32"]),
        ("safetensors, stacked layers", False, ["--scan"]),
    ]
    budget = ["--max-host-memory", str(args.max_host_memory)]
    rows = []
    for name, msgpack, options in cases:
        path = _bench.checkpoint(args.folder, layers=args.layers, msgpack=msgpack)
        _bench.read_floor(path)
        runs = []
        for _ in range(args.runs):
            floor = _bench.read_floor(path)
            command = [sys.executable, __file__, "--once", str(path), *options, *budget]
            result = subprocess.run(command, capture_output=True, text=True, check=True)
            runs.append({"floor": floor} | json.loads(result.stdout.splitlines()[-1]))
        rows.append(row(name, runs))
    _bench.report(rows, args.json)


def row(name: str, runs: list[dict]) -> dict:
    def of(key):
        return _bench.median([run[key] for run in runs])

    return {
        "load": name,
        "GB": of("bytes") / 1e9,
        "floor s": of("floor"),
        "load s": of("seconds"),
        "again s": of("again"),
        "peak above params MiB": of("extra") / (1 << 20),
        "ratio": _bench.median([run["seconds"] / run["floor"] for run in runs]),
        "ratio again": _bench.median([run["again"] / run["floor"] for run in runs]),
    }


def once(args: argparse.Namespace) -> None:
    """One load in this process; prints its figures as JSON."""
    import jax

    import flaxmodels as fm
    from flaxmodels import params as fp

    jax.block_until_ready(jax.numpy.zeros(8) + 1)
    fm.LlamaForCausalLM  # noqa: B018 - imported before the clock starts
    options = {
        "param_dtype": args.dtype,
        "scan_layers": args.scan,
        "max_host_memory": args.max_host_memory,
        "progress": False,
    }
    before = _bench.resident()

    def load():
        return fm.LlamaForCausalLM.from_pretrained(args.once, **options)[1]

    seconds, params = _bench.timed(load)
    size = fp.memory_footprint(params)
    extra = _bench.peak() - before - size
    del params
    again, params = _bench.timed(load)
    print(json.dumps({"seconds": seconds, "again": again, "bytes": size, "extra": extra}))


if __name__ == "__main__":
    main()

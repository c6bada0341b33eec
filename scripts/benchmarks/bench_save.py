"""Save time over writing the same bytes with fsync, and peak host memory above the params.

    python scripts/benchmarks/bench_save.py [--folder DIR] [--layers N] [--runs 5] [--json FILE]

Params of the 1.1B shape (bf16; 500 MB shards) are saved into a fresh folder under DIR, which is to
lie on a real disk. Floor: as many files of as many bytes, written from one buffer with `write` and
`fsync`. Both are measured in turn, in one process per case, `--runs` times; what was written is
removed and the disk synchronised in between.
"""

import argparse
import json
import os
import shutil
import time
from pathlib import Path

import _bench

CASES = {
    "safetensors": {},
    "safetensors, stacked layers": {"scan": True},
    "safetensors, checksums": {"checksums": True},
    "msgpack": {"format": "msgpack"},
}


def main() -> None:
    parser = _bench.arguments(__doc__)
    parser.add_argument("--once", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.once:
        print(json.dumps(once(args.once, args)))
        return
    rows = []
    for name in CASES:
        command = [__file__, "--once", name, "--folder", str(args.folder)]
        command += ["--layers", str(args.layers), "--runs", str(args.runs)]
        rows.append({"save": name} | _bench.once(command, keep_memory=False))
    _bench.report(rows, args.json)


def once(name: str, args: argparse.Namespace) -> dict[str, float]:
    """The figures of one case."""
    options = dict(CASES[name])
    source = _bench.checkpoint(args.folder, layers=args.layers)
    import flaxmodels as fm
    from flaxmodels import params as fp

    model, params = fm.LlamaForCausalLM.from_pretrained(
        source, scan_layers=options.pop("scan", False), progress=False
    )
    target = args.folder / "saved"
    before, pairs = _bench.resident(), []

    def save() -> float:
        start = time.perf_counter()
        model.save_pretrained(params, target, max_shard_size="500MB", progress=False, **options)
        return time.perf_counter() - start

    _cleared(target, save)
    extra = _bench.peak() - before
    sizes = [path.stat().st_size for path in source.glob("*.safetensors")]
    for _ in range(args.runs):
        floor = _cleared(target, lambda: write_floor(target, sizes))
        pairs.append((floor, _cleared(target, save)))
    return {
        "GB": fp.memory_footprint(params) / 1e9,
        "floor s": _bench.median([floor for floor, _ in pairs]),
        "save s": _bench.median([seconds for _, seconds in pairs]),
        "peak above params MiB": extra / (1 << 20),
        "ratio": _bench.median([seconds / floor for floor, seconds in pairs]),
    }


def _cleared(target: Path, action) -> float:
    shutil.rmtree(target, ignore_errors=True)
    os.sync()
    seconds = action()
    shutil.rmtree(target, ignore_errors=True)
    return seconds


def write_floor(target: Path, sizes: list[int]) -> float:
    """Seconds to write files of these sizes, each from the same buffer and with `fsync`."""
    buffer = memoryview(os.urandom(8 << 20))
    target.mkdir()
    start = time.perf_counter()
    for i, size in enumerate(sizes):
        with open(target / f"{i}", "wb", buffering=0) as file:
            while size:
                size -= file.write(buffer[: min(size, len(buffer))])
            os.fsync(file.fileno())
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

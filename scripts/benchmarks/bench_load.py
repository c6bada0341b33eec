"""Load time over the `readinto` floor, and peak host memory above the finished params.

    python scripts/benchmarks/bench_load.py [--folder DIR] [--layers N] [--runs 5] [--only WORD]
        [--json FILE]

Makes a 1.1B checkpoint (bf16, 500 MB shards; safetensors, msgpack and .bin, and one of Phi 3 whose
projections are joined) in DIR by itself, and loads it with different caps on host memory; some
cases quantise it while it is read (`--only quantised`; "safetensors" is the load beside it). Floor:
the same files read with `readinto` into buffers that have been touched before. A case runs in two
processes, which load it once and then `--runs` times, floor and load in turn. The first is as any
process is: the peak, the first load, and the median of the others, which get new memory of the
system each time. In the second the allocator is told to keep freed memory (glibc's MALLOC_
variables), so that, as for the floor, the system does not take it back in between: the time and
the ratio. The page cache is warm.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import _bench


def main() -> None:
    parser = _bench.arguments(__doc__)
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    parser.add_argument("--once", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--dtype", default="auto", help=argparse.SUPPRESS)
    parser.add_argument("--scan", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--scheme", help=argparse.SUPPRESS)
    parser.add_argument("--max-host-memory", type=int, default=1 << 30)
    args = parser.parse_args()
    if args.once:
        once(args)
        return

    def plain() -> Path:
        return _bench.checkpoint(args.folder, layers=args.layers)

    cases: dict[str, tuple[Callable[[], Path], list[str], tuple[int, ...]]] = {
        "safetensors": (plain, [], BUDGETS),
        "joined": (lambda: _bench.joined_checkpoint(args.folder, layers=args.layers), [], BUDGETS),
        "msgpack": (
            lambda: _bench.checkpoint(args.folder, layers=args.layers, msgpack=True),
            [],
            BUDGETS,
        ),
        ".bin": (lambda: _bench.torch_checkpoint(args.folder, layers=args.layers), [], BUDGETS),
        "stacked layers": (plain, ["--scan"], BUDGETS),
        "to float32": (plain, ["--dtype", "float32"], BUDGETS[-1:]),
    }
    for scheme in ("int8", "nf4", "float8_block"):
        cases[f"quantised to {scheme}"] = (plain, ["--scheme", scheme], BUDGETS)
    rows = [
        run(args, name, path(), options, budget)
        for name, (path, options, budgets) in cases.items()
        if args.only in name
        for budget in budgets
    ]
    _bench.report(rows, args.json)


BUDGETS = (64 << 20, 256 << 20, 1 << 30)  # bytes of max_host_memory


def run(
    args: argparse.Namespace, name: str, path: Path, options: list[str], budget: int
) -> dict[str, object]:
    """The figures of one case, from a process of its own."""
    _bench.read_floor(path)
    command = [__file__, "--once", str(path), *options]
    command += ["--max-host-memory", str(budget), "--runs"]
    new, kept = (
        _bench.once([*command, str(args.runs)], keep_memory=keep) for keep in (False, True)
    )
    case = {"load": name, "max_host_memory MiB": budget >> 20}
    of_new = {key: new[key] for key in ("first load s", "peak above params MiB")}
    return case | kept | of_new | {"new memory s": new["load s"]}


def once(args: argparse.Namespace) -> None:
    """The loads of one case, in this process; prints its figures as JSON."""
    import jax

    import flaxmodels as fm
    from flaxmodels import params as fp

    jax.block_until_ready(jax.numpy.zeros(8) + 1)
    cls = fm.AutoModelForCausalLM.class_for(fm.AutoConfig.from_pretrained(args.once).model_type)
    options = {
        "param_dtype": args.dtype,
        "scan_layers": args.scan,
        "max_host_memory": args.max_host_memory,
        "progress": False,
    }
    if args.scheme:
        options["quantization_config"] = {"quant_method": "flaxmodels", "scheme": args.scheme}

    def load():
        return cls.from_pretrained(args.once, **options)[1]

    before = _bench.resident()
    cold, params = _bench.timed(load)
    size = fp.memory_footprint(params)
    extra = _bench.peak() - before - size
    pairs = []
    for _ in range(args.runs):
        del params
        floor = _bench.read_floor(args.once)
        seconds, params = _bench.timed(load)
        pairs.append((floor, seconds))
    figures = {
        "GB": size / 1e9,
        "floor s": _bench.median([floor for floor, _ in pairs]),
        "load s": _bench.median([seconds for _, seconds in pairs]),
        "first load s": cold,
        "peak above params MiB": extra / (1 << 20),
        "ratio": _bench.median([seconds / floor for floor, seconds in pairs]),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

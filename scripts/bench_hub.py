"""Time from a repository's name to params over the time of the download alone.

    python scripts/bench_hub.py [--folder DIR] [--layers 3] [--rate 20] [--runs 5] [--json FILE]

A loopback Hub (`tests/_hub.py`) in this process serves a checkpoint of about 100 MB (bf16, 8
shards) at `--rate` MB/s in all, as a network would. In turn, each in a process and a cache of its
own: `fm.download`, which fetches the files and compares their hashes; `from_pretrained`, which has
the params ready on the CPU as well; and one after the other, `from_pretrained` of what `download`
brought. The clock runs from the call to its result; a process has imported everything and compiled
something before. Goal: 1.15.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import _bench

TESTS = Path(__file__).resolve().parent.parent / "tests"
SHAPE = {
    "vocab_size": 8000,
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
}
NAME = "org/bench"


def main() -> None:
    parser = _bench.arguments(__doc__)
    parser.set_defaults(layers=3)
    parser.add_argument("--rate", type=float, nargs="+", default=[20.0], help="MB/s")
    parser.add_argument("--once", choices=CASES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.once:
        once(args)
        return
    _bench.report([run(args, rate) for rate in args.rate], args.json)


CASES = ("download", "load", "in turn")


def run(args: argparse.Namespace, rate: float) -> dict[str, Any]:
    """The figures at one rate; the calls of a round follow one another."""
    sys.path.insert(0, str(TESTS))
    from _hub import LoopbackHub
    from _hub_client import hub_environment

    folder = checkpoint(args.folder, args.layers)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    seconds: dict[str, list[float]] = {case: [] for case in CASES}
    with LoopbackHub() as hub:
        hub.commit(NAME, files)
        hub.rate = rate * 1e6
        for _ in range(args.runs):
            for case in CASES:
                with tempfile.TemporaryDirectory() as home:
                    os.environ.update(hub_environment(hub, Path(home)))
                    figures = _bench.once([__file__, "--once", case], keep_memory=False)
                    seconds[case].append(figures["seconds"])
    alone = seconds["download"]
    return {
        "MB/s": rate,
        "MB": sum(map(len, files.values())) / 1e6,
        "shards": sum(name.endswith(".safetensors") for name in files),
        **{f"{case} s": _bench.median(seconds[case]) for case in CASES},
        "ratio": _bench.median([b / a for a, b in zip(alone, seconds["load"], strict=True)]),
        "in turn": _bench.median([b / a for a, b in zip(alone, seconds["in turn"], strict=True)]),
    }


def checkpoint(folder: Path, layers: int) -> Path:
    """A bf16 checkpoint of random params in 16 MB shards, made once."""
    import jax

    import flaxmodels as fm

    path = folder / f"hub-{layers}"
    if not (path / "config.json").exists():
        model = fm.LlamaForCausalLM(fm.LlamaConfig(**SHAPE, num_hidden_layers=layers))
        params = fm.params.to_bf16(model.init_params(jax.random.key(0)))
        model.save_pretrained(params, path, max_shard_size="16MB", progress=False)
    return path


def once(args: argparse.Namespace) -> None:
    """One call in this process; prints its seconds as JSON."""
    import jax

    import flaxmodels as fm

    jax.block_until_ready(jax.numpy.zeros(8) + 1)
    cls = fm.LlamaForCausalLM  # imported before the clock starts
    start = time.perf_counter()
    if args.once != "load":
        fm.download(NAME, progress=False)
    if args.once != "download":
        jax.block_until_ready(cls.from_pretrained(NAME, progress=False)[1])
    print(json.dumps({"seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    main()

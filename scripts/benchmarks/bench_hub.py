"""Time to loaded params over the time of the download alone, from a Hub of limited speed.

    python scripts/benchmarks/bench_hub.py [--megabytes 64] [--rate 20] [--runs 3] [--json FILE]

A Llama of random weights (float32, eight shards) lies in the tests' loopback Hub, which sends
`--rate` megabytes a second in all. Download: `fm.download` into an empty cache, hashes compared.
Load: `from_pretrained` into another empty cache, arrays ready. Both in turn, `--runs` times each,
after one load that is not counted.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["HF_HUB_DISABLE_XET"] = os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "helpers"))

import _bench
import loopback

NAME = "bench/llama"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=64)
    parser.add_argument("--rate", type=float, default=20)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json")
    args = parser.parse_args()
    with loopback.LoopbackHub() as hub, tempfile.TemporaryDirectory() as folder:
        os.environ |= {"HF_ENDPOINT": hub.endpoint, "HF_HOME": folder, "NO_PROXY": "127.0.0.1"}
        size = fill(hub, Path(folder) / "made", args.megabytes)
        hub.rate = args.rate * 1e6
        rows = [
            {"layers": "stacked" if scan else "apart"} | figures(Path(folder), size, scan, args)
            for scan in (False, True)
        ]
    _bench.report(rows, args.json)


def fill(hub: Any, folder: Path, megabytes: int) -> int:
    """Puts a checkpoint into the Hub -> its bytes."""
    import jax

    import flaxmodels as fm

    config = fm.LlamaConfig(
        vocab_size=2048,
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=max(1, round(megabytes / 12.85)),
        num_attention_heads=8,
    )
    model = fm.LlamaForCausalLM(config)
    params = model.init_params(jax.random.key(0))
    model.save_pretrained(params, folder, max_shard_size=megabytes * 10**6 // 8, progress=False)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    hub.commit(NAME, files)
    return sum(map(len, files.values()))


def figures(folder: Path, size: int, scan: bool, args: argparse.Namespace) -> dict[str, Any]:
    """The figures of loads with layers apart, or stacked."""
    import flaxmodels as fm

    def where() -> dict[str, Any]:
        return {"cache_dir": tempfile.mkdtemp(dir=folder), "progress": False}

    def load() -> Any:
        return fm.LlamaForCausalLM.from_pretrained(NAME, scan_layers=scan, **where())[1]

    def download() -> Any:
        return fm.download(NAME, **where())

    load()
    pairs = [(_bench.timed(download)[0], _bench.timed(load)[0]) for _ in range(args.runs)]
    return {
        "MB": size / 1e6,
        "MB/s": args.rate,
        "download s": _bench.median([alone for alone, _ in pairs]),
        "load s": _bench.median([loaded for _, loaded in pairs]),
        "ratio": _bench.median([loaded / alone for alone, loaded in pairs]),
    }


if __name__ == "__main__":
    main()

"""Measures how near loading, generating and training come to the ceilings of a device.

    python scripts/bench_device.py [--minutes 8] [--only WORD] [--folder DIR] [--json FILE]

On a GPU or a TPU, without a network, from the checkout (`PYTHONPATH=.`; nothing need be installed
but what flaxmodels needs); where PyTorch and Transformers are, they do the same work. Every part
runs in a process of its own, so that its peaks are its own and a part that fails takes no other
with it. A checkpoint of 1.1B params and one of 8B, 18 GB in all, are written under DIR. `--small`
tries the script with tiny models.

*memory*, *bus* and *matmul* are measured ceilings. A *ratio* is of seconds over the larger of
reading the files and sending them over the bus; a *share* is of the bandwidth of memory (decoding:
weights and cache, once a step) or of the rate of products (prefill: 2 operations a weight and
token; training: 6).
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ATTENTIONS = ("sdpa", "flash")
FRACTION = "0.9"  # of the device's memory, which JAX takes at once


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "fm-bench")
    parser.add_argument("--minutes", type=float, default=8, help="no part is begun after these")
    parser.add_argument("--only", default="", help="parts whose name has this in it")
    parser.add_argument("--small", action="store_true", help="tiny models, to try the script")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--ceilings", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        print(json.dumps(part(args.part, args)))
        return
    end = time.monotonic() + 60 * args.minutes
    rows, known = {}, {}
    for name in parts():
        wanted = args.only in name or name.split()[0] in ("ceilings", "write")
        if not wanted or (name.endswith("flash") and known.get("platform") != "gpu"):
            continue
        row = in_a_process(name, args, known, end) if time.monotonic() < end else {"left out": 0}
        if name == "ceilings" and "failed" not in row:
            known = row
        rows[name] = row
        print(f"{name:28}", "  ".join(f"{k} {shown(v)}" for k, v in row.items()), flush=True)
    text = json.dumps(rows)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


def parts() -> list[str]:
    """Lists the parts in the order in which they are run: what is cheap first."""
    names = ["ceilings"]
    torch = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))
    for shape in ("1B", "8B"):
        names += [f"write {shape}", f"load {shape} looped", f"load {shape} stacked"]
        names += [f"decode {shape}", *(f"prefill {shape} {kind}" for kind in ATTENTIONS)]
        if shape == "1B":
            names += [f"train {what} {kind}" for what in ("gpt2", "1B") for kind in ATTENTIONS]
        if torch:
            names += [f"torch-load {shape}", f"torch-generate {shape}"]
            names += ["torch-train gpt2"] if shape == "1B" else []
    return names


def in_a_process(
    name: str, args: argparse.Namespace, ceilings: dict[str, Any], end: float
) -> dict[str, Any]:
    """Runs a part; what went wrong is a row too."""
    command = [sys.executable, __file__, "--part", name, "--folder", str(args.folder)]
    command += ["--ceilings", json.dumps(ceilings), *(["--small"] if args.small else [])]
    environment = {"XLA_PYTHON_CLIENT_MEM_FRACTION": FRACTION, "HF_HUB_OFFLINE": "1"} | os.environ
    if name.startswith("write"):
        environment["JAX_PLATFORMS"] = "cpu"
    start = time.monotonic()
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=environment,
            timeout=max(60, end - start),
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"took more than {time.monotonic() - start:.0f} s"}
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return {"failed": lines[-1][:300]}
    return json.loads(done.stdout.splitlines()[-1])


def part(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Does what a name says, in this process."""
    sys.path.append(str(Path(__file__).with_name("benchmarks")))  # for _bench.py
    import _device

    sizes = _device.SMALL if args.small else _device.LARGE
    kind, shape, how = [*name.split(), "", ""][:3]
    folder = args.folder / f"device-{shape}{'-small' if args.small else ''}"
    if kind.startswith("torch-"):
        import _device_torch

        if kind == "torch-train":
            return _device_torch.train(sizes)
        if kind == "torch-load":
            return _device_torch.load(sizes, folder)
        return _device_torch.generate(sizes, _device.BATCHES, folder)
    if kind == "ceilings":
        return _device.ceilings(sizes)
    if kind == "write":
        there = (folder / "config.json").exists()
        return {"GB": "there"} if there else _device.write(sizes, shape, folder)
    known = args.ceilings
    ceilings = _device.Ceilings(
        known["memory GB/s"] * 1e9, known["bus GB/s"] * 1e9, known["matmul TFLOP/s"] * 1e12
    )
    if kind == "load":
        return _device.load(sizes, ceilings, folder, how == "stacked")
    if kind == "decode":
        return _device.decode(sizes, ceilings, folder)
    if kind == "prefill":
        return _device.prefill(sizes, ceilings, folder, how)
    return _device.train(sizes, ceilings, shape, how)


def shown(value: Any) -> str:
    """Returns a number in three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()

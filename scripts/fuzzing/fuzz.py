"""Coverage-guided fuzzing of the parsers of checkpoint files, by hand.

    python scripts/fuzzing/fuzz.py TARGET [--runs N] [--seconds S] [--json FILE]

TARGET is one of `_fuzz_targets.py`, or `all` of them in turn. Needs atheris, which is no
dependency of the project: `pip install atheris` (Linux, Python 3.11 to 3.14).

A file is read, or refused with CheckpointError (ConfigError for config.json). Anything else, more
than 5 s, or 64 MiB more memory than ever before is a failure, and the file that caused it is left
in `tests/corpus/<target>`, called crash-, timeout- or oom-...; `test_fuzz_corpus.py` replays it.
What it finds on the way is kept in `build/fuzz/<target>` for the next run; `--merge` puts the
smallest files that together reach all that code into `tests/corpus/<target>` instead of fuzzing.
"""

import argparse
import contextlib
import os
import random
import re
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

try:
    import atheris
except ImportError:
    sys.exit("fuzz.py needs atheris: pip install atheris")

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "tests" / "corpus"
_MOST_GROWTH = 64 << 20
_MOST_MEMORY = 16 << 30
_LONGEST = 4096
_LIMITS = ["-timeout=5", "-rss_limit_mb=2048", f"-max_len={_LONGEST}"]


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        fuzz(sys.argv[2], sys.argv[3:])
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("target", help="a target, or all")
    parser.add_argument("--runs", type=int, default=100_000, help="of each target; -1: no limit")
    parser.add_argument("--seconds", type=int, default=0, help="of each target; 0: no limit")
    parser.add_argument("--json")
    parser.add_argument("--merge", action="store_true")
    args = parser.parse_args()
    names = [name for name in _targets() if args.target in (name, "all")]
    if not names:
        parser.error(f"no target {args.target}; there are {', '.join(_targets())}")
    if args.merge:
        for name in names:
            merge(name)
        return
    limits = [f"-runs={args.runs}", f"-max_total_time={args.seconds}"]
    rows = [measured(name, limits) for name in names]
    import _bench  # and so the package, which a child must import under atheris

    _bench.report(rows, args.json)
    if any(row["result"] != "passed" for row in rows):
        sys.exit(1)


def _targets() -> list[str]:
    code = "import _fuzz_targets; print(*_fuzz_targets.TARGETS)"
    folder = Path(__file__).parent
    return subprocess.check_output([sys.executable, "-c", code], cwd=folder, text=True).split()


def measured(name: str, limits: list[str]) -> dict[str, Any]:
    """Fuzzes one target in a process of its own -> a row of the table."""
    work, committed = ROOT / "build" / "fuzz" / name, CORPUS / name
    work.mkdir(parents=True, exist_ok=True)
    committed.mkdir(parents=True, exist_ok=True)
    flags = [*_LIMITS, *limits, f"-artifact_prefix={committed}/", "-print_final_stats=1"]
    if (words := CORPUS / f"{name}.dict").exists():
        flags.append(f"-dict={words}")
    start = time.monotonic()
    command = [sys.executable, __file__, "--child", name, *flags, str(work), str(committed)]
    log = work.parent / f"{name}.log"
    with log.open("wb") as file, _folder() as env:
        code = subprocess.call(command, stdout=file, stderr=subprocess.STDOUT, env=env)
    seconds = time.monotonic() - start
    said = log.read_text(errors="replace")
    count = int(_found(said, r"stat::number_of_executed_units: *(\d+)"))
    left = re.search(r"Test unit written to (\S+)", said)
    return {
        "target": name,
        "executions": count,
        "per second": round(count / seconds),
        "new units": int(_found(said, r"stat::new_units_added: *(\d+)")),
        "MiB grown": int(_found(said, r"stat::peak_rss_mb: *(\d+)"))
        - int(_found(said, r"INITED.*rss: (\d+)")),
        "result": Path(left[1]).name if left else f"exit {code}" if code else "passed",
    }


def _found(text: str, pattern: str) -> str:
    found = re.findall(pattern, text)
    return found[-1] if found else "0"


def merge(name: str) -> None:
    """Adds to the committed corpus what of the working one reaches code that it does not."""
    # libFuzzer starts itself again, by a name that must be that of a program.
    starter = ROOT / "build" / "fuzz" / f"{name}.sh"
    command = shlex.join([sys.executable, __file__, "--child", name])
    starter.write_text(f'#!/bin/sh\nFUZZ_PROGRAM="$0" exec {command} "$@"\n')
    starter.chmod(0o755)
    flags = [
        "-merge=1",
        "-use_counters=0",
        *_LIMITS,
        str(CORPUS / name),
        str(starter.parent / name),
    ]
    with _folder() as env:
        done = subprocess.run([starter, *flags], capture_output=True, text=True, env=env)
    print("\n".join(done.stderr.splitlines()[-3:]))


@contextlib.contextmanager
def _folder() -> Iterator[dict[str, str]]:
    """An environment that names a folder for files, which libFuzzer would leave behind."""
    shared = "/dev/shm" if os.path.isdir("/dev/shm") else None  # never written to a disk
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        yield os.environ | {"FUZZ_FOLDER": folder}


def fuzz(name: str, flags: list[str]) -> None:
    """Fuzzes one target in this process, until libFuzzer ends it."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    with atheris.instrument_imports(include=["flaxmodels"]):  # pyright: ignore[reportAttributeAccessIssue]
        import _fuzz_harness
        import _fuzz_targets
    import _fuzz_mutate

    target = _fuzz_targets.TARGETS[name]
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))
    most = 0

    def one(data: bytes) -> None:
        nonlocal most
        _fuzz_harness.accepts(target, data)
        before, most = most, _peak()
        if before and most - before > _MOST_GROWTH:
            raise MemoryError(f"{most - before} bytes more than ever before")

    def mutated(data: bytes, most_bytes: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if rng.random() < 0.7:
            made = _fuzz_mutate.mutated_json(data, rng, target.head or 0)
            if made is not None and len(made) <= most_bytes:
                return made
        return atheris.Mutate(data, most_bytes)

    program = os.environ.get("FUZZ_PROGRAM", sys.argv[0])
    mutator = {} if target.head is None else {"custom_mutator": mutated}
    atheris.Setup([program, *flags], one, **mutator)
    with target.around():
        _fuzz_harness.accepts(target, b"")  # loads what is loaded on first use
        atheris.Fuzz()


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


if __name__ == "__main__":
    main()

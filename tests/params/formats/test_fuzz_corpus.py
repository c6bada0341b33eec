"""The fuzzer's files, and mutants of them: every parser reads them, or raises what it says it does
(`docs/fuzzing.md`)."""

import random
import time
import tracemalloc

import pytest
from _fuzz_harness import accepts
from _fuzz_mutate import mutated, mutated_json
from _fuzz_targets import TARGETS
from _paths import ROOT

MUTANTS = 4000
SECONDS = 0.1, 0.7  # of each target's mutants, by default and with `--all`
MOST_MEMORY = 8 << 20  # bytes; files have 4 KiB, and tensors below 1 MiB are read


def corpus(name: str) -> list[bytes]:
    paths = sorted((ROOT / "tests" / "corpus" / name).iterdir())
    return [path.read_bytes() for path in paths]


@pytest.mark.parametrize("name", TARGETS)
def test_corpus(name):
    target = TARGETS[name]
    with target.around():
        read = [accepts(target, content) for content in corpus(name)]
    assert any(read) and not all(read)


@pytest.mark.parametrize("name", TARGETS)
def test_mutants(name, thorough):
    target, files, rng = TARGETS[name], corpus(name), random.Random(0)
    count, end = 0, time.process_time() + SECONDS[thorough]
    with target.around():
        while count < 100 or (count < MUTANTS and time.process_time() < end):
            content = rng.choice(files)
            made = None
            if target.head is not None and rng.random() < 0.7:
                made = mutated_json(content, rng, target.head)
            accepts(target, mutated(content, rng, files) if made is None else made)
            count += 1


@pytest.mark.parametrize("name", TARGETS)
def test_memory(name):
    target, files = TARGETS[name], corpus(name)
    with target.around():
        accepts(target, files[0])  # what is made on first use
        for content in files:
            tracemalloc.start()
            try:
                accepts(target, content)
                assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
            finally:
                tracemalloc.stop()


def test_the_corpus_is_small():
    sizes = [path.stat().st_size for path in (ROOT / "tests").glob("corpus/**/*") if path.is_file()]
    assert len(sizes) > 300 and max(sizes) <= 4096 and sum(sizes) < 400_000

"""Where the tests find the repository and what the real libraries wrote."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GOLDENS = ROOT / "tests" / "goldens"
LLAMA = GOLDENS / "llama-causal-lm" / "checkpoint"  # two layers
SHARDED = GOLDENS / "llama-sharded" / "checkpoint"  # the same in four shards

"""Kills a training run at random instants, takes it up each time, and compares its loss curve with
that of a run that nobody killed.

    .venv/bin/python -P scripts/soaks/soak_resume.py [--kills 30] [--seed 0]

Prints the table of docs/training.md. A kill is SIGKILL, up to 60 ms after a random step has begun;
"in a save" counts those that left the rest of one. A loss is compared to its last bit.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TRAINER = ROOT / "tests/helpers/_trainer.py"
EVERY = 2  # steps
MODES = {"written while training goes on": "async", "written within the call": "sync"}
_LONGEST = 0.06  # seconds from the beginning of a step to a kill; a save takes about half of it
_FARTHEST = 9  # steps from the beginning of a run to a kill


def trained(folder: str, *arguments: Any) -> tuple[int, dict[int, str]]:
    """Runs the trainer -> (how it ended, {step: loss})."""
    command = [sys.executable, "-P", TRAINER, folder, *map(str, arguments)]
    env = dict(os.environ) | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if ended.returncode not in (0, -9):
        raise SystemExit(ended.stderr)
    lines = [line.split() for line in ended.stdout.splitlines()]
    return ended.returncode, {int(step): loss for step, loss in lines}


def soak(mode: str, kills: int, seed: int) -> dict[str, Any]:
    """Kills a run so many times and ends it -> what was found."""
    draw = random.Random(seed)
    found: dict[str, Any] = {"in a save": 0, "redone": 0, "wrong": []}
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        run, losses, done = f"{folder}/run", {}, 0
        for _ in range(kills):
            at = done + draw.randint(1, _FARTHEST)
            _, part = trained(run, 1 << 30, EVERY, mode, at, draw.uniform(0.0, _LONGEST))
            found["redone"] += sum(step in losses for step in part)
            found["wrong"] += [step for step in part if losses.get(step, part[step]) != part[step]]
            found["in a save"] += any("tmp" in name for name in os.listdir(run))
            losses |= part
            done = max(part)
        code, part = trained(run, done + EVERY, EVERY, mode)
        losses |= part
        _, whole = trained(f"{folder}/whole", done + EVERY, EVERY, mode)
    found["wrong"] += [step for step, loss in whole.items() if losses.get(step) != loss]
    found["wrong"] += [step for step in losses if step not in whole]
    found["steps"] = len(whole)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print("| mode | kills | in a save | steps | done twice | losses that differ |")
    print("|---|---|---|---|---|---|", flush=True)
    failed = False
    for name, mode in MODES.items():
        found = soak(mode, options.kills, options.seed)
        counts = (found["in a save"], found["steps"], found["redone"], len(found["wrong"]))
        print(f"| {name} | {options.kills} | {' | '.join(map(str, counts))} |", flush=True)
        failed |= bool(found["wrong"])
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

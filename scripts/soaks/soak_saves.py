"""Kills savers at random instants, in every mode of saving, and looks at what is there then.

    .venv/bin/python -P scripts/soaks/soak_saves.py [--kills 200] [--only WORD]

Prints the table of docs/formats.md. "old" and "new" count the kills after which the whole old or
new checkpoint was found, every tensor read, and compared with checksums.json where there is one.
Mounts and namespaces need root; their rows say so where this is not.
"""

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/goldens/llama-causal-lm/checkpoint/config.json"
SAVER = ROOT / "tests/helpers/_saver.py"
BIND = "mkdir ck && mount --bind ck ck"
OVERLAY = (
    "mkdir all && mount -t tmpfs tmpfs all && mkdir -p all/lower/ck all/upper all/work && "
    "mount -t overlay overlay -o lowerdir=all/lower,upperdir=all/upper,workdir=all/work ."
    " && cd . "
)
NO_EXCHANGE = "disk without exchange"
MODES = {
    "folder of its own, safetensors": "swap",
    "folder of its own, with checksums": "swap+checksums",
    "folder of its own, msgpack": "swap+msgpack",
    "folder of its own, orbax": "swap+orbax",
    "among other files, safetensors": "in-place",
    "among other files, with checksums": "in-place+checksums",
    "among other files, msgpack": "in-place+msgpack",
    "among other files, orbax": "in-place+orbax",
    f"{NO_EXCHANGE}, with checksums": "no-exchange+checksums",
    f"{NO_EXCHANGE}, msgpack": "no-exchange+msgpack",
    f"{NO_EXCHANGE}, orbax, with checksums": "no-exchange+orbax+checksums",
    "exchange that fails at last (EXDEV), with checksums": "late+checksums",
}
MOUNTS = {
    "mount point (EBUSY), with checksums": (BIND, "mount+checksums"),
    "mount point (EBUSY), orbax": (BIND, "mount+orbax"),
    "lower layer of an overlay (EXDEV), with checksums": (OVERLAY, "mount+checksums"),
}
APART = "two PID namespaces at once, one host name"


def command(mode: str, folder: str, *what: str) -> list[str]:
    return [sys.executable, "-W", "ignore", "-P", str(SAVER), str(GOLDEN), folder, mode, *what]


def outcome(process: "subprocess.Popen[str]") -> dict:
    out, errors = process.communicate()
    if process.returncode:
        return {"wrong": [errors.strip().splitlines()[-1] if errors.strip() else "no output"]}
    return json.loads(out.splitlines()[-1])


def start(words: list[str], folder: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        words,
        cwd=folder,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def killed(mode: str, kills: str, folder: str) -> dict:
    return outcome(start(command(mode, "ck", "random", kills), folder))


def mounted(script: str, mode: str, kills: str, folder: str) -> dict:
    words = ["unshare", "-m", "sh", "-c", f'{script} && cd "$PWD" && exec "$@"', "sh"]
    return outcome(start([*words, *command(mode, "ck", "random", kills)], folder))


def apart(kills: str, folder: str) -> dict:
    first = outcome(start(command("swap", "ck", "last"), folder))
    words = ["unshare", "-p", "-f", "--mount-proc"]
    both = [
        start([*words, *command("swap", "ck", "beside", str(int(kills) // 2), seed)], folder)
        for seed in ("1", "2")
    ]
    found = [outcome(process) for process in both]
    last = outcome(start(command("swap", "ck", "last"), folder))
    wrong = [error for said in (first, *found, last) for error in said.get("wrong", [])]
    whole = sum(said.get("whole", 0) for said in found)
    return {"whole": whole, "wrong": wrong, "left": last.get("left", [])}


def row(name: str, said: dict) -> str:
    found = said.get("whole", f"{said.get('old', 0)} / {said.get('new', 0)}")
    return f"| {name} | {found} | {len(said['wrong'])} | {len(said.get('left', []))} |"


def main() -> int:
    parser = argparse.ArgumentParser(description="Kills savers in every mode of saving.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--only", default="", help="modes whose name has this word")
    options = parser.parse_args()
    kills = str(options.kills)
    runs: dict[str, Callable[[str], dict]] = {
        name: functools.partial(killed, mode, kills) for name, mode in MODES.items()
    }
    if os.getuid() == 0:
        runs |= {
            name: functools.partial(mounted, script, mode, kills)
            for name, (script, mode) in MOUNTS.items()
        }
        runs[APART] = functools.partial(apart, kills)
    print("| mode | old / new found | wrong | left over |\n|---|---|---|---|", flush=True)
    failed = False
    for name, run in runs.items():
        if options.only in name:
            with tempfile.TemporaryDirectory(prefix="soak-") as folder:
                said = run(folder)
            print(row(name, said), flush=True)
            for error in said["wrong"]:
                print(error, file=sys.stderr, flush=True)
            failed |= bool(said["wrong"] or said.get("left"))
    if os.getuid():
        print(f"not run without root: {', '.join([*MOUNTS, APART])}", file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

"""Starts the processes of one run: on this machine, under SLURM, or on all hosts of a TPU pod.

    scripts/launch -n 4 train.py --steps 100              four processes here, a CPU device each
    scripts/launch -n 2 --devices 4 train.py              two, of four CPU devices each
    scripts/launch -n 8 --gpus train.py                   eight, a GPU each
    scripts/launch --slurm --nodes 4 train.py             prints a script for sbatch; --go submits
    scripts/launch --tpu NAME --zone ZONE train.py        prints the gcloud command; --go runs

The program calls `flaxmodels.sharding.initialize()`, without arguments, before it touches a device.
Here, each line of output begins with the number of its process; when one fails, the others have
`--grace` seconds to say so and end, and the code of the first is returned; Ctrl-C ends all.
"""

import argparse
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

_GRACE = 20.0  # seconds, more than the others need to notice a death
_LAST = 5.0  # seconds from SIGTERM to SIGKILL


def parser() -> argparse.ArgumentParser:
    """Makes the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="scripts/launch",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("-n", type=int, default=None, help="processes here; per node under SLURM")
    made.add_argument("--devices", type=int, default=1, help="CPU devices of each (default 1)")
    made.add_argument("--gpus", action="store_true", help="process i takes GPU i")
    made.add_argument("--grace", type=float, default=_GRACE, help="seconds (default %(default)g)")
    made.add_argument("--slurm", action="store_true", help="print a script for sbatch")
    made.add_argument("--nodes", type=int, default=1, help="with --slurm (default 1)")
    made.add_argument("--tpu", metavar="NAME", help="print the command for this TPU's hosts")
    made.add_argument("--zone", help="of the TPU")
    made.add_argument("--folder", default="~", help="of the program on the hosts (default ~)")
    made.add_argument("--python", default="python3", help="on the hosts (default %(default)s)")
    made.add_argument("--go", action="store_true", help="run what --slurm or --tpu would print")
    made.add_argument("program", help="a Python file, or -m and a module after --")
    made.add_argument("arguments", nargs=argparse.REMAINDER)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line -> the code to exit with."""
    made = parser()
    args = made.parse_args(arguments)
    if args.slurm and args.tpu:
        made.error("give --slurm or --tpu, not both")
    if (args.n is not None and args.n < 1) or args.devices < 1 or args.nodes < 1:
        made.error("-n, --devices and --nodes are at least 1")
    command = [args.program, *args.arguments]
    if args.slurm:
        script = slurm_script(
            [args.python, "-u", *command], args.nodes, args.n or 1, gpus=args.gpus
        )
        return _go(["sbatch"], script) if args.go else _print(script)
    if args.tpu:
        if args.zone is None:
            made.error("--tpu needs --zone")
        line = tpu_command(command, args.tpu, args.zone, args.folder, args.python)
        return _go(line) if args.go else _print(shlex.join(line) + "\n")
    if args.n is None:
        made.error("-n says how many processes to start here")
    environments = local_environments(args.n, args.devices, gpus=args.gpus)
    return run([sys.executable, "-u", *command], environments, args.grace)


def local_environments(count: int, devices: int, *, gpus: bool = False) -> list[dict[str, str]]:
    """Returns the environment of each process of a run on this machine."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    made = []
    for number in range(count):
        own = {
            "JAX_COORDINATOR_ADDRESS": address,
            "JAX_NUM_PROCESSES": str(count),
            "JAX_PROCESS_ID": str(number),
        }
        if gpus:
            own["JAX_LOCAL_DEVICE_IDS"] = str(number)
        else:
            kept = [
                flag
                for flag in os.environ.get("XLA_FLAGS", "").split()
                if not flag.startswith("--xla_force_host_platform_device_count")
            ]
            kept.append(f"--xla_force_host_platform_device_count={devices}")
            own |= {"XLA_FLAGS": " ".join(kept), "JAX_PLATFORMS": "cpu"}
        made.append(dict(os.environ) | own)
    return made


def run(command: Sequence[str], environments: Sequence[dict[str, str]], grace: float) -> int:
    """Runs a command once in each environment -> 0, or the code of the first that failed."""
    processes: list[subprocess.Popen] = []
    readers: list[threading.Thread] = []
    # A flag, not an exception: that could come between a process and its place in the list.
    stop = threading.Event()
    before = {n: signal.signal(n, lambda *_: stop.set()) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        _start(command, environments, processes, readers)
        code = _wait(processes, grace, stop)
        if stop.is_set():
            _say("interrupted; ending all")
            code = 130
            _send(processes, signal.SIGINT)
            _wait_until(processes, time.monotonic() + _LAST)
    finally:
        _end(processes)
        for number, handler in before.items():
            signal.signal(number, handler)
    for reader in readers:
        reader.join(_LAST)
    return code


def _start(
    command: Sequence[str],
    environments: Sequence[dict[str, str]],
    processes: list[subprocess.Popen],
    readers: list[threading.Thread],
) -> None:
    """Starts the processes, and what copies their output, each into its list at once: an error of
    one finds those that there are."""
    lock = threading.Lock()
    for number, env in enumerate(environments):
        # A session each: Ctrl-C comes here alone, and what they start ends with them.
        process = subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        processes.append(process)
        for source, target in ((process.stdout, sys.stdout), (process.stderr, sys.stderr)):
            reader = threading.Thread(
                target=_copy, args=(source, target, number, lock), daemon=True
            )
            reader.start()
            readers.append(reader)


def _wait(processes: Sequence[subprocess.Popen], grace: float, stop: threading.Event) -> int:
    """Waits until all have ended, for `grace` seconds after the first failure, or until `stop`."""
    until = float("inf")
    code = 0
    while not stop.is_set() and None in [process.poll() for process in processes]:
        failed = [i for i, process in enumerate(processes) if process.returncode]
        if failed and not code:
            code = _code(processes[failed[0]])
            until = time.monotonic() + grace
            _say(f"process {failed[0]} failed ({code}); the others have {grace:g} s")
        if time.monotonic() > until:
            left = [str(i) for i, process in enumerate(processes) if process.returncode is None]
            _say(f"ending process {', '.join(left)}")
            return code
        time.sleep(0.05)
    return code or next((_code(process) for process in processes if process.returncode), 0)


def _code(process: subprocess.Popen) -> int:
    """Returns what a shell would return: 128 and the signal, of one that was killed."""
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _end(processes: Sequence[subprocess.Popen]) -> None:
    """Ends those that run, and what they started."""
    _send(processes, signal.SIGTERM)
    _wait_until(processes, time.monotonic() + _LAST)
    _send(processes, signal.SIGKILL)
    for process in processes:
        process.wait()


def _send(processes: Sequence[subprocess.Popen], number: signal.Signals) -> None:
    for process in processes:
        if process.poll() is None:
            try:
                os.killpg(process.pid, number)
            except ProcessLookupError:
                continue


def _wait_until(processes: Sequence[subprocess.Popen], until: float) -> None:
    while time.monotonic() < until and None in [process.poll() for process in processes]:
        time.sleep(0.05)


def _copy(source: IO[bytes], target: IO[str], number: int, lock: threading.Lock) -> None:
    """Copies lines, each with the number of its process before it."""
    with source:
        for line in source:
            with lock:
                target.write(f"[{number}] {line.decode(errors='replace').rstrip()}\n")
                target.flush()


def slurm_script(command: Sequence[str], nodes: int, tasks: int, *, gpus: bool = False) -> str:
    """Returns the script of a batch job: `tasks` processes on each of `nodes` nodes, which JAX
    finds by SLURM's own variables. When one fails, SLURM ends the others."""
    head = [
        "#!/bin/bash",
        f"#SBATCH --job-name={Path(command[2]).stem}",
        f"#SBATCH --nodes={nodes}",
        f"#SBATCH --ntasks-per-node={tasks}",
    ]
    if gpus:
        head.append(f"#SBATCH --gpus-per-node={tasks}")
    line = f"srun --label --kill-on-bad-exit=1 {shlex.join(command)}"
    return "\n".join([*head, "", line, ""])


def tpu_command(
    command: Sequence[str], name: str, zone: str, folder: str, python: str
) -> list[str]:
    """Returns the command that starts the program on all hosts of a TPU pod, a process each,
    which JAX finds by the pod's metadata."""
    inside = f"cd {folder} && {python} -u {shlex.join(command)}"  # the hosts' shell knows ~
    ssh = ["gcloud", "compute", "tpus", "tpu-vm", "ssh", name]
    return [*ssh, f"--zone={zone}", "--worker=all", f"--command={inside}"]


def _go(command: list[str], text: str | None = None) -> int:
    try:
        return subprocess.run(command, input=text, text=True, check=False).returncode
    except FileNotFoundError:
        _say(f"there is no {command[0]} on this machine; without --go the command is printed")
        return 127


def _print(text: str) -> int:
    print(text, end="")
    return 0


def _say(text: str) -> None:
    print(f"launch: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

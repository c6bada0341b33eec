"""`scripts/launch`: processes here, the script for SLURM, the command for a TPU pod."""

import os
import shlex
import signal
import subprocess
import sys
import time

import _children
import launch
import pytest
from _paths import ROOT

JOINED = """
import sys, jax
from flaxmodels import sharding as fs
fs.initialize()
print("of", jax.process_count(), "with", jax.local_device_count(), sys.argv[1:])
print("to stderr", file=sys.stderr)
"""

PLAIN = """
import os, signal, sys, time
number = int(os.environ["JAX_PROCESS_ID"])
what = sys.argv[1]
print("started", flush=True)
if what == "fails" and number == 1:
    sys.exit(7)
if what == "killed" and number == 1:
    os.kill(os.getpid(), signal.SIGKILL)
if what == "says" and number == 1:
    sys.exit(3)
if what == "says":
    time.sleep(0.3)
    print("process 1 failed, I stop", flush=True)
    sys.exit(4)
if what == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if number == 1:
        sys.exit(9)
if what != "ends":
    time.sleep(60)
"""


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PLAIN)
    return path


def test_two_processes_join_without_arguments(tmp_path):
    (tmp_path / "joined.py").write_text(JOINED)
    start = [ROOT / "scripts/launch.py", "-n", "2", "--devices", "3", "joined.py", "--steps", "5"]
    result = _children.run(*start, cwd=tmp_path, timeout=120)
    assert result.returncode == 0, result.stderr
    assert sorted(result.stdout.splitlines()) == [
        f"[{i}] of 2 with 3 ['--steps', '5']" for i in range(2)
    ]
    assert {"[0] to stderr", "[1] to stderr"} <= {*result.stderr.splitlines()}


@pytest.mark.parametrize(
    ("what", "code", "says"),
    [
        ("ends", 0, ""),
        ("fails", 7, "process 1 failed (7)"),
        ("killed", 137, "process 1 failed (137)"),
        ("says", 3, "process 1 failed (3)"),
        ("deaf", 9, "ending process 0"),
    ],
)
def test_the_first_that_fails_ends_all(what, code, says, program, capfd, monkeypatch):
    monkeypatch.setattr(launch, "_LAST", 0.3)
    environments = launch.local_environments(3, 1)
    grace = 5 if what == "says" else 0.2
    begin = time.monotonic()
    # -S -E: without site-packages an interpreter starts in a tenth of the time.
    command = [sys.executable, "-S", "-E", "-u", str(program), what]
    assert launch.run(command, environments, grace) == code
    assert time.monotonic() - begin < 15
    out, err = capfd.readouterr()
    assert "[0] started" in out and says in err
    if what == "says":  # they had the time to
        assert "[0] process 1 failed, I stop" in out and "[2] process 1" in out
        assert "ending process" not in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_all(number, program, tmp_path):
    line = [sys.executable, "-S", "-E", ROOT / "scripts/launch.py", "-n", "2", program, "sleeps"]
    child = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert {child.stdout.readline() for _ in range(2)} == {"[0] started\n", "[1] started\n"}
    child.send_signal(number)
    _, err = child.communicate(timeout=20)
    assert child.returncode == 130 and "interrupted; ending all" in err
    there = subprocess.run(["pgrep", "-f", str(program)], capture_output=True, text=True)
    assert there.stdout == ""


def test_environments_of_processes(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=8 --xla_foo=1")
    first, second = launch.local_environments(2, 4)
    assert first["XLA_FLAGS"] == "--xla_foo=1 --xla_force_host_platform_device_count=4"
    assert first["JAX_COORDINATOR_ADDRESS"] == second["JAX_COORDINATOR_ADDRESS"]
    assert [of["JAX_PROCESS_ID"] for of in (first, second)] == ["0", "1"]
    first, second = launch.local_environments(2, 1, gpus=True)
    assert second["JAX_LOCAL_DEVICE_IDS"] == "1" and second["XLA_FLAGS"] == os.environ["XLA_FLAGS"]


def test_the_script_for_slurm(capsys, tmp_path):
    line = ["--slurm", "--nodes", "4", "-n", "8", "--gpus", "train.py", "--name", "a b"]
    assert launch.main(line) == 0
    script = capsys.readouterr().out
    assert "#SBATCH --nodes=4\n#SBATCH --ntasks-per-node=8\n#SBATCH --gpus-per-node=8\n" in script
    last = "srun --label --kill-on-bad-exit=1 python3 -u train.py --name 'a b'"
    assert script.endswith(f"{last}\n")
    (tmp_path / "job").write_text(script)
    assert subprocess.run(["bash", "-n", tmp_path / "job"]).returncode == 0


def test_the_command_for_a_pod(capsys):
    line = ["--tpu", "pod", "--zone", "us-west4-a", "--folder", "work", "train.py", "--name", "a b"]
    assert launch.main(line) == 0
    said = shlex.split(capsys.readouterr().out)
    assert said[:6] == ["gcloud", "compute", "tpus", "tpu-vm", "ssh", "pod"]
    assert said[6:8] == ["--zone=us-west4-a", "--worker=all"]
    assert said[8] == "--command=cd work && python3 -u train.py --name 'a b'"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (["program.py"], "-n says how many"),
        (["-n", "0", "program.py"], "at least 1"),
        (["--tpu", "pod", "program.py"], "--tpu needs --zone"),
        (["--slurm", "--tpu", "pod", "program.py"], "not both"),
    ],
)
def test_a_line_that_says_too_little_or_too_much(line, says, capsys):
    with pytest.raises(SystemExit):
        launch.main(line)
    assert says in capsys.readouterr().err


def test_without_the_command_of_the_cluster(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/nowhere")
    assert launch.main(["--slurm", "--go", "program.py"]) == 127
    assert "there is no sbatch on this machine" in capsys.readouterr().err

"""`fs.initialize`: what it refuses, at once or within its limit, and never by aborting."""

import os

import jax
import pytest
from _runs import Run, free_port

from flaxmodels import sharding as fs

ADDRESS = "localhost:8476"


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"coordinator_address": "localhost"}, ValueError, "the host of process 0 and a free port"),
        ({"coordinator_address": "localhost:99999"}, ValueError, "99999"),
        ({"num_processes": 0}, ValueError, "num_processes is 0"),
        ({"num_processes": 2.0}, TypeError, "num_processes is 2.0; expected an int"),
        ({"process_id": -1}, ValueError, "process_id is -1"),
        ({"num_processes": 2, "process_id": 2}, ValueError, "the numbers 0 to 1"),
        ({"initialization_timeout": 0}, ValueError, "initialization_timeout is 0"),
        ({"work_timeout_seconds": "1"}, ValueError, "work_timeout_seconds is '1'"),
    ],
)
def test_arguments_that_cannot_be(arguments, error, says):
    with pytest.raises(error, match=says):
        fs.initialize(**arguments)


def test_after_a_device_was_touched():
    jax.devices()
    with pytest.raises(RuntimeError, match="before anything that touches a device"):
        fs.initialize(ADDRESS, 1, 0)


ALONE = """
say("nothing given", said_of(fs.initialize))
say("half given", said_of(lambda: fs.initialize(f"localhost:{given[0]}", 2)))
say("nobody there", said_of(lambda: fs.initialize(
    f"localhost:{given[0]}", 2, 1, initialization_timeout=1)))
say("not all", said_of(lambda: join(initialization_timeout=2)))
say("goes on", float(jnp.ones(3).sum()))
"""


def test_a_run_that_does_not_come_together(monkeypatch):
    """Of two processes one is started; it may go on alone."""
    for name in (
        "SLURM_JOB_ID",
        "OMPI_MCA_orte_hnp_uri",
        "JAX_COORDINATOR_ADDRESS",
        "JAX_PROCESS_ID",
    ):
        monkeypatch.delenv(name, raising=False)
    run = Run(ALONE, free_port(), count=2, only=(0,))
    (said,) = run.said()
    assert "JAX found no TPU pod, SLURM or Open MPI" in said["nothing given"]["error"]
    assert "process id" in said["half given"]["error"]
    late = said["nobody there"]["error"]
    assert late.startswith("TimeoutError: process 1 cannot reach the coordinator") and "1 s" in late
    assert "TimeoutError: not all of 2 processes joined" in said["not all"]["error"]
    assert said["nobody there"]["seconds"] < 10 and said["not all"]["seconds"] < 10
    assert said["goes on"] == 3


def under_slurm(number):
    return {
        "SLURM_JOB_ID": "77",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_NUM_NODES": "1",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": str(number),
        "SLURM_LOCALID": str(number),
    }


def under_open_mpi(number):
    return {
        "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://127.0.0.1:34911",
        "OMPI_COMM_WORLD_SIZE": "2",
        "OMPI_COMM_WORLD_RANK": str(number),
        "OMPI_COMM_WORLD_LOCAL_RANK": str(number),
    }


@pytest.mark.parametrize(
    "under", [under_slurm, pytest.param(under_open_mpi, marks=pytest.mark.soak)]
)
def test_under_a_cluster_nothing_is_given(under):
    program = "fs.initialize(); say('of', [jax.process_index(), jax.process_count()])"
    port = {"JAX_COORDINATOR_PORT": str(free_port())}
    run = Run(program, count=2, env=lambda number: dict(os.environ) | under(number) | port)
    assert [of["of"] for of in run.said()] == [[0, 2], [1, 2]]


def test_a_variable_that_is_no_number(monkeypatch):
    monkeypatch.setenv("JAX_PROCESS_ID", "first")
    with pytest.raises(ValueError, match="JAX_PROCESS_ID is 'first' in the environment"):
        fs.initialize(ADDRESS, 2)

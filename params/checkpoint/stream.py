"""Streaming: from the files of a checkpoint into sharded arrays, one chunk per worker at a time."""

import os
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Any

from tqdm import tqdm

from ..host.threads import Modes
from ..types import Params
from .device.loader import DeviceLoader
from .host_memory import check_fits, chunk_bytes
from .leaf_loader import LeafLoader, files_of
from .leaf_plan import LeafPlan
from .load_plan import LoadPlan

_WAITING = 16  # threads
_LOOK = 0.2  # seconds


def stream(plan: LoadPlan, *, progress: bool = True, workers: int | None = None) -> Params:
    """Reads what a plan says; returns the tree of its leaves, each on its devices and ready.

    Host memory in use beyond the finished params stays below `plan.max_host_memory`.

    Args:
        progress: show a bar in bytes if it takes longer than a second.
        workers: threads that read; as many as there are cores, at most 8, if None; 16 where they
            wait for a network.

    Raises:
        CheckpointError: a file that changed, or cannot be read any more; or params that are more
            than all the memory there is.
    """
    check_fits(plan.held_on_host, plan.match.source.where)
    files = list(dict.fromkeys(file for leaf in plan.leaves for file in files_of(leaf)))
    most = _WAITING if any(file.is_remote for file in files) else min(8, os.cpu_count() or 1)
    workers = workers or max(1, min(most, len(plan.leaves)))
    by_host = [leaf for leaf in plan.leaves if leaf.route.kind == "host"]
    with (
        tqdm(
            total=plan.stored_bytes, unit="B", unit_scale=True, delay=1, disable=not progress
        ) as bar,
        ThreadPoolExecutor(workers, thread_name_prefix="flaxmodels-load") as pool,
        ThreadPoolExecutor(1, thread_name_prefix="flaxmodels-load") as launcher,
    ):
        loader = LeafLoader(chunk_bytes(plan.host_bytes, workers), bar)
        devices = DeviceLoader(plan.leaves, plan.limits, workers, bar)
        modes = Modes.of_caller()
        try:
            for file in files:
                file.announce()
            for file in files:
                file.start()
            launched = launcher.submit(devices.load, modes)
            jobs = _jobs(plan, by_host)
            futures = [pool.submit(loader.load_each, job, modes) for job in jobs]
            # An exception that another thread raises in this one, as when a peer dies, arrives
            # between two waits: not in the middle of one.
            everything: list[Future[Any]] = [*futures, launched]
            while wait(everything, _LOOK, FIRST_EXCEPTION).not_done:
                if loader.error is not None:
                    devices.fail(loader.error)  # other processes may wait for what it launches
                    devices.stop.wait(_LOOK)
                if devices.stop.is_set():
                    break
            if error := loader.error or devices.error:
                raise error
            loaded = dict(launched.result())
            for future in futures:
                loaded |= future.result()
            return plan.tree({leaf.path: loaded[leaf.path] for leaf in plan.leaves})
        except BaseException:  # Ctrl-C too: nothing goes on in the background
            loader.stop.set()
            devices.stop.set()
            for file in files:
                file.stop()
            pool.shutdown(cancel_futures=True)
            raise


def _jobs(plan: LoadPlan, leaves: list[LeafPlan]) -> list[list[LeafPlan]]:
    """Groups leaves: the arrays of a packed weight together, for one may be found with another."""
    groups: dict[str, list[LeafPlan]] = {}
    for leaf in leaves:
        groups.setdefault(plan.owner(leaf) or leaf.path, []).append(leaf)
    return [*groups.values()]

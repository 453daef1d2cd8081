"""Chunks scored on a Ray cluster, or on a Ray of this machine alone that is started for the run."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from samseg_ros.config import Config
from samseg_ros.errors import SamsegError
from samseg_ros.evaluation.crews import GO_ON, Crew, Datasets, Scores
from samseg_ros.evaluation.jobs import Chunk, Job, Task, Worker

LOCAL = "local"
"""In the place of a cluster's address."""
STORE_BYTES = 200 * 2**20
"""Shared memory of a local Ray: what goes through it are the jobs and counts."""

_log = logging.getLogger(__name__)


def on_ray(address: str, count: int) -> Crew:
    """Score on Ray.

    Args:
        address: of a running cluster, as ray.init takes it; `LOCAL`: one that hears this machine alone is started.
        count: workers; 0: as many as there is room for.

    Raises:
        SamsegError: Ray is not installed, the cluster cannot be reached, or its workers died.
    """
    ray = _import_ray(address)

    def score(jobs: Sequence[Job], datasets: Datasets, tasks: Sequence[Task]) -> Scores:
        needs = _needs(jobs)
        _connect(ray, address, count, int(needs["num_cpus"]))
        try:
            room = _room(ray.cluster_resources(), needs)
            if count > room:
                _log.warning("Ray has room for %d of %d workers", room, count)
            size = min(count or room, room, len(tasks))
            # Every machine of a cluster opens the sources itself; this one need not do it twice.
            given = ray.put((tuple(jobs), dict(datasets) if address == LOCAL else {}))
            hired = ray.remote(**needs)(_RayWorker)
            yield from _dealt(ray, [hired.remote(given) for _ in range(size)], tasks)
        except ray.exceptions.RayActorError as error:
            raise SamsegError(f"a worker on Ray died ({_first_line(error)}); {GO_ON}") from None
        finally:
            ray.shutdown()

    return score


def require_settled(address: str, config: Config) -> None:
    """Refuse to leave to the machines of a cluster what they may decide in different ways.

    Raises:
        SamsegError: device or precision are open, and the address is that of a cluster.
    """
    if address not in ("", LOCAL) and "auto" in (config.model.device, config.model.precision):
        raise SamsegError(
            "--ray: machines may differ, and the numbers with them: say on what all of them run, as --set "
            "model.device=cuda --set model.precision=bf16, or cpu and fp32"
        )


class _RayWorker(Worker):
    def __init__(self, given: tuple[Sequence[Job], Datasets]) -> None:
        super().__init__(*given)


def _import_ray(address: str) -> Any:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # it would tell its makers about the run
    if address == LOCAL:  # else it takes the machine's own address in the place of 127.0.0.1, and is heard outside
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    try:
        import ray
    except ModuleNotFoundError:
        raise SamsegError(
            "--ray: Ray is not installed: pip install 'samseg_ros[ray]', or pip install ray; on one machine, "
            "--workers N needs nothing more"
        ) from None
    return ray


def _needs(jobs: Sequence[Job]) -> dict[str, float]:
    """Return what a worker takes of its machine: the cores of the model, or a GPU."""
    models = [job.config.model for job in jobs if not job.outputs]
    threads = max((model.threads for model in models), default=1)
    return {"num_cpus": threads, "num_gpus": int(any(model.device.startswith("cuda") for model in models))}


def _connect(ray: Any, address: str, count: int, threads: int) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address == LOCAL:
            cores = (count or max(1, (os.cpu_count() or 1) // threads)) * threads
            here = {"include_dashboard": False, "_node_ip_address": "127.0.0.1", "object_store_memory": STORE_BYTES}
            ray.init(address=LOCAL, num_cpus=cores, **here, **quiet)
        else:
            ray.init(address=address, **quiet)
    except Exception as error:  # Ray raises of all kinds where it cannot start or connect
        reason = _first_line(error)
        raise SamsegError(f"--ray {address}: expected a running cluster, or {LOCAL!r} ({reason})") from None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _room(there: dict[str, float], needs: dict[str, float]) -> int:
    """Return how many workers a cluster has room for."""
    kinds = {"num_cpus": "CPU", "num_gpus": "GPU"}
    room = min(int(there.get(kinds[name], 0) // amount) for name, amount in needs.items() if amount)
    if room < 1:
        raise SamsegError(f"Ray: expected room for a worker ({needs}), got {there}; add machines, or set model.device")
    return room


def _dealt(ray: Any, crew: Sequence[Any], tasks: Sequence[Task]) -> Iterator[tuple[Task, Chunk]]:
    """Give every worker a chunk at a time, of the job that it is at if there are any left, and yield what comes back.

    To begin another job costs a worker its source and its model, which it may have to open and load first.
    """
    waiting, at = list(tasks), dict.fromkeys(range(len(crew)), -1)
    busy: dict[Any, tuple[int, Task]] = {}

    def give(worker: int) -> None:
        task = _next(waiting, at, worker)
        waiting.remove(task)
        at[worker] = task.job
        busy[crew[worker].score.remote(task)] = worker, task

    for worker in range(len(crew)):
        if waiting:
            give(worker)
    while busy:
        (done,), _ = ray.wait(list(busy), num_returns=1)
        worker, task = busy.pop(done)
        if waiting:
            give(worker)
        yield task, ray.get(done)
    ray.get([worker.close.remote() for worker in crew])  # temporary files go


def _next(waiting: Sequence[Task], at: dict[int, int], worker: int) -> Task:
    """Return the first chunk of the worker's own job, else of the job that has most chunks a worker."""
    own = next((task for task in waiting if task.job == at[worker]), None)
    if own is not None:
        return own
    left, workers = Counter(task.job for task in waiting), Counter(at.values())
    job = max(left, key=lambda j: left[j] / (1 + workers[j]))
    return next(task for task in waiting if task.job == job)

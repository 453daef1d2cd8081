"""Who scores the chunks: this process, or several of this machine. For a cluster see `ray_crew`."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import Connection

import cv2

from samseg_ros.datasets.labelled import LabelledDataset
from samseg_ros.errors import SamsegError
from samseg_ros.evaluation.jobs import Chunk, Job, Task, Worker
from samseg_ros.evaluation.sources import Source
from samseg_ros.training.processes import WORKERS

Datasets = Mapping[Source, LabelledDataset]
Scores = Generator[tuple[Task, Chunk], None, None]
Crew = Callable[[Sequence[Job], Datasets, Sequence[Task]], Scores]
"""Yields the chunk of each task, in any order. The datasets are those of the jobs, opened."""

GO_ON = "what is finished is kept: the same command goes on from there"


def alone(jobs: Sequence[Job], datasets: Datasets, tasks: Sequence[Task]) -> Scores:
    """Score in this process, one chunk after the other."""
    worker = Worker(jobs, datasets)
    for task in tasks:
        yield task, worker.score(task)


def in_processes(count: int) -> Crew:
    """Score in ``count`` processes of this machine; they end with this one, however it ends.

    Raises:
        SamsegError: one of them was killed.
    """

    def score(jobs: Sequence[Job], datasets: Datasets, tasks: Sequence[Task]) -> Scores:
        alive, end = WORKERS.Pipe(duplex=False)
        pool = ProcessPoolExecutor(min(count, len(tasks) or 1), WORKERS, _start, (alive, jobs, datasets))
        try:
            with _deaf():
                futures = {pool.submit(_score, task): task for task in tasks}
            for future in as_completed(futures):
                yield futures.pop(future), future.result()
        except BrokenProcessPool:
            raise SamsegError(
                f"a process that scores was killed, perhaps for want of memory; {GO_ON}, with fewer --workers"
            ) from None
        finally:
            end.close()  # whoever is still at work ends
            pool.shutdown(cancel_futures=True)

    return score


@contextmanager
def _deaf() -> Iterator[None]:
    """Hold Ctrl-C back while processes are started; this one hears of it right after.

    They inherit the mask, and so do not end with a traceback in the seconds in which they import. The handler is for
    this process: its other threads do not have the mask, and whichever takes the signal interrupts the main one.

    Raises:
        KeyboardInterrupt: Ctrl-C came.
    """
    if threading.current_thread() is not threading.main_thread():  # it alone is interrupted
        yield
        return
    heard: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
    if heard:
        raise KeyboardInterrupt


_worker: list[Worker] = []
"""Of a process that scores."""


def _start(alive: Connection, jobs: Sequence[Job], datasets: Datasets) -> None:
    """Make a fresh process one that scores."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that deals out the work
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with, args=(alive,), daemon=True).start()
    _worker[:] = [Worker(jobs, datasets)]


def _end_with(alive: Connection) -> None:
    """Wait until the other end of a pipe is closed, which the system does for a process that is killed; then end."""
    alive.poll(None)
    os.kill(os.getpid(), signal.SIGTERM)


def _score(task: Task) -> Chunk:
    return _worker[0].score(task)

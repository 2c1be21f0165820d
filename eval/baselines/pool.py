"""Many machines and seeds in processes side by side, their epochs counted together."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from threading import Thread

from cache.base.errors import AsdError
from cache.base.progress import Progress, Steps, unseen
from eval.baselines.jobs import Job, JobResult, run_job


def run_jobs(jobs: Sequence[Job], processes: int, told: Progress = unseen) -> list[JobResult]:
    """Run jobs, several at once where asked for.

    Parameters
    ----------
    jobs
        Each machine and seed once.
    processes
        How many at once; 1 runs them here.
    told
        How many epochs are done, of all jobs.

    Returns
    -------
    list of Outcome
        In the order of `jobs`. The same whatever the number of processes.

    Raises
    ------
    AsdError
        If one of them fails, after those in flight are finished; finished models stay.
    """
    progress = Steps(sum(job.settings.epochs for job in jobs), told)
    if processes == 1:
        return [run_job(job, progress.update) for job in jobs]
    try:
        return _side_by_side(jobs, processes, progress)
    except BrokenProcessPool as error:
        raise AsdError(
            "a training process died, perhaps for want of memory; finished models stay: run "
            "again with a smaller --jobs or --memory"
        ) from error


def _side_by_side(jobs: Sequence[Job], processes: int, progress: Steps) -> list[JobResult]:
    context = multiprocessing.get_context("spawn")  # a forked torch may hang
    queue = context.SimpleQueue()
    with ProcessPoolExecutor(processes, context, _connect, (queue,)) as pool:
        futures = [pool.submit(_run_connected, job) for job in jobs]
        try:
            _watch(futures, queue, progress)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return [future.result() for future in futures]


def _watch(futures: Sequence[Future[JobResult]], queue: SimpleQueue[int], progress: Steps) -> None:
    waiting = set(futures)
    while waiting:
        done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
        while not queue.empty():
            progress.update(queue.get())
        for future in done:
            future.result()


_queue: SimpleQueue[int] | None = None  # of this process, to the one that waits


def _connect(queue: SimpleQueue[int]) -> None:
    global _queue  # noqa: PLW0603 - a pool hands state to its processes in no other way
    _queue = queue
    if parent := multiprocessing.parent_process():
        Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    """Leave nothing running where the command itself was killed."""
    wait_for([parent.sentinel])
    os._exit(1)


def _run_connected(job: Job) -> JobResult:
    if _queue is None:
        raise RuntimeError("the process was not connected")
    return run_job(job, _queue.put)
